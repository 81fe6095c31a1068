"""Bring tilted or mildly uneven slices onto an even, upright grid."""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from trabecula.convert.voxels import AIR_HU
from trabecula.volume import Volume


def even_slices(stack: NDArray[np.int16], distances: NDArray[np.float64], spacing_mm: float) -> NDArray[np.int16]:
    """Slices at even distances, each mixed from its two neighbours.

    Parameters
    ----------
    stack : (n, rows, columns) array
        Slices in order.
    distances : (n,) array
        Where they lie along their normal, in millimetres.
    spacing_mm : float
        Distance between the slices that are wanted; the first one stays where it is.
    """
    wanted = (distances[0] + spacing_mm * np.arange(len(stack))).clip(distances[0], distances[-1])
    below = np.searchsorted(distances, wanted, side="right").clip(1, len(stack) - 1) - 1
    weight = (wanted - distances[below]) / (distances[below + 1] - distances[below])
    mended = np.empty_like(stack)
    for k, (i, w) in enumerate(zip(below, weight, strict=True)):
        mended[k] = np.rint((1 - w) * stack[i] + w * stack[i + 1])
    return mended


def drift_mm(affine: NDArray[np.float64], n_slices: int) -> float:
    """How far the last slice lies off the axis through the first one, in millimetres."""
    return float(np.linalg.norm(affine[:3, 2] - upright(affine)[:3, 2])) * (n_slices - 1)


def upright(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine with its third axis put exactly along the normal of the first two."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    normal /= np.linalg.norm(normal)
    straight = affine.copy()
    straight[:3, 2] = (affine[:3, 2] @ normal) * normal
    return straight


def without_shear(ct: Volume) -> Volume:
    """Resample a sheared volume (tilted gantry) onto the upright grid of the same slices.

    Every slice stays in its plane and only moves within it (linear interpolation); the grid grows so that nothing is
    cut off, filled with air.

    Parameters
    ----------
    ct : Volume
        int16 Hounsfield units with a third axis that is not perpendicular to the first two.
    """
    grid = upright(ct.affine)
    columns, rows, slices = ct.array.shape
    drift = np.linalg.solve(grid[:3, :3], (ct.affine - grid)[:3, 2])[:2] * (slices - 1)  # voxels, at the last slice
    low, high = np.floor(np.minimum(0, drift)), np.ceil(np.maximum(0, drift))
    grid[:3, 3] += grid[:3, :2] @ low
    size = [int(columns + high[0] - low[0]), int(rows + high[1] - low[1]), slices]
    # Both grids in voxel indices: SimpleITK, which drops a shear without a word, need not know of it.
    to_given = np.linalg.solve(ct.affine, grid)
    image = sitk.GetImageFromArray(np.ascontiguousarray(ct.array.transpose(2, 1, 0)))
    filter_ = sitk.ResampleImageFilter()
    filter_.SetSize(size)
    filter_.SetTransform(sitk.AffineTransform(to_given[:3, :3].ravel().tolist(), to_given[:3, 3].tolist()))
    filter_.SetInterpolator(sitk.sitkLinear)
    filter_.SetDefaultPixelValue(AIR_HU)
    filter_.SetOutputPixelType(sitk.sitkFloat32)  # an int16 result would be cut off, not rounded
    moved = filter_.Execute(image)  # named: a view does not keep its image alive
    return Volume(np.rint(sitk.GetArrayViewFromImage(moved)).astype(np.int16).transpose(2, 1, 0), grid)
