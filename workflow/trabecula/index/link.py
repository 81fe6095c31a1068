"""Write the linkage table, row by row, while the shards are still unknown."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from trabecula.cohort.linkage import LINKAGE
from trabecula.cohort.private import private_writer, write_private
from trabecula.index.database import database, in_sql
from trabecula.runtime.whole_file import beside

_FILES = 10_000  # files of the rows that wait to be written together


class Writer:
    """Take rows in any order, within a ``with`` block, and put the table in place at the end.

    Parameters
    ----------
    path : Path
        Where the table goes, readable by its owner only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loose = beside(path.with_name("loose.parquet"))
        self._open = ExitStack()
        self._waiting: list[dict[str, Any]] = []
        self._n_files = 0

    def __enter__(self) -> Self:
        self._parquet = self._open.enter_context(private_writer(self._loose, LINKAGE))
        return self

    def __exit__(self, *raised: object) -> None:
        self._write()
        self._open.close()

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Write rows, whose shard is still unknown."""
        self._waiting += rows
        self._n_files += sum(len(row["files"]) for row in rows)
        if self._n_files >= _FILES:
            self._write()

    def _write(self) -> None:
        self._parquet.write_table(pa.Table.from_pylist(self._waiting, schema=LINKAGE))
        self._waiting, self._n_files = [], 0

    def finish(self, shard_of: Mapping[str, str]) -> None:
        """Put the table in place, with a row group per shard so that a job reads its own alone."""
        schema = pa.schema([("study_id", pa.string()), ("in_shard", pa.string())])
        shards = pa.table([list(shard_of), list(shard_of.values())], schema=schema)
        columns = ", ".join(f"{'s.in_shard AS ' if name == 'shard' else 't.'}{name}" for name in LINKAGE.names)
        with database(self._path.parent) as opened:
            opened.register("shards", shards)
            rows = opened.sql(
                f"SELECT {columns} FROM {in_sql([self._loose])} t "
                "LEFT JOIN shards s ON t.study_id = s.study_id AND t.chosen "
                "ORDER BY s.in_shard NULLS LAST, t.study_id, t.series_id, t.stack"
            ).to_arrow_reader(2000)
            write_private(LINKAGE.empty_table(), self._path, _by_shard(rows))
        self._loose.unlink()


def _by_shard(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield one table per shard, from batches that are sorted by shard; rows without a shard as they come."""
    held: list[pa.Table] = []
    for batch in batches:
        table = pa.Table.from_batches([batch]).cast(LINKAGE)
        while len(table):
            shard = table["shard"][0].as_py()
            if held and held[0]["shard"][0].as_py() != shard:
                yield pa.concat_tables(held).combine_chunks()
                held = []
            same = len(table) if shard is None else table["shard"].to_pylist().count(shard)
            if shard is None:
                yield table
            else:
                held.append(table.slice(0, same))
            table = table.slice(same)
    if held:
        yield pa.concat_tables(held).combine_chunks()
