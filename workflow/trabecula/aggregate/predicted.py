"""Hold predictions against vertebrae, model and folds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from trabecula import tables
from trabecula.aggregate.check import require
from trabecula.model.bundle import OUTPUTS, Bundle

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute


def vertebra_keys(rows: pa.Table) -> pa.ChunkedArray:
    """Study and level as one text."""
    return pc.binary_join_element_wise(rows["study_id"], rows["level"], "/")


def check(predictions: pa.Table, vertebrae: pa.Table, bundle: Bundle, splits: Mapping[str, int]) -> None:
    """A prediction belongs to a vertebra and to this model, and no network predicts whom it was trained on.

    Raises
    ------
    AssertionError
        If it does not.
    """
    tasks = [name for task in bundle.tasks for name in OUTPUTS[task]]
    vertebra = _places(vertebra_keys(predictions), vertebra_keys(vertebrae).to_pylist(), tables.TEXT)
    task, fold = (_places(predictions[name], known, kind) for name, known, kind in _known(tasks, bundle))
    require(bool((vertebra >= 0).all()), "a prediction belongs to no vertebra")
    require(pc.all(pc.equal(predictions["model_id"], bundle.model_id)).as_py() is not False, _OTHER_MODEL)
    require(bool((task >= 0).all() and (fold >= 0).all()), "a prediction is of a task or fold that the model lacks")
    shape = (len(vertebrae), len(bundle.folds), len(tasks))
    places = np.ravel_multi_index((vertebra, fold, task), shape) if len(task) else np.zeros(0, np.int64)
    counts = np.bincount(places, minlength=int(np.prod(shape))).reshape(shape)
    require(bool((counts <= 1).all()), "a prediction is there twice")
    require(bool(np.isin(counts.sum(axis=2), [0, len(tasks)]).all()), "a vertebra was not predicted for every task")
    _check_folds(predictions, splits)


_OTHER_MODEL = "predictions come from another model"


def _known(tasks: list[str], bundle: Bundle) -> list[tuple[str, list, pa.DataType]]:
    return [("task", tasks, tables.TEXT), ("fold", list(bundle.folds), tables.INT)]


def _places(values: pa.ChunkedArray, known: list, kind: pa.DataType) -> np.ndarray:
    """(n,) place of each value among those known, or -1."""
    return pc.index_in(values, value_set=pa.array(known, kind)).fill_null(-1).to_numpy()


def _check_folds(predictions: pa.Table, splits: Mapping[str, int]) -> None:
    """Patients of the training are predicted by the fold that never saw them, and marked."""
    trained = pa.array(splits.keys(), tables.TEXT), pa.array(splits.values(), tables.INT)
    place = pc.index_in(predictions["patient_id"], value_set=trained[0])
    known = pc.is_valid(place)
    require(pc.all(pc.equal(known, predictions["in_training"])).as_py() is not False, _CONTRADICTS)
    own = pc.equal(trained[1].take(place.combine_chunks()), predictions["fold"].combine_chunks())
    require(pc.all(own).as_py() is not False, "a network predicts whom it was trained on")


_CONTRADICTS = "in_training contradicts the model's splits"
