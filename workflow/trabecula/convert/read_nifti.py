"""Read the slices of NIfTI volumes, from files by themselves or inside a zip or tar file."""

from collections.abc import Iterator
from contextlib import contextmanager
from gzip import BadGzipFile
from io import BytesIO
from typing import BinaryIO, cast

import numpy as np
from isal.igzip import IGzipFile
from numpy.typing import NDArray

from trabecula.convert.hounsfield import hounsfield_of_numbers
from trabecula.convert.unchanged import check_unchanged
from trabecula.dicom.files import open_file
from trabecula.dicom.headers.record import Header
from trabecula.errors import StudyFailure
from trabecula.nifti.header import VolumeHeader, read_header
from trabecula.nifti.slicing import slice_of, slicing_of

_GZIP = b"\x1f\x8b"
_HEADER = 1024  # bytes at the beginning of a file, which hold its header
_AT_ONCE = 2**20  # bytes that are passed over


class VolumeReader:
    """Reads slices, in Hounsfield units, of one volume after the other.

    Slices that lie in the file one behind the other, and are asked for in this order, are read one by one. For all
    others the volume is loaded once, as 16-bit Hounsfield units, and stays until one of another file is asked for.
    """

    def __init__(self) -> None:
        self._file: tuple[object, ...] | None = None
        self._whole: NDArray[np.int16] | None = None
        self._next = 0

    def read(self, header: Header) -> NDArray[np.int16]:
        """Read one slice, (rows, columns).

        Raises
        ------
        StudyFailure
            vanished, changed, truncated or unreadable.
        OSError
            If disk or network fail: worth a retry, and no property of the study.
        """
        file, number = (header.path, header.member, header.size, header.mtime_ns), header.frame or 0
        if self._file != file:
            self._open(header)
        try:
            slice_hu = self._slice(header, number)
        except BaseException:
            self._file = None  # a file that failed is opened anew
            raise
        self._file = file
        return slice_hu

    def _open(self, header: Header) -> None:
        """Read the header of a volume, of which no slice has been read yet."""
        self._file = self._whole = None
        with _opened(header) as file:
            self._volume = read_header(BytesIO(_read(file, _HEADER, least=0)))
        self._slicing = slicing_of(self._volume.shape, self._volume.affine_ras)
        self._planes = _planes(header, self._volume)
        self._next = 0

    def _slice(self, header: Header, number: int) -> NDArray[np.int16]:
        if self._whole is None and (self._slicing.slice_axis, self._next) == (2, number):
            self._next += 1
            return slice_of(next(self._planes)[..., None], self._slicing, 0)
        if self._whole is None:
            self._whole = _loaded(header, self._volume)
        return slice_of(self._whole, self._slicing, number)


def _loaded(header: Header, volume: VolumeHeader) -> NDArray[np.int16]:
    """Load a volume, with the axes of the file, in Hounsfield units."""
    whole = np.empty(volume.shape, np.int16, order="F")
    for number, plane in enumerate(_planes(header, volume)):
        whole[:, :, number] = plane
    return whole


def _planes(header: Header, volume: VolumeHeader) -> Iterator[NDArray[np.int16]]:
    """Give a volume plane by plane along its last axis, each with the first two axes, in Hounsfield units.

    No more is decompressed than the header says, and the end of the file, where the compressed content proves to be
    whole, is looked at before the last plane is given.
    """
    first, second, n_planes = volume.shape
    size = first * second * volume.dtype.itemsize
    with _opened(header) as file:
        for passed in range(0, volume.offset, _AT_ONCE):
            _read(file, min(_AT_ONCE, volume.offset - passed))
        for number in range(n_planes):
            stored = np.frombuffer(_read(file, size), volume.dtype).reshape(second, first).T
            if number == n_planes - 1:
                _read(file, _AT_ONCE, least=0)
            yield hounsfield_of_numbers(stored, volume.slope, volume.intercept)


@contextmanager
def _opened(header: Header) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressed."""
    check_unchanged(header)
    with open_file(header.path, header.member) as file:
        is_packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        yield cast(BinaryIO, IGzipFile(fileobj=file, mode="rb")) if is_packed else file


def _read(file: BinaryIO, size: int, *, least: int | None = None) -> bytes:
    """Read so many bytes, of which `least` have to be there, or all where it is None."""
    try:
        content = file.read(size)
    except EOFError:
        raise StudyFailure("truncated") from None
    except Exception as error:  # each way to pack has errors of its own
        if isinstance(error, OSError) and not isinstance(error, BadGzipFile):
            raise
        raise StudyFailure("unreadable", f"damaged compression: {type(error).__name__}") from None
    if len(content) < (size if least is None else least):
        raise StudyFailure("truncated")
    return content
