"""SQL of the views over the tables, with their comments."""

from collections.abc import Mapping

import pyarrow as pa

from trabecula import tables
from trabecula.catalog.views import VIEWS

# DuckDB's variable with the folder of the tables, for readers who moved them.
PLACE = "trabecula_tables"

_HEAD = f"""\
-- Views over the tables of Trabecula. Read them in DuckDB, in the folder that holds results:
--     duckdb -init results/tables/views.sql
-- Elsewhere, or after the tables were moved, say first where they are:
--     SET VARIABLE {PLACE} = '/where/the/tables/are';
"""
_HIVE = ", hive_partitioning = true, hive_types = {'cohort': VARCHAR}"


def views_sql(place: str) -> str:
    """Write the SQL that makes a view per table, per list of codes, and per entry of `VIEWS`.

    Parameters
    ----------
    place : str
        Folder of the tables, used unless the variable `PLACE` is set.
    """
    statements = [_HEAD]
    for name, schema in tables.PUBLIC.items():
        statements.append(_view(name, _select(name, schema, place), tables.MEANINGS[name], comments_of(schema)))
    for name, meanings in tables.CODES.items():
        rows = ",\n".join(f"    ({text(code)}, {text(meaning)})" for code, meaning in sorted(meanings.items()))
        column = name.removesuffix("s")
        query = f"SELECT * FROM (VALUES\n{rows}\n) AS list({column}, meaning)"
        statements.append(_view(name, query, f"Codes of {name}", {column: "Code", "meaning": "What the code means"}))
    for name, view in VIEWS.items():
        statements.append(_view(name, view.query, view.meaning, view.columns))
    return "\n".join(statements)


def comments_of(schema: pa.Schema) -> dict[str, str]:
    """Give the comment on each column of a table: description, unit, and the meaning of NULL."""
    return {field.name: _comment(field) for field in schema}


def _comment(field: pa.Field) -> str:
    unit, null = tables.metadata_of(field, "unit"), tables.metadata_of(field, "null")
    bracket = f" [{unit}]" if unit else ""
    return tables.metadata_of(field, "description") + bracket + (f". NULL: {null}" if null else "")


def _select(name: str, schema: pa.Schema, place: str) -> str:
    """Write the query that reads a table from its files."""
    whole = name in tables.WHOLE
    files = f"{name}/{name}.parquet" if whole else f"{name}/cohort=*/{name}.parquet"
    columns = ", ".join(quoted(column) for column in schema.names)
    options = "" if whole else _HIVE
    return (
        f"SELECT {columns}\nFROM read_parquet(coalesce(getvariable('{PLACE}'), {text(place)}) || '/{files}'{options})"
    )


def _view(name: str, query: str, meaning: str, columns: Mapping[str, str]) -> str:
    """Write the statements that make a view and comment on it and on its columns."""
    lines = [f"CREATE OR REPLACE VIEW {name} AS\n{query};", f"COMMENT ON VIEW {name} IS {text(meaning)};"]
    lines += [f"COMMENT ON COLUMN {name}.{quoted(column)} IS {text(comment)};" for column, comment in columns.items()]
    return "\n".join(lines) + "\n"


def text(content: str) -> str:
    """Quote a string for SQL.

    >>> text("the patient's")
    "'the patient''s'"
    """
    return "'" + content.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """Quote a name for SQL, where `commit` is a keyword."""
    return f'"{name}"'
