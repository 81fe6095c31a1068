"""The tasks that Dask runs: each reads files, calls a function of `cohort_tables`, and writes files.

A task may run twice, when a worker dies: every file is written beside its place.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from trabecula import tables
from trabecula.aggregate import cohort_tables
from trabecula.aggregate.arrow_rows import sorted_rows, to_frame
from trabecula.aggregate.cohort_tables import Rules
from trabecula.aggregate.inputs import Cohort, Model, Shard
from trabecula.aggregate.out_of_core import buckets
from trabecula.aggregate.out_of_core.shard_files import read_stages
from trabecula.aggregate.out_of_core.table_files import table_writer
from trabecula.aggregate.reconciliation import require
from trabecula.aggregate.vertebra_tables import in_order
from trabecula.cohort.current import read_current_studies
from trabecula.cohort.same_scans import SameScans, read_sketches
from trabecula.density import calibrate


@dataclass(frozen=True)
class Job:
    """Inputs, places and rules that all tasks of a cohort share.

    Attributes
    ----------
    cohort : Cohort
        Name, role, synthetic.
    index : mapping of Path
        The index's tables, by name.
    starts : sequence of str
        First patients of the buckets (see `buckets.borders`).
    folder : Path
        Folder of the tables in the making: ``tables/``, and ``parts/``, which tasks hand to each other.
    model : Model
        The model that predicted.
    rules : Rules
        From vertebrae to patients.
    reviewed : DataFrame
        All reviewers' verdicts (see `verdicts.read`).
    same : SameScans
        Studies that do not count, since the same scan is there twice.
    seen : frozenset of str
        Patients who are in the model's training by their scans, whatever their ids.
    """

    cohort: Cohort
    index: Mapping[str, Path]
    starts: Sequence[str]
    folder: Path
    model: Model
    rules: Rules
    reviewed: pd.DataFrame
    same: SameScans
    seen: frozenset[str]

    @property
    def parts(self) -> Path:
        """Folder of the files that tasks hand to each other."""
        return self.folder / "parts"

    @property
    def tables(self) -> Path:
        """Folder of the tables."""
        return self.folder / "tables"

    @property
    def n_buckets(self) -> int:
        """Number of buckets."""
        return len(self.starts) + 1


@dataclass(frozen=True)
class BatchFiles:
    """A batch's share of the results, in buckets of patients.

    Attributes
    ----------
    vertebrae, predictions, outcomes : Path
        Rows as in `cohort_tables.BatchTables`, the first two without the column cohort.
    n_vertebrae, n_predictions : int
        Number of vertebrae that the shards' own files hold of studies that belong to them and count, and of predictions
        of these by networks that had not seen the patient.
    verdicts : DataFrame
        What became of the reviewers' verdicts on these studies (see `verdicts.apply`).
    """

    vertebrae: Path
    predictions: Path
    outcomes: Path
    n_vertebrae: int
    n_predictions: int
    verdicts: pd.DataFrame


@dataclass(frozen=True)
class BucketFiles:
    """A bucket's share of the tables that have at most a few rows per study.

    Attributes
    ----------
    files : mapping of Path
        Rows in order, without density, by name of the table: series, studies, patients, labels, failures.
    labelled : DataFrame
        See `cohort_tables.labelled_patients`.
    """

    files: Mapping[str, Path]
    labelled: pd.DataFrame


@dataclass(frozen=True)
class CohortFiles:
    """Files of a cohort before its tables are written.

    Attributes
    ----------
    job : Job
        What all tasks of the cohort share.
    batches : sequence of BatchFiles
        In the order of the shards.
    buckets : sequence of BucketFiles
        In the order of the patients.
    """

    job: Job
    batches: Sequence[BatchFiles]
    buckets: Sequence[BucketFiles]


def join_shards(job: Job, shards: Sequence[Shard]) -> BatchFiles:
    """Join the tables of a batch of shards (see `cohort_tables.batch_tables`)."""
    current = read_current_studies([job.index["studies"]], [shard.name for shard in shards])
    stages = cohort_tables.without_repeated(read_stages(shards, current), job.same)
    batch = cohort_tables.batch_tables(stages, job.model, job.reviewed, job.rules)
    stem = f"{job.cohort.name}.{shards[0].name}"
    rows = {
        "vertebrae": batch.vertebrae.drop_columns("cohort"),
        "predictions": batch.predictions.drop_columns("cohort"),
        "outcomes": batch.outcomes,
    }
    paths = {
        name: buckets.write(table, job.parts / f"{stem}.{name}.arrow", starts=job.starts)
        for name, table in rows.items()
    }
    n_vertebrae, n_predictions = len(stages.cubes), len(batch.predictions)
    return BatchFiles(**paths, n_vertebrae=n_vertebrae, n_predictions=n_predictions, verdicts=batch.verdicts)


def gather_sketches(studies: Path, shards: Sequence[Shard]) -> pa.Table:
    """Read the sketches of a batch of shards, whose cohort's table of studies is given."""
    current = read_current_studies([studies], [shard.name for shard in shards])
    return read_sketches([shard.convert for shard in shards], current)


def split_index(job: Job, name: str) -> list[Path]:
    """Write one of the index's tables into buckets (see `buckets.split`)."""
    return buckets.split(job.index[name], tables.PUBLIC[name], job.parts, starts=job.starts)


def combine_patients(
    job: Job, index: Mapping[str, Sequence[Path]], batches: Sequence[BatchFiles], bucket: int
) -> BucketFiles:
    """Put a bucket's patients together (see `cohort_tables.patient_tables`).

    Parameters
    ----------
    job : Job
        What all tasks of the cohort share.
    index : mapping of sequence of Path
        Files of `split_index`, by name of the table.
    batches : sequence of BatchFiles
        Of all shards of the cohort.
    bucket : int
        Number of the bucket.
    """
    rows = {name: buckets.read(index[name], bucket, tables.PUBLIC[name]) for name in cohort_tables.INDEX}
    series = rows["series"]
    frames = {name: to_frame(table) for name, table in rows.items() if name != "series"}
    frames["series"] = to_frame(series.select(cohort_tables.SERIES_COLUMNS))
    outcomes = buckets.read([batch.outcomes for batch in batches], bucket, cohort_tables.OUTCOMES)
    public = cohort_tables.patient_tables(
        job.cohort, frames, to_frame(outcomes), job.model, job.rules, seen_in_training=job.seen
    )
    written = {name: cohort_tables.without_density(frame, tables.PUBLIC[name]) for name, frame in public.items()}
    written["series"] = sorted_rows(series, ["patient_id", "study_id", "series_id", "stack"])
    files = {
        name: buckets.write(table, job.parts / f"{job.cohort.name}.{name}.bucket{bucket:06d}.arrow", starts=[])
        for name, table in written.items()
    }
    return BucketFiles(files, cohort_tables.labelled_patients(public))


def write_small_table(files: CohortFiles, name: str, *, n_rows: int | None) -> None:
    """Write a table without density that has few rows per study, as its buckets hold it.

    Parameters
    ----------
    files : CohortFiles
        Files of the cohort.
    name : str
        Name of the table.
    n_rows : int or None
        Rows that it must have; None where no other table says.
    """
    cohort = files.job.cohort.name
    with table_writer(files.job.tables, name, cohort) as table:
        for bucket in files.buckets:
            table.add(_small_rows(bucket, name))
        require(n_rows in (None, table.n_rows), f"cohort {cohort}: {table.n_rows} of {n_rows} rows of {name}")


def write_prediction_table(files: CohortFiles) -> None:
    """Write the table `predictions`."""
    cohort = files.job.cohort.name
    with table_writer(files.job.tables, "predictions", cohort) as table:
        for bucket in range(files.job.n_buckets):
            table.add(_large_rows(files.batches, "predictions", bucket))
        n_read = sum(batch.n_predictions for batch in files.batches)
        require(table.n_rows == n_read, f"cohort {cohort}: predictions were lost")


def write_density_tables(files: CohortFiles, calibration: calibrate.Options, devices: calibrate.Devices) -> None:
    """Write the tables `studies`, `patients` and `vertebrae`, with their density from HU.

    Parameters
    ----------
    files : CohortFiles
        Files of the cohort.
    calibration, devices
        See `calibrate.study_lines`.
    """
    cohort = files.job.cohort.name
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(table_writer(files.job.tables, name, cohort)) for name in cohort_tables.HU_COLUMNS
        }
        for number, bucket in enumerate(files.buckets):
            rows = {name: _small_rows(bucket, name) for name in ("studies", "patients")}
            rows["vertebrae"] = _large_rows(files.batches, "vertebrae", number)
            studies = to_frame(rows["studies"].select(calibrate.OF_STUDY))
            lines = calibrate.study_lines(studies, calibration, devices)
            for name, writer in writers.items():
                writer.add(cohort_tables.with_density(rows[name], name, lines, method=calibration.method))
        n_read = sum(batch.n_vertebrae for batch in files.batches)
        require(writers["vertebrae"].n_rows == n_read, f"cohort {cohort}: vertebrae were lost")


def _small_rows(bucket: BucketFiles, name: str) -> pa.Table:
    """Read a bucket's rows of a small table."""
    return buckets.read([bucket.files[name]], 0, tables.PUBLIC[name])


def _large_rows(batches: Sequence[BatchFiles], name: str, bucket: int) -> pa.Table:
    """Read a bucket's rows of a large table, in order."""
    schema = tables.in_partition(tables.PUBLIC[name])
    return in_order(buckets.read([getattr(batch, name) for batch in batches], bucket, schema))
