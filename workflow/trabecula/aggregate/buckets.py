"""Rows in ranges of patients: what was read shard by shard is put together patient by patient.

A file of such rows is Arrow's, with a record batch per bucket, empty ones too, so that a bucket is read from many files
without the rest of them. It lies in a folder that is removed when the tables are whole.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trabecula import tables
from trabecula.runtime.whole_file import whole_file

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute

# Patients whose rows are in memory at once.
PATIENTS_PER_BUCKET = 10_000
# Rows that are read at once of a table that may be of any length.
ROWS_AT_ONCE = 65_536
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


def borders(studies: Path, *, patients: int) -> list[str]:
    """First patient of each bucket but the first one, which takes all before.

    Parameters
    ----------
    studies : Path
        The index's table `studies` of a cohort.
    patients : int
        Patients of a bucket.
    """
    with tables.reading(studies), pq.ParquetFile(studies) as file:
        batches = [batch["patient_id"].unique() for batch in file.iter_batches(ROWS_AT_ONCE, columns=["patient_id"])]
    known = np.unique(pa.chunked_array(batches, tables.TEXT).unique().to_numpy(zero_copy_only=False))
    return known[patients::patients].tolist()


def sorted_rows(rows: pa.Table, by: Sequence[str]) -> pa.Table:
    """Rows in order of some columns, NULL before all else; rows that are alike keep their order."""
    return rows.take(np.lexsort([_ranks(rows[name]) for name in reversed(by)]))


def _ranks(values: pa.ChunkedArray) -> NDArray[np.int64]:
    """(n,) place of each value among the different ones, from 1; 0 for NULL. Numbers sort faster than texts."""
    coded = values.combine_chunks().dictionary_encode()
    place = np.empty(len(coded.dictionary) + 1, np.int64)
    place[np.asarray(pc.sort_indices(coded.dictionary))] = np.arange(1, len(place))
    place[-1] = 0
    return place[coded.indices.fill_null(len(place) - 1).to_numpy()]


def write(rows: pa.Table, path: Path, *, starts: Sequence[str]) -> Path:
    """Write rows with a record batch per bucket; of each bucket they keep their order.

    The file is written beside first, since a task may run twice.
    """
    bucket = _buckets(rows["patient_id"], starts)
    rows = rows.take(np.argsort(bucket, kind="stable")) if len(starts) else rows
    rows, n = rows.combine_chunks(), np.bincount(bucket, minlength=len(starts) + 1)
    empty = pa.RecordBatch.from_pylist([], schema=rows.schema)
    with whole_file(path) as unfinished, pa.ipc.new_file(unfinished, rows.schema, options=_OPTIONS) as writer:
        for first, length in zip(np.cumsum(n) - n, n, strict=True):
            pieces = rows.slice(first, length).to_batches()
            writer.write_batch(pieces[0] if pieces else empty)
    return path


def _buckets(patients: pa.ChunkedArray, starts: Sequence[str]) -> NDArray[np.int64]:
    """(n,) bucket of each patient; the first one's for NULL."""
    coded = patients.combine_chunks().dictionary_encode()
    names = coded.dictionary.to_numpy(zero_copy_only=False)
    of_name = np.append(np.searchsorted(np.asarray(starts, object), names, side="right"), 0)
    return of_name[coded.indices.fill_null(len(of_name) - 1).to_numpy()]


def read(paths: Sequence[Path], bucket: int, of: pa.Schema) -> pa.Table:
    """Read a bucket's rows of many files, in their order."""
    found = [_read(path, bucket) for path in paths]
    return pa.Table.from_batches(found, schema=found[0].schema) if found else of.empty_table()


def _read(path: Path, bucket: int) -> pa.RecordBatch:
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        return reader.get_batch(bucket)


def frame(rows: pa.Table) -> pd.DataFrame:
    """Rows as a frame whose texts are Python's own: Arrow's take microseconds each where they are looped over."""
    found = rows.to_pandas(types_mapper={pa.string(): pd.StringDtype("python", na_value=np.nan)}.get)
    return found.astype({field.name: object for field in rows.schema if pa.types.is_string(field.type)})


def split(path: Path, of: pa.Schema, folder: Path, *, starts: Sequence[str]) -> list[Path]:
    """Put the rows of one of the index's tables into buckets; of each patient they keep their order.

    Parameters
    ----------
    path : Path
        Parquet file ``{cohort}/index/{table}.parquet``.
    of : Schema
        What it has to be.
    folder : Path
        Where the new files are put.
    starts : sequence of str
        See `borders`.
    """
    found = []
    for i, piece in enumerate(_pieces(path, of)):
        place = folder / f"{path.parents[1].name}.{path.stem}.{i:06d}.arrow"
        found.append(write(piece, place, starts=starts))
    return found


def _pieces(path: Path, of: pa.Schema) -> Iterator[pa.Table]:
    with tables.reading(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, use_threads=False):
            yield tables.cast(pa.Table.from_batches([batch]), of)
