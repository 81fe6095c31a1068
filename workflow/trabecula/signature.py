"""A cheap fingerprint of an archive, taken whenever Snakemake plans: it imports nothing heavy."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

DEPTH = 3  # archive / patient / study / series: a folder's time tells of what comes and goes right inside it


def signature(archive: Path) -> str:
    """Hash of the names and times of an archive's folders.

    A file added, removed or renamed in a folder down to the third level changes it; a file rewritten in place does
    not (`snakemake --forcerun index` looks at every file).

    Parameters
    ----------
    archive : Path
        The archive's top folder.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    sha = hashlib.sha256()
    for path, mtime_ns in sorted(_folders(str(archive), DEPTH)):
        sha.update(f"{os.path.relpath(path, archive)}\0{mtime_ns}\n".encode(errors="surrogateescape"))
    return sha.hexdigest()[:16]


def _folders(path: str, depth: int) -> Iterator[tuple[str, int]]:
    yield path, os.stat(path).st_mtime_ns
    if depth:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from _folders(entry.path, depth - 1)
