"""Archives on flaky storage: try again after errors that pass, and distinguish an absent archive from a lost file."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from trabecula.errors import ConfigError

# Errors of file systems while a server or a line is away (errno(3); NFS: ESTALE, EIO, ETIMEDOUT; FUSE: ENOTCONN).
PASSING = frozenset(
    {
        *(errno.EIO, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ESTALE, errno.ENOLCK, errno.EREMOTEIO),
        *(errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.ECONNABORTED, errno.ESHUTDOWN),
        *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET),
    }
)
WAITS_S = (0, 0.5, 1, 2, 4)  # after each attempt but the last

P = ParamSpec("P")
T = TypeVar("T")


def passes(error: BaseException) -> bool:
    """Tell whether an error may be gone in a moment.

    >>> passes(OSError(errno.ESTALE, "stale")), passes(FileNotFoundError(errno.ENOENT, "absent"))
    (True, False)
    """
    return isinstance(error, OSError) and error.errno in PASSING


def patiently(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that reads; where storage fails, call it again at once and after 0.5, 1, 2 and 4 s.

    Raises
    ------
    OSError
        The last error, if no attempt succeeds; at once an error that does not pass, such as FileNotFoundError.
    """
    for wait_s in WAITS_S:
        try:
            return read(*args, **kwargs)
        except OSError as error:
            if not passes(error):
                raise
        if wait_s:
            time.sleep(wait_s)
    return read(*args, **kwargs)


def must_be_there(archive: Path | str) -> None:
    """Stop the job where a whole archive is absent, so that its studies do not count as lost.

    Raises
    ------
    ConfigError
        If the folder is empty or can't be listed.
    """
    try:
        with os.scandir(archive) as entries:
            fault = None if any(True for _ in entries) else "it is empty"
    except OSError as error:
        fault = error.strerror
    if fault:
        raise ConfigError(f"The archive can't be read now ({fault}); check that its storage is mounted, and run again.")
