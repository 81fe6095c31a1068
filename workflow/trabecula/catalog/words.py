"""The data dictionary: Markdown for reading, CSV for programs."""

import csv
import io

import pyarrow as pa

from trabecula import tables
from trabecula.catalog.views import VIEWS

_HEAD = """\
# Tables

This page is generated from the schemas. NULL means undefined or unknown, never 0; the last column says what it means
in each case. Files lie in `results/tables/{table}/cohort={cohort}/{table}.parquet`; the column `cohort` stands in the
name of the folder, and pandas, Arrow, polars and DuckDB add it when they read the folder. These tables have one file
for all cohorts: WHOLE. The unit of a pure number is 1.
"""
_CSV = ("table", "position", "name", "type", "unit", "required", "description", "values", "null_meaning")


def dictionary() -> str:
    """Write the data dictionary in Markdown: every column of the public tables, every code, every view."""
    parts = [_HEAD.replace("WHOLE", ", ".join(f"`{name}`" for name in tables.WHOLE))]
    parts += [_table(name, schema) for name, schema in tables.PUBLIC.items()]
    for name, meanings in tables.CODES.items():
        code = name.removesuffix("s")
        lines = [f"## {code.replace('_', ' ').capitalize()} codes", "", f"| {code} | meaning |", "|---|---|"]
        lines += [f"| `{entry}` | {meaning} |" for entry, meaning in sorted(meanings.items())]
        parts.append("\n".join(lines) + "\n")
    parts.append("# Views of trabecula.duckdb and views.sql\n")
    for name, view in VIEWS.items():
        lines = [f"## View {name}", "", view.meaning + ".", "", "| column | meaning |", "|---|---|"]
        lines += [f"| `{column}` | {meaning} |" for column, meaning in view.columns.items()]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def dictionary_csv() -> str:
    """Write the data dictionary as CSV: one row per column of the public tables."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_CSV)
    for table, schema in tables.PUBLIC.items():
        for position, field in enumerate(schema, start=1):
            values = tables.values_of(field) or {}
            listed = "; ".join(f"{code}: {meaning}" for code, meaning in values.items())
            needed = "false" if field.nullable else "true"
            unit, meaning, null = (tables.metadata_of(field, key) for key in ("unit", "description", "null"))
            writer.writerow([table, position, field.name, type_name(field.type), unit, needed, meaning, listed, null])
    return file.getvalue()


def _table(name: str, schema: pa.Schema) -> str:
    """Write the section of a table."""
    lines = [f"## {name}", "", tables.MEANINGS[name] + ".", "", _keys(name), ""]
    lines += ["| column | type | unit | meaning | values | NULL |", "|---|---|---|---|---|---|"]
    for field in schema:
        unit, meaning, null = (tables.metadata_of(field, key) for key in ("unit", "description", "null"))
        null = null if field.nullable else "never"
        lines.append(f"| `{field.name}` | {type_name(field.type)} | {unit} | {meaning} | {_values(field)} | {null} |")
    return "\n".join(lines) + "\n"


def _keys(name: str) -> str:
    """Say which columns are the table's key, and which table its rows belong to."""
    key = ", ".join(f"`{column}`" for column in tables.KEYS_OF[name])
    text = f"Key: {key}." if key else "No key: rows may repeat."
    parent = tables.BELONGS_TO.get(name)
    if not parent:
        return text
    return f"{text} Belongs to `{parent}` by {', '.join(f'`{column}`' for column in tables.KEYS_OF[parent])}."


def _values(field: pa.Field) -> str:
    """List a closed set with its meanings; a list of codes by its name, since the dictionary holds the list itself."""
    listed, values = tables.metadata_of(field, "values"), tables.values_of(field)
    if not values:
        return ""
    if not listed.startswith("{"):
        return f"codes: {listed}"
    if values == tables.LEVELS:
        return ", ".join(values)
    return "; ".join(f"`{code}`: {meaning}" for code, meaning in values.items())


def type_name(kind: pa.DataType) -> str:
    """Name a type for readers.

    >>> type_name(tables.TEXTS)
    'list of text'
    """
    if pa.types.is_list(kind):
        return f"list of {type_name(kind.value_type)}"
    names = (
        (pa.types.is_string(kind), "text"),
        (pa.types.is_boolean(kind), "true or false"),
        (pa.types.is_integer(kind), "integer"),
        (pa.types.is_floating(kind), "number"),
        (pa.types.is_timestamp(kind), "time, UTC"),
    )
    return next(name for fits, name in names if fits)
