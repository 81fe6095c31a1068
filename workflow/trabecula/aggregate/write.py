"""Put the public tables in their place."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.aggregate import record
from trabecula.aggregate.check import require
from trabecula.aggregate.shards import Part, in_file

SMALL = ("series", "studies", "patients", "labels", "failures")
LARGE = ("vertebrae", "predictions")


def write_cohort(
    folder: Path,
    cohort: str,
    small: Mapping[str, pd.DataFrame],
    parts: Sequence[Part],
    density: Callable[[Iterable[float | None], Iterable[str | None]], pd.DataFrame],
) -> None:
    """Write a cohort's tables, each beside its place first; vertebrae with their density from HU.

    Parameters
    ----------
    folder : Path
        Where the tables go: ``{table}/cohort={cohort}/{table}.parquet``.
    cohort : str
        Its name.
    small : mapping of DataFrame
        Tables `SMALL`.
    parts : sequence of Part
        Whose files hold the tables `LARGE`.
    density : function
        From HU and studies to `tables.CALIBRATED`.
    """
    for name in SMALL:
        schema = tables.PUBLIC[name]
        _write(iter([in_file(small[name], schema)]), schema, _place(folder, name, cohort), rows=len(small[name]))
    for name in LARGE:
        files = [getattr(part, name) for part in parts]
        rows = sum(pq.read_metadata(file).num_rows for file in files)
        pieces = (tables.read_columns(file) for file in files)
        if name == "vertebrae":
            pieces = (_with_density(piece, density) for piece in pieces)
        _write(pieces, tables.PUBLIC[name], _place(folder, name, cohort), rows=rows)


def _with_density(piece: pa.Table, density: Callable[..., pd.DataFrame]) -> pa.Table:
    """Fill in the columns `tables.CALIBRATED` of a piece of the table `vertebrae`."""
    found = density(piece["trabecular_hu_mean"].to_pylist(), piece["study_id"].to_pylist())
    for name in found:
        kind = tables.VERTEBRAE.field(name)
        piece = piece.set_column(piece.schema.get_field_index(name), kind, pa.array(found[name].tolist(), kind.type))
    return piece


def _place(folder: Path, name: str, cohort: str) -> Path:
    return folder / name / f"cohort={cohort}" / f"{name}.parquet"


def _write(pieces: Iterator[pa.Table], to: pa.Schema, path: Path, *, rows: int) -> None:
    """Write a table piece by piece, and hold its number of rows against the one expected."""
    part, schema = tables.beside(path), tables.in_partition(to)
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for piece in pieces:
            writer.write_table(piece.cast(schema))
    require(pq.read_metadata(part).num_rows == rows, f"{path.name} does not hold the rows that went in")
    part.replace(path)


def write_run(path: Path, row: Mapping[str, Any]) -> None:
    """Add this run to the record."""
    earlier = tables.read(path, tables.RUNS) if path.exists() else tables.RUNS.empty_table()
    tables.write(record.with_run(earlier, row), tables.RUNS, path)
