"""Hold predictions against vertebrae, model and folds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from trabecula import tables
from trabecula.aggregate.inputs import Model
from trabecula.aggregate.reconciliation import require
from trabecula.aggregate.vertebra_tables import vertebra_keys
from trabecula.model.bundle import OUTPUTS, Bundle

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute


def check_predictions(predictions: pa.Table, vertebrae: pa.Table, model: Model) -> None:
    """Check that predictions belong to vertebrae and to this model, and that no network predicts its own training.

    Parameters
    ----------
    predictions, vertebrae : Table
        Rows of the table `predictions`, and study_id and level of the vertebrae as segmented.
    model : Model
        The model that predicted.

    Raises
    ------
    AssertionError
        If one of these does not hold.
    """
    _check_counts(predictions, vertebrae, model.bundle)
    _check_folds(predictions, model.splits)


def without_seen(predictions: pa.Table, model: Model) -> pa.Table:
    """Leave out predictions by networks that have seen the patient under an earlier pseudonym (see `Model.renamed`).

    Networks predict by the pseudonym that they are given; those of other folds then remain, marked as in the training.
    """
    folds = {patient: model.splits[patient] for patient in sorted(model.renamed)}
    place = pc.index_in(predictions["patient_id"], value_set=pa.array(folds.keys(), tables.TEXT)).combine_chunks()
    held_out = pc.equal(pa.array(folds.values(), tables.INT).take(place), predictions["fold"].combine_chunks())
    marked = pc.or_(predictions["in_training"].combine_chunks(), place.is_valid())
    column = predictions.schema.get_field_index("in_training")
    predictions = predictions.set_column(column, predictions.schema.field(column), marked)
    return predictions.filter(held_out.fill_null(True))


def _check_counts(predictions: pa.Table, vertebrae: pa.Table, bundle: Bundle) -> None:
    """Check that each fold that predicts a vertebra, predicts every task of this model once."""
    tasks = [name for task in bundle.tasks for name in OUTPUTS[task]]
    vertebra = _positions(vertebra_keys(predictions), vertebra_keys(vertebrae).to_pylist(), tables.TEXT)
    task = _positions(predictions["task"], tasks, tables.TEXT)
    fold = _positions(predictions["fold"], list(bundle.folds), tables.INT)
    require(bool((vertebra >= 0).all()), "a prediction belongs to no vertebra")
    same_model = pc.all(pc.equal(predictions["model_id"], bundle.model_id)).as_py()
    require(same_model is not False, "predictions come from another model")
    require(bool((task >= 0).all() and (fold >= 0).all()), "a prediction is of a task or fold that the model lacks")
    shape = (len(vertebrae), len(bundle.folds), len(tasks))
    places = np.ravel_multi_index((vertebra, fold, task), shape) if len(task) else np.zeros(0, np.int64)
    counts = np.bincount(places, minlength=int(np.prod(shape))).reshape(shape)
    require(bool((counts <= 1).all()), "a prediction is there twice")
    require(bool(np.isin(counts.sum(axis=2), [0, len(tasks)]).all()), "a vertebra was not predicted for every task")


def _positions(values: pa.ChunkedArray, choices: list, kind: pa.DataType) -> np.ndarray:
    """(n,) position of each value among the choices, or -1."""
    return pc.index_in(values, value_set=pa.array(choices, kind)).fill_null(-1).to_numpy()


def _check_folds(predictions: pa.Table, splits: Mapping[str, int]) -> None:
    """Check that patients of the training are marked, and predicted by the fold that never saw them."""
    patients, folds = pa.array(splits.keys(), tables.TEXT), pa.array(splits.values(), tables.INT)
    position = pc.index_in(predictions["patient_id"], value_set=patients)
    marked = pc.all(pc.equal(pc.is_valid(position), predictions["in_training"])).as_py()
    require(marked is not False, "in_training contradicts the model's splits")
    unseen = pc.equal(folds.take(position.combine_chunks()), predictions["fold"].combine_chunks())
    require(pc.all(unseen).as_py() is not False, "a network predicts whom it was trained on")
