"""All shards' tables into the public ones: one file per table and cohort, published as a run.

`cohort_tables` says how rows come about, `out_of_core` how that is done when a cohort does not fit into memory,
`publish` how a reader never sees half of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path

from trabecula.aggregate import out_of_core, publish, record
from trabecula.aggregate.cohort_tables import Rules
from trabecula.aggregate.inputs import Cohort, Inputs, list_shards, read_model
from trabecula.aggregate.out_of_core.table_files import read_columns
from trabecula.cohort.retries import Retry, write_retries
from trabecula.density import calibrate
from trabecula.errors import PASSING
from trabecula.runtime import stale_files
from trabecula.runtime.whole_file import beside
from trabecula.runtime.workers import workers

__all__ = ["Cohort", "Inputs", "Rules", "Runtime", "list_shards", "run"]


@dataclass(frozen=True)
class Runtime:
    """Where and how the tables are made, and what the record of runs keeps of it.

    Attributes
    ----------
    results : Path
        Folder of the results: tables go to its ``tables/{table}/cohort={cohort}/{table}.parquet``.
    scheduler : str or None
        Address of a Dask scheduler, whose workers see the same files; None works in this process's threads.
    threads : int
        Number of threads.
    keep_runs : int
        Runs whose tables are kept.
    config : str
        The resolved configuration (see `config.fingerprint`).
    code : mapping
        Digest per stage (see `digest.digest`).
    """

    results: Path
    scheduler: str | None
    threads: int
    keep_runs: int
    config: str
    code: Mapping[str, str]


def run(inputs: Inputs, rules: Rules, calibration: calibrate.Options, runtime: Runtime) -> None:
    """Make the public tables and publish them; nothing is put in its place before all cohorts add up.

    Then note what the next run tries again (see `trabecula.cohort.retries`).

    Parameters
    ----------
    inputs : Inputs
        All that is aggregated.
    rules : Rules
        From vertebrae to patients.
    calibration : calibrate.Options
        From HU to density.
    runtime : Runtime
        Where and how.

    Raises
    ------
    AssertionError
        If something was lost or counted twice (see `reconciliation.reconcile`).
    """
    started, model = record.now(), read_model(inputs)
    # Beside the tables, so that a rename puts a file into its place; of this process alone, since a job of a killed
    # driver may still be at work.
    staging = runtime.results.absolute() / "staging"
    staged = beside(staging)
    stale_files.remove_beside(staging)
    with workers(runtime.scheduler, runtime.threads) as compute:
        out_of_core.write_tables(inputs, model, rules, calibration, folder=staged, compute=compute)
    digests = {cohort.name: _digest(inputs.index_of(cohort.name).values()) for cohort in inputs.cohorts}
    made_by = record.Run(started=started, config=runtime.config, code=runtime.code, bundle=model.bundle, inputs=digests)
    publish.publish(staged, runtime.results, run=made_by, keep_runs=runtime.keep_runs)
    for cohort in inputs.cohorts:
        _note_retries(runtime.results, cohort.name)


def _note_retries(results: Path, cohort: str) -> None:
    """Ask the next run to try the studies again that failed for a reason that may pass.

    A study without a label map waits until label maps come.
    """
    studies = read_columns(results / "tables", "studies", cohort, ["study_id", "shard", "status", "reason"]).to_pandas()
    at_once = studies[(studies["status"] == "failed") & studies["reason"].isin(PASSING - {"mask_missing"})]
    retries = [Retry(*row) for row in at_once[["study_id", "shard", "reason"]].itertuples(index=False)]
    write_retries(results / cohort / "retries.tsv", retries, stand=bool(retries))


def _digest(paths: Iterable[Path]) -> str:
    """SHA-256 over files, each with its name."""
    digest = sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            digest.update(f"{path.name} {file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
