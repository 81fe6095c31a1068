"""Views, dictionary and data package: they hold what the schemas say, and work from any folder."""

import csv
import io
import json
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from made_tables import MOVED, made_cohorts, write_tables
from statsmodels.stats.proportion import proportion_confint

from trabecula import catalog, tables

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Make a working folder with results/tables in it."""
    folder = tmp_path_factory.mktemp("place")
    folder_of_tables = write_tables(folder / "results/tables", **made_cohorts())
    catalog.write(folder_of_tables, place=folder_of_tables)
    return folder


@pytest.fixture
def database(place):
    with open_database(place / "results/tables/trabecula.duckdb") as connection:
        yield connection


def open_database(path: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(path, read_only=True)


def only_value(database: duckdb.DuckDBPyConnection, query: str):
    """Ask for the only value of a query."""
    ((value,),) = database.execute(query).fetchall()
    return value


def test_the_database_works_from_another_folder(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_database(place / "results/tables/trabecula.duckdb") as database:
        for name, schema in tables.PUBLIC.items():
            assert [column[0] for column in database.sql(f"DESCRIBE {name}").fetchall()] == schema.names
        counts = database.sql("SELECT cohort, count(*) FROM patients GROUP BY ALL ORDER BY ALL").fetchall()
        assert counts == [("north", 50), ("south", 50)]


def test_the_database_can_be_made_before_the_tables_are_in_their_place(tmp_path):
    staged = write_tables(tmp_path / "staged", **made_cohorts())
    catalog.write(staged, place=tmp_path / "kept")
    staged.rename(tmp_path / "kept")
    with open_database(tmp_path / "kept/trabecula.duckdb") as database:
        assert only_value(database, "SELECT count(*) FROM patients") == 100


def test_the_database_can_be_told_where_the_tables_went(place, tmp_path):
    tables_then = place / "results/tables"
    tables_now = tables_then.rename(tmp_path / "moved")
    try:
        with open_database(tables_now / "trabecula.duckdb") as database:
            with pytest.raises(duckdb.IOException):
                database.sql("FROM patients").fetchall()
            database.execute(f"SET VARIABLE {catalog.PLACE} = '{tables_now}'")
            assert only_value(database, "SELECT count(*) FROM patients") == 100
    finally:
        tables_now.rename(tables_then)


def test_the_sql_makes_the_same_views_beside_the_results(place, monkeypatch):
    monkeypatch.chdir(place)
    with duckdb.connect() as database:
        database.execute(Path("results/tables/views.sql").read_text())
        assert only_value(database, "SELECT count(*) FROM vertebrae") != 0
        views = {name for (name,) in database.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()}
        assert views == {*tables.PUBLIC, *catalog.VIEWS, *tables.CODES}


def test_every_view_and_column_has_a_comment(database):
    columns = "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NULL"
    assert database.execute(columns).fetchall() == []
    assert (
        database.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal AND comment IS NULL").fetchall() == []
    )
    for name, view in catalog.VIEWS.items():
        assert [column[0] for column in database.sql(f"DESCRIBE {name}").fetchall()] == list(view.columns)


def test_prevalence_has_wilsons_interval(database):
    rows = database.sql("SELECT n, n_osteoporosis, low, high FROM osteoporosis_by_age_and_sex").fetchall()
    assert sum(row[0] for row in rows) == only_value(database, "SELECT count(*) FROM patients WHERE grade IS NOT NULL")
    for n, cases, low, high in rows:
        assert (low, high) == pytest.approx(proportion_confint(cases, n, method="wilson"), abs=1e-6)


def test_precision_is_that_of_the_near_pairs(database):
    studies = [row for row in made_cohorts()["studies"] if row["status"] == "measured" and row["cohort"] == "north"]
    scans = list(zip(studies[::2], studies[1::2], strict=True))
    same = [(a, b) for a, b in scans if a["device_key"] == b["device_key"]]
    pairs = [(a, b) for a, b in same if b["days_from_first_study"] <= 30]
    sd = [np.std([a["vbmd_mg_cm3"], b["vbmd_mg_cm3"]], ddof=1) for a, b in pairs]
    rms = float(np.sqrt(np.mean(np.square(sd))))
    query = "SELECT n_pairs, rms_sd_mg_cm3, lsc_mg_cm3, reason FROM scan_precision"
    query += " WHERE cohort = 'north' AND predictor = 'network' AND same_device"
    ((n, rms_sd, lsc, reason),) = database.execute(query).fetchall()
    assert (n, rms_sd, lsc) == (len(pairs), pytest.approx(rms), pytest.approx(2.77 * rms))
    assert reason is None and n >= 30
    changes = np.array([b["vbmd_mg_cm3"] - a["vbmd_mg_cm3"] for a, b in same])
    beyond = "SELECT count(*) FILTER (beyond_lsc) FROM repeat_scans WHERE cohort = 'north'"
    assert only_value(database, beyond) == int((np.abs(changes) > 2.77 * rms).sum())


def test_a_change_between_devices_is_held_against_such_changes_alone(database):
    precision = (
        "SELECT n_pairs, reason FROM scan_precision WHERE cohort = 'north' AND predictor = 'network' AND same_device"
    )
    assert database.execute(f"{precision} = false").fetchall() == [(len(MOVED), "too_few_patients")]
    assert database.execute(f"{precision} IS NULL").fetchall() == [(1, "too_few_patients")]
    changes = "SELECT DISTINCT beyond_lsc, reason FROM repeat_scans WHERE cohort = 'north' AND same_device"
    assert database.execute(f"{changes} IS DISTINCT FROM true").fetchall() == [(None, "too_few_patients")]
    pairs = only_value(database, "SELECT count(*) FROM scan_pairs")
    assert only_value(database, "SELECT count(*) FROM repeat_scans") == pairs


def test_too_few_pairs_leave_the_least_significant_change_open(tmp_path):
    rows = made_cohorts()
    few = {
        name: [row for row in rows_of_table if row.get("patient_id", "")[-2:] < "20"]
        for name, rows_of_table in rows.items()
    }
    catalog.write(write_tables(tmp_path / "t", **few), place=tmp_path / "t")
    with open_database(tmp_path / "t/trabecula.duckdb") as database:
        changes = database.sql("SELECT DISTINCT lsc_mg_cm3, beyond_lsc, reason FROM repeat_scans").fetchall()
        assert changes == [(None, None, "too_few_patients")]


def test_reclassification_counts_every_patient_with_both_values_once(database):
    both = "vbmd_mg_cm3 IS NOT NULL AND hu_baseline_vbmd_mg_cm3 IS NOT NULL"
    assert only_value(database, "SELECT sum(n) FROM reclassification") == only_value(
        database, f"SELECT count(*) FROM patients WHERE {both}"
    )
    query = "SELECT sum(n) FROM reclassification WHERE network_grade = 'osteoporosis' AND hu_grade = 'normal'"
    assert (only_value(database, query) or 0) == only_value(
        database, "SELECT count(*) FROM patients WHERE vbmd_mg_cm3 < 80 AND hu_baseline_vbmd_mg_cm3 >= 120"
    )
    assert only_value(database, "SELECT sum(n) FROM failures_by_reason WHERE kind = 'study'") == 24
    assert only_value(database, "SELECT count(*) FROM failures_by_reason WHERE meaning IS NULL") == 0


def test_run_history_says_what_was_new(tmp_path):
    facts = {"version": "1", "config_hash": "c", "code": "{}", "model_id": "m", "packages": "{}", "inputs": "{}"}
    runs = [facts | {"run_id": str(k), "finished": k, "model_sha256": "a"} for k in range(3)]
    runs[2]["model_sha256"] = "b"
    catalog.write(write_tables(tmp_path / "t", runs=runs), place=tmp_path / "t")
    with open_database(tmp_path / "t/trabecula.duckdb") as database:
        history = database.sql("SELECT run_id, new_config, new_model FROM run_history").fetchall()
    assert history == [("0", True, True), ("1", False, False), ("2", False, True)]


def test_the_data_package_names_every_file_and_column(place):
    folder = place / "results/tables"
    package = json.loads((folder / "datapackage.json").read_text())
    assert [resource["name"] for resource in package["resources"]] == list(tables.PUBLIC)
    by_name = {resource["name"]: resource for resource in package["resources"]}
    for name, resource in by_name.items():
        paths = resource["path"] if isinstance(resource["path"], list) else [resource["path"]]
        fields = {field["name"]: field for field in resource["schema"]["fields"]}
        for path in paths:
            in_folder = {"cohort"} if "cohort=" in path else set()
            assert {*pq.read_schema(folder / path).names, *in_folder} == set(fields)
        required = {key for key, field in fields.items() if field.get("constraints", {}).get("required")}
        assert set(resource["schema"].get("primaryKey", ())) <= required
        for key in resource["schema"].get("foreignKeys", ()):
            assert len(key["fields"]) == len(key["reference"]["fields"])
            target = by_name[key["reference"]["resource"]]["schema"]
            assert key["reference"]["fields"] == target["primaryKey"], name
            assert set(key["fields"]) <= set(fields)
        for field in fields.values():
            assert field["type"] in {"string", "number", "integer", "boolean", "datetime", "array"}
            assert field["description"]


def test_the_dictionary_as_csv_has_a_row_per_column():
    rows = list(csv.DictReader(io.StringIO(catalog.dictionary_csv())))
    assert [(row["table"], row["name"]) for row in rows] == [
        (name, column) for name, schema in tables.PUBLIC.items() for column in schema.names
    ]
    assert all(row["unit"] for row in rows if row["type"] in ("number", "integer"))
    assert all(row["null_meaning"] for row in rows if row["required"] == "false")


def test_the_documented_tables_are_those_of_the_schemas():
    page = (ROOT / "docs/tables.md").read_text(encoding="utf-8")
    assert page == catalog.dictionary(), "run: PYTHONPATH=workflow python -m trabecula.catalog docs/tables.md"
