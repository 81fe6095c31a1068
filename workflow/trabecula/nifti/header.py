"""Read the header of a NIfTI file: the shape and type of its voxels, where they lie, and how they become HU."""

import math
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from trabecula.dicom.geometry import MAX_PIXELS, MAX_VOXELS
from trabecula.errors import StudyFailure

# The first number of a header, which is its length in bytes, and the magic of single files and of pairs.
_SIZES = {348: 1, 540: 2}
_LONGEST_HEADER = 540
_SINGLE, _PAIR = (b"n+1\0", b"n+2\0"), (b"ni1\0", b"ni2\0")
_MAX_SLICES = 10_000  # along any axis; no scanner and no data set has so many
# Two statements of where the voxels lie agree where no corner is further apart: half a voxel of the finest bone scans.
_SAME_PLACE_MM = 0.5
_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # metres, millimetres, micrometres (xyzt_units); 0 and others mean mm
_UNITS_OF_LENGTH = 7  # the lowest three bits
_LABEL = 1002  # intent code of label maps (NIFTI_INTENT_LABEL)
# Hounsfield units of a patient reach from below fat to above soft bone: 8-bit values that do not are a picture.
_FAT_HU, _BONE_HU = -100.0, 300.0


@dataclass(frozen=True)
class VolumeHeader:
    """Statements of a NIfTI file on its voxels.

    Attributes
    ----------
    shape : (int, int, int)
        Voxels along each axis.
    affine_ras : (4, 4) array
        Voxel indices to RAS+ millimetres; sheared where the gantry was tilted.
    dtype : dtype
        Type of the stored values, with its byte order.
    slope, intercept : float
        Stored value to HU.
    offset : int
        Byte of the decompressed file at which the voxels begin; the first axis varies fastest.
    """

    shape: tuple[int, int, int]
    affine_ras: NDArray[np.float64]
    dtype: np.dtype
    slope: float
    intercept: float
    offset: int

    @property
    def n_bytes(self) -> int:
        """Give the bytes of all voxels."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: BinaryIO) -> VolumeHeader:
    """Read the header of a single NIfTI-1 or NIfTI-2 file of either byte order.

    Where both ways to say where the voxels lie are filled in and agree, the sform counts.

    Parameters
    ----------
    file : binary file
        The decompressed file, from its first byte on; no more than 540 bytes are read.

    Raises
    ------
    StudyFailure
        not_nifti, nifti_pair, truncated, several_volumes, voxel_type, too_large, no_geometry, two_geometries,
        no_rescale, eight_bit or label_map.
    """
    header, version = _parsed(file.read(_LONGEST_HEADER))
    shape = _shape(header)
    dtype = _dtype(header)
    if int(header["intent_code"]) == _LABEL:
        raise StudyFailure("label_map", "the header says so")
    slope, intercept = _rescale(header)
    if dtype.itemsize == 1 and not _reaches_from_fat_to_bone(dtype, slope, intercept):
        raise StudyFailure("eight_bit")
    offset = float(header["vox_offset"])
    if not (offset.is_integer() and (352, 544)[version - 1] <= offset < MAX_VOXELS):
        raise StudyFailure("not_nifti", "voxels begin inside the header")
    return VolumeHeader(shape, _affine(header, shape), dtype, slope, intercept, int(offset))


def _parsed(start: bytes) -> tuple[Any, int]:
    """Give nibabel's header, and 1 or 2 for NIfTI-1 or NIfTI-2."""
    sizes = {"<": int.from_bytes(start[:4], "little"), ">": int.from_bytes(start[:4], "big")}
    sign = next((sign for sign, size in sizes.items() if size in _SIZES), None)
    if sign is None:
        raise StudyFailure("not_nifti")
    size, version = sizes[sign], _SIZES[sizes[sign]]
    magic = start[344:348] if version == 1 else start[4:8]
    if magic in _PAIR:
        raise StudyFailure("nifti_pair")
    if len(start) < size:
        raise StudyFailure("truncated", "inside the header")
    if magic not in _SINGLE:
        raise StudyFailure("not_nifti")
    # A quarter of a second of start-up, for archives that hold NIfTI.
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    return (Nifti1Header, Nifti2Header)[version - 1](start[:size], endianness=sign, check=False), version


def _shape(header: Any) -> tuple[int, int, int]:
    n_axes, *lengths = (int(length) for length in header["dim"])
    if not 1 <= n_axes <= 7 or min(lengths[:n_axes]) < 1:
        raise StudyFailure("not_nifti", "number or length of the axes")
    lengths = lengths[:n_axes] + [1] * (7 - n_axes)
    if math.prod(lengths[3:]) > 1:
        raise StudyFailure("several_volumes", f"{math.prod(lengths[3:])} volumes")
    columns, rows, slices = lengths[:3]
    if max(lengths) > _MAX_SLICES or columns * rows > MAX_PIXELS or columns * rows * slices > MAX_VOXELS:
        raise StudyFailure("too_large")
    return columns, rows, slices


def _dtype(header: Any) -> np.dtype:
    try:
        dtype = np.dtype(header.get_data_dtype())
    except Exception:  # nibabel's own error where it knows no such code
        raise StudyFailure("voxel_type") from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8:  # colours, complex and very long numbers
        raise StudyFailure("voxel_type")
    return dtype


def _rescale(header: Any) -> tuple[float, float]:
    """Give slope and intercept; a slope of 0, or none, means that the values are stored as they are."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise StudyFailure("no_rescale")
    return slope, intercept


def _reaches_from_fat_to_bone(dtype: np.dtype, slope: float, intercept: float) -> bool:
    limits = np.iinfo(dtype)
    low, high = sorted((slope * limits.min + intercept, slope * limits.max + intercept))
    return low < _FAT_HU and high > _BONE_HU


def _affine(header: Any, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Give the (4, 4) affine, in millimetres.

    Raises
    ------
    StudyFailure
        no_geometry or two_geometries.
    """
    affines = [affine for affine in (_sform(header), _qform(header)) if affine is not None]
    if not affines:
        raise StudyFailure("no_geometry", "neither qform nor sform is filled in")
    mm = _MM_PER_UNIT.get(int(header["xyzt_units"]) & _UNITS_OF_LENGTH, 1.0)
    affines = [np.diag([mm, mm, mm, 1.0]) @ affine for affine in affines]
    for affine in affines:
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        axes = affine[:3, :3] / np.where(lengths > 0, lengths, 1)
        if not np.isfinite(affine).all() or lengths.min() <= 0 or abs(np.linalg.det(axes)) < 0.1:
            raise StudyFailure("no_geometry", "the axes span no volume")
    apart_mm = _largest_distance_mm(affines[0], affines[-1], shape)
    if apart_mm > _SAME_PLACE_MM:
        raise StudyFailure("two_geometries", f"corners up to {apart_mm:.1f} mm apart")
    return affines[0]


def _sform(header: Any) -> NDArray[np.float64] | None:
    return None if int(header["sform_code"]) <= 0 else np.asarray(header.get_sform(), float)


def _qform(header: Any) -> NDArray[np.float64] | None:
    if int(header["qform_code"]) <= 0:
        return None
    try:
        return np.asarray(header.get_qform(), float)
    except Exception:  # nibabel's own errors, of a quaternion that is none
        raise StudyFailure("no_geometry", "the qform is no rotation") from None


def _largest_distance_mm(first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, int, int]) -> float:
    """Give the largest distance between the places of a corner by two affines."""
    corners = np.array(np.meshgrid(*((0, length - 1) for length in shape))).reshape(3, -1)
    difference = first - second
    return float(np.linalg.norm(difference[:3, :3] @ corners + difference[:3, 3:], axis=0).max())
