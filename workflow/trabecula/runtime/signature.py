"""A cheap fingerprint of an archive, taken whenever Snakemake plans: it imports nothing heavy."""

import hashlib
import os
from pathlib import Path

DEPTH = 3  # archive / patient / study / series: a folder's time tells of what comes and goes right inside it


def signature(archive: Path) -> str:
    """Hash the names and times of an archive's folders.

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
    lines = sorted(_folders(str(archive), "", DEPTH))
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def _folders(path: str, name: str, depth: int) -> list[str]:
    """Write a line for a folder and each folder below it; a hospital's archive has some hundred thousand."""
    try:
        lines = [f"{name}\0{os.stat(path).st_mtime_ns}\n"]
        if not depth:
            return lines
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir():
                    lines += _folders(entry.path, f"{name}/{entry.name}", depth - 1)
    except OSError:  # gone since its parent was listed, or closed to us: the index says so, and why
        return [f"{name}\0\n"]
    return lines
