"""Views and dictionary: they hold what the schemas say, and work from any folder."""

import re
from pathlib import Path

import duckdb
import pytest
from test_aggregate import run, write

from trabecula import catalog, tables

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A working folder with results/tables in it."""
    folder = tmp_path_factory.mktemp("place")
    made = run(write(folder / "results"))
    catalog.write(made / "views.sql", made / "trabecula.duckdb", made / "dictionary.md")
    return folder


def open_database(path: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(path, read_only=True)


def one(database: duckdb.DuckDBPyConnection, query: str):
    """Ask for the query's only value."""
    ((value,),) = database.execute(query).fetchall()
    return value


def test_the_database_works_from_another_folder(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_database(place / "results/tables/trabecula.duckdb") as database:
        for name, schema in tables.PUBLIC.items():
            assert [column[0] for column in database.sql(f"DESCRIBE {name}").fetchall()] == schema.names
        counts = database.sql("SELECT cohort, count(*) FROM patients GROUP BY ALL ORDER BY ALL").fetchall()
        assert counts == [("dev", 13), ("ext", 1)]
        for name in catalog.VIEWS:
            assert database.sql(f"FROM {name}").columns


def test_the_database_can_be_told_where_the_tables_went(place, tmp_path):
    tables_then = place / "results/tables"
    tables_now = tables_then.rename(tmp_path / "moved")
    try:
        with open_database(tables_now / "trabecula.duckdb") as database:
            with pytest.raises(duckdb.IOException):
                database.sql("FROM patients").fetchall()
            database.execute(f"SET VARIABLE {catalog.PLACE} = '{tables_now}'")
            assert one(database, "SELECT count(*) FROM patients") == 14
    finally:
        tables_now.rename(tables_then)


def test_the_sql_makes_the_same_views_beside_the_results(place, monkeypatch):
    monkeypatch.chdir(place)
    with duckdb.connect() as database:
        database.execute(Path("results/tables/views.sql").read_text())
        assert one(database, "SELECT count(*) FROM predictions") != 0
        comment = "SELECT comment FROM duckdb_columns() WHERE table_name = 'patients' AND column_name = 'sex'"
        assert one(database, comment) == tables.PATIENTS.field("sex").metadata[b"description"].decode()
        views = {name for (name,) in database.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()}
        assert views == {*tables.PUBLIC, *catalog.VIEWS, *catalog.CODES}


def test_views_count_what_the_tables_hold(place):
    with open_database(place / "results/tables/trabecula.duckdb") as database:
        assert one(database, "SELECT sum(n) FROM failures_by_reason WHERE kind = 'study'") == 6
        assert one(database, "SELECT count(*) FROM failures_by_reason WHERE meaning IS NULL") == 0
        assert one(database, "SELECT count(*) FROM patients_with_qct") == 2
        graded = one(database, "SELECT count(*) FROM patients WHERE grade IS NOT NULL")
        assert one(database, "SELECT sum(n) FROM osteoporosis_by_age_and_sex") == graded


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/queries.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("block", blocks("sql"))
def test_the_documented_queries_run(place, block):
    with open_database(place / "results/tables/trabecula.duckdb") as database:
        for query in block.split(";\n"):
            if query.strip():
                assert database.execute(query).fetchall()


@pytest.mark.parametrize("block", blocks("python"))
def test_the_documented_pandas_runs(place, monkeypatch, block):
    monkeypatch.chdir(place)
    exec(block, {})


def test_the_documented_tables_are_those_of_the_schemas():
    made = (ROOT / "docs/tables.md").read_text(encoding="utf-8")
    assert made == catalog.dictionary(), "run: PYTHONPATH=workflow python -m trabecula.catalog docs/tables.md"
