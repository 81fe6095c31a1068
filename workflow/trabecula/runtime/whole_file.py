"""Write a file or a folder beside its place, and put it there when it is whole."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A dot, the file's name, the process that writes it, and a word that nobody else ends a name with: what is called so
# may be removed when a run starts (`runtime.stale_files`).
_ENDING = "trabecula-unfinished"
UNFINISHED = re.compile(rf"\..+\.\d+\.{_ENDING}")


def beside(path: Path) -> Path:
    """Give the name under which this process writes what shall stand at a path, or what it needs beside it for a while.

    >>> import tempfile
    >>> bool(UNFINISHED.fullmatch(beside(Path(tempfile.gettempdir(), "series.parquet")).name))
    True
    """
    return path.with_name(f".{path.name}.{os.getpid()}.{_ENDING}")


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


def write_private_once(path: Path, text: str) -> None:
    """Write a text file that only its owner can read; where another process was first, its file stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = beside(path)
    unfinished.unlink(missing_ok=True)  # of a killed process that had the same number
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    try:
        os.link(unfinished, path)
    except FileExistsError:
        pass
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
