"""The public tables' files: written piece after piece, so that a whole table is never in memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.aggregate.reconciliation import require
from trabecula.runtime.whole_file import whole_file

# Rows of a row group, whatever the size of batches and buckets: the same rows give the same bytes.
ROWS_PER_GROUP = 100_000


class GroupWriter:
    """Takes rows in pieces of any size, and writes them in row groups of `ROWS_PER_GROUP`.

    Attributes
    ----------
    n_rows : int
        Rows taken so far.
    """

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer, self._schema, self._held = writer, schema, schema.empty_table()
        self.n_rows = 0

    def add(self, rows: pa.Table) -> None:
        """Take rows in, and write the row groups that are full."""
        self.n_rows += len(rows)
        self._held = pa.concat_tables([self._held, rows.select(self._schema.names).cast(self._schema)])
        n_full = len(self._held) - len(self._held) % ROWS_PER_GROUP
        for first in range(0, n_full, ROWS_PER_GROUP):
            self._write(self._held.slice(first, ROWS_PER_GROUP))
        self._held = self._held.slice(n_full)

    def end(self) -> None:
        """Write the rows that are left; a table without rows gets one empty row group."""
        if len(self._held) or not self.n_rows:
            self._write(self._held)

    def _write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows.combine_chunks(), row_group_size=ROWS_PER_GROUP)


@contextmanager
def table_writer(folder: Path, name: str, cohort: str) -> Iterator[GroupWriter]:
    """Open a cohort's table for writing; the file takes its place when it is whole and holds the rows that went in."""
    schema = tables.in_partition(tables.PUBLIC[name])
    path = table_path(folder, name, cohort)
    with whole_file(path) as unfinished:
        with pq.ParquetWriter(unfinished, schema, compression="zstd") as parquet:
            writer = GroupWriter(parquet, schema)
            yield writer
            writer.end()
        n_written = count_rows(unfinished)
        require(n_written == writer.n_rows, f"{path.name} does not hold the rows that went in")


def table_path(folder: Path, name: str, cohort: str) -> Path:
    """Give the file of a cohort's table.

    >>> table_path(Path("tables"), "series", "north").as_posix()
    'tables/series/cohort=north/series.parquet'
    """
    return folder / name / f"cohort={cohort}" / f"{name}.parquet"


def count_rows(path: Path) -> int:
    """Count a Parquet file's rows, by its metadata."""
    with tables.reading(path):
        return pq.read_metadata(path).num_rows


def read_columns(folder: Path, name: str, cohort: str, columns: Sequence[str]) -> pa.Table:
    """Read some columns of a cohort's table; the cohort's name, which the folder tells, comes last."""
    rows = tables.read_columns(table_path(folder, name, cohort), [column for column in columns if column != "cohort"])
    return rows.append_column(tables.COHORT, pa.array([cohort] * len(rows), tables.TEXT))
