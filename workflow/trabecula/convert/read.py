"""Read the slices of a stack from their files, one after another."""

import os
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from trabecula.convert.child import Decoder
from trabecula.convert.hounsfield import hounsfield_of_layout
from trabecula.convert.read_nifti import VolumeReader
from trabecula.convert.slices import Slice, layout_in_memory
from trabecula.convert.unchanged import check_unchanged
from trabecula.dicom.files import as_path, read_first
from trabecula.dicom.headers.record import NIFTI, Header
from trabecula.errors import StudyFailure
from trabecula.runtime.storage import patiently

_OF_ONE_SLICE = ("truncated", "undecodable", "unreadable", "lossy")

# One for all of a job's studies: the decoder's child takes a while to start, and a volume to load.
_decoder, _volumes = Decoder(), VolumeReader()


class SliceFailure(Exception):
    """The pixels of one slice can't be had; a copy of it may have them, or the volume do without it.

    Parameters
    ----------
    failure : StudyFailure
        Why they can't be had.
    """

    def __init__(self, failure: StudyFailure) -> None:
        super().__init__(str(failure))
        self.failure = failure


def read_slices(slices: Iterable[Slice]) -> Iterator[NDArray[np.int16]]:
    """Read slices one after another.

    Yields
    ------
    (rows, columns) array
        Hounsfield units of the next slice, good until two more are read.

    Raises
    ------
    SliceFailure
        If a slice can't be had: truncated, undecodable, unreadable or lossy.
    StudyFailure
        vanished, changed, or unreadable where the archive's disk or network fail; of a NIfTI volume, which
        stands or falls as a whole, any of them.
    """
    reader = _Reader()
    for ct_slice in slices:
        try:
            slice_hu = patiently(reader.read, ct_slice)
        except StudyFailure as failure:
            if failure.reason not in _OF_ONE_SLICE or ct_slice.header.transfer_syntax == NIFTI:
                raise
            raise SliceFailure(failure) from None
        except OSError as error:
            raise StudyFailure("unreadable", f"{error.strerror}, also after some seconds") from None
        yield slice_hu


class _Reader:
    """Keeps what neighbouring slices share: two buffers by turns, and the last file inside another."""

    def __init__(self) -> None:
        self._buffers: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * 2
        self._member: tuple[str, str] | None = None
        self._content = memoryview(b"")

    def read(self, ct_slice: Slice) -> NDArray[np.int16]:
        """Read one slice in Hounsfield units."""
        header, layout = ct_slice.header, ct_slice.layout
        if header.transfer_syntax == NIFTI:
            return _volumes.read(header)
        if layout is None:
            pixels, depth = _decoder.decode(header)
            pixels = pixels.astype(pixels.dtype.newbyteorder("="))
            layout = layout_in_memory(header, depth)
            if layout is None:
                raise StudyFailure("undecodable", "nothing says how many bits the pixels have, or with which sign")
        else:
            buffer = self._next_buffer(ct_slice.shape[0] * ct_slice.shape[1] * layout.bits // 8)
            self._fill(buffer, header, layout.offset)
            pixels = buffer.view(layout.dtype).reshape(ct_slice.shape)
        return hounsfield_of_layout(pixels, layout, ct_slice.slope, ct_slice.intercept, _padding(header))

    def _next_buffer(self, size: int) -> NDArray[np.uint8]:
        """Give the buffer that was not used last, with so many bytes."""
        self._buffers.reverse()
        if len(self._buffers[0]) != size:
            self._buffers[0] = np.empty(size, np.uint8)
        return self._buffers[0]

    def _fill(self, buffer: NDArray[np.uint8], header: Header, offset: int) -> None:
        """Fill a buffer from a place in a file, or in a member of a zip or tar file."""
        if header.member is None:
            _fill_from_file(buffer, header, offset)
            return
        check_unchanged(header)
        if self._member != (header.path, header.member):
            # All frames and no more: a member can inflate to anything.
            end = offset + ((header.frames or 1) - (header.frame or 0)) * len(buffer)
            self._content = memoryview(read_first(header.path, header.member, end))
            self._member = header.path, header.member
        part = self._content[offset : offset + len(buffer)]
        if len(part) < len(buffer):
            raise StudyFailure("truncated")
        buffer[:] = part


def _fill_from_file(buffer: NDArray[np.uint8], header: Header, offset: int) -> None:
    try:
        handle = os.open(as_path(header.path), os.O_RDONLY)
    except FileNotFoundError:
        raise StudyFailure("vanished") from None
    except PermissionError:
        raise StudyFailure("unreadable", "no permission") from None
    except OSError as error:  # its own text would put the path, maybe a patient's name, into the log
        raise OSError(error.errno, error.strerror) from None
    try:
        check_unchanged(header, handle)
        n_read = os.preadv(handle, [buffer.data], offset)
    finally:
        os.close(handle)
    if n_read < len(buffer):
        raise StudyFailure("truncated")


def _padding(header: Header) -> tuple[int, int] | None:
    """Give the lowest and highest stored value that mark pixels outside the field of view, as 16 bits without sign."""
    if header.padding is None:
        return None
    limit = header.padding if header.padding_limit is None else header.padding_limit
    return min(header.padding, limit), max(header.padding, limit)
