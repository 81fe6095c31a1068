"""Slices as their headers describe them. LPS+ millimetres, as in DICOM."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLossless

from trabecula.dicom.attributes import read_dicom
from trabecula.dicom.files import as_path, open_file
from trabecula.dicom.geometry import normal_of
from trabecula.dicom.headers import Header
from trabecula.errors import StudyFailure

# Far beyond the largest real scans; a header that claims more is damaged or hostile.
MAX_VOXELS = 2**31
MAX_PIXELS = 2**24
# Retired lossless JPEG processes (DICOM PS3.6 A): the same streams as process 14, which decoders know.
_RETIRED_LOSSLESS = {f"1.2.840.10008.1.2.4.{number}" for number in (58, 65, 66)}


@dataclass(frozen=True)
class Stored:
    """How a slice's pixels lie in its file, uncompressed and little-endian.

    Attributes
    ----------
    offset : int
        Where they begin, in bytes.
    bits, bits_stored, high_bit : int
        Bits allocated and used, and the highest one that is used.
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
        """Type of the array that they make."""
        return f"<{'i' if self.signed else 'u'}{self.bits // 8}"


@dataclass(frozen=True)
class Plane:
    """One slice as its header describes it.

    Attributes
    ----------
    header : Header
        What the index knows of it.
    position_mm : list of 3 floats
        Centre of the first voxel, LPS+.
    orientation : list of 6 floats
        Directions along a row and along a column, LPS+.
    pixel_mm : list of 2 floats
        Distance between rows and between columns.
    slope, intercept : float
        Stored value to HU.
    stored : Stored or None
        Where its pixels lie; None where pydicom has to decode them.
    """

    header: Header
    position_mm: list[float]
    orientation: list[float]
    pixel_mm: list[float]
    slope: float
    intercept: float
    stored: Stored | None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.header.rows or 0, self.header.columns or 0


def check_unchanged(header: Header, handle: int | None = None) -> None:
    """Raise StudyFailure (changed, vanished) where a file is not the one that the index saw."""
    try:
        state = os.stat(as_path(header.path)) if handle is None else os.fstat(handle)
    except FileNotFoundError:
        raise StudyFailure("vanished") from None
    if (state.st_size, state.st_mtime_ns) != (header.size, header.mtime_ns):
        raise StudyFailure("changed")


def read_dataset(header: Header) -> Dataset:
    """Read a DICOM file, with or without preamble.

    Raises
    ------
    StudyFailure
        vanished, changed, unreadable or truncated.
    OSError
        If disk or network fail: worth a retry, and no property of the study.
    """
    check_unchanged(header)
    with open_file(header.path, header.member) as file:
        try:
            dataset = read_dicom(file, force=True)
        except EOFError:
            raise StudyFailure("truncated") from None
        except (OSError, StudyFailure):
            raise
        except Exception as error:  # damaged files raise anything, from struct.error to RecursionError
            raise StudyFailure("unreadable", type(error).__name__) from None
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:  # old files without the preamble
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    if dataset.file_meta.TransferSyntaxUID in _RETIRED_LOSSLESS:
        dataset.file_meta.TransferSyntaxUID = JPEGLossless
    return dataset


def planes_of(headers: Iterable[Header]) -> list[Plane]:
    """Slices as headers describe them.

    Raises
    ------
    StudyFailure
        lossy, no_rescale, no_geometry or too_large.
    """
    return [_plane(header) for header in headers]


def _plane(header: Header) -> Plane:
    rows, columns, slope, intercept = header.rows or 0, header.columns or 0, header.slope, header.intercept
    if header.is_lossy:
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
    normal_of(orientation)
    return Plane(header, position, orientation, pixel_mm, slope, intercept, _stored(header))


def _stored(header: Header) -> Stored | None:
    """Where a slice's pixels lie, if they can be read without any decoding."""
    if header.pixel_offset is None:
        return None
    layout = as_if_stored(header)
    size = (header.rows or 0) * (header.columns or 0) * (header.bits or 0) // 8
    return layout and replace(layout, offset=header.pixel_offset + (header.frame or 0) * size)


def as_if_stored(header: Header) -> Stored | None:
    """How a slice's pixels lie in memory; None where that is unusual."""
    bits, used, high, signed = header.bits, header.bits_stored, header.high_bit, header.signed
    if used is None or high is None or bits not in (8, 16) or signed not in (0, 1):
        return None
    if header.samples not in (None, 1) or not 0 < used <= bits or high != used - 1:
        return None
    return Stored(0, bits, used, high, bool(signed))


def in_order(planes: Iterable[Plane]) -> list[Plane]:
    """Planes in the order in which they follow each other along the first one's normal."""
    listed = list(planes)
    normal = normal_of(listed[0].orientation)

    def place(plane: Plane) -> tuple[float, str, str, int]:
        along = sum(n * p for n, p in zip(normal.tolist(), plane.position_mm, strict=True))
        return along, plane.header.path, plane.header.member or "", plane.header.frame or 0

    return sorted(listed, key=place)


def check_size(shape: Sequence[int]) -> None:
    """Raise StudyFailure (too_large) where a volume would have more voxels than a scan can."""
    if math.prod(shape) > MAX_VOXELS:
        raise StudyFailure("too_large")
