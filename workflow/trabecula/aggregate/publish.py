"""Put the tables of a run in their place, so that a reader never sees half of them, and keep those of earlier runs.

A run's folder appears by one rename when it is whole. The current tables are then replaced file by file, by renames;
the database, whose views look into the run's folder, comes last. Runs share files that did not change by hard links.
The current tables have files of their own: when a job fails, Snakemake writes its backup into them, and that must
not reach the kept runs.
"""

import filecmp
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trabecula import catalog, tables
from trabecula.aggregate import crate, record
from trabecula.errors import ResultError
from trabecula.model import bundle
from trabecula.runtime.whole_file import beside, whole_file, whole_folder

LOG = logging.getLogger(__name__)

DATABASE = Path("trabecula.duckdb")
RUNS = Path("runs/runs.parquet")


def publish(staged: Path, results: Path, *, run: record.Run, keep_runs: int) -> None:
    """Publish the tables of a run; the staging folder is gone afterwards.

    Whatever breaks off in between, the next call puts right.

    Parameters
    ----------
    staged : Path
        Folder with ``tables/``, all but the table runs, on the file system of the results.
    results : Path
        Where ``tables/`` holds the current state, and ``runs/{run_id}/`` every state that is kept.
    run : Run
        What made the tables.
    keep_runs : int
        States that are kept, the current one among them.
    """
    current, runs = results / "tables", results / "runs"
    filecmp.clear_cache()  # it goes by times, which tick too slowly for states made in one process
    for left in runs.glob(".*"):  # of a call that broke off
        if left.is_dir():
            _remove(left)
    files = _files(staged / "tables")
    run_id = record.run_id(run, {str(file): bundle.sha256_of(staged / "tables" / file) for file in files})
    history = _history(current, runs, record.row(run, run_id=run_id, finished=record.now()), keep_runs)
    place = runs / run_id
    if not place.is_dir():
        _make(place, staged / "tables", files, history=history, config=run.config)
    made = _files(place / "tables")
    if _rows(current) != history:
        tables.write(history, tables.RUNS, current / RUNS)
    for file in sorted(set(made) - {RUNS}, key=lambda file: (file == DATABASE, file)):
        _replace(place / "tables" / file, current / file)
    _remove_others(current, made)
    for row in history:
        if not row["kept"] and (runs / row["run_id"]).is_dir():
            LOG.info("The tables of run %s are removed: aggregate.keep_runs keeps %d.", row["run_id"], keep_runs)
            _remove((runs / row["run_id"]).rename(beside(runs / row["run_id"])))
    shutil.rmtree(staged)


def _history(current: Path, runs: Path, row: dict[str, Any], keep_runs: int) -> list[dict[str, Any]]:
    """Rows of the table runs, from the oldest on, the current state's last.

    The current state, made again, keeps its times; one that comes back after others has new ones. Runs that the
    current table doesn't know, since a call broke off or somebody removed it, speak for themselves.
    """
    lying = {path.name: _rows(path / "tables")[-1:] for path in runs.glob("*") if path.is_dir()}
    told = _rows(current)
    known = {one["run_id"]: one for rows in (*lying.values(), told) for one in rows}
    earlier = known.pop(row["run_id"], row)
    rows = sorted(known.values(), key=lambda one: (one["finished"], one["run_id"]))
    comes_back = row["run_id"] in [one["run_id"] for one in told[:-1]]
    rows.append(earlier if row["run_id"] in lying and not comes_back else row)
    there = [one["run_id"] for one in rows if one["run_id"] in {*lying, row["run_id"]}]
    return [one | {"kept": one["run_id"] in there[-keep_runs:]} for one in rows]


def _rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of the table runs in a folder of tables; none where it is missing, broken or of another version's schema."""
    path = folder / RUNS
    try:
        rows = tables.read_columns(path)
    except (FileNotFoundError, ResultError):
        return []
    return rows.to_pylist() if rows.column_names == tables.RUNS.names else []


def _remove(folder: Path) -> None:
    """Remove what nobody needs; what can't be removed, since a reader on another machine has it open, waits."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        LOG.warning("%s can't be removed as a whole; the next run tries again.", folder)


def _make(place: Path, staged: Path, files: Sequence[Path], *, history: Sequence[dict[str, Any]], config: str) -> None:
    """Make a run's folder; it appears when it is whole."""
    before = [place.with_name(row["run_id"]) / "tables" for row in history[:-1]]
    with whole_folder(place) as unfinished:
        for file in files:
            same = (folder / file for folder in reversed(before) if _equal(staged / file, folder / file))
            _link(next(same, staged / file), unfinished / "tables" / file)
        tables.write(history, tables.RUNS, unfinished / "tables" / RUNS)
        catalog.write(unfinished / "tables", place=place.absolute() / "tables")
        crate.write(unfinished, history[-1], config=config)


def _files(folder: Path) -> list[Path]:
    """Files of a folder, seen from it, in order."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _equal(one: Path, other: Path) -> bool:
    """Whether the other file is there and holds the same; sizes are compared before contents."""
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _link(source: Path, place: Path) -> None:
    """Give a file a second place; by a copy where the file system knows no hard links."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, place)
    except OSError:
        shutil.copy(source, place)


def _replace(source: Path, place: Path) -> None:
    """Put a copy of a file in its place at once, unless the same stands there already."""
    if not _equal(source, place):
        with whole_file(place) as unfinished:
            shutil.copy(source, unfinished)


def _remove_others(folder: Path, files: Iterable[Path]) -> None:
    """Remove tables of cohorts that are no longer there, and what a killed run left."""
    wanted = set(files)
    for file in _files(folder):
        if file not in wanted:
            (folder / file).unlink()
    for path in folder.glob("*/*"):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
