"""Send what a job says to its rule's log."""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO, TypeVar

from tqdm import tqdm

_terminal: TextIO = sys.stderr


def to_log(path: str) -> None:
    """Send stdout, stderr (also of C libraries) and logging to a file.

    A crash leaves its traceback there. Progress bars go on to the terminal.
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


T = TypeVar("T")


def progress(
    items: Iterable[T], *, what: str, unit: str, total: int | None = None, count: Callable[[T], int] = lambda item: 1
) -> Iterator[T]:
    """Iterate with a progress bar on the terminal; silent where there is no terminal.

    `count` tells how many units an item stands for.
    """
    with tqdm(desc=what, unit=f" {unit}", total=total, file=_terminal, disable=not _terminal.isatty()) as bar:
        for item in items:
            yield item
            bar.update(count(item))
