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
    """Remove unfinished files that were to become the file at a path, and count them; looks into no folder below."""
    stale = [file for file in path.parent.glob(f".{path.name}.*") if UNFINISHED.fullmatch(file.name)]
    for file in stale:
        file.unlink(missing_ok=True)
    return len(stale)
