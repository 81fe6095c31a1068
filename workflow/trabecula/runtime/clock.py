"""Results from the future, which a wrong clock leaves behind. Imported by every plan, so nothing heavy."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

# Folders of many files whose times nobody compares.
_NOT_COMPARED = {"pictures", "records", "runs"}
# Nodes' clocks differ by seconds; a file this far ahead was written under a wrong date.
AHEAD_S = 3600


def mend(folder: Path) -> int:
    """Bring files that were changed in the future to now, in the order in which they were changed.

    Snakemake compares times: a result from the future would hide that its input changes, and results made from it would
    count as older than their input and fail.

    Parameters
    ----------
    folder : Path
        Folder with the files, at any depth; need not be there.

    Returns
    -------
    int
        Number of files and folders whose times were wrong.
    """
    now_ns = time.time_ns()
    times = {path: os.lstat(path).st_mtime_ns for path in _below(str(folder))}
    wrong = sorted(
        (path for path, time_ns in times.items() if time_ns > now_ns + AHEAD_S * 10**9), key=times.__getitem__
    )
    places = {time_ns: place for place, time_ns in enumerate(sorted({times[path] for path in wrong}))}
    for path in wrong:
        moment_ns = now_ns - len(places) + places[times[path]]
        os.utime(path, ns=(moment_ns, moment_ns), follow_symlinks=False)
    return len(wrong)


def _below(folder: str) -> Iterator[str]:
    """List all files and folders below a folder, but for folders of many files whose times nobody compares."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_COMPARED]
        yield from (os.path.join(place, name) for name in (*folders, *files))
