"""Describe the slices of a stack by their headers. LPS+ millimetres, as in DICOM."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from trabecula.dicom.geometry import MAX_PIXELS, MAX_VOXELS, normal_of
from trabecula.dicom.headers.record import LOSSY_PIXELS, Header
from trabecula.errors import StudyFailure


@dataclass(frozen=True)
class PixelLayout:
    """How the pixels of a slice lie in their file or in memory, uncompressed and little-endian.

    Attributes
    ----------
    offset : int
        Where they begin, in bytes.
    bits, bits_stored, high_bit : int
        Bits allocated and used, and the highest one that is used, counted from 0.
    signed : bool
        Whether they are two's complement.
    """

    offset: int
    bits: int
    bits_stored: int
    high_bit: int
    signed: bool

    @property
    def dtype(self) -> str:
        """Give the type of the array that the pixels make.

        >>> PixelLayout(offset=0, bits=16, bits_stored=12, high_bit=11, signed=True).dtype
        '<i2'
        """
        return f"<{'i' if self.signed else 'u'}{self.bits // 8}"


@dataclass(frozen=True)
class Slice:
    """One slice as its header describes it.

    Attributes
    ----------
    header : Header
        The header as the index read it.
    position_mm : list of 3 floats
        Centre of the first voxel, LPS+.
    orientation : list of 6 floats
        Directions along a row and along a column, LPS+.
    pixel_mm : list of 2 floats
        Distance between rows and between columns.
    slope, intercept : float
        Stored value to HU.
    layout : PixelLayout or None
        Where its pixels lie in the file; None where they have to be decoded.
    """

    header: Header
    position_mm: list[float]
    orientation: list[float]
    pixel_mm: list[float]
    slope: float
    intercept: float
    layout: PixelLayout | None

    @property
    def shape(self) -> tuple[int, int]:
        """Give the numbers of rows and columns."""
        return self.header.rows or 0, self.header.columns or 0


def slices_of(headers: Iterable[Header]) -> list[Slice]:
    """Describe the slices of a stack.

    Raises
    ------
    StudyFailure
        lossy, no_rescale, no_geometry or too_large.
    """
    return [_slice_of(header) for header in headers]


def _slice_of(header: Header) -> Slice:
    rows, columns, slope, intercept = header.rows or 0, header.columns or 0, header.slope, header.intercept
    if header.loss == LOSSY_PIXELS:
        raise StudyFailure("lossy")
    if rows < 1 or columns < 1:
        raise StudyFailure("no_geometry", "rows or columns are missing")
    if rows * columns > MAX_PIXELS or rows * columns * (header.frames or 1) > MAX_VOXELS:
        raise StudyFailure("too_large")
    if slope is None or intercept is None or slope == 0:
        raise StudyFailure("no_rescale")
    position, orientation, pixel_mm = header.positions_mm, header.orientation, header.pixel_spacing_mm
    if position is None or orientation is None or pixel_mm is None or min(pixel_mm) <= 0:
        raise StudyFailure("no_geometry")
    normal_of(orientation)  # raises where the directions are not perpendicular
    return Slice(header, position, orientation, pixel_mm, slope, intercept, _layout_in_file(header))


def _layout_in_file(header: Header) -> PixelLayout | None:
    """Tell where the pixels of a slice lie in its file; None where they have to be decoded."""
    if header.pixel_offset is None:
        return None
    layout = layout_in_memory(header)
    size = (header.rows or 0) * (header.columns or 0) * (header.bits or 0) // 8
    return layout and replace(layout, offset=header.pixel_offset + (header.frame or 0) * size)


def layout_in_memory(header: Header, depth: int | None = None) -> PixelLayout | None:
    """Tell how the pixels of a slice lie in memory once they are decoded; None where nothing says it.

    A HighBit below the stored bits is impossible, and not believed.

    Parameters
    ----------
    header : Header
        Header of the slice.
    depth : int, optional
        Bits of the samples of a compressed stream: values that lie to the left in their words are so in the stream only
        if it has as many bits.
    """
    bits, used, signed = header.bits, header.bits_stored, header.signed
    if used is None or bits not in (8, 16, 32) or signed not in (0, 1):
        return None
    if header.samples not in (None, 1) or not 0 < used <= bits:
        return None
    high = max(used - 1, header.high_bit or 0)
    if high >= min(bits, depth or bits):
        high = used - 1
    return PixelLayout(0, bits, used, high, bool(signed))
