"""Hold three-dimensional images with their place in the patient, and sample them on other grids."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from trabecula.image.nifti import writing_nifti

# SimpleITK and DICOM count x to the left and y to the back (LPS+); we use RAS+ like NIfTI.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_INTERPOLATOR = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear}


@dataclass(frozen=True)
class Volume:
    """Voxels and their place in the patient.

    Attributes
    ----------
    array : (i, j, k) array
        Voxel values, in any axis order; `affine` says where each axis points.
    affine : (4, 4) array
        Voxel indices to RAS+ millimetres (x to the right, y to the front, z to the head).
    """

    array: NDArray
    affine: NDArray[np.float64]

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """(3,) distances between neighbouring voxels along each axis, in millimetres."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def to_mm(self, voxels: ArrayLike) -> NDArray[np.float64]:
        """Turn (n, 3) voxel indices into (n, 3) RAS+ millimetres.

        >>> Volume(np.zeros((9, 9, 9)), np.diag([-0.5, -0.5, 2.0, 1.0])).to_mm([[2, 4, 3]]).tolist()
        [[-1.0, -2.0, 6.0]]
        """
        return np.asarray(voxels, float) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxels(self, points_mm: ArrayLike) -> NDArray[np.float64]:
        """Turn (n, 3) RAS+ millimetres into (n, 3) voxel indices, not rounded.

        >>> Volume(np.zeros((9, 9, 9)), np.diag([0.5, 0.5, 2.0, 1.0])).to_voxels([[1, 2, 5]]).tolist()
        [[2.0, 4.0, 2.5]]
        """
        offset = np.asarray(points_mm, float) - self.affine[:3, 3]
        return offset @ np.linalg.inv(self.affine[:3, :3]).T

    def with_array(self, array: NDArray) -> Self:
        """Put other values on the same grid."""
        return type(self)(array, self.affine)

    def part(self, box: tuple[slice, ...]) -> Self:
        """Take a box of voxels, which stays in its place in the patient.

        >>> part = Volume(np.zeros((9, 9, 9)), np.eye(4)).part(np.s_[2:4, 0:9, 5:9])
        >>> part.array.shape, part.affine[:3, 3].tolist()
        ((2, 9, 4), [2.0, 0.0, 5.0])
        """
        affine = self.affine.copy()
        affine[:3, 3] = self.to_mm([[side.start for side in box]])[0]
        return type(self)(self.array[box], affine)

    @classmethod
    def from_sitk(cls, image: sitk.Image) -> Self:
        """Convert a SimpleITK image (LPS+, axes x, y, z)."""
        direction = np.reshape(image.GetDirection(), (3, 3))
        affine = np.eye(4)
        affine[:3, :3] = LPS_TO_RAS @ direction * np.array(image.GetSpacing())
        affine[:3, 3] = LPS_TO_RAS @ np.array(image.GetOrigin())
        return cls(sitk.GetArrayFromImage(image).transpose(2, 1, 0), affine)

    def to_sitk(self) -> sitk.Image:
        """Convert to a SimpleITK image (LPS+); the affine must not shear."""
        image = sitk.GetImageFromArray(np.ascontiguousarray(self.array.transpose(2, 1, 0)))
        spacing = self.spacing_mm
        image.SetSpacing(spacing.tolist())
        image.SetDirection((LPS_TO_RAS @ self.affine[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin((LPS_TO_RAS @ self.affine[:3, 3]).tolist())
        return image


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI file.

    Raises
    ------
    RuntimeError
        If the file is not a readable three-dimensional image.
    """
    return Volume.from_sitk(sitk.ReadImage(str(path)))


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a NIfTI file, compressed when the name ends in ``.gz``."""
    with writing_nifti(path, volume.array.shape, volume.affine, volume.array.dtype) as write:
        for k in range(volume.array.shape[2]):
            write(volume.array[:, :, k].T)


def aligned_grid(
    low_mm: ArrayLike, high_mm: ArrayLike, spacing_mm: float
) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Give shape and affine of a patient-aligned (RAS+) grid that covers a box.

    >>> shape, affine = aligned_grid([0, 0, -10], [4, 5, 10], 2.0)
    >>> shape, affine[:3, 3].tolist()
    ((3, 4, 11), [0.0, 0.0, -10.0])

    Parameters
    ----------
    low_mm, high_mm : (3,) arrays
        Opposite corners of the box in RAS+ millimetres.
    spacing_mm : float
        Distance between neighbouring voxels on every axis.
    """
    low, high = np.asarray(low_mm, float), np.asarray(high_mm, float)
    shape = np.maximum(np.ceil((high - low) / spacing_mm).astype(int) + 1, 1)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = low
    return (int(shape[0]), int(shape[1]), int(shape[2])), affine


def bounds_mm(volume: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the low and the high corner of the smallest patient-aligned box (RAS+ mm) that holds every voxel centre.

    >>> low, high = bounds_mm(Volume(np.zeros((3, 3, 5)), np.diag([-1.0, 1.0, 2.0, 1.0])))
    >>> low.tolist(), high.tolist()
    ([-2.0, 0.0, 0.0], [0.0, 2.0, 8.0])
    """
    corners = corners_mm(volume)
    return corners.min(axis=0), corners.max(axis=0)


def corners_mm(volume: Volume) -> NDArray[np.float64]:
    """Give the (8, 3) centres of a volume's corner voxels in RAS+ millimetres."""
    last = np.array(volume.array.shape) - 1
    return volume.to_mm([[i, j, k] for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])])


def resample(
    volume: Volume,
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    *,
    outside: float,
    how: Literal["nearest", "linear"] = "linear",
) -> Volume:
    """Sample a volume on another grid.

    Parameters
    ----------
    volume : Volume
        Volume to sample.
    shape, affine
        Grid to sample on (RAS+), without shear.
    outside : float
        Value where the grid leaves the volume.
    how : {"nearest", "linear"}
        Interpolation: linear for intensities, nearest for labels.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    grid = sitk.ResampleImageFilter()
    grid.SetSize([int(n) for n in shape])
    grid.SetOutputSpacing(spacing.tolist())
    grid.SetOutputDirection((LPS_TO_RAS @ affine[:3, :3] / spacing).ravel().tolist())
    grid.SetOutputOrigin((LPS_TO_RAS @ affine[:3, 3]).tolist())
    grid.SetInterpolator(_INTERPOLATOR[how])
    grid.SetDefaultPixelValue(outside)
    return Volume.from_sitk(grid.Execute(volume.to_sitk()))
