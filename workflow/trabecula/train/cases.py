"""The labelled patients that a model learns from, their regions and their folds."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from trabecula import tables
from trabecula.bundle import HuLine, Roi
from trabecula.cubes import read_cubes, read_facts, read_spacing_mm
from trabecula.errors import ConfigError
from trabecula.labels import patient_truth
from trabecula.network import cut_roi
from trabecula.patients import chosen_vertebrae

VERTEBRA = ["cohort", "patient_id", "study_id", "level"]


def read_vertebrae(cubes: Iterable[Path | str], measures: Iterable[Path | str]) -> pd.DataFrame:
    """Read the vertebrae of all shards without voxels and pictures: columns of the tables `vertebrae` and `measure`."""
    facts = pd.concat([read_facts(path).to_pandas() for path in cubes], ignore_index=True)
    wanted = [name for name in tables.MEASURE.names if name != "picture"]
    measured = pd.concat([tables.read_columns(path, wanted).to_pandas() for path in measures], ignore_index=True)
    return facts.merge(measured, on=VERTEBRA, validate="one_to_one")


def read_tables(paths: Iterable[Path | str], of) -> pd.DataFrame:
    """Read Parquet tables of one schema as one frame."""
    return pd.concat([tables.read(path, of).to_pandas() for path in paths], ignore_index=True)


def find_cases(
    vertebrae: pd.DataFrame,
    studies: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    levels: Sequence[str],
    substitutes: Sequence[str],
    max_interval_days: int,
    reduced_below_mg_cm3: float,
) -> pd.DataFrame:
    """Find the patients with a QCT value and a usable vertebra, in the way in which results are made.

    Parameters
    ----------
    vertebrae : DataFrame
        See `read_vertebrae`.
    studies, labels : DataFrame
        Columns as in the tables of these names.
    levels, substitutes
        See `patients.choose_levels`.
    max_interval_days : int
        See `labels.patient_truth`.
    reduced_below_mg_cm3 : float
        vBMD below this is reduced density.

    Returns
    -------
    DataFrame
        By cohort and patient_id: study_id, levels (list), trabecular_hu (mean over them), qct_vbmd_mg_cm3, reduced,
        age_years, sex, device_key.
    """
    found = [
        _cases_of_cohort(
            vertebrae.loc[vertebrae["cohort"] == cohort],
            group,
            labels.loc[labels["cohort"] == cohort],
            levels=levels,
            substitutes=substitutes,
            max_interval_days=max_interval_days,
        )
        for cohort, group in studies.groupby("cohort")
    ]
    cases = pd.concat(found, ignore_index=True).sort_values(["cohort", "patient_id"], ignore_index=True)
    return cases.assign(reduced=cases["qct_vbmd_mg_cm3"] < reduced_below_mg_cm3)


def _cases_of_cohort(
    vertebrae: pd.DataFrame, studies: pd.DataFrame, labels: pd.DataFrame, *, levels, substitutes, max_interval_days
) -> pd.DataFrame:
    chosen = chosen_vertebrae(vertebrae, levels=levels, substitutes=substitutes)
    by_study = chosen.groupby("study_id").agg(levels=("level", list), trabecular_hu=("trabecular_hu_mean", "mean"))
    candidates = studies.loc[studies["study_id"].isin(list(by_study.index))]
    truth = patient_truth(labels, candidates, levels=levels, max_interval_days=max_interval_days)
    known = truth.loc[truth["qct_vbmd_mg_cm3"].notna(), ["study_id", "qct_vbmd_mg_cm3"]]
    facts = studies[["cohort", "patient_id", "study_id", "age_years", "sex", "device_key"]]
    return known.merge(facts, on="study_id").join(by_study, on="study_id")


def assign_folds(patient_ids: Sequence[str], reduced: Sequence[bool], *, folds: int, seed: int) -> dict[str, int]:
    """Share patients out to folds: each patient in one, both classes evenly in all.

    Parameters
    ----------
    patient_ids : sequence of str
        Pseudonyms; a patient of several cohorts stands here several times, and his first class counts.
    reduced : sequence of bool
        Class of each.
    folds, seed : int
        Number of folds, and seed of the shuffling.

    Returns
    -------
    dict
        Fold of each patient, by pseudonym.

    Raises
    ------
    ConfigError
        If a class has fewer patients than there are folds.
    """
    class_of = {patient: bool(low) for patient, low in reversed(list(zip(patient_ids, reduced, strict=True)))}
    patients = sorted(class_of)
    classes = np.array([class_of[patient] for patient in patients], dtype=int)
    n_reduced = int(classes.sum())
    if min(n_reduced, len(classes) - n_reduced) < folds:
        raise ConfigError(
            f"Option train.folds: {folds} folds need {folds} labelled patients of each class, but the development "
            f"cohorts have {n_reduced} with reduced and {len(classes) - n_reduced} with normal density; "
            "add labelled patients, or lower it."
        )
    split = StratifiedKFold(folds, shuffle=True, random_state=seed).split(patients, classes)
    return {patients[i]: fold for fold, (_, held_out) in enumerate(split) for i in held_out}


def write_rois(cubes: Iterable[Path | str], cases: pd.DataFrame, *, roi: Roi, path: Path) -> NDArray[np.int64]:
    """Write the regions of the cases' chosen levels to one array file, cube by cube.

    Parameters
    ----------
    cubes : iterable of Path
        Files of vertebrae, as `crop` writes them.
    cases : DataFrame
        See `find_cases`.
    roi : Roi
        What the network sees.
    path : Path
        NumPy file to make: (n, size, size, size) Hounsfield units, half precision.

    Returns
    -------
    (n,) array
        Row in `cases` of each region.
    """
    keys = zip(cases["cohort"], cases["study_id"], cases["levels"], strict=True)
    place = {(cohort, study, level): row for row, (cohort, study, levels) in enumerate(keys) for level in levels}
    rois = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(len(place), *[roi.size] * 3))
    rows = []
    for file in cubes:
        spacing_mm = read_spacing_mm(file)
        for crop in read_cubes(file):
            row = place.pop((crop.cohort, crop.study_id, crop.level), None)
            if row is not None:
                rois[len(rows)] = cut_roi(crop.ct, spacing_mm=spacing_mm, roi=roi)
                rows.append(row)
    if place:
        raise ValueError(f"{len(place)} chosen vertebrae have no cube")
    rois.flush()
    return np.array(rows, dtype=np.int64)


def hu_lines(cases: pd.DataFrame, fold: NDArray[np.int64]) -> tuple[HuLine, ...]:
    """Fit vBMD = slope * HU + intercept on the patients outside each fold, by least squares.

    Parameters
    ----------
    cases : DataFrame
        Columns trabecular_hu and qct_vbmd_mg_cm3.
    fold : (n,) array
        Fold of each case.
    """
    lines = []
    for held_out in np.unique(fold):
        seen = cases[fold != held_out]
        slope, intercept = np.polyfit(seen["trabecular_hu"], seen["qct_vbmd_mg_cm3"], 1)
        lines.append(HuLine(int(held_out), float(slope), float(intercept), len(seen)))
    return tuple(lines)
