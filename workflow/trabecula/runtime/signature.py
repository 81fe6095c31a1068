"""Fingerprints of an archive and of given files, taken whenever Snakemake plans: it imports nothing heavy."""

import os
import re
from glob import escape, iglob
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from trabecula.runtime.system_folders import is_system_folder

Watch = Literal["full", "folders"]

_DIGEST_BYTES = 16


def signature(archive: Path, *, watch: Watch) -> str:
    """Walk an archive, and hash its names and times.

    Folders of the storage system, such as snapshots, are passed over as in the index. Links are not followed: what they
    lead to inside the archive is found by its own path. A folder that can't be opened counts by its name and time; the
    index says why.

    Parameters
    ----------
    archive : Path
        The archive's top folder.
    watch : {"full", "folders"}
        "full" hashes the path, size and time of every file, so that it sees all that the index would read anew.
        "folders" hashes the path and time of every folder: it sees files that come, go or are renamed at any depth, and
        no file that is completed or changed in its place.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    root = os.fsencode(archive)
    describe = _with_files if watch == "full" else _time_alone
    # The sum of the folders' hashes does not depend on the order of the walk, so that no list of paths is kept.
    total, todo = 0, [b""]
    while todo:
        folder = todo.pop()
        try:
            text, inner = describe(root + folder)
        except OSError:  # gone since its parent was listed, or closed to us
            text, inner = _closed(root + folder), []
        total += int.from_bytes(blake2b(b"%s\n%s" % (folder, text), digest_size=_DIGEST_BYTES).digest())
        todo += [b"%s/%s" % (folder, os.fsencode(name)) for name in inner if not is_system_folder(name)]
    return f"{total % 256**_DIGEST_BYTES:0{2 * _DIGEST_BYTES}x}"


def _with_files(folder: bytes) -> tuple[bytes, list[str]]:
    """Describe a folder's files by name, size and time, and list the folders in it."""
    lines, inner = [], []
    # In a folder that is open its files are found without its path, which saves a tenth of the walk.
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(opened) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                else:
                    lines.append(_line(entry))
    finally:
        os.close(opened)
    return os.fsencode("\n".join(sorted(lines))), inner


def _line(entry: os.DirEntry[str]) -> str:
    try:
        state = entry.stat(follow_symlinks=False)
    except OSError:  # gone since it was listed
        return entry.name
    return f"{entry.name}\0{state.st_size}\0{state.st_mtime_ns}"


def _time_alone(folder: bytes) -> tuple[bytes, list[str]]:
    """Describe a folder by its time, and list the folders in it.

    The time changes when something comes, goes or is renamed right inside the folder.
    """
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # The time is read first: what comes while the folder is listed gives it another time later.
        time_ns = os.fstat(opened).st_mtime_ns
        with os.scandir(opened) as entries:
            return b"%d" % time_ns, [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    finally:
        os.close(opened)


def _closed(folder: bytes) -> bytes:
    try:
        return b"\0%d" % os.lstat(folder).st_mtime_ns
    except OSError:
        return b"\0"


def as_glob(pattern: str) -> str:
    """Turn a pattern with names in braces into one for `glob`.

    >>> as_glob("masks[1]/{cohort}/{study_id}.nii.gz")
    'masks[[]1]/*/*.nii.gz'
    """
    return "*".join(escape(text) for text in re.split(r"\{[^{}]*\}", pattern))


def signature_of_files(pattern: str) -> str:
    """Hash the names, sizes and times of all files that fit a pattern with names in braces.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    lines = (f"{path}\0{_size_and_time(path)}\n" for path in sorted(iglob(as_glob(pattern))))
    return blake2b(os.fsencode("".join(lines)), digest_size=_DIGEST_BYTES).hexdigest()


def _size_and_time(path: str) -> str:
    try:
        state = os.stat(path)
    except OSError:  # gone since it was listed, or a link to nowhere
        return ""
    return f"{state.st_size}\0{state.st_mtime_ns}"
