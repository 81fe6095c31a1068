"""The one table with original ids and paths: which pseudonym stands for what, and where its slices lie."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trabecula.headers import FILES, Header
from trabecula.private import database, in_sql, private_writer, write_private

_TEXT = pa.string()
# What convert needs to know of a file, so that it need not read its header again.
_SLICE = [
    *("path", "member", "size", "mtime_ns", "rows", "columns", "frames", "bits", "bits_stored", "high_bit", "signed"),
    *("samples", "photometric", "lossy", "slope", "intercept", "padding", "padding_limit", "pixel_spacing_mm"),
    *("orientation", "positions_mm", "frame", "transfer_syntax", "pixel_offset", "pixel_bytes", "substitute"),
]
LINKAGE = pa.schema(
    [
        ("cohort", _TEXT),
        ("patient", _TEXT),
        ("study_uid", _TEXT),
        ("series_uid", _TEXT),
        ("patient_id", _TEXT),
        ("study_id", _TEXT),
        ("series_id", _TEXT),
        ("stack", pa.int32()),
        ("chosen", pa.bool_()),
        ("shard", _TEXT),  # of the chosen stack of a study, else NULL
        ("study_date", _TEXT),
        ("files", pa.list_(_TEXT)),
        ("n_damaged", pa.int32()),
        ("n_odd", pa.int32()),
        ("slices", pa.list_(pa.struct([FILES.field(name) for name in _SLICE]))),  # of a chosen stack, else NULL
    ],
    metadata={"table": "linkage"},
)


@dataclass(frozen=True)
class Linked:
    """A chosen stack, as convert needs it.

    Attributes
    ----------
    headers : list of Header
        Its files, with full paths.
    n_damaged, n_odd : int
        Files of the series that are damaged or do not fit in, and are not among them.
    """

    headers: list[Header]
    n_damaged: int = 0
    n_odd: int = 0


def slice_of(header: Header, archive: Path) -> dict[str, Any]:
    """A file's part of the column `slices`."""
    return {name: getattr(header, name) for name in _SLICE} | {"path": str(archive / header.path)}


class Writer:
    """Takes rows in any order, within a ``with`` block, and puts the table in place at the end.

    Parameters
    ----------
    path : Path
        Where the table goes, readable by its owner only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loose = path.with_name(f".{path.name}.loose")
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._parquet = self._open.enter_context(private_writer(self._loose, LINKAGE))
        return self

    def __exit__(self, *raised: object) -> None:
        self._open.close()

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Write rows, whose shard is still unknown."""
        self._parquet.write_table(pa.Table.from_pylist(rows, schema=LINKAGE))

    def finish(self, shard_of: Mapping[str, str]) -> None:
        """Put the table in place, with a row group per shard so that a job reads its own alone."""
        given = pa.schema([("study_id", _TEXT), ("in_shard", _TEXT)])
        shards = pa.table([list(shard_of), list(shard_of.values())], schema=given)
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
    """One table per shard, from batches that are sorted by shard; rows without one as they come."""
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


def read_linked(path: Path, shard: str) -> dict[str, Linked]:
    """Chosen stacks of a shard's studies, by study."""
    table = pq.read_table(path, filters=pc.field("shard") == shard)
    found = {}
    for row in table.select(["study_id", "slices", "n_damaged", "n_odd"]).to_pylist():
        found[row["study_id"]] = Linked([Header(**part) for part in row["slices"]], row["n_damaged"], row["n_odd"])
    return found
