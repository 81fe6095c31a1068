"""One job of the training: the network of one split and task."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trabecula import tables
from trabecula.model.bundle import TASKS, Task
from trabecula.model.network import save
from trabecula.train.data import Data, read_data
from trabecula.train.fit import Epoch, Recipe, best_of, fit, predict_all
from trabecula.train.rois import KEYS
from trabecula.train.splits import TRAIN, VALIDATION


def train_network(
    rois: Path | str,
    cases: Path | str,
    splits: Path | str,
    *,
    split: str,
    task: Task,
    recipe: Recipe,
    workers: int,
    weights: Path,
    fitted: Path,
    curve: Path,
) -> None:
    """Train a network and let it predict every development patient; goes on where a killed run stopped.

    Parameters
    ----------
    rois, cases, splits : Path
        What `train_cases` wrote.
    split, task : str
        Which network.
    recipe : Recipe
        How it is trained; its seed is made the network's own.
    workers : int
        Processes that read and vary regions, beside this one.
    weights, fitted, curve : Path
        Files to make: weights, predictions, learning curve. The state of the training lies beside them until it ends.
    """
    division = tables.read(splits, tables.SPLITS).to_pandas()
    part = division[division["split"] == split].set_index("patient_id")["part"]
    patients = tables.read(cases, tables.CASES).to_pandas()
    data = read_data(rois, patients, scan_inputs=recipe.scan_inputs)
    of_region = data.regions.keys["patient_id"].map(part)
    state = weights.with_suffix(".state")
    state.parent.mkdir(parents=True, exist_ok=True)
    own = replace(recipe, seed=seed_of(recipe.seed, split, task))
    net, epochs = fit(
        data,
        _places(of_region, TRAIN),
        _places(of_region, VALIDATION),
        task=task,
        recipe=own,
        state=state,
        workers=workers,
    )
    save(net, weights)
    tables.write(_fitted(data, predict_all(net, data, task=task, recipe=own)), tables.FITTED, fitted)
    scheme = str(division.loc[division["split"] == split, "scheme"].iloc[0])
    rows = [{"scheme": scheme, "split": split, "task": task} | row for row in _curve(epochs)]
    tables.write(rows, tables.TRAINING, curve)
    state.unlink(missing_ok=True)


def seed_of(seed: int, split: str, task: Task) -> int:
    """A network's own seed, so that two networks differ by more than their patients."""
    scheme, number = split.rstrip("0123456789"), int(split.lstrip("abcdefghijklmnopqrstuvwxyz"))
    words = [seed, ("fold", "random", "device").index(scheme), number, TASKS.index(task)]
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def _places(of_region: pd.Series, part: str) -> NDArray[np.int64]:
    return np.flatnonzero(of_region == part)


def _fitted(data: Data, values: dict[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Rows of `tables.FITTED`."""
    keys = [dict(zip(KEYS, key, strict=True)) for key in data.regions.keys[list(KEYS)].itertuples(index=False)]
    return [
        key | {"task": task, "value": float(value)}
        for task, of_region in values.items()
        for key, value in zip(keys, of_region, strict=True)
    ]


def _curve(epochs: list[Epoch]) -> list[dict[str, Any]]:
    """Rows of `tables.TRAINING`, without the network's name."""
    return [vars(epoch) | {"kept": epoch.epoch == best_of(epochs)} for epoch in epochs]
