"""Measure distances inside masks."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage


def depth_mm(mask: NDArray[np.bool_], spacing_mm: ArrayLike) -> NDArray[np.float64]:
    """Measure the distance from every voxel of a mask to the nearest voxel outside, centre to centre.

    Parameters
    ----------
    mask : array
        Voxels to measure; beyond the array nothing is known, so its faces do not count.
    spacing_mm : float or one per axis
        Distance between neighbouring voxels, in millimetres.

    Returns
    -------
    array
        Millimetres; 0 outside the mask.

    Examples
    --------
    >>> depth_mm(np.array([False, True, True, True, False]), 0.5).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    depth = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    assert isinstance(depth, np.ndarray)
    return depth


def eroded(mask: NDArray[np.bool_], by_mm: float, spacing_mm: float) -> NDArray[np.bool_]:
    """Keep the voxels of a mask that lie at least so far from its surface.

    The surface lies half a voxel before the centre of the next voxel outside, and the array's
    faces are surface. Several times faster than `depth_mm` for distances of a few voxels.

    Parameters
    ----------
    mask : (i, j, k) array
        Mask to erode.
    by_mm, spacing_mm : float
        Distance to keep, and distance between neighbouring voxels.

    Examples
    --------
    >>> eroded(np.ones((5, 5, 5), bool), 1.5, 1.0).sum().item()  # 3 x 3 x 3 voxels are left
    27
    """
    radius = by_mm / spacing_mm + 0.5
    n = int(np.ceil(radius)) - 1
    padded = np.pad(mask, n)
    # Voxels whose line along k is inside the mask for h voxels to both sides; a ball is a sheaf of such lines.
    lines = [padded]
    for h in range(1, n + 1):
        both = np.zeros_like(padded)
        both[:, :, h:-h] = padded[:, :, 2 * h :] & padded[:, :, : -2 * h]
        lines.append(lines[-1] & both)
    kept = mask.copy()
    for i in range(-n, n + 1):
        for j in range(-n, n + 1):
            left = radius**2 - i**2 - j**2
            if left > 0:
                line = lines[int(np.ceil(np.sqrt(left))) - 1]
                kept &= line[n + i :, n + j :, n:][: mask.shape[0], : mask.shape[1], : mask.shape[2]]
    return kept


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """Give the smallest box that holds a mask; None where the mask is empty.

    >>> bounding_box(np.array([[0, 0, 0], [0, 1, 1]], bool))
    (slice(1, 2, None), slice(1, 3, None))
    """
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    return boxes[0] if boxes else None
