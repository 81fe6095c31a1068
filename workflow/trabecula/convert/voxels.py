"""Stored values to Hounsfield units, slice by slice."""

import os
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from trabecula.convert.decoder import Decoder
from trabecula.convert.planes import Plane, Stored, as_if_stored, check_unchanged
from trabecula.dicom.files import as_path, read_first
from trabecula.dicom.headers import Header
from trabecula.errors import StudyFailure
from trabecula.image.padding import PADDING_HU
from trabecula.runtime.storage import patiently

MAX_HU = 32767
# Padding that rescales to more than this would be read as metal.
MAX_TISSUE_HU = 4000
# A body has air or fat somewhere, and soft tissue; MR, PET and noise under a CT header do not.
LOWEST_PERCENTILE_HU = -30
SOFT_TISSUE_HU = (-200, 300)
MIN_SOFT_TISSUE = 0.02
_OF_ONE_SLICE = ("truncated", "undecodable", "unreadable")
_SAMPLED = 64  # rows and columns of a slice that are enough for percentiles
_AT_ONCE = 32  # slices whose values are counted together


_decoder = Decoder()  # one for all of a job's studies: its child takes a while to start


class SliceFailure(Exception):
    """One slice's pixels can't be had; the volume may do without it.

    Parameters
    ----------
    number : int
        Number of the plane in the sequence that was read.
    failure : StudyFailure
        What is wrong with it.
    """

    def __init__(self, number: int, failure: StudyFailure) -> None:
        super().__init__(str(failure))
        self.number = number
        self.failure = failure


def read_slices(planes: Iterable[Plane]) -> Iterator[NDArray[np.int16]]:
    """Read slices one after another.

    Yields
    ------
    (rows, columns) array
        Hounsfield units of the next plane, good until two more are read.

    Raises
    ------
    SliceFailure
        If a slice can't be had: truncated, undecodable or unreadable.
    StudyFailure
        vanished, changed, lossy, or unreadable where the archive's disk or network fail.
    """
    reader = _Reader()
    for number, plane in enumerate(planes):
        try:
            slice_hu = patiently(reader.read, plane)
        except StudyFailure as failure:
            if failure.reason not in _OF_ONE_SLICE:
                raise
            raise SliceFailure(number, failure) from None
        except OSError as error:
            raise StudyFailure("unreadable", f"{error.strerror}, also after some seconds") from None
        yield slice_hu


class _Reader:
    """Keeps what neighbouring slices share: two buffers by turns, and the last file inside another."""

    def __init__(self) -> None:
        self._buffers: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * 2
        self._member: tuple[str, str] | None = None
        self._content = memoryview(b"")

    def read(self, plane: Plane) -> NDArray[np.int16]:
        stored = plane.stored
        if stored is None:
            pixels, plain = _decoder.decode(plane.header)
            stored = as_if_stored(plane.header) if plain else None
            pixels = pixels.astype(pixels.dtype.newbyteorder("="))
            if stored is None:
                return hounsfield(pixels, plane.slope, plane.intercept, _padding(plane.header))
            return in_place(pixels, stored, plane.slope, plane.intercept, _padding(plane.header))
        size = plane.shape[0] * plane.shape[1] * stored.bits // 8
        self._buffers.reverse()
        if len(self._buffers[0]) != size:
            self._buffers[0] = np.empty(size, np.uint8)
        buffer = self._buffers[0]
        self._fill(buffer, plane.header, stored.offset)
        pixels = buffer.view(stored.dtype).reshape(plane.shape)
        return in_place(pixels, stored, plane.slope, plane.intercept, _padding(plane.header))

    def _fill(self, buffer: NDArray[np.uint8], header: Header, offset: int) -> None:
        """Fill a buffer from a file's place."""
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
        got = os.preadv(handle, [buffer.data], offset)
    finally:
        os.close(handle)
    if got < len(buffer):
        raise StudyFailure("truncated")


def _padding(header: Header) -> tuple[int, int] | None:
    """Lowest and highest stored value that mark pixels outside the field of view, as 16 bits without a sign."""
    if header.padding is None:
        return None
    limit = header.padding if header.padding_limit is None else header.padding_limit
    return min(header.padding, limit), max(header.padding, limit)


def _strip(pixels: NDArray[np.integer], used: int) -> None:
    """Extend the sign of the stored bits, in place; bits above them may hold an overlay in old files."""
    unused = pixels.dtype.itemsize * 8 - used
    if 0 < unused < pixels.dtype.itemsize * 8:
        if pixels.dtype.kind == "u":
            pixels &= (1 << used) - 1
        else:
            pixels <<= unused
            pixels >>= unused


def in_place(
    pixels: NDArray[np.integer], stored: Stored, slope: float, intercept: float, padding: tuple[int, int] | None
) -> NDArray[np.int16]:
    """Hounsfield units of pixels as they lie in the file; the array is used up."""
    outside = None
    if padding is not None and stored.bits == 16 and padding[1] >> stored.bits_stored:
        # A mark that needs more bits than are stored would turn into some tissue below.
        outside = _between(pixels, padding)
    _strip(pixels, stored.bits_stored)
    hu = hounsfield(pixels, slope, intercept, None if outside is not None else padding)
    if outside is not None:
        hu[outside] = PADDING_HU
    return hu


def _between(pixels: NDArray[np.integer], padding: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels with a padding mark; written with a sign or without, 16 bits are the same."""
    low, high = padding
    bits = pixels.view(np.uint16) if pixels.dtype.itemsize == 2 else pixels
    return (bits >= low) & (bits <= high)


def hounsfield(
    stored: NDArray[np.integer], slope: float, intercept: float, padding: tuple[int, int] | None = None
) -> NDArray[np.int16]:
    """Hounsfield units of stored values, rounded; air (-1024) outside the field of view.

    Parameters
    ----------
    stored : array of integers
        Stored values; used up where they have 16 bits.
    slope, intercept : float
        Rescale slope and intercept of this slice.
    padding : (int, int), optional
        Range of stored values, as 16 bits without a sign, that mark pixels outside the field of view. What lies below
        -1024 HU is such a pixel anyway, with or without a mark; the mark counts only where it would be read as dense
        matter.
    """
    outside = None
    if padding is not None:
        mark = np.array(padding[0], np.uint16).astype(stored.dtype, casting="unsafe")
        if float(mark) * slope + intercept > MAX_TISSUE_HU:
            outside = _between(stored, padding)
    if slope == 1 and intercept == round(intercept) and abs(intercept) < 2**15 and stored.dtype.itemsize == 2:
        hu = _shifted(stored, int(intercept))
    else:
        hu = np.rint(stored * slope + intercept).clip(PADDING_HU, MAX_HU).astype(np.int16)
    if outside is not None:
        hu[outside] = PADDING_HU
    return hu


def _shifted(stored: NDArray[np.integer], intercept: int) -> NDArray[np.int16]:
    """16-bit values plus a whole number, between air and the highest value, in place."""
    if not (stored.flags.writeable and stored.dtype.isnative):
        stored = stored.astype(stored.dtype.newbyteorder("="))
    limits = np.iinfo(stored.dtype)
    low, high = PADDING_HU - intercept, MAX_HU - intercept
    if low > limits.min and stored.min() < low:  # looking takes a tenth of the time of cutting off
        np.maximum(stored, low, out=stored)
    if high < limits.max and stored.max() > high:
        np.minimum(stored, high, out=stored)
    bits = stored.view(np.uint16)
    bits += np.uint16(intercept & 0xFFFF)  # within the limits above, the overflow of 16 bits comes out right
    return bits.view(np.int16)


class Sample:
    """Counts of a volume's HU, from some rows and columns of each slice."""

    def __init__(self) -> None:
        self._counts = np.zeros(2**16, np.int64)
        self._waiting: list[NDArray[np.uint16]] = []

    def add(self, plane: NDArray[np.int16]) -> None:
        """Count a slice."""
        step = max(1, min(plane.shape) // _SAMPLED)
        self._waiting.append(plane[::step, ::step].ravel().view(np.uint16) ^ np.uint16(2**15))
        if len(self._waiting) == _AT_ONCE:
            self._count()

    def _count(self) -> None:
        if self._waiting:
            self._counts += np.bincount(np.concatenate(self._waiting), minlength=2**16)
            self._waiting.clear()

    def percentiles(self) -> tuple[float, float]:
        """1st and 99th percentile, in HU."""
        self._count()
        share = self._counts.cumsum() / self._counts.sum()
        low, high = (float(np.searchsorted(share, part) - 2**15) for part in (0.01, 0.99))
        return low, high

    def implausible(self) -> str | None:
        """Why a patient can't have these values, in figures; None where one can."""
        low, high = self.percentiles()
        first, last = (limit + 2**15 for limit in SOFT_TISSUE_HU)
        tissue = float(self._counts[first:last].sum() / self._counts.sum())
        if low > LOWEST_PERCENTILE_HU or tissue < MIN_SOFT_TISSUE:
            return f"1st to 99th percentile {low:.0f} to {high:.0f} HU, {tissue:.0%} tissue"
        return None
