"""How tables are cast, checked, written and read."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trabecula.errors import ResultError
from trabecula.runtime.whole_file import whole_file
from trabecula.tables.fields import TEXT, values_of


def cast(rows: pa.Table | Iterable[Mapping[str, Any]], to: pa.Schema) -> pa.Table:
    """Bring rows to a schema exactly: same columns, same order, same types.

    Raises
    ------
    ValueError
        If columns are missing or unknown, a required column holds NULL, or a text is none of its column's values.
    pyarrow.ArrowInvalid
        If a value does not fit its column's type.
    """
    table: Any = rows if isinstance(rows, pa.Table) else _from_rows(rows, to)
    given = set(table.column_names)
    name = (to.metadata or {}).get(b"table", b"?").decode()
    if given != set(to.names):
        raise ValueError(f"table {name}: columns differ from the schema: {sorted(given ^ set(to.names))}")
    for field in to:
        if not field.nullable and table[field.name].null_count:
            raise ValueError(f"table {name}: column {field.name} holds NULL")
    table = table.select(to.names).cast(to)
    for field in to:
        if odd := _unknown(table[field.name], field):
            raise ValueError(f"table {name}: column {field.name} holds {odd}, which is none of its values")
    return table


def _unknown(column: pa.ChunkedArray, field: pa.Field) -> list[str]:
    """Texts of a column that are none of its values, five at most."""
    known = values_of(field)
    if known is None:
        return []
    texts = pc.call_function("list_flatten", [column]) if pa.types.is_list(field.type) else column
    found = set(texts.unique().to_pylist()) - known.keys() - {None}
    return sorted(found)[:5]


def _from_rows(rows: Iterable[Mapping[str, Any]], to: pa.Schema) -> pa.Table:
    """Rows as a table with the columns that they name, so that `cast` can tell what is missing or unknown."""
    listed = list(rows)
    given = set().union(*listed) if listed else set(to.names)
    known = [field.with_nullable(True) for field in to if field.name in given]
    unknown = [pa.field(name, pa.null()) for name in sorted(given - set(to.names))]
    values = [{name: row.get(name) for name in to.names} for row in listed]
    return pa.Table.from_pylist(values, schema=pa.schema(known + unknown))


def from_frame(rows: Any, to: pa.Schema) -> pa.Table:
    """A frame with a schema's columns as a table of that schema; NaN and None become NULL."""
    loose = pa.schema([field.with_nullable(True) for field in to])
    table = pa.Table.from_pandas(rows[to.names], schema=loose, preserve_index=False)
    return cast(table.replace_schema_metadata(None), to)


def write(rows: pa.Table | Iterable[Mapping[str, Any]], to: pa.Schema, path: Path | str) -> None:
    """Cast rows to a schema and write them as a whole Parquet file (zstd)."""
    with whole_file(path) as unfinished:
        pq.write_table(cast(rows, to), unfinished, compression="zstd")


@contextmanager
def reading(path: Path | str, *cure: str) -> Iterator[None]:
    """Name the file, and a cure other than to delete it, where Arrow finds that a result is cut off or overwritten.

    Raises
    ------
    ResultError
        In place of what Arrow raises.
    """
    try:
        yield
    except pa.ArrowInvalid as error:
        raise ResultError(path, type(error).__name__, *cure) from error
    except OSError as error:
        if error.errno is not None:  # the disk's or the network's, and not the file's
            raise
        raise ResultError(path, type(error).__name__, *cure) from error


def read_columns(path: Path | str, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file's own columns, all or some, whatever its folder's name says."""
    with reading(path), pq.ParquetFile(path) as file:
        return file.read(columns)


def in_partition(of: pa.Schema) -> pa.Schema:
    """Schema of a file in a folder ``cohort=<name>``: the folder holds the cohort, as Hive does it.

    With the column in both places, pandas and pyarrow's datasets can't both read the folder: they give
    the folder's part different types, and refuse the one that differs from the file's.
    """
    return pa.schema([field for field in of if field.name != "cohort"], metadata=of.metadata)


def read(path: Path | str, of: pa.Schema) -> pa.Table:
    """Read a Parquet file of one of these schemas; the cohort may stand in the folder's name.

    Raises
    ------
    ValueError
        If the file is of another schema.
    """
    path = Path(path)
    table = read_columns(path)
    if "cohort" in of.names and "cohort" not in table.column_names and path.parent.name.startswith("cohort="):
        cohort = path.parent.name.removeprefix("cohort=")
        table = table.append_column("cohort", pa.array([cohort] * len(table), TEXT))
    return cast(table, of)


def read_many(paths: Iterable[Path | str], of: pa.Schema) -> pa.Table:
    """Read Parquet files of one schema into one table, in the order given."""
    return pa.concat_tables([of.empty_table(), *(read(path, of) for path in paths)])
