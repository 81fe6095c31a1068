"""All cohorts' tables, written by Dask tasks that hand files to each other: memory does not grow with the archive.

Here belongs what knows of buckets, batches, Dask and files. How rows come about belongs to `cohort_tables`.

Four rounds: batches of shards, for the sketches by which a scan that is there twice is known (see
`trabecula.cohort.same_scans`); the same batches, whose rows are cut into buckets of patients; then buckets, since a
patient's studies may lie in different shards; then the tables' files. A task's work is a plain function: filtering and
`len` of Dask's own expressions returned wrong counts (2026.8.0), so every count is taken from the rows and held against
Parquet's.
"""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute

from trabecula import tables
from trabecula.aggregate import flow
from trabecula.aggregate.cohort_tables import INDEX, Rules
from trabecula.aggregate.inputs import Inputs, Model, Shard
from trabecula.aggregate.out_of_core import buckets
from trabecula.aggregate.out_of_core.shard_files import batches
from trabecula.aggregate.out_of_core.table_files import count_rows, read_columns, table_path
from trabecula.aggregate.out_of_core.tasks import (
    CohortFiles,
    Job,
    combine_patients,
    gather_sketches,
    join_shards,
    split_index,
    write_density_tables,
    write_prediction_table,
    write_small_table,
)
from trabecula.aggregate.reconciliation import require
from trabecula.cohort import verdicts
from trabecula.cohort.same_scans import LABEL_COLUMNS, SKETCHES, SameScans, decide
from trabecula.density import calibrate
from trabecula.runtime.workers import Compute

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute

_FLOW_COLUMNS = {
    "series": flow.SERIES_COLUMNS,
    "studies": flow.STUDY_COLUMNS,
    "patients": flow.PATIENT_COLUMNS,
    "labels": flow.LABEL_COLUMNS,
}


def write_tables(
    inputs: Inputs, model: Model, rules: Rules, calibration: calibrate.Options, *, folder: Path, compute: Compute
) -> None:
    """Write the public tables of all cohorts, but the record of runs.

    Parameters
    ----------
    inputs : Inputs
        All that is aggregated.
    model : Model
        The model that predicted.
    rules : Rules
        From vertebrae to patients.
    calibration : calibrate.Options
        From HU to density.
    folder : Path
        Gets ``tables/``.
    compute : callable
        Runs the tasks (see `runtime.workers`).

    Raises
    ------
    AssertionError
        If something was lost or counted twice (see `reconciliation.reconcile`).
    """
    reviewed = verdicts.read(inputs.verdicts)
    same, seen = _same_scans(inputs, model, compute)
    jobs = []
    for cohort in inputs.cohorts:
        index = inputs.index_of(cohort.name)
        starts = buckets.borders(index["studies"], patients=buckets.PATIENTS_PER_BUCKET)
        jobs.append(Job(cohort, index, starts, folder, model, rules, reviewed, same, seen))
    cohorts = [_combine(job, inputs.shards_of(job.cohort.name), compute) for job in jobs]
    devices = _devices(cohorts, calibration)
    for files in cohorts:
        _write_cohort(files, calibration, devices, compute)
    tables.write(devices.table(), tables.CALIBRATIONS, folder / "tables" / "calibrations" / "calibrations.parquet")
    _write_verdicts(reviewed, cohorts, folder / "tables")
    shutil.rmtree(folder / "parts")


def _same_scans(inputs: Inputs, model: Model, compute: Compute) -> tuple[SameScans, frozenset[str]]:
    """Decide which studies of all cohorts count among those that hold the same scan, and whose scans trained the model.

    Returns
    -------
    SameScans
        The decision.
    frozenset of str
        Patients who are in the model's training by their scans.
    """
    gathering, labels = [], []
    for cohort in inputs.cohorts:
        index = inputs.index_of(cohort.name)
        gathering += [partial(gather_sketches, index["studies"], b) for b in batches(inputs.shards_of(cohort.name))]
        labels.append(tables.read_columns(index["labels"], LABEL_COLUMNS))
    sketches = pa.concat_tables([SKETCHES.empty_table(), *compute(gathering)])
    same = decide(sketches, pa.concat_tables(labels), {cohort.name: cohort.role for cohort in inputs.cohorts})
    return same, same.known_by_scans(sketches, model.splits, model.scans)


def _combine(job: Job, shards: Sequence[Shard], compute: Compute) -> CohortFiles:
    """Join a cohort's shards, then put its patients together."""
    joined = compute(partial(join_shards, job, batch) for batch in batches(shards))
    split = compute(partial(split_index, job, name) for name in INDEX)
    index: dict[str, list[Path]] = dict(zip(INDEX, split, strict=True))
    combined = compute(partial(combine_patients, job, index, joined, bucket) for bucket in range(job.n_buckets))
    return CohortFiles(job, joined, combined)


def _devices(cohorts: Sequence[CohortFiles], calibration: calibrate.Options) -> calibrate.Devices:
    """Gather the labelled patients of the development cohorts, by device and contrast phase."""
    development = [files for files in cohorts if files.job.cohort.role == "development"]
    labelled = [bucket.labelled for files in development for bucket in files.buckets]
    return calibrate.gather(labelled, min_patients=calibration.min_patients)


def _write_cohort(
    files: CohortFiles, calibration: calibrate.Options, devices: calibrate.Devices, compute: Compute
) -> None:
    """Write a cohort's tables, and how its counts come about."""
    n_rows = {name: count_rows(path) for name, path in files.job.index.items()}
    n_small = {"series": n_rows["series"], "labels": n_rows["labels"], "failures": None}
    compute(
        [
            partial(write_density_tables, files, calibration, devices),
            partial(write_prediction_table, files),
            *(partial(write_small_table, files, name, n_rows=n) for name, n in n_small.items()),
        ]
    )
    folder, cohort = files.job.tables, files.job.cohort.name
    n_studies = count_rows(table_path(folder, "studies", cohort))
    require(n_studies == n_rows["studies"], f"cohort {cohort}: {n_studies} of {n_rows['studies']} studies")
    counted = (read_columns(folder, name, cohort, columns) for name, columns in _FLOW_COLUMNS.items())
    flow_rows = flow.flow_rows(cohort, *counted)
    flow.check(flow_rows)
    table = tables.from_frame(flow_rows, tables.FLOW).drop_columns("cohort")
    tables.write(table, tables.in_partition(tables.FLOW), table_path(folder, "flow", cohort))


def _write_verdicts(reviewed: pd.DataFrame, cohorts: Sequence[CohortFiles], folder: Path) -> None:
    """Write what became of every line of the reviewers' verdicts."""
    named = pa.array(reviewed["study_id"].dropna().unique().tolist(), tables.TEXT)
    studies = pd.concat([_studies_among(named, folder, files.job.cohort.name) for files in cohorts])
    of_batches = [batch.verdicts for files in cohorts for batch in files.batches]
    outcomes = pd.concat([pd.DataFrame(columns=verdicts.OUTCOME), *of_batches], ignore_index=True)  # may have no batch
    rows = tables.from_frame(verdicts.verdict_rows(reviewed, outcomes, studies), tables.VERDICTS)
    tables.write(rows, tables.VERDICTS, folder / "verdicts" / "verdicts.parquet")


def _studies_among(named: pa.Array, folder: Path, cohort: str) -> pd.DataFrame:
    """Give cohort, patient_id and study_id of a cohort's studies that are named."""
    rows = read_columns(folder, "studies", cohort, ["patient_id", "study_id"])
    return rows.filter(pc.is_in(rows["study_id"], value_set=named)).to_pandas()
