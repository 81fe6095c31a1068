"""The two large tables, vertebrae and predictions: joined, reviewed and sorted. They stay in Arrow, for their size."""

from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute

from trabecula import tables
from trabecula.aggregate.arrow_rows import sorted_rows
from trabecula.aggregate.reconciliation import require
from trabecula.cohort import verdicts
from trabecula.image.levels import ORDER

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute

_KEYS = ("cohort", "patient_id", "study_id", "level")


def vertebra_keys(rows: pa.Table) -> pa.ChunkedArray:
    """Give study and level of each row as one text.

    >>> vertebra_keys(pa.table({"study_id": ["st0"], "level": ["L1"]})).to_pylist()
    ['st0/L1']
    """
    return pc.binary_join_element_wise(rows["study_id"], rows["level"], "/")


def join_measures(cropped: pa.Table, measured: pa.Table) -> pa.Table:
    """Join what crop and measure say of each vertebra: rows of the table `vertebrae`, as they were segmented.

    Parameters
    ----------
    cropped : Table
        Facts that stand beside the cubes (see `cubes.read_facts`).
    measured : Table
        Rows of `tables.MEASURE`, without pictures.

    Raises
    ------
    AssertionError
        If the two hold different vertebrae, or one of them twice.
    """
    keys = ["study_id", "level"]
    vertebrae, measured = sorted_rows(cropped, keys), sorted_rows(measured, keys)
    same = all(vertebrae[name].combine_chunks().equals(measured[name].combine_chunks()) for name in _KEYS)
    require(same, "crop and measure hold different vertebrae")
    require(not vertebrae.select(keys).to_pandas().duplicated().any(), "a vertebra is there twice")
    for name in (name for name in measured.column_names if name not in _KEYS):
        vertebrae = vertebrae.append_column(measured.schema.field(name), measured[name])
    return vertebrae


def apply_verdicts(
    vertebrae: pa.Table, predictions: pa.Table, reviewed: pd.DataFrame
) -> tuple[pa.Table, pa.Table, pd.DataFrame]:
    """Apply reviewers' verdicts to vertebrae and predictions.

    The studies with verdicts go through `verdicts.apply`; the vertebrae of all others are as they were segmented.

    Parameters
    ----------
    vertebrae, predictions : Table
        See `join_measures`, and rows of the table `predictions`.
    reviewed : DataFrame
        All reviewers' verdicts (see `verdicts.read`).

    Returns
    -------
    vertebrae, predictions : Table
        As many rows, by the new levels; vertebrae with the columns level_found and verdict besides.
    outcome : DataFrame
        What became of each verdict (see `verdicts.apply`).
    """
    n_rows = len(vertebrae), len(predictions)
    named = pa.array(reviewed["study_id"].dropna().unique().tolist(), tables.TEXT)
    (judged, plain), (predicted, other_predictions) = (_split(rows, named) for rows in (vertebrae, predictions))
    lines = reviewed[reviewed["study_id"].isin(set(judged["study_id"].to_pylist()))]
    renamed, moved, outcome = verdicts.apply(judged.to_pandas(), predicted.to_pandas(), lines)
    plain = plain.append_column(tables.VERTEBRAE.field("level_found"), plain["level"])
    plain = plain.append_column(tables.VERTEBRAE.field("verdict"), pa.nulls(len(plain), tables.TEXT))
    vertebrae = pa.concat_tables([plain, tables.from_frame(renamed, plain.schema)])
    predictions = pa.concat_tables([other_predictions, tables.from_frame(moved, other_predictions.schema)])
    require((len(vertebrae), len(predictions)) == n_rows, "verdicts lost rows")
    return vertebrae, predictions, outcome


def _split(rows: pa.Table, studies: pa.Array) -> tuple[pa.Table, pa.Table]:
    """Split rows into those of some studies and all others."""
    named = pc.is_in(rows["study_id"], value_set=studies)
    if not pc.any(named).as_py():
        return rows.slice(0, 0), rows
    return rows.filter(named), rows.filter(pc.invert(named))


def comparable(vertebrae: pa.Table, predictions: pa.Table) -> pa.Table:
    """Keep the vertebrae that networks and HU can both stand on.

    A vertebra that a reviewer renamed into the levels that count was not predicted: it is kept only where no vertebra
    of its study was.
    """
    keys = vertebra_keys(predictions).combine_chunks()
    predicted = pc.is_in(vertebra_keys(vertebrae), value_set=keys)
    of_predicted_study = pc.is_in(vertebrae["study_id"], value_set=predictions["study_id"].unique())
    return vertebrae.filter(pc.or_(predicted, pc.invert(of_predicted_study)))


def predictions_of(vertebrae: pd.DataFrame, predictions: pa.Table) -> pa.Table:
    """Keep the predictions of some vertebrae."""
    keys = pa.array(vertebrae["study_id"] + "/" + vertebrae["level"], tables.TEXT)
    return predictions.filter(pc.is_in(vertebra_keys(predictions), value_set=keys))


def in_order(rows: pa.Table) -> pa.Table:
    """Sort vertebrae or predictions by patient, study, level from head to foot, task and fold."""
    placed = rows.append_column("place", pc.index_in(rows["level"], value_set=pa.array(ORDER, tables.TEXT)))
    order = [name for name in ("patient_id", "study_id", "place", "task", "fold") if name in placed.column_names]
    return sorted_rows(placed, order).drop_columns("place")
