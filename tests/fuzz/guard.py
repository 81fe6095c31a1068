"""Guards against a file outside the folder, another program, a connection, too much memory or too much time."""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LONGEST_S = 90
MEMORY_MB = 8000  # of addresses: libraries in C reserve far more than they use
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_TEMPORARY = os.O_TMPFILE & ~os.O_DIRECTORY
# Events of the interpreter (docs.python.org/3/library/audit_events.html) and which of their arguments are written to.
_CHANGED = {
    **dict.fromkeys(("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime"), (0,)),
    **dict.fromkeys(("os.rename", "os.link", "os.symlink", "shutil.move"), (0, 1)),
}
# Their last argument may be the descriptor of a folder.
_BY_FOLDER = {"os.mkdir", "os.remove", "os.rmdir"}
_NEVER = {
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"),
    *("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"),
}
_PICKLE = "pickle.find_class"
_allowed: str | None = None
_pickles = False


class ForbiddenError(BaseException):
    """Forbidden behaviour; no `Exception`, so that nothing takes it for an error of damaged input."""


class TooSlowError(ForbiddenError):
    """A reader took too long."""


def _watch(event: str, arguments: tuple) -> None:
    if _allowed is None:
        return
    if event in _NEVER or (event == _PICKLE and not _pickles):
        raise ForbiddenError(f"{event} {arguments!r}")
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITES and not flags & _TEMPORARY:
            _must_be_inside(event, path)
    for place in _CHANGED.get(event, ()):
        relative_to = arguments[-1] if event in _BY_FOLDER else -1
        _must_be_inside(event, arguments[place], relative_to)


def _must_be_inside(event: str, path: Any, relative_to: int = -1) -> None:
    if isinstance(path, int) or path in ("/dev/null", b"/dev/null"):
        return
    folder = f"/proc/self/fd/{relative_to}" if relative_to >= 0 else ""
    if not os.path.realpath(os.path.join(folder, os.fsdecode(path))).startswith(f"{_allowed}/"):
        raise ForbiddenError(f"{event} outside: {path!r}")


sys.addaudithook(_watch)


@contextmanager
def guarded(folder: Path, *, pickles: bool = False) -> Iterator[None]:
    """Forbid writing outside the folder, starting a program and sending anything while the block runs.

    Reading a pickle is forbidden too, unless `pickles` allows it where our own processes talk to each other.
    """
    global _allowed, _pickles
    _allowed, _pickles = str(folder.resolve()), pickles
    try:
        yield
    finally:
        _allowed = None


@contextmanager
def limited_memory() -> Iterator[None]:
    """Limit the memory while the block runs: a larger array or buffer is a MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MB * 2**20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def limited_time(longest_s: float = LONGEST_S) -> Iterator[None]:
    """Stop a block that takes longer."""

    def stop(*_: object) -> None:
        raise TooSlowError(f"took more than {longest_s:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, longest_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
