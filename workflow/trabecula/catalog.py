"""What readers of the tables get besides them: views for DuckDB, and a data dictionary."""

import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from trabecula import tables
from trabecula.errors import FLAGS, LEVEL_FLAGS, NOVELTY, REASONS, REPAIRS

# DuckDB's variable that says where the tables are, for readers who moved them.
PLACE = "trabecula_tables"

# View, what it is for, and its query.
VIEWS: dict[str, tuple[str, str]] = {
    "patients_with_qct": (
        "Patients with a result and a QCT value: what accuracy is judged on",
        """\
SELECT *, vbmd_mg_cm3 - qct_vbmd_mg_cm3 AS error_mg_cm3,
       hu_baseline_vbmd_mg_cm3 - qct_vbmd_mg_cm3 AS hu_baseline_error_mg_cm3
FROM patients
WHERE qct_vbmd_mg_cm3 IS NOT NULL AND vbmd_mg_cm3 IS NOT NULL""",
    ),
    "osteoporosis_by_age_and_sex": (
        "Share of osteoporosis among graded patients, by cohort, sex and decade of age",
        """\
SELECT cohort, sex, CAST(floor(age_years / 10) * 10 AS INTEGER) AS age_from_years,
       count(*) AS n, count(*) FILTER (grade = 'osteoporosis') AS n_osteoporosis,
       count(*) FILTER (grade = 'osteoporosis') / count(*) AS share_osteoporosis
FROM patients
WHERE grade IS NOT NULL
GROUP BY ALL
ORDER BY ALL""",
    ),
    "failures_by_reason": (
        "What dropped out, by cohort, stage, kind (files, series, study) and reason",
        """\
SELECT cohort, stage,
       CASE WHEN n_files IS NOT NULL THEN 'files' WHEN series_id IS NOT NULL THEN 'series' ELSE 'study' END AS kind,
       reason, meaning, CAST(sum(coalesce(n_files, 1)) AS INTEGER) AS n
FROM failures LEFT JOIN reasons USING (reason)
GROUP BY ALL
ORDER BY ALL""",
    ),
}


def views_sql(place: str) -> str:
    """SQL that makes a view per table, and some more.

    Parameters
    ----------
    place : str
        Folder of the tables, used unless the variable `PLACE` is set.
    """
    head = f"""\
-- Views over the tables of Trabecula. Read them in DuckDB, in the folder that holds results:
--     duckdb -init results/tables/views.sql
-- Elsewhere, or after the tables were moved, say first where they are:
--     SET VARIABLE {PLACE} = '/where/the/tables/are';
"""
    statements = [head]
    for name, schema in tables.PUBLIC.items():
        whole = name in tables.WHOLE
        files = f"{name}/{name}.parquet" if whole else f"{name}/cohort=*/{name}.parquet"
        columns = ", ".join(_quoted(column) for column in schema.names)
        source = f"read_parquet(coalesce(getvariable('{PLACE}'), {_text(place)}) || '/{files}'{_HIVE[whole]})"
        statements.append(f"CREATE OR REPLACE VIEW {name} AS SELECT {columns} FROM {source};\n{_comments(schema)}")
    for name, meanings in CODES.items():
        rows = ",\n".join(f"    ({_text(code)}, {_text(meaning)})" for code, meaning in sorted(meanings.items()))
        columns = f"list({name.removesuffix('s')}, meaning)"
        statements.append(f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM (VALUES\n{rows}\n) AS {columns};\n")
    for name, (meaning, query) in VIEWS.items():
        statements.append(f"CREATE OR REPLACE VIEW {name} AS\n{query};\nCOMMENT ON VIEW {name} IS {_text(meaning)};\n")
    return "\n".join(statements)


# Words of the columns reason, repairs, flags, level_flags and novelty.
CODES = {"reasons": REASONS, "repairs": REPAIRS, "flags": FLAGS, "level_flags": LEVEL_FLAGS, "novelty": NOVELTY}
_HIVE = {False: ", hive_partitioning = true, hive_types = {'cohort': VARCHAR}", True: ""}


def _comments(schema: pa.Schema) -> str:
    """Descriptions and units as DuckDB comments on a table's view."""
    name = _name(schema)
    lines = [f"COMMENT ON VIEW {name} IS {_text(tables.MEANINGS[name])};"]
    for field in schema:
        description, unit = _described(field)
        comment = f"{description} [{unit}]" if unit else description
        lines.append(f"COMMENT ON COLUMN {name}.{_quoted(field.name)} IS {_text(comment)};")
    return "\n".join(lines) + "\n"


def dictionary() -> str:
    """Data dictionary in Markdown: every column of the public tables, and every code."""
    parts = [
        "# Tables\n\nMade from the schemas. NULL means undefined or unknown, never 0. Files lie in "
        "`results/tables/{table}/cohort={cohort}/{table}.parquet`; the column `cohort` stands in the folder's name, "
        "and pandas, Arrow, polars and DuckDB add it when they read the folder. "
        "`calibrations` and `runs` have one file for all cohorts.\n"
    ]
    for schema in tables.PUBLIC.values():
        name = _name(schema)
        lines = [f"## {name}", "", tables.MEANINGS[name] + ".", ""]
        lines += ["| column | type | unit | may be NULL | meaning |", "|---|---|---|---|---|"]
        for field in schema:
            description, unit = _described(field)
            null = "yes" if field.nullable else "no"
            lines.append(f"| `{field.name}` | {_type(field.type)} | {unit} | {null} | {description} |")
        parts.append("\n".join(lines) + "\n")
    for name, meanings in CODES.items():
        one = name.removesuffix("s")
        lines = [f"## {one.capitalize()} codes", "", f"| {one} | meaning |", "|---|---|"]
        lines += [f"| `{code}` | {meaning} |" for code, meaning in sorted(meanings.items())]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def write(folder: Path, *, place: Path) -> None:
    """Write views.sql, the DuckDB database that holds the same views, and the dictionary into a folder of tables.

    Parameters
    ----------
    folder : Path
        Holds the tables.
    place : Path
        Where the database looks for them, unless its reader says otherwise: an absolute path, so that it works from
        any folder.
    """
    _write_text(views_sql("results/tables"), folder / "views.sql")
    _write_text(dictionary(), folder / "dictionary.md")
    part = tables.beside(folder / "trabecula.duckdb")
    part.unlink(missing_ok=True)
    with duckdb.connect(part) as connection:
        # A view is made by reading its tables once, and they are not in their place yet.
        connection.execute(f"SET VARIABLE {PLACE} = {_text(str(folder))}")
        connection.execute(views_sql(str(place)))
    part.replace(folder / "trabecula.duckdb")


def _write_text(text: str, path: Path) -> None:
    part = tables.beside(path)
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _name(schema: pa.Schema) -> str:
    return (schema.metadata or {})[b"table"].decode()


def _described(field: pa.Field) -> tuple[str, str]:
    """Description and unit of a column."""
    metadata = field.metadata or {}
    return metadata[b"description"].decode(), metadata[b"unit"].decode()


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {_type(kind.value_type)}"
    named: Sequence[tuple[bool, str]] = (
        (pa.types.is_string(kind), "text"),
        (pa.types.is_boolean(kind), "true or false"),
        (pa.types.is_integer(kind), "integer"),
        (pa.types.is_floating(kind), "number"),
        (pa.types.is_timestamp(kind), "time, UTC"),
    )
    return next(name for fits, name in named if fits)


def _text(text: str) -> str:
    """Quote as a string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    """Quote as a name of SQL: `commit` is a word of its own."""
    return f'"{name}"'


if __name__ == "__main__":
    _write_text(dictionary(), Path(sys.argv[1]))
