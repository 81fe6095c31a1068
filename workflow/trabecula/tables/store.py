"""Cast, check, write and read tables."""

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


def cast(rows: pa.Table | Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Bring rows to a schema exactly: same columns, same order, same types.

    Raises
    ------
    ValueError
        If columns are missing or unknown, a required column holds NULL, or a text is none of its column's values.
    pyarrow.ArrowInvalid
        If a value does not fit its column's type.
    """
    table: Any = rows if isinstance(rows, pa.Table) else _from_rows(rows, schema)
    columns = set(table.column_names)
    name = (schema.metadata or {}).get(b"table", b"?").decode()
    if columns != set(schema.names):
        raise ValueError(f"table {name}: columns differ from the schema: {sorted(columns ^ set(schema.names))}")
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise ValueError(f"table {name}: column {field.name} holds NULL")
    table = table.select(schema.names).cast(schema)
    for field in schema:
        if odd := _unknown_texts(table[field.name], field):
            raise ValueError(f"table {name}: column {field.name} holds {odd}, which is none of its values")
    return table


def _unknown_texts(column: pa.ChunkedArray, field: pa.Field) -> list[str]:
    """List texts of a column that are none of its values, five at most."""
    allowed = values_of(field)
    if allowed is None:
        return []
    texts = pc.call_function("list_flatten", [column]) if pa.types.is_list(field.type) else column
    return sorted(set(texts.unique().to_pylist()) - allowed.keys() - {None})[:5]


def _from_rows(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Make a table with the columns that the rows name, so that `cast` can tell which are missing or unknown."""
    rows = list(rows)
    columns = set().union(*rows) if rows else set(schema.names)
    expected = [field.with_nullable(True) for field in schema if field.name in columns]
    unexpected = [pa.field(name, pa.null()) for name in sorted(columns - set(schema.names))]
    values = [{name: row.get(name) for name in schema.names} for row in rows]
    return pa.Table.from_pylist(values, schema=pa.schema(expected + unexpected))


def from_frame(rows: Any, schema: pa.Schema) -> pa.Table:
    """Turn a frame with a schema's columns into a table of that schema; NaN and None become NULL."""
    loose = pa.schema([field.with_nullable(True) for field in schema])
    table = pa.Table.from_pandas(rows[schema.names], schema=loose, preserve_index=False)
    return cast(table.replace_schema_metadata(None), schema)


def write(rows: pa.Table | Iterable[Mapping[str, Any]], schema: pa.Schema, path: Path | str) -> None:
    """Cast rows to a schema and write them as a whole Parquet file (zstd)."""
    with whole_file(path) as unfinished:
        pq.write_table(cast(rows, schema), unfinished, compression="zstd")


@contextmanager
def reading(path: Path | str, *cure: str) -> Iterator[None]:
    """Name the file where Arrow finds that a result is cut off or overwritten.

    Parameters
    ----------
    path : Path or str
        The file that is read.
    *cure : str
        Advice other than to delete the file.

    Raises
    ------
    ResultError
        In place of Arrow's own exceptions.
    """
    try:
        yield
    except pa.ArrowInvalid as error:
        raise ResultError(path, type(error).__name__, *cure) from error
    except OSError as error:
        if error.errno is not None:  # an error of the disk or the network, not of the file
            raise
        raise ResultError(path, type(error).__name__, *cure) from error


def read_columns(path: Path | str, columns: list[str] | None = None) -> pa.Table:
    """Read the columns in a Parquet file, all or some; the folder's name adds none."""
    with reading(path), pq.ParquetFile(path) as file:
        return file.read(columns)


def in_partition(schema: pa.Schema) -> pa.Schema:
    """Give the schema of a file in a folder ``cohort=<name>``: the folder's name holds the cohort, as in Hive.

    With the column in both places, pandas and pyarrow's datasets can't both read the folder: they give the name of the
    folder different types, and refuse a type that differs from the file's.
    """
    return pa.schema([field for field in schema if field.name != "cohort"], metadata=schema.metadata)


def read(path: Path | str, schema: pa.Schema) -> pa.Table:
    """Read a Parquet file of one of these schemas; the cohort may stand in the folder's name.

    Raises
    ------
    ValueError
        If the file is of another schema.
    """
    path = Path(path)
    table = read_columns(path)
    if "cohort" in schema.names and "cohort" not in table.column_names and path.parent.name.startswith("cohort="):
        cohort = path.parent.name.removeprefix("cohort=")
        table = table.append_column("cohort", pa.array([cohort] * len(table), TEXT))
    return cast(table, schema)


def read_many(paths: Iterable[Path | str], schema: pa.Schema) -> pa.Table:
    """Read Parquet files of one schema into one table, in the order given."""
    return pa.concat_tables([schema.empty_table(), *(read(path, schema) for path in paths)])
