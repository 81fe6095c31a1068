"""One job of the training: the network of one split and task."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trabecula import tables
from trabecula.model.bundle import FOLD, TASKS, Task
from trabecula.model.network import save
from trabecula.train.data import Data, read_data
from trabecula.train.fit import Epoch, Recipe, best_of, fit, predict_all
from trabecula.train.rois import VERTEBRA
from trabecula.train.splits import DEVICE, RANDOM, TRAIN, VALIDATION


@dataclass(frozen=True)
class Prepared:
    """Files that `train_cases` wrote: regions, cases and splits."""

    rois: Path | str
    cases: Path | str
    splits: Path | str


@dataclass(frozen=True)
class NetworkFiles:
    """Files of a trained network.

    Attributes
    ----------
    weights, fitted, curve : Path
        Weights, predictions and learning curve. The state of the training lies beside them until it ends.
    """

    weights: Path
    fitted: Path
    curve: Path


def train_network(
    prepared: Prepared, files: NetworkFiles, *, split: str, task: Task, recipe: Recipe, workers: int
) -> None:
    """Train a network and let it predict every development patient; a killed training is continued.

    Parameters
    ----------
    prepared : Prepared
        Files to read.
    files : NetworkFiles
        Files to make.
    split, task : str
        The network's split and task.
    recipe : Recipe
        How it is trained; the network's own seed is drawn from its seed.
    workers : int
        Processes that read and vary regions, beside the calling process.
    """
    division = tables.read(prepared.splits, tables.SPLITS).to_pandas()
    rows = division[division["split"] == split]
    patients = tables.read(prepared.cases, tables.CASES).to_pandas()
    data = read_data(prepared.rois, patients, scan_inputs=recipe.scan_inputs)
    part = data.regions.keys["patient_id"].map(rows.set_index("patient_id")["part"])
    state = files.weights.with_suffix(".state")
    state.parent.mkdir(parents=True, exist_ok=True)
    recipe = replace(recipe, seed=network_seed(recipe.seed, split, task))
    train, validation = np.flatnonzero(part == TRAIN), np.flatnonzero(part == VALIDATION)
    net, epochs = fit(data, train, validation, task=task, recipe=recipe, state=state, workers=workers)
    save(net, files.weights)
    tables.write(_fitted(data, predict_all(net, data, task=task, recipe=recipe)), tables.FITTED, files.fitted)
    name = {"scheme": str(rows["scheme"].iloc[0]), "split": split, "task": task}
    tables.write([name | row for row in _curve(epochs)], tables.TRAINING, files.curve)
    state.unlink(missing_ok=True)


def network_seed(seed: int, split: str, task: Task) -> int:
    """Give a network its own seed, so that two networks differ by more than their patients."""
    scheme, number = split.rstrip("0123456789"), int(split.lstrip("abcdefghijklmnopqrstuvwxyz"))
    words = [seed, (FOLD, RANDOM, DEVICE).index(scheme), number, TASKS.index(task)]
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def _fitted(data: Data, predictions: dict[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Make the rows of `tables.FITTED`."""
    keys = data.regions.keys[VERTEBRA].itertuples(index=False, name=None)
    vertebrae = [dict(zip(VERTEBRA, key, strict=True)) for key in keys]
    return [
        vertebra | {"task": task, "value": float(value)}
        for task, values in predictions.items()
        for vertebra, value in zip(vertebrae, values, strict=True)
    ]


def _curve(epochs: list[Epoch]) -> list[dict[str, Any]]:
    """Make the rows of `tables.TRAINING`, without the network's name."""
    return [vars(epoch) | {"kept": epoch.epoch == best_of(epochs)} for epoch in epochs]
