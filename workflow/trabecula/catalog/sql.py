"""SQL of the views over the tables, with their comments."""

from collections.abc import Mapping

import pyarrow as pa

from trabecula import tables
from trabecula.catalog.views import VIEWS

# DuckDB's variable that says where the tables are, for readers who moved them.
PLACE = "trabecula_tables"

_HEAD = f"""\
-- Views over the tables of Trabecula. Read them in DuckDB, in the folder that holds results:
--     duckdb -init results/tables/views.sql
-- Elsewhere, or after the tables were moved, say first where they are:
--     SET VARIABLE {PLACE} = '/where/the/tables/are';
"""
_HIVE = ", hive_partitioning = true, hive_types = {'cohort': VARCHAR}"


def views_sql(place: str) -> str:
    """SQL that makes a view per table and per list of codes, and those of `VIEWS`.

    Parameters
    ----------
    place : str
        Folder of the tables, used unless the variable `PLACE` is set.
    """
    made = [_HEAD]
    for name, schema in tables.PUBLIC.items():
        made.append(_view(name, _select(name, schema, place), tables.MEANINGS[name], comments_of(schema)))
    for name, meanings in tables.CODES.items():
        rows = ",\n".join(f"    ({text(code)}, {text(meaning)})" for code, meaning in sorted(meanings.items()))
        one = name.removesuffix("s")
        query = f"SELECT * FROM (VALUES\n{rows}\n) AS list({one}, meaning)"
        made.append(_view(name, query, f"Codes of {name}", {one: "Code", "meaning": "What the code means"}))
    for name, view in VIEWS.items():
        made.append(_view(name, view.query, view.meaning, view.columns))
    return "\n".join(made)


def comments_of(schema: pa.Schema) -> dict[str, str]:
    """A table's columns and what is said of them: description, unit, and what NULL means."""
    return {field.name: _comment(field) for field in schema}


def _comment(field: pa.Field) -> str:
    unit, null = tables.said(field, "unit"), tables.said(field, "null")
    given = f" [{unit}]" if unit else ""
    return tables.said(field, "description") + given + (f". NULL: {null}" if null else "")


def _select(name: str, schema: pa.Schema, place: str) -> str:
    whole = name in tables.WHOLE
    files = f"{name}/{name}.parquet" if whole else f"{name}/cohort=*/{name}.parquet"
    columns = ", ".join(quoted(column) for column in schema.names)
    options = "" if whole else _HIVE
    return (
        f"SELECT {columns}\nFROM read_parquet(coalesce(getvariable('{PLACE}'), {text(place)}) || '/{files}'{options})"
    )


def _view(name: str, query: str, meaning: str, columns: Mapping[str, str]) -> str:
    lines = [f"CREATE OR REPLACE VIEW {name} AS\n{query};", f"COMMENT ON VIEW {name} IS {text(meaning)};"]
    lines += [f"COMMENT ON COLUMN {name}.{quoted(column)} IS {text(said)};" for column, said in columns.items()]
    return "\n".join(lines) + "\n"


def text(content: str) -> str:
    """Quote as a string of SQL."""
    return "'" + content.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """Quote as a name of SQL: `commit` is a word of its own."""
    return f'"{name}"'
