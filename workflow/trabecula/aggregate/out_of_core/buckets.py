"""Files of rows in buckets, which are ranges of patients: written shard by shard, read patient by patient.

Such a file is Arrow's, with a record batch per bucket, empty ones too, so that a bucket is read from many files
without the rest of them. It lies in a folder that is removed when the tables are whole.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trabecula import tables
from trabecula.runtime.whole_file import whole_file

# Patients whose rows are in memory at once.
PATIENTS_PER_BUCKET = 10_000
# Rows that are read at once of a table that may be of any length.
ROWS_AT_ONCE = 65_536
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


def borders(studies: Path, *, patients: int) -> list[str]:
    """List the first patient of each bucket but the first one, which takes all before.

    Parameters
    ----------
    studies : Path
        The index's table `studies` of a cohort.
    patients : int
        Patients of a bucket.
    """
    with tables.reading(studies), pq.ParquetFile(studies) as file:
        batches = [batch["patient_id"].unique() for batch in file.iter_batches(ROWS_AT_ONCE, columns=["patient_id"])]
    names = np.unique(pa.chunked_array(batches, tables.TEXT).unique().to_numpy(zero_copy_only=False))
    return names[patients::patients].tolist()


def write(rows: pa.Table, path: Path, *, starts: Sequence[str]) -> Path:
    """Write rows with a record batch per bucket; within a bucket they keep their order.

    The file is written beside first, since a task may run twice.

    Parameters
    ----------
    rows : Table
        Rows with the column patient_id.
    path : Path
        File to write.
    starts : sequence of str
        See `borders`; none for a file of one bucket.

    Returns
    -------
    Path
        The same path.
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
    """(n,) bucket of each patient; the first one for NULL."""
    coded = patients.combine_chunks().dictionary_encode()
    names = coded.dictionary.to_numpy(zero_copy_only=False)
    of_name = np.append(np.searchsorted(np.asarray(starts, object), names, side="right"), 0)
    return of_name[coded.indices.fill_null(len(of_name) - 1).to_numpy()]


def read(paths: Sequence[Path], bucket: int, schema: pa.Schema) -> pa.Table:
    """Read a bucket's rows of many files, in the files' order; where there is no file, an empty table of a schema."""
    batches = [_read_batch(path, bucket) for path in paths]
    return pa.Table.from_batches(batches, schema=batches[0].schema) if batches else schema.empty_table()


def _read_batch(path: Path, bucket: int) -> pa.RecordBatch:
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        return reader.get_batch(bucket)


def split(path: Path, schema: pa.Schema, folder: Path, *, starts: Sequence[str]) -> list[Path]:
    """Write the rows of one of the index's tables into buckets; within a patient they keep their order.

    Parameters
    ----------
    path : Path
        Parquet file ``{cohort}/index/{table}.parquet``.
    schema : Schema
        Schema of the table.
    folder : Path
        Where the new files are put.
    starts : sequence of str
        See `borders`.

    Returns
    -------
    list of Path
        Files with at most `ROWS_AT_ONCE` rows each.
    """
    stem = f"{path.parents[1].name}.{path.stem}"
    return [
        write(rows, folder / f"{stem}.{i:06d}.arrow", starts=starts)
        for i, rows in enumerate(_rows_at_once(path, schema))
    ]


def _rows_at_once(path: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    with tables.reading(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, use_threads=False):
            yield tables.cast(pa.Table.from_batches([batch]), schema)
