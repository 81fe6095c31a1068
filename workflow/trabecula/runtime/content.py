"""A fingerprint of what files hold, so that a plan compares their content and not their times: nothing heavy here."""

import hashlib
from pathlib import Path


def content_digest(path: Path, *, pattern: str = "**/*") -> str:
    """Hash the content of a file, or the names and contents of a folder's files.

    Two files with the same content have the same digest, whatever their names and times.

    Parameters
    ----------
    path : Path
        A file or a folder.
    pattern : str
        Files of the folder that count, as for `Path.glob`; without meaning for a file.

    Returns
    -------
    str
        32 hexadecimal digits of a SHA-256.

    Raises
    ------
    OSError
        If a file can't be read.
    """
    if not path.is_dir():
        return _sha256(path)[:32]
    files = {str(file.relative_to(path)): file for file in path.glob(pattern) if file.is_file()}
    lines = [f"{name}\0{_sha256(files[name])}\n" for name in sorted(files)]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()[:32]


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
