"""Open the archive's files: plain ones, those compressed by themselves, and those inside zip and tar files.

Nothing is ever unpacked by its name.
"""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import BinaryIO, Protocol, cast

from trabecula.errors import StudyFailure

# Far beyond the files of the largest study, and the largest file; what claims more is damaged or hostile.
_MAX_TAR_BYTES = 2**37
MAX_UNPACKED_BYTES = 2**31
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)
_ESCAPED = 0xF700 - 0xDC00
_COMPRESSED = {b"\x1f\x8b\x08": gzip.open, b"BZh": bz2.open, b"\xfd7z": lzma.open}
# Archives that nothing here reads: 7-Zip, RAR, Zstandard, LZ4, and compress of old Unix.
_OTHER_ARCHIVES = (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\x1f\x9d")
_PLACEHOLDERS = (b"version https://git-lfs.github.com/", b"/annex/objects/")
_AT_ONCE = 2**20  # bytes


class Container(Protocol):
    """A zip or tar file."""

    def members(self) -> list[tuple[str, int]]:
        """List names and sizes in bytes of its regular files."""
        ...

    def open(self, member: str) -> BinaryIO:
        """Open one of its files for reading."""
        ...


class _Zip:
    def __init__(self, path: str) -> None:
        self._zip = zipfile.ZipFile(path)

    def members(self) -> list[tuple[str, int]]:
        # Not `is_dir`, which fails on a name of no letters.
        listed = [info for info in self._zip.infolist() if not info.filename.endswith("/")]
        return [(as_text(info.filename), info.file_size) for info in listed]

    def open(self, member: str) -> BinaryIO:
        return cast(BinaryIO, self._zip.open(as_path(member)))


class _Tar:
    def __init__(self, path: str) -> None:
        self._tar = tarfile.open(fileobj=_plain_tar(path), mode="r:")  # noqa: SIM115 (kept open, see `container`)
        self._infos = {as_text(info.name): info for info in self._tar if info.isreg()}

    def members(self) -> list[tuple[str, int]]:
        return [(name, info.size) for name, info in self._infos.items()]

    def open(self, member: str) -> BinaryIO:
        return cast(BinaryIO, self._tar.extractfile(self._infos[member]))


def _plain_tar(path: str) -> BinaryIO:
    """Open a tar file, decompressed into a nameless scratch file where need be: compressed ones can't be jumped in."""
    file = open(path, "rb")  # noqa: SIM115 (tarfile reads on from it)
    opened = _COMPRESSED.get(file.read(3))
    file.seek(0)
    if opened is None:
        return file
    with file, opened(file, "rb") as source:
        plain = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 (gone when it is closed)
        while chunk := source.read(_AT_ONCE):
            if plain.tell() > _MAX_TAR_BYTES:
                raise StudyFailure("too_large")
            plain.write(chunk)
    plain.seek(0)
    return plain


def reason_against(start: bytes, *, is_member: bool) -> str:
    """Tell by its first 512 bytes, decompressed, why a file that is no DICOM file is not read as one.

    Parameters
    ----------
    start : bytes
        First bytes.
    is_member : bool
        Whether it lies in a zip or tar file itself.

    Returns
    -------
    str
        archive, other_archive, placeholder or not_dicom.
    """
    if start.startswith(b"PK\x03\x04") or _is_tar(start):
        return "other_archive" if is_member else "archive"
    if start.startswith(_OTHER_ARCHIVES):
        return "other_archive"
    return "placeholder" if start.startswith(_PLACEHOLDERS) else "not_dicom"


def _is_tar(start: bytes) -> bool:
    """Tell whether bytes begin with the header of a tar file, which holds a checksum of itself."""
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


@contextmanager
def unpacked(file: BinaryIO) -> Iterator[BinaryIO]:
    """Give the content of a file that is compressed by itself (gzip, bzip2 or xz); any other file as it is.

    Its content is decompressed bit by bit, as far as it is read; where the file was cut off, the content ends.

    Raises
    ------
    StudyFailure
        unreadable where it is damaged.
    """
    opened = _COMPRESSED.get(file.read(3))
    file.seek(0)
    if opened is None:
        yield file
        return
    try:
        with opened(file, "rb") as packed:
            yield cast(BinaryIO, io.BufferedReader(_Content(packed)))
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the storage
            raise
        raise StudyFailure("unreadable", f"damaged compression: {type(error).__name__}") from None


class _Content(io.RawIOBase):
    """Content of a compressed file, which ends where the file does."""

    def __init__(self, packed: gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile) -> None:
        self._packed = packed

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:
        try:
            content = self._packed.read1(len(buffer))
        except EOFError:
            if self._packed.tell() == 0:  # nothing of it is there
                raise
            return 0
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with suppress(EOFError):
            self._packed.seek(offset, whence)
        return self._packed.tell()

    def tell(self) -> int:
        return self._packed.tell()


def n_unpacked(content: BinaryIO) -> int:
    """Count the bytes of a decompressed content.

    Raises
    ------
    StudyFailure
        too_large, where they are more than `MAX_UNPACKED_BYTES`.
    """
    n_bytes = 0
    content.seek(0)
    while chunk := content.read(_AT_ONCE):
        n_bytes += len(chunk)
        if n_bytes > MAX_UNPACKED_BYTES:
            raise StudyFailure("too_large")
    content.seek(0)
    return n_bytes


@lru_cache(maxsize=2)
def _container(path: str, size: int, mtime_ns: int) -> Container:
    with open(path, "rb") as file:
        start = file.read(4)
    return _Zip(path) if start == b"PK\x03\x04" else _Tar(path)


def as_text(path: str) -> str:
    r"""Write a path as text that every table can hold: bytes that are no letters become signs that no name uses.

    >>> as_text("Gro\udcdf/IM1") == "Gro\uf7df/IM1"
    True
    """
    return "".join(chr(ord(sign) + _ESCAPED) if "\udc80" <= sign <= "\udcff" else sign for sign in path)


def as_path(text: str) -> str:
    r"""Give the path that a text of `as_text` stands for.

    >>> as_path(as_text("Gro\udcdf/IM1")) == "Gro\udcdf/IM1"
    True
    """
    if text.isascii():
        return text
    return "".join(chr(ord(sign) - _ESCAPED) if "\uf780" <= sign <= "\uf7ff" else sign for sign in text)


def container(path: str) -> Container:
    """Open a zip or tar file; the last ones stay open, since a scan's files follow each other.

    Raises
    ------
    StudyFailure
        unreadable or too_large.
    """
    try:
        state = os.stat(as_path(path))
        return _container(as_path(path), state.st_size, state.st_mtime_ns)
    except (*_DAMAGED, ValueError, NotImplementedError) as error:
        raise StudyFailure("unreadable", type(error).__name__) from None


@contextmanager
def open_file(path: str, member: str | None = None) -> Iterator[BinaryIO]:
    """Open a file, or a member of a zip or tar file, for reading.

    Raises
    ------
    StudyFailure
        vanished or unreadable.
    OSError
        If disk or network fail: worth a retry, and no property of the study.
    """
    try:
        with open(as_path(path), "rb") if member is None else container(path).open(member) as file:
            yield file
    except (FileNotFoundError, KeyError):
        raise StudyFailure("vanished") from None
    except PermissionError:
        raise StudyFailure("unreadable", "no permission") from None
    except (*_DAMAGED, RuntimeError, NotImplementedError) as error:  # damaged or encrypted
        raise StudyFailure("unreadable", type(error).__name__) from None
    except OSError as error:  # its own text would put the path, maybe a patient's name, into the log
        raise OSError(error.errno, error.strerror) from None


def read_first(path: str, member: str | None, size: int) -> bytes:
    """Read so many bytes from the beginning of a file, or all where it has fewer; raises as `open_file`."""
    with open_file(path, member) as file:
        return file.read(size)


def location(path: str, member: str | None) -> str:
    """Write the place of a file as one text, with the member of a zip or tar file.

    >>> location("a/study.zip", "IM1")
    'a/study.zip!/IM1'
    """
    return path if member is None else f"{path}!/{member}"
