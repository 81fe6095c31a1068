"""Send a job's output to its rule's log."""

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TextIO, TypeVar

from trabecula.errors import TrabeculaError

_terminal: TextIO = sys.stderr


def to_log(path: str, *, private: str | None = None) -> None:
    """Send stdout, stderr (also of C libraries) and logging to a file.

    A crash leaves its traceback there. Progress bars go on to the terminal.

    Parameters
    ----------
    path : str
        The rule's log.
    private : str, optional
        The private folder, for jobs that read identities: an error's message may quote a header or a path of the
        archive, so the whole traceback of a crash goes to the log's path in this folder (mode 0600). The log gets it
        without messages, but for those of the package's own errors.
    """
    global _terminal
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    _terminal = os.fdopen(os.dup(2), "w", buffering=1)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    if private is not None:
        private_log = Path(private) / path
        private_log.unlink(missing_ok=True)

        def write_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            private_log.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(private_log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.writelines(traceback.format_exception(kind, error, trace))
            sys.stderr.write("".join(without_messages(error)))
            sys.stderr.write(f"The whole traceback may hold identities, and lies in {private_log}.\n")

        sys.excepthook = write_traceback


def without_messages(error: BaseException) -> Iterator[str]:
    """Yield the lines of a traceback with the messages of the package's own errors only, so that no input is quoted.

    Errors of the operating system keep their number, whose text names no file.
    """
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from without_messages(cause)
        yield "\nThen:\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    message = "(message withheld)"
    if isinstance(error, TrabeculaError):
        message = str(error)
    elif isinstance(error, OSError) and error.errno:
        message = f"[Errno {error.errno}] {os.strerror(error.errno)}"
    yield f"{type(error).__qualname__}: {message}\n"


def warn(message: str) -> None:
    """Write a warning to the job's log and to the terminal; the message names nobody."""
    logging.getLogger(__name__).warning(message)
    print(f"Warning: {message}", file=_terminal, flush=True)


T = TypeVar("T")


def progress(
    items: Iterable[T], *, what: str, unit: str, total: int | None = None, count: Callable[[T], int] = lambda item: 1
) -> Iterator[T]:
    """Iterate with a progress bar on the terminal; silent where there is no terminal.

    `count` tells how many units an item stands for.
    """
    if not _terminal.isatty():
        yield from items
        return
    # Jobs on a cluster have no terminal, and need not wait for it.
    from tqdm import tqdm

    with tqdm(desc=what, unit=f" {unit}", total=total, file=_terminal) as bar:
        for item in items:
            yield item
            bar.update(count(item))
