"""Put the vertebral bodies of a scan on one grid of voxels."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trabecula.tables.cubes import VertebraCrop


@dataclass(frozen=True)
class Bodies:
    """Bodies of a scan on one grid in the patient's frame, RAS+ (right, front, head).

    Attributes
    ----------
    masks : (i, j, k, n) array of bool
        One mask per level, in the order of `levels`.
    levels : tuple of str
        Names of the levels.
    origin_mm : (3,) array
        Place of voxel (0, 0, 0) in RAS+ millimetres.
    spacing_mm : float
        Distance between neighbouring voxels.
    """

    masks: NDArray[np.bool_]
    levels: tuple[str, ...]
    origin_mm: NDArray[np.float64]
    spacing_mm: float


def join(crops: Mapping[str, VertebraCrop], *, spacing_mm: float) -> Bodies:
    """Put the bodies of a scan on one grid, cropped to what they fill.

    Parameters
    ----------
    crops : mapping
        Name of the level to the vertebra in its cube; each body has at least one voxel.
    spacing_mm : float
        Distance between the voxels of the cubes, and of the grid.

    Returns
    -------
    Bodies
        Voxels lie at multiples of the spacing. A body is moved by half a voxel at most along each axis, and keeps
        its number of voxels and its shape.
    """
    voxels = [_voxels(crop, spacing_mm) for crop in crops.values()]
    low = np.min([places.min(axis=0) for places in voxels], axis=0)
    high = np.max([places.max(axis=0) for places in voxels], axis=0)
    masks = np.zeros((*(high - low + 1), len(voxels)), bool)
    for number, places in enumerate(voxels):
        masks[(*(places - low).T, number)] = True
    return Bodies(masks, tuple(crops), low * spacing_mm, spacing_mm)


def _voxels(crop: VertebraCrop, spacing_mm: float) -> NDArray[np.int64]:
    """List the (n, 3) places of a body's voxels on the grid of multiples of the spacing."""
    corner = np.array(crop.centroid_mm) / spacing_mm - (np.array(crop.label.shape) - 1) / 2
    return np.argwhere(crop.label == crop.code) + np.rint(corner).astype(np.int64)
