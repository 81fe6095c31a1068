"""The data dictionary: Markdown for reading, CSV for programs."""

import csv
import io

import pyarrow as pa

from trabecula import tables
from trabecula.catalog.views import VIEWS

_HEAD = """\
# Tables

Made from the schemas. NULL means undefined or unknown, never 0; what it means in a column stands beside it. Files lie
in `results/tables/{table}/cohort={cohort}/{table}.parquet`; the column `cohort` stands in the folder's name, and
pandas, Arrow, polars and DuckDB add it when they read the folder. One file for all cohorts have: WHOLE. The unit of a
pure number is 1.
"""
_CSV = ("table", "position", "name", "type", "unit", "required", "description", "values", "null_meaning")


def dictionary() -> str:
    """Data dictionary in Markdown: every column of the public tables, every code, every view."""
    parts = [_HEAD.replace("WHOLE", ", ".join(f"`{name}`" for name in tables.WHOLE))]
    parts += [_table(name, schema) for name, schema in tables.PUBLIC.items()]
    for name, meanings in tables.CODES.items():
        one = name.removesuffix("s")
        lines = [f"## {one.replace('_', ' ').capitalize()} codes", "", f"| {one} | meaning |", "|---|---|"]
        lines += [f"| `{code}` | {meaning} |" for code, meaning in sorted(meanings.items())]
        parts.append("\n".join(lines) + "\n")
    parts.append("# Views of trabecula.duckdb and views.sql\n")
    for name, view in VIEWS.items():
        lines = [f"## View {name}", "", view.meaning + ".", "", "| column | meaning |", "|---|---|"]
        lines += [f"| `{column}` | {said} |" for column, said in view.columns.items()]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def dictionary_csv() -> str:
    """Data dictionary as CSV: one row per column of the public tables."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_CSV)
    for table, schema in tables.PUBLIC.items():
        for position, field in enumerate(schema, start=1):
            values = tables.values_of(field) or {}
            listed = "; ".join(f"{code}: {meaning}" for code, meaning in values.items())
            needed = "false" if field.nullable else "true"
            unit, said, null = (tables.said(field, what) for what in ("unit", "description", "null"))
            writer.writerow([table, position, field.name, type_name(field.type), unit, needed, said, listed, null])
    return file.getvalue()


def _table(name: str, schema: pa.Schema) -> str:
    lines = [f"## {name}", "", tables.MEANINGS[name] + ".", "", _keys(name), ""]
    lines += ["| column | type | unit | meaning | values | NULL |", "|---|---|---|---|---|---|"]
    for field in schema:
        unit, said, null = (tables.said(field, what) for what in ("unit", "description", "null"))
        null = null if field.nullable else "never"
        lines.append(f"| `{field.name}` | {type_name(field.type)} | {unit} | {said} | {_values(field)} | {null} |")
    return "\n".join(lines) + "\n"


def _keys(name: str) -> str:
    key = ", ".join(f"`{column}`" for column in tables.KEYS_OF[name])
    text = f"Key: {key}." if key else "No key: rows may repeat."
    to = tables.BELONGS_TO.get(name)
    return text + (f" Belongs to `{to}` by {', '.join(f'`{one}`' for one in tables.KEYS_OF[to])}." if to else "")


def _values(field: pa.Field) -> str:
    """A closed set with its meanings; a list of codes by its name, since it stands below."""
    listed, values = tables.said(field, "values"), tables.values_of(field)
    if not values:
        return ""
    if not listed.startswith("{"):
        return f"codes: {listed}"
    if values == tables.LEVELS:
        return f"{', '.join(values)}"
    return "; ".join(f"`{code}`: {meaning}" for code, meaning in values.items())


def type_name(kind: pa.DataType) -> str:
    """Name of a type for readers."""
    if pa.types.is_list(kind):
        return f"list of {type_name(kind.value_type)}"
    named = (
        (pa.types.is_string(kind), "text"),
        (pa.types.is_boolean(kind), "true or false"),
        (pa.types.is_integer(kind), "integer"),
        (pa.types.is_floating(kind), "number"),
        (pa.types.is_timestamp(kind), "time, UTC"),
    )
    return next(name for fits, name in named if fits)
