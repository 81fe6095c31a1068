"""Open the archive's files: plain ones, and those inside zip and tar files. Nothing is ever unpacked by its name."""

import bz2
import gzip
import lzma
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import BinaryIO, Protocol, cast

from trabecula.errors import StudyFailure

# Far beyond the files of the largest study; what claims more is damaged or hostile.
_MAX_TAR_BYTES = 2**37
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)
_ESCAPED = 0xF700 - 0xDC00
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


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
    opened = _COMPRESSED.get(file.read(2))
    file.seek(0)
    if opened is None:
        return file
    with file, opened(file, "rb") as source:
        plain = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 (gone when it is closed)
        while chunk := source.read(1 << 20):
            if plain.tell() > _MAX_TAR_BYTES:
                raise StudyFailure("too_large")
            plain.write(chunk)
    plain.seek(0)
    return plain


def is_container(start: bytes, path: str) -> bool:
    """Tell whether a file is a zip or tar file, by its first 512 bytes or, where compressed, its name."""
    compressed = start[:2] in _COMPRESSED and path.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))
    return start[:4] == b"PK\x03\x04" or start[257:262] == b"ustar" or compressed


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
