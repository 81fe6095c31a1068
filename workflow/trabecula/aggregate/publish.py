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
    for stale in runs.glob(".*"):  # of a call that broke off
        if stale.is_dir():
            _remove(stale)
    files = _files(staged / "tables")
    run_id = record.run_id(run, {str(file): bundle.sha256_of(staged / "tables" / file) for file in files})
    history = _history(current, runs, record.row(run, run_id=run_id, finished=record.now()), keep_runs)
    folder = runs / run_id
    if not folder.is_dir():
        _make_run(folder, staged / "tables", files, history=history, config=run.config)
    published = _files(folder / "tables")
    if _rows(current) != history:
        tables.write(history, tables.RUNS, current / RUNS)
    for file in sorted(set(published) - {RUNS}, key=lambda file: (file == DATABASE, file)):
        _replace(folder / "tables" / file, current / file)
    _remove_others(current, published)
    for row in history:
        if not row["kept"] and (runs / row["run_id"]).is_dir():
            LOG.info("The tables of run %s are removed: aggregate.keep_runs keeps %d.", row["run_id"], keep_runs)
            _remove((runs / row["run_id"]).rename(beside(runs / row["run_id"])))
    shutil.rmtree(staged)


def _history(current: Path, runs: Path, row: dict[str, Any], keep_runs: int) -> list[dict[str, Any]]:
    """Make the rows of the table runs, from the oldest to the current state's.

    The current state, made again, keeps its times; a state that comes back after others has new ones. Runs that the
    current table doesn't list, since a call broke off or somebody removed it, are listed by their own folders' tables.
    """
    run_id = row["run_id"]
    of_folders = {path.name: _rows(path / "tables")[-1:] for path in runs.glob("*") if path.is_dir()}
    listed = _rows(current)
    by_run = {earlier["run_id"]: earlier for rows in (*of_folders.values(), listed) for earlier in rows}
    same_state = by_run.pop(run_id, row)
    rows = sorted(by_run.values(), key=lambda earlier: (earlier["finished"], earlier["run_id"]))
    comes_back = run_id in [earlier["run_id"] for earlier in listed[:-1]]
    rows.append(same_state if run_id in of_folders and not comes_back else row)
    with_folder = [state["run_id"] for state in rows if state["run_id"] in {*of_folders, run_id}]
    return [state | {"kept": state["run_id"] in with_folder[-keep_runs:]} for state in rows]


def _rows(folder: Path) -> list[dict[str, Any]]:
    """Read the table runs in a folder of tables; no rows where it is missing, broken or of another version's schema."""
    path = folder / RUNS
    try:
        rows = tables.read_columns(path)
    except (FileNotFoundError, ResultError):
        return []
    return rows.to_pylist() if rows.column_names == tables.RUNS.names else []


def _remove(folder: Path) -> None:
    """Remove a folder; files that a reader on another machine has open stay until the next run."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        LOG.warning("%s can't be removed as a whole; the next run tries again.", folder)


def _make_run(
    folder: Path, staged: Path, files: Sequence[Path], *, history: Sequence[dict[str, Any]], config: str
) -> None:
    """Make a run's folder; it appears when it is whole."""
    earlier_runs = [folder.with_name(row["run_id"]) / "tables" for row in reversed(history[:-1])]
    with whole_folder(folder) as unfinished:
        for file in files:
            unchanged = (run / file for run in earlier_runs if _same_content(staged / file, run / file))
            _link(next(unchanged, staged / file), unfinished / "tables" / file)
        tables.write(history, tables.RUNS, unfinished / "tables" / RUNS)
        catalog.write(unfinished / "tables", place=folder.absolute() / "tables")
        crate.write(unfinished, history[-1], config=config)


def _files(folder: Path) -> list[Path]:
    """List the files of a folder, by their sorted paths within it."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _same_content(file: Path, other: Path) -> bool:
    """Tell whether another file is there and holds the same; sizes are compared before contents."""
    return other.is_file() and filecmp.cmp(file, other, shallow=False)


def _link(source: Path, place: Path) -> None:
    """Give a file a second place; by a copy where the file system knows no hard links."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, place)
    except OSError:
        shutil.copy(source, place)


def _replace(source: Path, place: Path) -> None:
    """Put a copy of a file in its place at once, unless the same stands there already."""
    if not _same_content(source, place):
        with whole_file(place) as unfinished:
            shutil.copy(source, unfinished)


def _remove_others(folder: Path, files: Iterable[Path]) -> None:
    """Remove all files but some: tables of cohorts that are no longer there, and stale files of a killed run."""
    for file in set(_files(folder)) - set(files):
        (folder / file).unlink()
    for path in folder.glob("*/*"):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
