"""Distances inside masks."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage


def depth_mm(mask: NDArray[np.bool_], spacing_mm: ArrayLike) -> NDArray[np.float64]:
    """Distance from every voxel of a mask to the nearest voxel outside, centre to centre.

    Parameters
    ----------
    mask : array
        What to measure in; beyond the array nothing is known, so its faces do not count.
    spacing_mm : float or one per axis
        Distance between neighbouring voxels, in millimetres.

    Returns
    -------
    array
        Millimetres; 0 outside the mask.
    """
    depth = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    assert isinstance(depth, np.ndarray)
    return depth


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """Smallest box that holds a mask; None where it is empty."""
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    return boxes[0] if boxes else None
