"""Put the tables of a run in their place, so that a reader never sees half of them, and keep those of earlier runs.

A run's folder appears by one rename when it is whole. The current tables are then replaced file by file, by renames;
the database, whose views look into the run's folder, comes last. Files that did not change are shared by hard links.
"""

import filecmp
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trabecula import bundle, catalog, tables
from trabecula.aggregate import crate, record

LOG = logging.getLogger(__name__)

# Replaced last, and never shared, since who opens it may write to it.
DATABASE = Path("trabecula.duckdb")
RUNS = Path("runs/runs.parquet")


def publish(staged: Path, results: Path, *, run: record.Run, keep_runs: int) -> None:
    """Publish the tables of a run; the staging folder is gone afterwards.

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
    files = _files(staged / "tables")
    run_id = record.run_id(run, {str(file): bundle.sha256_of(staged / "tables" / file) for file in files})
    history = _history(current / RUNS, record.row(run, run_id=run_id, finished=record.now()), runs, keep_runs)
    place = runs / run_id
    if not place.is_dir():
        _make(staged / "tables", place, files, current=current, history=history, config=run.config)
    made = _files(place / "tables")
    tables.write(history, tables.RUNS, current / RUNS)
    for file in sorted(set(made) - {RUNS}, key=lambda file: (file == DATABASE, file)):
        _replace(place / "tables" / file, current / file, shared=file != DATABASE)
    _remove_others(current, made)
    kept = {row["run_id"] for row in history if row["kept"]}
    for row in history:
        if row["run_id"] not in kept and (runs / row["run_id"]).is_dir():
            LOG.info("The tables of run %s are removed: aggregate.keep_runs keeps %d.", row["run_id"], keep_runs)
            shutil.rmtree(runs / row["run_id"])
    shutil.rmtree(staged)


def _history(path: Path, row: dict[str, Any], runs: Path, keep_runs: int) -> list[dict[str, Any]]:
    """Rows of the table runs, the last one being the current state's; who repeats it leaves its times as they are."""
    earlier = tables.read(path, tables.RUNS).to_pylist() if path.is_file() else []
    if earlier and earlier[-1]["run_id"] == row["run_id"]:
        row = earlier[-1]
    rows = [*(one for one in earlier if one["run_id"] != row["run_id"]), row]
    there = [one["run_id"] for one in rows if one is row or (runs / one["run_id"]).is_dir()]
    return [one | {"kept": one["run_id"] in there[-keep_runs:]} for one in rows]


def _make(
    staged: Path,
    place: Path,
    files: Sequence[Path],
    *,
    current: Path,
    history: Sequence[dict[str, Any]],
    config: str,
) -> None:
    """Make a run's folder; it appears when it is whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    for left in place.parent.glob(".*"):  # of runs that were killed
        shutil.rmtree(left)
    part = tables.beside(place)
    for file in files:
        same = (current / file).is_file() and filecmp.cmp(staged / file, current / file, shallow=False)
        _link(current / file if same else staged / file, part / "tables" / file)
    tables.write(history, tables.RUNS, part / "tables" / RUNS)
    catalog.write(part / "tables", place=place.absolute() / "tables")
    crate.write(part, history[-1], config=config)
    part.rename(place)


def _files(folder: Path) -> list[Path]:
    """Files of a folder, seen from it, in order."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _link(source: Path, place: Path) -> None:
    """Give a file a second place; by a copy where the file system knows no hard links."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, place)
    except OSError:
        shutil.copy(source, place)


def _replace(source: Path, place: Path, *, shared: bool) -> None:
    """Put a file in its place at once, unless the same stands there already."""
    if place.is_file() and (place.samefile(source) or filecmp.cmp(source, place, shallow=False)):
        return
    part = tables.beside(place)
    part.unlink(missing_ok=True)
    if shared:
        _link(source, part)
    else:
        shutil.copy(source, part)
    part.replace(place)


def _remove_others(folder: Path, files: Iterable[Path]) -> None:
    """Remove tables of cohorts that are no longer there, and what a killed run left."""
    wanted = set(files)
    for file in _files(folder):
        if file not in wanted:
            (folder / file).unlink()
    for path in folder.glob("*/*"):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
