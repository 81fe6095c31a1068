"""Slices as their headers describe them, and the grid that they make. LPS+ millimetres, as in DICOM."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from trabecula.dicom import LOSSY, numbers, value
from trabecula.errors import StudyFailure
from trabecula.geometry import distances_mm, normal_of

# Far beyond the largest real scans; a header that claims more is damaged or hostile.
MAX_VOXELS = 2**31
# Slices may lie so far beside the straight line from the first to the last.
SIDEWAYS_MM = 0.5
_DIRECTION_TOLERANCE = 2e-3
_PIXEL_TOLERANCE_MM = 1e-3


@dataclass(frozen=True)
class Plane:
    """One slice as its header describes it.

    Attributes
    ----------
    path : str
        Its file.
    frame : int
        Its number within a multi-frame file, from 0.
    shape : (int, int)
        Rows and columns.
    position_mm : list of 3 floats
        Centre of the first voxel, LPS+.
    orientation : list of 6 floats
        Directions along a row and along a column, LPS+.
    pixel_mm : list of 2 floats
        Distance between rows and between columns.
    slope, intercept : float
        Stored value to HU.
    """

    path: str
    frame: int
    shape: tuple[int, int]
    position_mm: list[float]
    orientation: list[float]
    pixel_mm: list[float]
    slope: float
    intercept: float


def read_dataset(path: str, *, stop_before_pixels: bool = False) -> Dataset:
    """Read a DICOM file, with or without preamble.

    Raises
    ------
    StudyFailure
        vanished, unreadable or truncated.
    OSError
        If disk or network fail: worth a retry, and no property of the study.
    """
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=stop_before_pixels, force=True)
    except FileNotFoundError:
        raise StudyFailure("vanished") from None
    except EOFError:
        raise StudyFailure("truncated") from None
    except PermissionError:
        raise StudyFailure("unreadable", "no permission") from None
    except OSError as error:  # its own text would put the path, maybe a patient's name, into the log
        raise OSError(error.errno, error.strerror) from None
    except Exception as error:  # damaged files raise anything, from struct.error to RecursionError
        raise StudyFailure("unreadable", type(error).__name__) from None
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:  # old files without the preamble
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return dataset


def read_planes(path: str) -> list[Plane]:
    """Slices of a file, from its header.

    Raises
    ------
    StudyFailure
        vanished, unreadable, lossy, no_rescale, no_geometry or too_large.
    """
    dataset = read_dataset(path, stop_before_pixels=True)
    if dataset.file_meta.TransferSyntaxUID in LOSSY or value(dataset, "LossyImageCompression") == "01":
        raise StudyFailure("lossy")
    rows, columns = (int((numbers(dataset, keyword, 1) or [0])[0]) for keyword in ("Rows", "Columns"))
    frames = int((numbers(dataset, "NumberOfFrames", 1) or [1])[0])
    if rows < 1 or columns < 1 or frames < 1:
        raise StudyFailure("no_geometry", "rows or columns are missing")
    if rows * columns * frames > MAX_VOXELS:
        raise StudyFailure("too_large")
    return [_plane(dataset, path, frame, (rows, columns)) for frame in range(frames)]


def _plane(dataset: Dataset, path: str, frame: int, shape: tuple[int, int]) -> Plane:
    position = numbers(dataset, "ImagePositionPatient", 3, frame)
    orientation = numbers(dataset, "ImageOrientationPatient", 6, frame)
    pixel_mm = numbers(dataset, "PixelSpacing", 2, frame)
    if position is None or orientation is None or pixel_mm is None or min(pixel_mm) <= 0:
        raise StudyFailure("no_geometry")
    slope = numbers(dataset, "RescaleSlope", 1, frame)
    intercept = numbers(dataset, "RescaleIntercept", 1, frame)
    if slope is None or intercept is None or slope[0] == 0:
        raise StudyFailure("no_rescale")
    return Plane(path, frame, shape, position, orientation, pixel_mm, slope[0], intercept[0])


def in_order(planes: Iterable[Plane]) -> list[Plane]:
    """Planes in the order in which they follow each other along the first one's normal."""
    listed = list(planes)
    normal = normal_of(listed[0].orientation)
    return sorted(listed, key=lambda plane: (float(normal @ plane.position_mm), plane.path, plane.frame))


def check_alike(planes: Sequence[Plane]) -> None:
    """Raise unless slices share orientation, matrix and pixel spacing and are two or more.

    Raises
    ------
    StudyFailure
        mixed_orientation, mixed_matrix, too_few_slices or too_large.
    """
    first = planes[0]
    directions = np.array([plane.orientation for plane in planes])
    if np.abs(directions - directions[0]).max() > _DIRECTION_TOLERANCE:
        raise StudyFailure("mixed_orientation")
    pixels = np.array([plane.pixel_mm for plane in planes])
    if any(plane.shape != first.shape for plane in planes) or np.abs(pixels - pixels[0]).max() > _PIXEL_TOLERANCE_MM:
        raise StudyFailure("mixed_matrix")
    if len(planes) < 2:
        raise StudyFailure("too_few_slices", f"{len(planes)} slice")
    if math.prod(first.shape) * len(planes) > MAX_VOXELS:
        raise StudyFailure("too_large")


def affine_of(planes: Sequence[Plane], spacing_mm: float) -> NDArray[np.float64]:
    """Place of the grid that a stack of slices makes.

    Parameters
    ----------
    planes : sequence of Plane
        Slices in order.
    spacing_mm : float
        Distance between them along the normal.

    Returns
    -------
    (4, 4) array
        Voxel indices (column, row, slice) to RAS+ millimetres; sheared where the gantry was tilted.

    Raises
    ------
    StudyFailure
        irregular_spacing, if slices lie beside the straight line from the first to the last.
    """
    orientation = planes[0].orientation
    positions = np.array([plane.position_mm for plane in planes])
    along = distances_mm(positions - positions[0], orientation)
    step = (positions[-1] - positions[0]) / along[-1]
    sideways = np.linalg.norm(positions - positions[0] - along[:, None] * step, axis=1).max()
    if sideways > SIDEWAYS_MM:
        raise StudyFailure("irregular_spacing", f"slices lie up to {sideways:.1f} mm beside a straight line")
    row, column = np.reshape(orientation, (2, 3))
    between_rows, between_columns = planes[0].pixel_mm
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([row * between_columns, column * between_rows, step * spacing_mm])
    affine[:3, 3] = positions[0]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
