"""Files that a job was writing when it was killed, beside the places that they were meant for.

Only what bears a name that nobody but `runtime.whole_file` gives is removed, and it is looked for only in the folders
that `runtime.places.written` lists: the private folder may hold other people's files.
"""

import os
import shutil
from pathlib import Path

from trabecula.runtime.whole_file import UNFINISHED


def remove(folder: Path) -> int:
    """Remove unfinished files and folders below a folder, which need not be there, and count them.

    Call it where no job of this run writes yet. A job of an earlier driver that still runs can't move its file to its
    place any more; the file is made anew.
    """
    removed = 0
    for place, folders, files in os.walk(folder):
        for name in filter(UNFINISHED.fullmatch, files):
            Path(place, name).unlink(missing_ok=True)
            removed += 1
        for name in filter(UNFINISHED.fullmatch, list(folders)):
            folders.remove(name)
            shutil.rmtree(Path(place, name), ignore_errors=True)
            removed += 1
    return removed


def remove_beside(path: Path) -> int:
    """Remove unfinished files and folders that were to become the one at a path, and count them."""
    stale = [place for place in path.parent.glob(f".{path.name}.*") if UNFINISHED.fullmatch(place.name)]
    for place in stale:
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)
    return len(stale)
