"""Walk an archive and read the headers of its new and changed files."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, as_completed, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection

from trabecula.cohort.private import write_private, write_private_text
from trabecula.dicom.files import as_path, as_text
from trabecula.dicom.headers.record import NIFTI, Header, ListedFile
from trabecula.dicom.headers.table import FILES, as_table
from trabecula.errors import ConfigError
from trabecula.index.database import database, in_sql
from trabecula.index.people import Statement
from trabecula.nifti.names import SIDECARS
from trabecula.nifti.records import data_set_of, issuer_of, read_records
from trabecula.runtime.digest import digest
from trabecula.runtime.log import progress
from trabecula.runtime.storage import must_be_there, patiently
from trabecula.runtime.system_folders import is_system_folder
from trabecula.runtime.workers import connect, processes

log = logging.getLogger(__name__)

BATCH = 250  # files per task
IN_PROCESS = 8  # batches: fewer are read sooner than workers are started
PART = 20_000  # rows after which what was read is kept for good
_QUEUED = 8  # tasks that wait per worker: the list of files stays here, however long it is

# What other code has read is read anew.
_CODE = {b"table": b"files", b"code": digest("nifti").encode()}
# The files that a walk finds (see `ListedFile`).
LISTING = pa.schema([("path", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("reason", pa.string())])
_ROWS = 50_000


def walk(archive: Path) -> Iterator[ListedFile]:
    """List every file below a folder. Links to folders are not followed: what they lead to is found by its own path.

    Yields
    ------
    ListedFile
        An entry that is no readable file, and a folder that is not searched, have a reason; their size and time are 0.

    Raises
    ------
    ConfigError
        If the top folder can't be opened, or another folder for a reason that may pass.
    """
    root = os.path.realpath(archive)
    todo = [""]
    while todo:
        folder = todo.pop()
        entries = _entries(root, folder)
        if entries is None:
            yield ListedFile(folder, 0, 0, "closed_folder")
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if is_system_folder(entry.name):
                    yield ListedFile(path, 0, 0, "system_folder")
                else:
                    todo.append(path)
            elif entry.is_file(follow_symlinks=False):
                yield ListedFile(path, *_size_and_mtime(entry))
            elif entry.is_symlink():
                yield from _linked(entry, path, root)
            else:
                yield ListedFile(path, 0, 0, "not_regular")


def _entries(root: str, folder: str) -> list[os.DirEntry[str]] | None:
    """List a folder's entries; None where this account may not open it, though it may open the archive."""
    try:
        return patiently(_listed, f"{root}/{folder}" if folder else root)
    except FileNotFoundError:
        must_be_there(root)
        return []  # moved away since its parent was listed
    except PermissionError:
        must_be_there(root)  # with an expired ticket (Kerberos) no folder opens, and then none is closed by itself
        return None
    except OSError as error:  # its own text would put the folder's name, maybe a patient's, into the log
        raise ConfigError(f"A folder of the archive can't be opened: {error.strerror}; make it readable.") from None


def _listed(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _size_and_mtime(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        state = patiently(entry.stat)
    except OSError:
        return 0, 0
    return state.st_size, state.st_mtime_ns


def _linked(entry: os.DirEntry[str], path: str, root: str) -> Iterator[ListedFile]:
    target = os.path.realpath(entry.path)
    if target != root and not target.startswith(f"{root}/"):
        yield ListedFile(path, 0, 0, "link_outside")
    elif os.path.isfile(target):
        yield ListedFile(path, *_size_and_mtime(entry))
    elif any(map(is_system_folder, target[len(root) :].split("/"))):
        yield ListedFile(path, 0, 0, "system_folder")
    elif not os.path.isdir(target):
        yield ListedFile(path, 0, 0, "not_regular" if os.path.exists(target) else "link_outside")


def listing(archive: Path) -> pa.Table:
    """List every file below a folder in a table (schema `LISTING`) that takes little room."""
    batches, rows = [], []
    for file in walk(archive):
        rows.append(file._replace(path=as_text(file.path)))
        if len(rows) == _ROWS:
            batches.append(_batch(rows))
            rows = []
    return pa.Table.from_batches([*batches, _batch(rows)], LISTING)


def _batch(rows: list[ListedFile]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(LISTING)
    return pa.record_batch([pa.array(c, field.type) for c, field in zip(columns, LISTING, strict=True)], schema=LISTING)


def scan(archive: Path, memory: Path, *, workers: int, scheduler: str | None, archives: bool) -> None:
    """Bring the memory of an archive up to date: read the headers of new and changed files, forget what is gone.

    What was read is kept every `PART` rows, so that a scan that was killed goes on where it stood.

    Parameters
    ----------
    archive : Path
        The archive's top folder.
    memory : Path
        Folder of Parquet files (schema `dicom.headers.table.FILES`); private, since it holds identities. A file counts
        as known by path, size and modification time, a NIfTI file by those of its sidecars, too.
    workers : int
        Processes that read side by side.
    scheduler : str or None
        Address of a Dask scheduler to use in place of processes on this machine.
    archives : bool
        Whether to look into zip and tar files.
    """
    memory.mkdir(parents=True, exist_ok=True)
    memory.chmod(0o700)
    _forget_other_code(memory)
    listed = listing(archive)
    listed = pa.concat_tables([listed, _known_in_closed(memory, listed)])
    new = _compare(memory, listed, archives=archives, data_set=data_set_of(os.path.realpath(archive)))
    log.info("%d files, %d of them new or changed", len(listed), len(new))
    begun, done, unsaved = time.monotonic(), 0, []
    with _mapper(-(-len(new) // BATCH), workers, scheduler) as mapper:
        root = os.path.realpath(archive)
        tasks = mapper(_read, ((root, batch, archives) for batch in _batches(new)))
        for table in progress(tasks, what="index", unit="files", total=len(new), count=len):
            unsaved.append(table)
            done += len(table)
            if sum(map(len, unsaved)) >= PART:
                _keep(unsaved, memory)
                rate = done / (time.monotonic() - begun)
                left = max(0, len(new) - done) / rate / 60
                log.info("%d of %d files, %.0f files/s, about %.0f min left", done, len(new), rate, left)
                unsaved = []
    _keep(unsaved, memory)
    _join_small(memory)


def _batches(files: pa.Table) -> Iterator[list[ListedFile]]:
    for batch in files.to_batches(max_chunksize=BATCH):
        yield list(map(ListedFile, *(column.to_pylist() for column in batch.columns)))


def _read(task: tuple[str, list[ListedFile], bool]) -> pa.Table:
    root, files, archives = task
    return as_table(read_records(root, files, archives=archives))


def unread(archive: Path, memory: Path) -> int:
    """Count the files that can't be opened, which another scan may read; damaged ones can be opened."""
    if not parts(memory):
        return 0
    with database(memory) as opened:
        not_read = "SELECT DISTINCT path FROM {} WHERE member IS NULL AND reason = 'unreadable'"
        paths = opened.sql(not_read.format(in_sql(parts(memory)))).fetchall()
    return sum(not _opens(f"{os.path.realpath(archive)}/{as_path(path)}") for (path,) in paths)


def _opens(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        return isinstance(error, FileNotFoundError)  # the next walk sees that it is gone
    return True


def parts(memory: Path) -> list[Path]:
    """List the memory's files, in order."""
    return sorted(memory.glob("*.parquet"))


def _forget_other_code(memory: Path) -> None:
    """Remove records that other code has read: it may have read the files otherwise."""
    for path in parts(memory):
        schema = pq.read_schema(path)
        if not (schema.equals(FILES) and schema.metadata == _CODE):
            path.unlink()


def _compare(memory: Path, listed: pa.Table, *, archives: bool, data_set: str) -> pa.Table:
    """List the files that the memory lacks, in order, and take out of it those that are gone from the archive.

    NIfTI files are read anew where a sidecar beside or above them came, went or changed, and where the archive has
    another name, which their patients' ids are kept apart by.
    """
    # All rows of a path or none: if some were left, the file would count as read.
    closed = "member IS NULL AND reason = 'archive'" if archives else "member IS NOT NULL"
    again = f"(member IS NULL AND reason IN ('unreadable', 'vanished')) OR ({closed})"
    remembered = parts(memory)
    with database(memory) as opened:
        opened.register("listed", listed)
        if not remembered:
            return opened.sql("SELECT * FROM listed ORDER BY path").to_arrow_table()
        current = f"SEMI JOIN listed USING (path, size, mtime_ns) WHERE ({again}) IS NOT TRUE"
        _note_outdated(opened, in_sql(remembered), current, data_set)
        current += " AND path NOT IN (FROM outdated)"
        counted = opened.sql(f"SELECT filename, count(*) FROM {in_sql(remembered)} {current} GROUP BY filename")
        counts = dict(counted.fetchall())
        for path in remembered:
            if counts.get(str(path), 0) < pq.read_metadata(path).num_rows:
                table = opened.sql(f"SELECT * EXCLUDE filename FROM {in_sql([path])} {current}").to_arrow_table()
                write_private(table.cast(FILES).replace_schema_metadata(_CODE), path)
        query = f"SELECT * FROM listed ANTI JOIN (SELECT path FROM {in_sql(remembered)}) USING (path) ORDER BY path"
        return opened.sql(query).to_arrow_table()


def _note_outdated(opened: DuckDBPyConnection, remembered: str, current: str, data_set: str) -> None:
    """Make the table `outdated` of the paths of NIfTI files whose records other sidecars or another name call for.

    Files in folders that are closed now can't be read anew, and keep their records.
    """
    is_sidecar = "(" + " OR ".join(f"path ILIKE '%{ending}'" for ending in SIDECARS) + ")"
    opened.sql(f"CREATE TEMP TABLE sidecars AS SELECT DISTINCT path FROM {remembered} {current} AND {is_sidecar}")
    opened.sql(
        "CREATE TEMP TABLE changed AS SELECT DISTINCT regexp_extract(path, '^(.*/)?') AS folder FROM "
        f"(SELECT path FROM listed WHERE {is_sidecar} UNION SELECT path FROM {remembered} WHERE {is_sidecar}) "
        "WHERE path NOT IN (FROM sidecars)"
    )
    opened.execute(
        f"CREATE TEMP TABLE outdated AS SELECT DISTINCT path FROM {remembered} f WHERE transfer_syntax = '{NIFTI}' AND "
        "(NOT starts_with(issuer, ?) OR (member IS NULL AND EXISTS (FROM changed WHERE starts_with(f.path, folder)))) "
        "AND NOT EXISTS (FROM listed l WHERE l.reason = 'closed_folder' AND starts_with(f.path, l.path || '/'))",
        [issuer_of(data_set, "")],
    )


def _known_in_closed(memory: Path, listed: pa.Table) -> pa.Table:
    """List the files that earlier scans read in folders that are closed now, and name these folders in private.

    Nobody can tell what became of such files, so they count as unchanged: their studies are not lost.
    """
    closed = listed.filter(pc.field("reason") == "closed_folder")["path"]
    names = memory.with_name("closed_folders.txt")
    names.unlink(missing_ok=True)
    if not closed:
        return LISTING.empty_table()
    write_private_text("".join(f"{folder}\n" for folder in closed.to_pylist()), names)
    files = LISTING.empty_table()
    if remembered := parts(memory):
        with database(memory) as opened:
            opened.register("closed", pa.table({"folder": closed}))
            files = opened.sql(
                f"SELECT DISTINCT path, size, mtime_ns, NULL AS reason FROM {in_sql(remembered)} f WHERE reason IS "
                "DISTINCT FROM 'closed_folder' AND EXISTS (FROM closed WHERE starts_with(f.path, folder || '/'))"
            ).to_arrow_table()
    text = (
        "%d folders can't be opened, and are listed in %s; %d files that earlier runs read in them count as unchanged"
    )
    log.warning(text, len(closed), names, len(files))
    return files.cast(LISTING)


def _keep(unsaved: list[pa.Table], memory: Path) -> None:
    """Write a part; its number is the next one."""
    if unsaved:
        number = max((int(path.stem) for path in parts(memory)), default=-1) + 1
        table = pa.concat_tables(unsaved).combine_chunks().replace_schema_metadata(_CODE)
        write_private(table, memory / f"{number:05d}.parquet")


def _join_small(memory: Path) -> None:
    """Join small parts, so that a scan every night does not leave a thousand of them."""
    sizes = {path: pq.read_metadata(path).num_rows for path in parts(memory)}
    small = [path for path, rows in sizes.items() if rows < PART // 2]
    if len(small) > 1:
        joined = [pq.read_table(path).cast(FILES) for path in small]
        _keep(joined, memory)
        for path in small:
            path.unlink()


def count(memory: Path) -> int:
    """Count the files, members of containers and frames that the memory holds."""
    return sum(pq.read_metadata(path).num_rows for path in parts(memory))


def by_study(memory: Path) -> Iterator[list[Header]]:
    """Give the files of an archive study by study, without ever holding more than one study.

    A file without the issuer of its patient's id takes that of its study's other files, or the only one that the id
    has: workstations often leave out what the scanner wrote. The names of data sets, which stand for issuers of the ids
    of NIfTI files, are passed on to nobody.

    Yields
    ------
    list of Header
        Files of one study, sorted by series and path; files that name no study come in batches of any size.
    """
    if not parts(memory):
        return
    files = in_sql(parts(memory))
    order = "patient, study_uid, issuer, series_uid, path, member, frame"
    with database(memory) as opened:
        rows = opened.sql(f"SELECT * EXCLUDE filename FROM ({_with_issuers(files)}) ORDER BY {order}")
        study: list[Header] = []
        for batch in rows.to_arrow_reader(_ROWS):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                header = Header(*row)
                is_full = len(study) >= _ROWS and not header.study_uid
                if study and (is_full or _study(header) != _study(study[0])):
                    yield study
                    study = []
                study.append(header)
        if study:
            yield study


def _study(header: Header) -> tuple[str | None, ...]:
    return header.patient, header.study_uid, header.issuer


def statements(memory: Path) -> list[Statement]:
    """List each distinct statement on the patient of a study, of files that name a study.

    Issuers are filled in as `by_study` does.
    """
    if not parts(memory):
        return []
    columns = ", ".join(Statement._fields)
    with database(memory) as opened:
        opened.sql(f"CREATE TEMP TABLE statements AS SELECT DISTINCT {columns} FROM {in_sql(parts(memory))}")
        rows = opened.sql(f"SELECT DISTINCT {columns} FROM ({_with_issuers('statements')}) WHERE study_uid IS NOT NULL")
        return [Statement(*row) for row in rows.fetchall()]


def _with_issuers(files: str) -> str:
    """Write the SQL that gives files with their issuers filled in."""
    return (
        "SELECT t.* REPLACE (coalesce(t.issuer, s.only_issuer, p.only_issuer) AS issuer) "
        f"FROM {files} t LEFT JOIN {_issuers(files, 'patient, study_uid')} s USING (patient, study_uid) "
        f"LEFT JOIN {_issuers(files, 'patient')} p USING (patient)"
    )


def _issuers(files: str, keys: str) -> str:
    """Write the SQL that gives the issuer of all that have exactly one."""
    return (
        f"(SELECT {keys}, min(issuer) AS only_issuer FROM {files} WHERE issuer NOT LIKE '{NIFTI}:%' "
        f"GROUP BY {keys} HAVING count(DISTINCT issuer) = 1)"
    )


Mapper = Callable[[Callable, Iterator], Iterator[Any]]


@contextmanager
def _mapper(tasks: int, workers: int, scheduler: str | None) -> Iterator[Mapper]:
    """Give a map that yields results as they come: in processes, on Dask, or here where there is little to do."""
    if scheduler is not None:
        with connect(scheduler) as client, client.get_executor(pure=False) as executor:
            yield partial(_as_they_come, executor, _QUEUED * len(client.scheduler_info()["workers"]))
    elif workers > 1 and tasks > IN_PROCESS:
        with processes(workers) as pool:
            yield partial(_as_they_come, pool, _QUEUED * workers)
    else:
        yield map


def _as_they_come(executor: Executor, limit: int, function: Callable, items: Iterator) -> Iterator[Any]:
    """Yield results in the order in which they come, with only so many tasks under way that no worker waits."""
    under_way = set()
    for item in items:
        under_way.add(executor.submit(function, item))
        if len(under_way) >= limit:
            finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)
    yield from (future.result() for future in as_completed(under_way))
