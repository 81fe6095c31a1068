"""Cut a NIfTI volume into axial slices, whatever the order in which its voxels are stored."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trabecula.errors import StudyFailure

_TO_LPS = np.array([-1.0, -1.0, 1.0])
_PERPENDICULAR = 0.01  # cosine; as for the directions of DICOM slices (`dicom.geometry.normal_of`)


@dataclass(frozen=True)
class Slicing:
    """Where the slices of a volume lie, in DICOM's terms. LPS+ millimetres.

    Rows run to the patient's left and columns to the back, as far as the volume's axes do, so that a scan gives the
    same slices however it was stored; slices are numbered from 0 as they are stored.

    Attributes
    ----------
    slice_axis, row_axis, column_axis : int
        Axes of the array along which the number of the slice, of the row and of the column grow.
    flips_rows, flips_columns : bool
        Whether the last row or column of the array is the slice's first.
    n_slices, n_rows, n_columns : int
        Numbers of slices, of rows and of columns.
    origin_mm, step_mm : (3,) array
        Centre of the first voxel of slice 0, and the way from a slice to the next one.
    orientation : list of 6 floats
        Directions along a row and along a column, as in Image Orientation (0020,0037).
    pixel_mm : list of 2 floats
        Distance between rows and between columns, as in Pixel Spacing (0028,0030).
    """

    slice_axis: int
    row_axis: int
    column_axis: int
    flips_rows: bool
    flips_columns: bool
    n_slices: int
    n_rows: int
    n_columns: int
    origin_mm: NDArray[np.float64]
    step_mm: NDArray[np.float64]
    orientation: list[float]
    pixel_mm: list[float]

    def position_mm(self, number: int) -> list[float]:
        """Give the centre of a slice's first voxel, as in Image Position (0020,0032)."""
        return (self.origin_mm + number * self.step_mm).tolist()


def slicing_of(shape: tuple[int, int, int], affine_ras: NDArray[np.float64]) -> Slicing:
    """Find the slices that lie across the axis of a volume that is nearest to the patient's length.

    Parameters
    ----------
    shape : (int, int, int)
        Voxels along each axis.
    affine_ras : (4, 4) array
        Voxel indices to RAS+ millimetres. Where it is sheared, the slices lie as those of a tilted gantry.

    Raises
    ------
    StudyFailure
        skewed_axes, where the rows and columns of these slices are not perpendicular.

    Examples
    --------
    >>> sagittal = np.array([[0.0, 0, 3, 0], [-1, 0, 0, 90], [0, -1, 0, 200], [0, 0, 0, 1]])  # P, I, R
    >>> slicing = slicing_of((119, 217, 33), sagittal)
    >>> slicing.n_slices, slicing.n_rows, slicing.n_columns, slicing.pixel_mm
    (217, 119, 33, [1.0, 3.0])
    >>> slicing.position_mm(0), slicing.orientation
    ([-96.0, -90.0, 200.0], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    """
    axes = _TO_LPS[:, None] * affine_ras[:3, :3]
    spacing_mm = np.linalg.norm(axes, axis=0)
    directions = axes / spacing_mm
    slice_axis = int(np.argmax(np.abs(directions[2])))
    first, second = (axis for axis in range(3) if axis != slice_axis)
    if abs(directions[:, first] @ directions[:, second]) > _PERPENDICULAR:
        raise StudyFailure("skewed_axes")
    row_runs_first = abs(directions[0, first]) >= abs(directions[0, second])
    column_axis, row_axis = (first, second) if row_runs_first else (second, first)
    origin = _TO_LPS * affine_ras[:3, 3]
    flips = {}
    for axis, along in ((column_axis, 0), (row_axis, 1)):
        flips[axis] = bool(directions[along, axis] < 0)
        if flips[axis]:
            origin = origin + (shape[axis] - 1) * axes[:, axis]
            directions[:, axis] *= -1
    return Slicing(
        slice_axis,
        row_axis,
        column_axis,
        flips_rows=flips[row_axis],
        flips_columns=flips[column_axis],
        n_slices=shape[slice_axis],
        n_rows=shape[row_axis],
        n_columns=shape[column_axis],
        origin_mm=origin,
        step_mm=axes[:, slice_axis],
        orientation=[*(directions[:, column_axis] + 0.0).tolist(), *(directions[:, row_axis] + 0.0).tolist()],
        pixel_mm=[float(spacing_mm[row_axis]), float(spacing_mm[column_axis])],
    )


def slice_of(array: NDArray, slicing: Slicing, number: int) -> NDArray:
    """Give a slice of a volume's array as (rows, columns), without a copy.

    Parameters
    ----------
    array : array of three axes
        Voxels, with the axes of the file.
    slicing : Slicing
        Result of `slicing_of` for it.
    number : int
        Number of the slice, from 0.
    """
    plane = array[_index(slicing, number)]
    return plane.T if slicing.row_axis > slicing.column_axis else plane


def _index(slicing: Slicing, number: int) -> tuple[int | slice, ...]:
    backwards = {slicing.row_axis: slicing.flips_rows, slicing.column_axis: slicing.flips_columns}
    steps = (-1 if backwards.get(axis) else 1 for axis in range(3))
    return tuple(number if axis == slicing.slice_axis else slice(None, None, step) for axis, step in enumerate(steps))
