"""All shards' tables into the public ones: one file per table and cohort.

The shards are read over Dask, a hundred files to a task. A task's work is a plain function over frames: filtering
and `len` of Dask's own expressions returned wrong counts (2026.8.0), so every count here is taken from the frames and
held against Parquet's.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from dask.base import compute
from dask.delayed import delayed

from trabecula import bundle, calibrate, labels, patients, tables
from trabecula.aggregate import fates, record, results
from trabecula.aggregate.check import reconcile
from trabecula.aggregate.shards import Part, Shard, batches, of_paths, read_batch
from trabecula.aggregate.write import write_cohort, write_run
from trabecula.workers import connect

__all__ = ["Cohort", "Rules", "of_paths", "run"]


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
        made[cohort.name] = small_tables(cohort, found[cohort.name], own, used, splits, rules)
        reconcile(cohort.name, made[cohort.name], found[cohort.name])
    devices = _devices(cohorts, made, calibration)
    for cohort in cohorts:
        own = [part for part in parts if part.cohort == cohort.name]
        small = made[cohort.name]
        lines = calibrate.study_lines(small["studies"], calibration, devices)
        density = partial(calibrate.calibrated, lines=lines, method=calibration.method)
        rows = small["patients"]
        found = density(rows["trabecular_hu"], rows["study_id"]).set_index(rows.index)
        small = {**small, "patients": pd.concat([rows, found], axis="columns")}
        write_cohort(folder, cohort.name, small, own, density)
    shutil.rmtree(beside)
    tables.write(devices.table(), tables.CALIBRATIONS, folder / "calibrations" / "calibrations.parquet")
    row = record.run_row(started=started, finished=record.now(), config=config, code=code, model_id=used.model_id)
    write_run(folder / "runs" / "runs.parquet", row)


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
    used: bundle.Bundle,
    splits: Mapping[str, int],
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
    used : Bundle
        The model that predicted.
    splits : mapping
        Patients of its training, and the fold that never saw them.
    rules : Rules
        From vertebrae to patients.

    Returns
    -------
    dict of DataFrame
        By name, see `write.SMALL`.
    """
    fate = pd.concat([part.fates for part in parts] or [fates.none()], ignore_index=True)
    studies = _with_scan_facts(fates.study_rows(index["studies"], fate), parts)
    combined = pd.concat([part.results for part in parts] or [results.none()])
    found = results.judged(combined, studies, used, splits)
    candidates = patients.candidates(studies, found)
    near = {"levels": rules.levels, "max_interval_days": rules.max_interval_days}
    rows = patients.patient_rows(
        studies,
        found,
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
            model_id=used.model_id,
            in_training=rows["patient_id"].isin(set(splits)),
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
