"""Write a file or a folder beside its place, and put it there when it is whole."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A dot, the file's name, and the process that writes it: no result and no reader's file is called so.
UNFINISHED = re.compile(r"\..+\.\d+")


def beside(path: Path) -> Path:
    """Give the name under which this process writes what shall stand at a path.

    >>> import tempfile
    >>> bool(UNFINISHED.fullmatch(beside(Path(tempfile.gettempdir(), "series.parquet")).name))
    True
    """
    return path.with_name(f".{path.name}.{os.getpid()}")


@contextmanager
def whole_file(path: Path | str, *, make_folder: bool = True) -> Iterator[Path]:
    """Give a place to write a file to; at the end the file is moved to its path, and after an error it is removed.

    Parameters
    ----------
    path : Path
        Where the whole file will stand.
    make_folder : bool
        Make the file's folder if need be. False for one of several files that a job puts into a folder: a folder that
        somebody took away in between must not come back with a part of its files.
    """
    path = Path(path)
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = beside(path)
    unfinished.unlink(missing_ok=True)  # of a killed process that had the same number
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """Give an empty folder to fill; at the end it replaces what lies at its path, and after an error it is removed."""
    path = Path(path)
    unfinished = beside(path)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if path.exists():
            shutil.rmtree(path)
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
