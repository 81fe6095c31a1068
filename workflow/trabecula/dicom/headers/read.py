"""Read the headers of an archive's files: quickly where they are plain, by pydicom where they are not."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from operator import attrgetter
from typing import BinaryIO

from trabecula.dicom.encoding import is_dicom
from trabecula.dicom.files import as_path, container, n_unpacked, open_file, reason_against, unpacked
from trabecula.dicom.headers.parse import Doubt, Read
from trabecula.dicom.headers.quick import read_quickly
from trabecula.dicom.headers.record import NIFTI, Header, ListedFile, Source, failed
from trabecula.dicom.identity import with_identifiers
from trabecula.dicom.quiet import quiet
from trabecula.errors import StudyFailure
from trabecula.runtime.storage import must_be_there, patiently

# Attributes that the choice of a series needs: where the quick reader finds none, pydicom looks again.
_needed = attrgetter("modality", "image_type", "kvp", "kernel", "slope", "intercept", "thickness_mm")
_series_of = attrgetter("patient", "study_uid", "series_uid")
# Reads an open file that is no DICOM. It may raise OSError and StudyFailure.
Reader = Callable[[BinaryIO, Source], list[Header]]
ReaderOf = Callable[[str], Reader | None]


def _only_dicom(_name: str) -> None:
    """Give no other reader."""


def read_headers(
    archive: str, files: Iterable[ListedFile], *, archives: bool, reader_of: ReaderOf = _only_dicom
) -> list[Header]:
    """Read the headers of some files.

    Parameters
    ----------
    archive : str
        The archive's top folder.
    files : iterable of ListedFile
        Files below it.
    archives : bool
        Whether to look into zip and tar files.
    reader_of : callable
        Gives the reader of a file that is no DICOM by its name; None for all others.

    Returns
    -------
    list of Header
        A record per file, in the same order, or one per member of a zip or tar file, and one per frame of a
        multi-frame CT. `reason` is None where a header could be read.
    """
    with quiet():
        headers = [header for file in files for header in _headers_of(archive, file, archives, reader_of)]
        return [with_identifiers(header) for header in _checked(archive, headers)]


def _headers_of(archive: str, file: ListedFile, archives: bool, reader_of: ReaderOf) -> list[Header]:
    source = Source(file.path, None, file.size, file.mtime_ns, file.size)
    if file.reason:
        return [failed(source, file.reason)]
    headers = _read_plain(archive, source, reader_of(file.path))
    if headers[0].reason != "archive" or not archives:
        return headers
    return _read_members(archive, source, reader_of) or [failed(source, "unreadable")]


def _read_plain(archive: str, source: Source, reader: Reader | None) -> list[Header]:
    """Read a file by itself."""
    try:
        return patiently(_read_file, f"{archive}/{source.path}", source, reader)
    except StudyFailure as failure:
        return [failed(source, failure.reason)]
    except OSError as error:
        must_be_there(archive)
        return [failed(source, "vanished" if isinstance(error, FileNotFoundError) else "unreadable")]


def _read_file(path: str, source: Source, reader: Reader | None) -> list[Header]:
    """Open and read a file: the one place that has to be quick."""
    if reader is not None:
        with open(as_path(path), "rb") as opened:
            return reader(opened, source)
    handle = os.open(as_path(path), os.O_RDONLY | os.O_NONBLOCK)
    try:
        return [read_quickly(lambda offset, length: os.pread(handle, length, offset), source)]
    except Doubt:
        with closing(os.fdopen(os.dup(handle), "rb")) as opened:
            return _read_doubtful(opened, source)
    finally:
        os.close(handle)


def _read_doubtful(file: BinaryIO, source: Source) -> list[Header]:
    """Read a file that the quick reader doubts, or what is in it where it is compressed by itself.

    Raises
    ------
    StudyFailure
        unreadable where its compression is damaged, or too_large.
    """
    file.seek(0)
    with unpacked(file) as content:
        start = content.read(512)
        if not start:
            return [failed(source, "empty")]
        if not is_dicom(start):
            return [failed(source, reason_against(start, is_member=source.member is not None))]
        if content is file:
            return _read_by_pydicom(file, source)
        inside = source._replace(n_bytes=n_unpacked(content))
        try:
            headers = [read_quickly(_reader(content), inside)]
        except Doubt:
            headers = _read_by_pydicom(content, inside)
        return [header._replace(pixel_offset=None) for header in headers]


def _read_members(archive: str, source: Source, reader_of: ReaderOf) -> list[Header]:
    """Read the files inside a zip or tar file; none where it can't be opened."""
    path = f"{archive}/{source.path}"
    try:
        members = patiently(lambda: container(path).members())
    except StudyFailure:
        return []
    except OSError:
        must_be_there(archive)
        return []
    headers = []
    for member, n_bytes in members:
        inside = source._replace(member=member, n_bytes=n_bytes)
        try:
            headers += patiently(_read_member, path, inside, reader_of(member))
        except StudyFailure as failure:
            headers.append(failed(inside, failure.reason))
        except OSError:
            must_be_there(archive)
            headers.append(failed(inside, "unreadable"))
    return headers


def _read_member(path: str, source: Source, reader: Reader | None) -> list[Header]:
    with open_file(path, source.member) as opened:
        if reader is not None:
            return reader(opened, source)
        try:
            return [read_quickly(_reader(opened), source)]
        except Doubt:
            return _read_doubtful(opened, source)


def _read_by_pydicom(file: BinaryIO, source: Source) -> list[Header]:
    # It takes a quarter of a second to load, and an archive of plain files does without.
    from trabecula.dicom.headers.by_pydicom import read_by_pydicom

    return read_by_pydicom(file, source)


def _reader(file: BinaryIO) -> Read:
    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    return read


def _checked(archive: str, headers: Iterable[Header]) -> Iterator[Header]:
    """Let pydicom read a file of each series in which an attribute is absent that the choice needs.

    Where pydicom finds something else in any of them, it reads all files of that series.
    """
    agreed: dict[tuple[str | None, ...], bool] = {}
    for header in headers:
        if _is_worth_a_check(header) and not agreed.get(series := _series_of(header), False):
            again = _read_again(archive, header)
            agreed[series] = agreed.get(series, True) and again == header
            yield again
        else:
            yield header


def _is_worth_a_check(header: Header) -> bool:
    """Tell whether a plain image lacks an attribute that the choice of a series needs."""
    if header.reason or header.member is not None or header.rows is None or (header.frames or 1) > 1:
        return False
    if header.transfer_syntax == NIFTI:
        return False
    return None in _needed(header)


def _read_again(archive: str, header: Header) -> Header:
    source = Source(header.path, header.member, header.size, header.mtime_ns, header.size)
    try:
        with open(as_path(f"{archive}/{header.path}"), "rb") as file, unpacked(file) as content:
            inside = source if content is file else source._replace(n_bytes=n_unpacked(content))
            again = _read_by_pydicom(content, inside)[0]
            return again if content is file else again._replace(pixel_offset=None)
    except (OSError, StudyFailure):
        return failed(source, "unreadable")
