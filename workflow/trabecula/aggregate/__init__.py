"""All shards' tables into the public ones: one file per table and cohort.

The shards are read over Dask, a hundred files to a task. A task's work is a plain function over frames: filtering
and `len` of Dask's own expressions returned wrong counts (2026.8.0), so every count here is taken from the frames and
held against Parquet's.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from dask.base import compute
from dask.delayed import delayed

from trabecula import bundle, calibrate, labels, patients, tables
from trabecula.aggregate import fates, record
from trabecula.aggregate.check import reconcile, require
from trabecula.aggregate.shards import Part, Shard, batches, in_file, of_paths, read_batch
from trabecula.workers import connect

__all__ = ["Cohort", "Rules", "of_paths", "run"]

SMALL = ("series", "studies", "patients", "labels", "failures")
LARGE = ("vertebrae", "predictions")


@dataclass(frozen=True)
class Cohort:
    """A cohort to aggregate.

    Attributes
    ----------
    name : str
        As in cohorts.tsv.
    role : str
        development, external or screening.
    synthetic : bool
        The archive is simulated.
    """

    name: str
    role: str
    synthetic: bool


@dataclass(frozen=True)
class Rules:
    """From vertebrae to patients: the configuration's section `aggregate`.

    Attributes
    ----------
    levels, substitutes : sequence of str
        Levels whose mean counts, and those that stand in.
    reduced_below_mg_cm3, osteoporosis_below_mg_cm3 : float
        Cuts of vBMD, in mg/cm3 HA.
    max_interval_days : int
        Greatest distance in time between scan and label.
    """

    levels: Sequence[str]
    substitutes: Sequence[str]
    reduced_below_mg_cm3: float
    osteoporosis_below_mg_cm3: float
    max_interval_days: int


def run(
    cohorts: Sequence[Cohort],
    index: Sequence[str],
    shards: Sequence[Shard],
    model: Path,
    folder: Path,
    rules: Rules,
    calibration: calibrate.Options,
    *,
    scheduler: str | None,
    threads: int,
    config: str,
    code: Mapping[str, str],
) -> None:
    """Write the public tables; nothing is put in its place before all cohorts add up.

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
    folder : Path
        Where the tables go: ``{table}/cohort={cohort}/{table}.parquet``.
    rules : Rules
        From vertebrae to patients.
    calibration : calibrate.Options
        From HU to density.
    scheduler : str or None
        Address of a Dask scheduler, whose workers see the same files; None works in this process's threads.
    threads : int
        Number of threads.
    config, code
        See `record.run_row`.

    Raises
    ------
    AssertionError
        If something was lost or counted twice (see `check.reconcile`).
    """
    started, used = record.now(), bundle.read(model)
    beside = folder / ".parts"
    shutil.rmtree(beside, ignore_errors=True)  # of a run that was killed
    beside.mkdir(parents=True)
    splits = bundle.read_splits(used)
    found = {cohort.name: _read_index(index, cohort.name) for cohort in cohorts}
    parts = _read_shards(shards, found, used, splits, beside.absolute(), rules, scheduler, threads)
    made = {}
    for cohort in cohorts:
        own = [part for part in parts if part.cohort == cohort.name]
        made[cohort.name] = small_tables(cohort, found[cohort.name], own, used.model_id, set(splits), rules)
        reconcile(cohort.name, made[cohort.name], found[cohort.name])
    devices = _devices(cohorts, made, calibration)
    for cohort in cohorts:
        own = [part for part in parts if part.cohort == cohort.name]
        small = made[cohort.name]
        lines = calibrate.study_lines(small["studies"], calibration, devices)
        density = partial(calibrate.calibrated, lines=lines, method=calibration.method)
        rows = small["patients"]
        found = density(rows["trabecular_hu"], rows["study_id"]).set_index(rows.index)
        _write_cohort(
            folder, cohort.name, {**small, "patients": pd.concat([rows, found], axis="columns")}, own, density
        )
    shutil.rmtree(beside)
    tables.write(devices.table(), tables.CALIBRATIONS, folder / "calibrations" / "calibrations.parquet")
    row = record.run_row(started=started, finished=record.now(), config=config, code=code, model_id=used.model_id)
    _write_runs(folder / "runs" / "runs.parquet", row)


def _devices(
    cohorts: Sequence[Cohort], made: Mapping[str, Mapping[str, pd.DataFrame]], calibration: calibrate.Options
) -> calibrate.Devices:
    """Labelled patients of the development cohorts, by device and contrast phase."""
    labelled = []
    for cohort in cohorts:
        if cohort.role == "development":
            phase = made[cohort.name]["studies"].set_index("study_id")["phase"]
            rows = made[cohort.name]["patients"]
            labelled.append(rows.assign(phase=rows["study_id"].map(phase)))
    return calibrate.gather(labelled, min_patients=calibration.min_patients)


def _read_index(paths: Sequence[str], cohort: str) -> dict[str, pd.DataFrame]:
    """Read the index's tables of one cohort, by name."""
    own = {Path(path).stem: path for path in paths if Path(path).parents[1].name == cohort}
    return {name: tables.read(path, tables.PUBLIC[name]).to_pandas() for name, path in own.items()}


def _read_shards(
    shards: Sequence[Shard],
    index: Mapping[str, Mapping[str, pd.DataFrame]],
    used: bundle.Bundle,
    splits: Mapping[str, int],
    folder: Path,
    rules: Rules,
    scheduler: str | None,
    threads: int,
) -> list[Part]:
    """Read all cohorts' shards over Dask; parts come in the order of cohorts and shards."""
    tasks = []
    for cohort, found in index.items():
        accepted = found["studies"][found["studies"]["status"] == "accepted"]
        for batch in batches([shard for shard in shards if shard.cohort == cohort]):
            studies = accepted.loc[accepted["shard"].isin([shard.name for shard in batch]), "study_id"]
            levels = {"levels": rules.levels, "substitutes": rules.substitutes}
            tasks.append(partial(read_batch, batch, studies, used, splits, folder, **levels))
    return _compute(tasks, scheduler, threads)


def _compute(tasks: Sequence[Callable[[], Part]], scheduler: str | None, threads: int) -> list[Part]:
    """Run tasks in threads of this process, or on the workers of an existing scheduler.

    Threads, since Arrow reads and joins without holding Python's lock most of the time, and a cluster of processes
    takes longer to start than hundreds of shards to read.
    """
    delayed_tasks = [delayed(task, traverse=False)() for task in tasks]
    if scheduler is None:
        return list(compute(*delayed_tasks, scheduler="threads", num_workers=threads))
    with connect(scheduler) as client:
        return list(compute(*delayed_tasks, scheduler=client))


def small_tables(
    cohort: Cohort,
    index: Mapping[str, pd.DataFrame],
    parts: Sequence[Part],
    model_id: str,
    trained_on: set[str],
    rules: Rules,
) -> dict[str, pd.DataFrame]:
    """Tables of one cohort that have at most a few rows per study.

    Parameters
    ----------
    cohort : Cohort
        Name, role, synthetic.
    index : mapping of DataFrame
        The index's tables series, studies, labels, failures.
    parts : sequence of Part
        What was read of the cohort's shards.
    model_id : str
        The model that predicted.
    trained_on : set of str
        Patients of the model's training.
    rules : Rules
        From vertebrae to patients.

    Returns
    -------
    dict of DataFrame
        By name, see `SMALL`.
    """
    fate = pd.concat([part.fates for part in parts] or [fates.none()], ignore_index=True)
    results = pd.concat([part.results for part in parts] or [patients.no_results()])
    studies = _with_scan_facts(fates.study_rows(index["studies"], fate), parts)
    candidates = patients.candidates(studies, results)
    near = {"levels": rules.levels, "max_interval_days": rules.max_interval_days}
    rows = patients.patient_rows(
        studies,
        results,
        labels.patient_truth(index["labels"], candidates, **near),
        reduced_below_mg_cm3=rules.reduced_below_mg_cm3,
        osteoporosis_below_mg_cm3=rules.osteoporosis_below_mg_cm3,
    )
    return {
        "series": index["series"].sort_values(["patient_id", "study_id", "series_id", "stack"], kind="stable"),
        "studies": studies,
        "patients": rows.assign(
            cohort=cohort.name,
            role=cohort.role,
            synthetic=cohort.synthetic,
            model_id=model_id,
            in_training=rows["patient_id"].isin(trained_on),
        ),
        "labels": labels.label_rows(index["labels"], candidates, **near).sort_values(
            ["patient_id", "days_from_first_study", "level", "vbmd_mg_cm3"], kind="stable"
        ),
        "failures": fates.failure_rows(index["failures"], index["series"], studies, fate),
    }


def _with_scan_facts(studies: pd.DataFrame, parts: Sequence[Part]) -> pd.DataFrame:
    """Studies with what was found in their scans, and what contrast medium was given."""
    facts = studies["study_id"].map
    found = {column.name: [part.scans[column.name] for part in parts] for column in tables.SCAN_FACTS}
    known = {name: facts(pd.concat(values)).astype(object) for name, values in found.items() if values}
    studies = studies.assign(**{name: values.where(values.notna(), None) for name, values in known.items()})
    given = calibrate.contrast_rows(studies)
    return studies.drop(columns=given.columns).join(given)


def _write_cohort(
    folder: Path,
    cohort: str,
    small: Mapping[str, pd.DataFrame],
    parts: Sequence[Part],
    density: Callable[[Iterable[float | None], Iterable[str | None]], pd.DataFrame],
) -> None:
    """Write a cohort's tables, each beside its place first; vertebrae with their density from HU."""
    for name in SMALL:
        schema = tables.PUBLIC[name]
        _write(iter([in_file(small[name], schema)]), schema, _place(folder, name, cohort), rows=len(small[name]))
    for name in LARGE:
        files = [getattr(part, name) for part in parts]
        rows = sum(pq.read_metadata(file).num_rows for file in files)
        pieces = (tables.read_columns(file) for file in files)
        if name == "vertebrae":
            pieces = (_with_density(piece, density) for piece in pieces)
        _write(pieces, tables.PUBLIC[name], _place(folder, name, cohort), rows=rows)


def _with_density(piece: pa.Table, density: Callable[..., pd.DataFrame]) -> pa.Table:
    """Fill in the columns `tables.CALIBRATED` of a piece of the table `vertebrae`."""
    found = density(piece["trabecular_hu_mean"].to_pylist(), piece["study_id"].to_pylist())
    for name in found:
        kind = tables.VERTEBRAE.field(name)
        piece = piece.set_column(piece.schema.get_field_index(name), kind, pa.array(found[name].tolist(), kind.type))
    return piece


def _place(folder: Path, name: str, cohort: str) -> Path:
    return folder / name / f"cohort={cohort}" / f"{name}.parquet"


def _write(pieces: Iterator[pa.Table], to: pa.Schema, path: Path, *, rows: int) -> None:
    """Write a table piece by piece, and hold its number of rows against the one expected."""
    part, schema = tables.beside(path), tables.in_partition(to)
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for piece in pieces:
            writer.write_table(piece.cast(schema))
    require(pq.read_metadata(part).num_rows == rows, f"{path.name} does not hold the rows that went in")
    part.replace(path)


def _write_runs(path: Path, row: Mapping[str, Any]) -> None:
    """Add this run to the record."""
    earlier = tables.read(path, tables.RUNS) if path.exists() else tables.RUNS.empty_table()
    tables.write(record.with_run(earlier, row), tables.RUNS, path)
