"""Files that a job was writing when it was killed, beside the places that they were meant for."""

import os
import re
import shutil
from pathlib import Path

# As `trabecula.tables.beside` names them: a dot, the file's name, and the process.
_NAME = re.compile(r"\..+\.\d+")


def remove(folder: Path) -> int:
    """Remove them below a folder, which need not be there; returns their number.

    To be called where no job of this run writes yet. A job of an earlier driver that still runs can't put its file in
    place any more; the file is made anew.
    """
    found = 0
    for place, folders, files in os.walk(folder):
        for name in filter(_NAME.fullmatch, files):
            Path(place, name).unlink(missing_ok=True)
            found += 1
        for name in filter(_NAME.fullmatch, list(folders)):
            folders.remove(name)
            shutil.rmtree(Path(place, name), ignore_errors=True)
            found += 1
    return found
