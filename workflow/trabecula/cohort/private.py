"""Write tables and texts with identities: files that only their owner can read."""

import fcntl
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trabecula.runtime.whole_file import whole_file

log = logging.getLogger(__name__)


def write_private(table: pa.Table, path: Path, groups: Iterable[pa.Table] | None = None) -> None:
    """Write a Parquet file that only its owner can read, optionally in the row groups that are given."""
    with whole_file(path) as unfinished, private_writer(unfinished, table.schema) as writer:
        for group in [table] if groups is None else groups:
            writer.write_table(group)


def write_private_text(text: str, path: Path) -> None:
    """Write a text file that only its owner can read."""
    with whole_file(path) as unfinished:
        unfinished.touch(mode=0o600)
        unfinished.write_text(text)


@contextmanager
def private_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Open a Parquet file for writing that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield writer


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other job holds a lock, also one that a killed run left behind, and hold it.

    Parameters
    ----------
    path : Path
        File of the lock, which stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    with path.open("r+b") as file:  # for writing too: NFS locks no file that is open for reading alone
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("Another job holds %s, maybe of a run that was killed; this job waits for its end.", path.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("This storage has no locks (%s): let no two runs write here at once.", error.strerror)
        yield
