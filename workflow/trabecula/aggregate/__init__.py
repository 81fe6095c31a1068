"""All shards' tables into the public ones: one file per table and cohort.

Twice over Dask: first batches of shards, whose rows are cut into buckets of patients; then buckets, since a patient's
studies may lie in different shards. Tasks hand files to each other, so neither they nor this process hold a cohort in
memory. A task's work is a plain function: filtering and `len` of Dask's own expressions returned wrong counts
(2026.8.0), so every count is taken from the rows and held against Parquet's.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.aggregate import buckets, flow, publish, record
from trabecula.aggregate.check import require
from trabecula.aggregate.shards import Part, Shard, batches, of_paths, read_batch
from trabecula.aggregate.small import INDEX, Cohort, Piece, Rules, reduce_bucket
from trabecula.aggregate.write import place, write_densities, write_plain, write_predictions
from trabecula.cohort import verdicts
from trabecula.density import calibrate
from trabecula.model import bundle
from trabecula.runtime.workers import Compute, workers

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute

__all__ = ["Cohort", "Rules", "of_paths", "run"]

# Beside the tables, so that a rename puts a file into its place.
STAGING = ".staging"


def run(
    cohorts: Sequence[Cohort],
    index: Sequence[str],
    shards: Sequence[Shard],
    model: Path,
    results: Path,
    rules: Rules,
    calibration: calibrate.Options,
    *,
    reviewed: Path | None,
    scheduler: str | None,
    threads: int,
    keep_runs: int,
    config: str,
    code: Mapping[str, str],
) -> None:
    """Make the public tables and publish them; nothing is put in its place before all cohorts add up.

    Parameters
    ----------
    cohorts : sequence of Cohort
        Whose tables are written.
    index : sequence of str
        Paths ``{cohort}/index/{table}.parquet``.
    shards : sequence of Shard
        All shards of these cohorts (see `of_paths`).
    model : Path
        The model bundle's folder.
    results : Path
        Folder of the results: tables go to its ``tables/{table}/cohort={cohort}/{table}.parquet``.
    rules : Rules
        From vertebrae to patients.
    calibration : calibrate.Options
        From HU to density.
    reviewed : Path or None
        Reviewers' verdicts, CSV.
    scheduler : str or None
        Address of a Dask scheduler, whose workers see the same files; None works in this process's threads.
    threads : int
        Number of threads.
    keep_runs : int
        Runs whose tables are kept.
    config, code
        See `record.Run`.

    Raises
    ------
    AssertionError
        If something was lost or counted twice (see `check.reconcile`).
    """
    started, used = record.now(), bundle.read(model)
    staged = results.absolute() / STAGING
    shutil.rmtree(staged, ignore_errors=True)  # of a run that was killed
    found = {cohort.name: _of_cohort(index, cohort.name) for cohort in cohorts}
    with workers(scheduler, threads) as compute:
        making = _Making(compute, staged, used, bundle.read_splits(used), verdicts.read(reviewed), rules)
        parts = {cohort.name: making.read(cohort, found[cohort.name], shards) for cohort in cohorts}
        pieces = {cohort.name: making.reduce(cohort, found[cohort.name], parts[cohort.name]) for cohort in cohorts}
        devices = _devices(cohorts, pieces, calibration)
        for cohort in cohorts:
            making.write(cohort, found[cohort.name], parts[cohort.name], pieces[cohort.name], calibration, devices)
    making.write_whole(devices, parts)
    shutil.rmtree(making.parts)
    inputs = {name: _digest(paths.values()) for name, paths in found.items()}
    facts = record.Run(started=started, config=config, code=code, bundle=used, inputs=inputs)
    publish.publish(staged, results, run=facts, keep_runs=keep_runs)


@dataclass(frozen=True)
class _Making:
    """The tables in the making: what all steps share."""

    compute: Compute
    staged: Path
    used: bundle.Bundle
    splits: Mapping[str, int]
    reviewed: pd.DataFrame
    rules: Rules

    @property
    def parts(self) -> Path:
        """Folder of what tasks hand to each other."""
        return self.staged / "parts"

    @property
    def tables(self) -> Path:
        """Folder of the tables."""
        return self.staged / "tables"

    def read(self, cohort: Cohort, index: Mapping[str, Path], shards: Sequence[Shard]) -> list[Part]:
        """Read a cohort's shards; parts come in their order."""
        wanted = {"levels": self.rules.levels, "substitutes": self.rules.substitutes}
        given, starts = (self.used, self.splits, self.reviewed, self.parts), _starts(index)
        return self.compute(
            partial(read_batch, batch, *given, starts=starts, **wanted)
            for batch in batches([shard for shard in shards if shard.cohort == cohort.name])
        )

    def reduce(self, cohort: Cohort, index: Mapping[str, Path], parts: Sequence[Part]) -> list[Piece]:
        """Put a cohort's patients together; pieces come in the order of patients."""
        starts = _starts(index)
        split = [partial(buckets.split, index[name], tables.PUBLIC[name], self.parts, starts=starts) for name in INDEX]
        known = dict(zip(INDEX, self.compute(split), strict=True))
        given = (known, parts, self.used, self.splits, self.parts, self.rules)
        return self.compute(partial(reduce_bucket, cohort, bucket, *given) for bucket in range(len(starts) + 1))

    def write(
        self,
        cohort: Cohort,
        index: Mapping[str, Path],
        parts: Sequence[Part],
        pieces: Sequence[Piece],
        calibration: calibrate.Options,
        devices: calibrate.Devices,
    ) -> None:
        """Write a cohort's tables, and how its counts come about."""
        into, name = self.tables, cohort.name
        rows = {table: _rows(path) for table, path in index.items()}
        plain = {"series": rows["series"], "labels": rows["labels"], "failures": None}
        tasks = [
            partial(write_densities, into, name, pieces, parts, calibration, devices),
            partial(write_predictions, into, name, parts, n_buckets=len(pieces)),
            *(partial(write_plain, into, name, table, pieces, rows=n) for table, n in plain.items()),
        ]
        self.compute(tasks)
        n_studies = _rows(place(into, "studies", name))
        require(n_studies == rows["studies"], f"cohort {name}: {n_studies} of {rows['studies']} studies")
        counted = flow.flow_rows(*(_columns(into, table, name, columns) for table, columns in _COUNTED.items()))
        flow.check(counted)
        counted = tables.from_frame(counted, tables.FLOW).drop_columns("cohort")
        tables.write(counted, tables.in_partition(tables.FLOW), place(into, "flow", name))

    def write_whole(self, devices: calibrate.Devices, parts: Mapping[str, Sequence[Part]]) -> None:
        """Write the tables that have one file for all cohorts, but `runs`."""
        tables.write(devices.table(), tables.CALIBRATIONS, self.tables / "calibrations" / "calibrations.parquet")
        named = self.reviewed["study_id"].dropna().unique().tolist()
        studies = pd.concat([_named_studies(self.tables, cohort, named) for cohort in parts])
        outcomes = [part.verdicts for found in parts.values() for part in found]
        rows = verdicts.rows(self.reviewed, pd.concat(outcomes, ignore_index=True), studies)
        path = self.tables / "verdicts" / "verdicts.parquet"
        tables.write(tables.from_frame(rows, tables.VERDICTS), tables.VERDICTS, path)


_COUNTED = {
    "series": flow.SERIES_COLUMNS,
    "studies": flow.STUDY_COLUMNS,
    "patients": flow.PATIENT_COLUMNS,
    "labels": flow.LABEL_COLUMNS,
}


def _devices(
    cohorts: Sequence[Cohort], pieces: Mapping[str, Sequence[Piece]], calibration: calibrate.Options
) -> calibrate.Devices:
    """Labelled patients of the development cohorts, by device and contrast phase."""
    development = [cohort.name for cohort in cohorts if cohort.role == "development"]
    labelled = [piece.labelled for cohort in development for piece in pieces[cohort]]
    return calibrate.gather(labelled, min_patients=calibration.min_patients)


def _of_cohort(paths: Sequence[str], cohort: str) -> dict[str, Path]:
    """The index's tables of one cohort, by name."""
    own = [Path(path).absolute() for path in paths]
    return {path.stem: path for path in own if path.parents[1].name == cohort}


def _starts(index: Mapping[str, Path]) -> list[str]:
    return buckets.borders(index["studies"], patients=buckets.PATIENTS_PER_BUCKET)


def _rows(path: Path) -> int:
    with tables.reading(path):
        return pq.read_metadata(path).num_rows


def _columns(folder: Path, name: str, cohort: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of a cohort's table, with the cohort's name."""
    rows = tables.read_columns(place(folder, name, cohort), [one for one in columns if one != "cohort"])
    return rows.append_column(tables.COHORT, pa.array([cohort] * len(rows), tables.TEXT))


def _named_studies(folder: Path, cohort: str, named: Sequence[str]) -> pd.DataFrame:
    """Cohort, patient_id and study_id of those studies that are named."""
    rows = _columns(folder, "studies", cohort, ["patient_id", "study_id"])
    return rows.filter(pc.is_in(rows["study_id"], value_set=pa.array(named, tables.TEXT))).to_pandas()


def _digest(paths: Iterable[Path]) -> str:
    """SHA-256 over files, each with its name."""
    found = sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            found.update(f"{path.name} {file_digest(file, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()
