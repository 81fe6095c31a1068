"""Rows of Arrow tables: their order, and the frames made of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute


def sorted_rows(rows: pa.Table, by: Sequence[str]) -> pa.Table:
    """Sort rows by some columns, NULL before all else; rows that are alike keep their order.

    >>> rows = pa.table({"level": ["L2", None, "L1"], "hu": [3, 2, 1]})
    >>> sorted_rows(rows, ["level"])["hu"].to_pylist()
    [2, 1, 3]
    """
    return rows.take(np.lexsort([_ranks(rows[name]) for name in reversed(by)]))


def _ranks(values: pa.ChunkedArray) -> NDArray[np.int64]:
    """(n,) rank of each value among the distinct ones, from 1; 0 for NULL. Numbers sort faster than texts."""
    coded = values.combine_chunks().dictionary_encode()
    ranks = np.empty(len(coded.dictionary) + 1, np.int64)
    ranks[np.asarray(pc.sort_indices(coded.dictionary))] = np.arange(1, len(ranks))
    ranks[-1] = 0
    return ranks[coded.indices.fill_null(len(ranks) - 1).to_numpy()]


def to_frame(rows: pa.Table) -> pd.DataFrame:
    """Give rows as a frame whose texts are Python's own: Arrow's take microseconds each where they are looped over."""
    frame = rows.to_pandas(types_mapper={pa.string(): pd.StringDtype("python", na_value=np.nan)}.get)
    return frame.astype({field.name: object for field in rows.schema if pa.types.is_string(field.type)})
