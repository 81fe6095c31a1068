"""Walk an archive and read the headers of its new and changed files."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from dask.distributed import Client, as_completed
from distributed.deploy.subprocess import SubprocessCluster

from trabecula.digest import digest
from trabecula.errors import ConfigError
from trabecula.index import headers
from trabecula.linkage import write_private
from trabecula.log import progress
from trabecula.workers import HERE, connect

log = logging.getLogger(__name__)

BATCH = 100  # files per task
IN_PROCESS = 20  # batches: fewer are read sooner than workers are started
_TEXT, _INT, _FLOAT, _FLOATS = pa.string(), pa.int32(), pa.float64(), pa.list_(pa.float64())

# What is remembered of every file; private, since it holds identities.
FILES = pa.schema(
    [
        ("path", _TEXT),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("reason", _TEXT),
        ("transfer_syntax", _TEXT),
        ("positions_mm", _FLOATS),
        *((name, _TEXT) for name in headers.TEXTS),
        *((name, _FLOAT) for name in headers.NUMBERS),
        *((name, _INT) for name in headers.COUNTS),
        *((name, _FLOATS) for name in headers.VECTORS),
    ],
    metadata={"table": "files", "code": digest("index.headers")},
)


def walk(archive: Path) -> Iterator[tuple[str, int, int]]:
    """Every file below a folder, links to folders followed once.

    Yields
    ------
    (str, int, int)
        Path relative to the archive, size in bytes, modification time in nanoseconds; 0 and 0 for a broken link.

    Raises
    ------
    ConfigError
        If a folder can't be opened.
    """
    todo, seen = [""], set()
    while todo:
        folder = todo.pop()
        state, entries = _open(archive / folder)
        if (state.st_dev, state.st_ino) in seen:
            continue
        seen.add((state.st_dev, state.st_ino))
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir():
                todo.append(path)
            else:
                yield path, *_size_and_mtime(entry)


def _open(folder: Path) -> tuple[os.stat_result, list[os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as entries:
            return os.stat(folder), list(entries)
    except OSError as error:  # its own text would put the folder's name, maybe a patient's, into the log
        raise ConfigError(f"A folder of the archive can't be opened: {error.strerror}; make it readable.") from None


def _size_and_mtime(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        state = entry.stat()
    except OSError:
        return 0, 0
    return state.st_size, state.st_mtime_ns


def read_memory(path: Path) -> pa.Table:
    """What an earlier scan remembers; nothing where there was none, or where headers were read by other code."""
    if path.exists():
        known = pq.read_schema(path)
        if known.equals(FILES) and known.metadata == FILES.metadata:
            return pq.read_table(path).cast(FILES)
    return FILES.empty_table()


def scan(archive: Path, memory: pa.Table, *, workers: int, scheduler: str | None) -> pa.Table:
    """Read the headers of an archive's files, but for those that an earlier scan remembers.

    Parameters
    ----------
    archive : Path
        The archive's top folder.
    memory : pa.Table
        Result of an earlier scan (schema `FILES`); a file counts as known by path, size and modification time.
    workers : int
        Processes that read side by side.
    scheduler : str or None
        Address of a Dask scheduler to use in place of processes of our own.

    Returns
    -------
    pa.Table
        One row per file (schema `FILES`), sorted by path.
    """
    found = sorted(walk(archive))
    columns = [memory[name].to_pylist() for name in ("path", "size", "mtime_ns")]
    known = {file: i for i, file in enumerate(zip(*columns, strict=True))}
    kept = sorted(known[file] for file in found if file in known)
    new = [file for file in found if file not in known]
    log.info("%d files, %d of them new or changed", len(found), len(new))
    batches = [new[i : i + BATCH] for i in range(0, len(new), BATCH)]
    read = [memory.take(pa.array(kept, pa.int64()))]
    with _mapper(len(batches), workers, scheduler) as mapper:
        paths = [[str(archive / path) for path, _, _ in batch] for batch in batches]
        done = progress(mapper(headers.read_headers, paths), what="index", unit="x 100 files", total=len(batches))
        for number, records in done:
            read.append(_table(batches[number], records))
    return pa.concat_tables(read).sort_by("path").replace_schema_metadata(FILES.metadata)


def _table(files: Iterable[tuple[str, int, int]], records: Iterable[dict[str, Any]]) -> pa.Table:
    rows = [
        dict(record, path=path, size=size, mtime_ns=mtime_ns)
        for (path, size, mtime_ns), record in zip(files, records, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=FILES)


def write_memory(files: pa.Table, path: Path) -> None:
    """Keep a scan's result for the next one, readable by the owner only."""
    write_private(files, path)


Mapper = Callable[[Callable, list], Iterator[tuple[int, Any]]]


@contextmanager
def _mapper(tasks: int, workers: int, scheduler: str | None) -> Iterator[Mapper]:
    """A map that yields numbered results as they come: over Dask, or in this process where there is little to do."""
    if tasks <= IN_PROCESS and scheduler is None:
        yield lambda function, items: ((i, function(item)) for i, item in enumerate(items))
        return
    with _client(workers, scheduler) as client:
        yield lambda function, items: _as_they_come(client, function, items)


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Client]:
    if scheduler is not None:
        with connect(scheduler) as client:
            yield client
        return
    os.environ["PYTHONPATH"] = HERE
    # Not LocalCluster: its processes import the main script anew, which under Snakemake would run the job again.
    with (
        SubprocessCluster(
            host="127.0.0.1",
            dashboard_address=None,  # pyright: ignore[reportArgumentType] (it may be None by its docstring)
            n_workers=workers,
            threads_per_worker=1,
            silence_logs=logging.CRITICAL,  # a failed task's arguments, which are paths, stay out of the log
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _as_they_come(client: Client, function: Callable, items: list) -> Iterator[tuple[int, Any]]:
    futures = client.map(function, items, pure=False)
    number = {future.key: i for i, future in enumerate(futures)}
    for future in as_completed(futures):
        yield number[future.key], future.result()
