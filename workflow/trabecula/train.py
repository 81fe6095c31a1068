"""Train the networks of all folds and both tasks, and write the model bundle."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from trabecula import tables
from trabecula.bundle import TASKS, Task, put_in_place, weight_file
from trabecula.cases import assign_folds, find_cases, hu_lines, read_tables, read_vertebrae, write_rois
from trabecula.cubes import read_spacing_mm
from trabecula.fit import Epoch, Part, Recipe, fit
from trabecula.network import pick_device, predict, save
from trabecula.publish import Record, write_bundle


@dataclass(frozen=True)
class Sources:
    """Files of the development cohorts: cubes and measurements per shard, studies and labels per cohort."""

    cubes: Sequence[str]
    measures: Sequence[str]
    studies: Sequence[str]
    labels: Sequence[str]


@dataclass(frozen=True)
class Samples:
    """Regions and their patients.

    Attributes
    ----------
    rois : (n, size, size, size) array
        Hounsfield units, memory-mapped.
    row : (n,) array
        Each region's row in `cases`.
    cases : DataFrame
        See `cases.find_cases`.
    fold : (m,) array
        Fold of each case.
    """

    rois: NDArray[np.float16]
    row: NDArray[np.int64]
    cases: pd.DataFrame
    fold: NDArray[np.int64]

    def part(self, fold: int, task: Task, *, held_out: bool) -> Part:
        """Regions of the patients in a fold, or of all others; targets are 1 for reduced, or mg/cm3."""
        column = "reduced" if task == "classification" else "qct_vbmd_mg_cm3"
        target = self.cases[column].to_numpy(np.float32)[self.row]
        return Part(self.rois, np.flatnonzero((self.fold[self.row] == fold) == held_out), target)


def read_cases(sources: Sources, *, folds: int, seed: int, **choice: Any) -> pd.DataFrame:
    """Read the labelled patients and give each a fold.

    Parameters
    ----------
    sources : Sources
        Files of the development cohorts.
    folds, seed : int
        Number of folds, and seed of their shuffling.
    **choice
        The options of `cases.find_cases`.

    Returns
    -------
    DataFrame
        The columns of `cases.find_cases`, and fold.

    Raises
    ------
    ConfigError
        If a class has fewer patients than there are folds.
    """
    studies, labels = read_tables(sources.studies, tables.STUDIES), read_tables(sources.labels, tables.LABELS)
    cases = find_cases(read_vertebrae(sources.cubes, sources.measures), studies, labels, **choice)
    fold_of = assign_folds(cases["patient_id"].tolist(), cases["reduced"].tolist(), folds=folds, seed=seed)
    return cases.assign(fold=cases["patient_id"].map(fold_of).astype(np.int64))


def train_bundle(
    sources: Sources,
    folder: Path | str,
    *,
    recipe: Recipe,
    choice: Mapping[str, Any],
    synthetic: Sequence[str],
    code: str,
) -> None:
    """Train all networks and write the bundle; goes on where a killed run stopped.

    Parameters
    ----------
    sources : Sources
        Files of the development cohorts.
    folder : Path or str
        The bundle to make; what lies there is replaced. Beside it, state is kept in a folder of the same name with
        ``.training`` added; the same data, recipe and code take it up.
    recipe : Recipe
        What is trained, and how.
    choice : mapping
        How levels and labels are chosen: the options of `cases.find_cases`.
    synthetic : sequence of str
        Cohorts that are simulated.
    code : str
        Digest of the code.

    Raises
    ------
    ConfigError
        If a class has fewer patients than there are folds.
    """
    cases = read_cases(sources, folds=recipe.folds, seed=recipe.seed, **choice)
    state = Path(folder).with_name(f"{Path(folder).name}.training")
    state.mkdir(parents=True, exist_ok=True)
    samples = read_samples(sources.cubes, cases, recipe=recipe, file=state / "rois.npy")
    checkpoints = keep_only(state / f"state-{fingerprint(samples, recipe, code=code)}")
    made = _fresh(state / "bundle")
    values, curves = train_all(samples, recipe=recipe, checkpoints=checkpoints, made=made)
    record = Record(recipe, dict(choice), frozenset(synthetic), read_spacing_mm(sources.cubes[0]), code)
    write_bundle(made, record, cases.join(values), curves, hu_lines(cases, samples.fold))
    put_in_place(made, Path(folder))
    (state / "rois.npy").unlink()


def read_samples(cubes: Sequence[str], cases: pd.DataFrame, *, recipe: Recipe, file: Path) -> Samples:
    """Cut the cases' regions into a file, and map it into memory."""
    row = write_rois(cubes, cases, roi=recipe.roi, path=file)
    return Samples(np.load(file, mmap_mode="r"), row, cases, cases["fold"].to_numpy(np.int64))


def fingerprint(samples: Samples, recipe: Recipe, *, code: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 over all that decides on the weights."""
    sha = hashlib.sha256(json.dumps([code, torch.__version__, vars(recipe)], sort_keys=True).encode())
    columns = samples.cases[["qct_vbmd_mg_cm3", "reduced", "fold"]].to_numpy(np.float64)
    for array in (samples.rois, samples.row, columns):
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:16]


def keep_only(folder: Path) -> Path:
    """Make a folder for states, and remove those of other data, recipes or code."""
    for other in folder.parent.glob("state-*"):
        if other != folder:
            shutil.rmtree(other)
    folder.mkdir(exist_ok=True)
    return folder


def _fresh(folder: Path) -> Path:
    """An empty folder; what a killed run left is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def train_all(
    samples: Samples, *, recipe: Recipe, checkpoints: Path, made: Path
) -> tuple[pd.DataFrame, dict[tuple[Task, int], list[Epoch]]]:
    """Train every task and fold, and save the weights.

    Parameters
    ----------
    samples : Samples
        Regions and patients.
    recipe : Recipe
        What is trained, and how.
    checkpoints : Path
        Folder of the states.
    made : Path
        Folder of the bundle that is being made.

    Returns
    -------
    DataFrame
        Out-of-fold prediction per case: regression (mg/cm3) and classification (probability), mean over levels.
    dict
        Learning curve by task and fold.
    """
    values = {task: np.full(len(samples.cases), np.nan) for task in TASKS}
    curves: dict[tuple[Task, int], list[Epoch]] = {}
    for task in TASKS:
        for fold in range(recipe.folds):
            held_out = samples.part(fold, task, held_out=True)
            trained, curves[task, fold] = fit(
                samples.part(fold, task, held_out=False),
                held_out,
                task=task,
                recipe=recipe,
                seed=recipe.seed + 100 * TASKS.index(task) + fold,
                device=pick_device(recipe.device),
                state=checkpoints / f"{task}_fold{fold}.pt",
            )
            save(trained, made / weight_file(task, fold))
            predicted = predict(trained, samples.rois, held_out.index, task=task, roi=recipe.roi)
            row, of_case = mean_by(samples.row[held_out.index], predicted)
            values[task][row] = of_case
    return pd.DataFrame(values, index=samples.cases.index), curves


def mean_by(row: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Distinct rows of (n,) values, and the mean of each."""
    distinct, place = np.unique(row, return_inverse=True)
    return distinct, np.bincount(place, weights=values) / np.bincount(place)
