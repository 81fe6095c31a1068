"""Snakemake's records of how results were made, kept beside the results. Imported by every plan, so nothing heavy.

Snakemake writes for each result a small file with the parameters, the inputs and the code that it was made with, below
``.snakemake/metadata``, and one below ``.snakemake/incomplete`` while its job runs. Both become links to folders below
``results/records``, so that a copy of the results carries them, and a removed ``.snakemake`` loses nothing.
"""

import os
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

from trabecula.runtime.whole_file import beside, whole_file

FOLDER = "records"
_KINDS = ("metadata", "incomplete")
_LONGEST = 254  # characters of a name, without the @
# Results that every run has: Snakemake has a record of each.
_RESULTS = ("*/index/shards.txt", "*/*/[0-9][0-9][0-9][0-9][0-9].parquet", "tables/runs/runs.parquet")


def keep_beside(results: Path, snakemake: Path) -> None:
    """Make Snakemake's folders of records links to folders below the results.

    A folder that is there already is moved. Where both are there, the newer one of two records stays.

    Parameters
    ----------
    results : Path
        Folder of the results; need not be there.
    snakemake : Path
        Snakemake's own folder, which holds its logs and locks too.

    Raises
    ------
    OSError
        If the file system of `snakemake` takes no links; nothing has been moved then.
    """
    for kind in _KINDS:
        place, link = results / FOLDER / kind, snakemake / kind
        place.mkdir(parents=True, exist_ok=True)
        snakemake.mkdir(exist_ok=True)
        if os.path.realpath(link) == os.path.realpath(place):
            continue
        unfinished = beside(link)
        unfinished.unlink(missing_ok=True)
        # Relative, so that the working directory may be moved; either folder may be a link to another disk.
        unfinished.symlink_to(os.path.relpath(os.path.realpath(place), os.path.realpath(snakemake)))
        if link.is_dir() and not link.is_symlink():
            _move(link, place)
        unfinished.replace(link)


def _move(folder: Path, place: Path) -> None:
    """Move all files of a folder to the same paths below another one, but for those that are newer there."""
    for name in _files(folder):
        file, target = folder / name, place / name
        if target.exists() and target.stat().st_mtime_ns >= file.stat().st_mtime_ns:
            continue
        with whole_file(target) as unfinished:
            shutil.copy2(file, unfinished)
    shutil.rmtree(folder)


def _files(folder: Path) -> Iterator[str]:
    """Yield the relative paths of all files below a folder."""
    for inner, _, names in os.walk(folder):
        beginning = inner[len(str(folder)) + 1 :]
        yield from (os.path.join(beginning, name) for name in names)


def unrecorded(results: Path) -> list[str]:
    """List results of which there is no record, so that Snakemake can't tell how they were made.

    Parameters
    ----------
    results : Path
        Folder of the results, as the rules name it; need not be there.

    Returns
    -------
    list of str
        Paths of a few kinds of results that every run has, sorted.
    """
    folders = [results / FOLDER / kind for kind in _KINDS]
    records = {name for folder in folders for name in _files(folder)}
    made = [str(path) for pattern in _RESULTS for path in results.glob(pattern)]
    return sorted(path for path in made if _record_of(path) not in records)


def _record_of(result: str) -> str:
    """Give the name of a result's record: base64, in folders that begin with @ where it is too long for one name.

    It follows `_record_path` in Snakemake's persistence/file.py.

    >>> _record_of("results/a/index/shards.txt")
    'cmVzdWx0cy9hL2luZGV4L3NoYXJkcy50eHQ='
    """
    name = urlsafe_b64encode(result.encode()).decode()
    *folders, last = (name[start : start + _LONGEST] for start in range(0, len(name), _LONGEST))
    return "/".join([*(f"@{part}" for part in folders), last])
