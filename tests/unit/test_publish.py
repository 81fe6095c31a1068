"""Publishing of runs: whole states only, for readers and after crashes; unchanged files stay; old runs are kept."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from made_tables import made_cohorts, write_tables
from small_cohort import write_bundle

from trabecula import catalog, tables
from trabecula.aggregate import publish, record
from trabecula.model import bundle

pytestmark = pytest.mark.slow

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STEPS = ("link", "replace", "rename")
DATABASE = "tables/trabecula.duckdb"
# Tables that agree with each other in one state only: their values carry the state's number.
QUESTION = (
    "SELECT DISTINCT p.age_years, v.trabecular_hu_median FROM patients p JOIN vertebrae v USING (cohort, patient_id) "
    "WHERE p.cohort = 'north'"
)


class Crash(BaseException):
    """An end of the call that no handler of errors catches."""


class Site:
    """A folder of results to which states are published; `finished` advances by an hour each time."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.results, self.states = folder / "results", folder / "states"
        self.bundle = bundle.read(write_bundle(folder / "model", {}))
        self.hours = 0
        self._monkeypatch = monkeypatch

    def stage(self, number: int) -> Path:
        staged = self.results / ".staging"
        shutil.rmtree(staged, ignore_errors=True)
        of_state = self.states / str(number)
        if not of_state.exists():
            write_tables(of_state, **state(number))
            shutil.rmtree(of_state / "runs")
        shutil.copytree(of_state, staged / "tables")
        return staged

    def publish(self, number: int, *, keep_runs: int = 3, config: str = "{}") -> str:
        staged = self.stage(number)
        self.hours += 1
        started = START + timedelta(hours=self.hours)
        self._monkeypatch.setattr(record, "now", lambda: started + timedelta(minutes=1))
        run = record.Run(started, config, {"index": "0"}, self.bundle, {"north": "1", "south": "2"})
        publish.publish(staged, self.results, run=run, keep_runs=keep_runs)
        return self.history()[-1]["run_id"]

    def history(self) -> list[dict]:
        return tables.read(self.results / "tables/runs/runs.parquet", tables.RUNS).to_pylist()

    def runs(self) -> set[str]:
        return {path.name for path in (self.results / "runs").iterdir()}


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    return Site(tmp_path, monkeypatch)


def state(number: int, cohort: str = "north") -> dict:
    """Make rows; a cohort's patients carry the state's number as their age, its vertebrae as their HU."""
    rows = {name: [dict(row) for row in table] for name, table in made_cohorts().items()}
    for row in rows["patients"] + rows["vertebrae"]:
        if row["cohort"] == cohort:
            row |= {"age_years" if "decision" in row else "trabecular_hu_median": float(number)}
    return rows


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def plain_tables(folder: Path) -> dict[str, bytes]:
    """Read the files of a folder of tables but the database and the record of runs, which hold places and times."""
    return {name: data for name, data in contents(folder).items() if "duckdb" not in name and "runs/" not in name}


def answer(database: Path) -> list[tuple]:
    with duckdb.connect(database, read_only=True) as connection:
        return connection.sql(QUESTION).fetchall()


def test_the_current_tables_are_those_of_the_run(site):
    run_id = site.publish(1)
    kept = site.results / "runs" / run_id
    assert contents(site.results / "tables") == contents(kept / "tables")
    assert {"ro-crate-metadata.json", "config.json"} <= set(contents(kept))
    assert not (site.results / ".staging").exists()
    (row,) = site.history()
    assert json.loads(row["inputs"]) == {"north": "1", "south": "2"}
    assert json.loads(row["model_sha256"]) == site.bundle.sha256
    assert {"duckdb", "snakemake"} <= json.loads(row["packages"]).keys()


def test_the_same_state_again_changes_nothing(site):
    site.publish(1)
    before = {path: path.stat().st_ino for path in site.results.rglob("*") if path.is_file()}
    site.publish(1)
    assert {path: path.stat().st_ino for path in site.results.rglob("*") if path.is_file()} == before


def test_a_run_is_named_after_configuration_and_contents(site):
    names = [site.publish(1), site.publish(2), site.publish(2, config='{"a":1}')]
    assert len(set(names)) == 3
    assert site.publish(1) == names[0]


def test_only_the_changed_cohorts_partitions_are_replaced(site):
    first = site.publish(1)
    before = {path: path.stat().st_ino for path in (site.results / "tables").rglob("*.parquet")}
    second = site.publish(2)
    changed = {path.relative_to(site.results) for path, inode in before.items() if path.stat().st_ino != inode}
    north = {Path(f"tables/{name}/cohort=north/{name}.parquet") for name in ("patients", "vertebrae")}
    assert changed == north | {Path("tables/runs/runs.parquet")}
    shared = "tables/patients/cohort=south/patients.parquet"
    assert (site.results / "runs" / first / shared).samefile(site.results / "runs" / second / shared)


def test_writing_into_current_tables_does_not_reach_the_kept_runs(site):
    run_id = site.publish(1)
    kept = contents(site.results / "runs" / run_id)
    for path in (site.results / "tables").rglob("*.parquet"):
        path.write_bytes(b"spoilt")
    assert contents(site.results / "runs" / run_id) == kept
    site.publish(1)
    assert contents(site.results / "tables") == contents(site.results / "runs" / run_id / "tables")


def test_earlier_states_stay_readable_for_as_long_as_keep_runs_says(site, caplog):
    caplog.set_level("INFO")
    names = [site.publish(n, keep_runs=2) for n in (1, 2, 3)]
    assert site.runs() == set(names[1:])
    assert [(row["run_id"], row["kept"]) for row in site.history()] == list(
        zip(names, (False, True, True), strict=True)
    )
    assert f"run {names[0]} are removed" in caplog.text
    for number, name in zip((2, 3), names[1:], strict=True):
        assert answer(site.results / "runs" / name / DATABASE) == [(number, number)]
    assert answer(site.results / DATABASE) == [(3, 3)]


def test_a_state_that_comes_back_is_the_newest_one(site):
    first, second = site.publish(1), site.publish(2)
    assert site.publish(1, keep_runs=2) == first
    times = [row["finished"] for row in site.history()]
    assert [row["run_id"] for row in site.history()] == [second, first]
    assert times == sorted(times)
    assert answer(site.results / DATABASE) == [(1, 1)]
    third = site.publish(3, keep_runs=2)
    assert [row["run_id"] for row in site.history()] == [second, first, third]
    assert site.runs() == {first, third}


def test_what_cannot_be_removed_stops_nothing_and_goes_later(site, monkeypatch, caplog):
    first, second = site.publish(1), site.publish(2)
    (site.results / "runs" / ".DS_Store").touch()
    (site.results / "runs" / "notes.txt").touch()
    with monkeypatch.context() as open_elsewhere:
        open_elsewhere.setattr(shutil, "rmtree", still_open(site.results / "runs", shutil.rmtree))
        third = site.publish(3, keep_runs=1)
    assert "can't be removed" in caplog.text
    assert answer(site.results / DATABASE) == [(3, 3)]
    site.publish(3, keep_runs=1)
    assert {path.name for path in (site.results / "runs").iterdir()} == {third, ".DS_Store", "notes.txt"}
    assert {first, second}.isdisjoint(site.runs())


def still_open(runs: Path, remove):
    """As on a network file system, where a file that a reader has open can't go."""

    def removing(folder, *, ignore_errors=False):
        if Path(folder).parent != runs:
            remove(folder, ignore_errors=ignore_errors)
        elif not ignore_errors:
            raise OSError("Directory not empty")

    return removing


def test_a_cohort_that_is_gone_leaves_the_current_tables_only(site, monkeypatch):
    first = site.publish(1)
    staged = site.stage(1)
    for folder in (staged / "tables").glob("*/cohort=south"):
        shutil.rmtree(folder)
    monkeypatch.setattr(site, "stage", lambda number: staged)
    site.publish(1)
    assert not list((site.results / "tables").glob("*/cohort=south"))
    assert list((site.results / "runs" / first / "tables").glob("*/cohort=south"))


def test_runs_that_the_table_forgot_speak_for_themselves(site):
    first, second = site.publish(1), site.publish(2)
    shutil.rmtree(site.results / "tables")
    third = site.publish(3)
    assert [row["run_id"] for row in site.history()] == [first, second, third]


def test_file_systems_without_hard_links_get_copies(site, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    site.publish(1)
    first, second = site.history()[0]["run_id"], site.publish(2)
    assert answer(site.results / "runs" / first / DATABASE) == [(1, 1)]
    assert contents(site.results / "tables") == contents(site.results / "runs" / second / "tables")


def breaking_at(monkeypatch, nth: int) -> None:
    """Let the n-th link or rename, counted together, and all later ones crash."""
    calls = 0

    def breaking(real):
        def call(*args, **options):
            nonlocal calls
            calls += 1
            if calls >= nth:
                raise Crash
            return real(*args, **options)

        return call

    for step in STEPS:
        monkeypatch.setattr(os, step, breaking(getattr(os, step)))


def publish_crashing(site: Site, number: int, nth: int, *, keep_runs: int) -> bool:
    """Publish, and tell whether the call crashed before it ended."""
    staged = site.stage(number)
    run = record.Run(START, "{}", {"index": "0"}, site.bundle, {"north": "1", "south": "2"})
    with pytest.MonkeyPatch.context() as patched:
        breaking_at(patched, nth)
        try:
            publish.publish(staged, site.results, run=run, keep_runs=keep_runs)
        except Crash:
            return True
    return False


@pytest.mark.parametrize("first", [True, False], ids=["first run", "second run"])
def test_a_crash_at_any_step_leaves_whole_states_and_the_next_run_repairs_the_rest(site, tmp_path, monkeypatch, first):
    monkeypatch.setattr(catalog, "write", write_small_catalog)
    before = tmp_path / "before"
    if not first:
        site.publish(1)
        shutil.copytree(site.results, before)
    site.publish(2, keep_runs=1)
    expected = plain_tables(site.results / "tables")
    nth, crashed = 0, True
    while crashed:
        nth += 1
        shutil.rmtree(site.results)
        if not first:
            shutil.copytree(before, site.results)
        crashed = publish_crashing(site, 2, nth, keep_runs=1)
        check_readable(site.results, first=first)
        if crashed:
            site.publish(2, keep_runs=1)
        assert plain_tables(site.results / "tables") == expected
        assert [row["kept"] for row in site.history()] == ([True] if first else [False, True])
        current = site.history()[-1]["run_id"]
        assert site.runs() == {current}
        assert answer(site.results / DATABASE) == [(2, 2)]
        assert not list(site.results.rglob(".*"))
    assert nth > 20


def write_small_catalog(folder: Path, *, place: Path) -> None:
    """A database with the two views of the question, since many are made."""
    with duckdb.connect(folder / "trabecula.duckdb") as connection:
        for name in ("patients", "vertebrae"):
            # A view is checked when it is made, where the tables are not yet.
            connection.execute(f"SET VARIABLE place = '{folder}'")
            files = f"coalesce(getvariable('place'), '{place}') || '/{name}/*/*.parquet'"
            connection.execute(f"CREATE VIEW {name} AS FROM read_parquet({files}, hive_partitioning = true)")


def check_readable(results: Path, *, first: bool) -> None:
    """Every current file is whole; every run, and whatever the current database shows, is of one state."""
    for path in results.glob("tables/*/**/[a-z]*.parquet"):
        tables.read_columns(path)
    databases = [*results.glob(f"runs/[0-9a-f]*/{DATABASE}"), *results.glob(DATABASE)]
    assert first or len(databases) > 1
    for database in databases:
        assert answer(database) in ([(1, 1)], [(2, 2)])


READER = """
import sys, time
from pathlib import Path
import duckdb, pyarrow.parquet as pq
results, question = Path(sys.argv[1]), sys.argv[2]
held = duckdb.connect(results / "tables/trabecula.duckdb", read_only=True)
first, rounds = held.sql(question).fetchall(), 0
print("reading", flush=True)
while not (results / "stop").exists():
    for path in results.glob("tables/*/*/[a-z]*.parquet"):
        pq.ParquetFile(path).read()
    with duckdb.connect(results / "tables/trabecula.duckdb", read_only=True) as fresh:
        seen = fresh.sql(question).fetchall()
    assert len(seen) == 1 and seen[0][0] == seen[0][1], seen
    assert held.sql(question).fetchall() == first
    rounds += 1
print(rounds)
"""


def test_readers_see_whole_files_and_one_state(site):
    site.publish(1, keep_runs=20)
    command = [sys.executable, "-c", READER, str(site.results), QUESTION]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "reading\n"
    for number in range(2, 8):
        site.publish(number, keep_runs=20)
    (site.results / "stop").touch()
    output, errors = reader.communicate(timeout=60)
    assert not errors
    assert int(output) > 3
