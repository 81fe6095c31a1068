"""Blood of the abdominal aorta, found beside the vertebrae that the label map names."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trabecula.density.tissue.soft import coarse
from trabecula.image.levels import CODE_OF_LEVEL
from trabecula.image.padding import PADDING_HU
from trabecula.image.volume import Volume

# The aorta runs in front of these; it divides at L4.
LEVELS = ("T11", "T12", "L1", "L2", "L3")
# Where the middle of the aorta is searched, and where it usually lies, from the front of the bodies in their midline
# (RAS+).
SEARCH_MM = ((-32.0, 8.0), (3.0, 30.0))
USUAL_MM = (-8.0, 12.0)
STEP_MM, ALONG_MM = 1.5, 3.0
# Well within the lumen, whose radius is 7 to 12 mm.
RADIUS_MM = 4.5
# Over this length the vessel is taken for straight.
BLOCK_MM = 24.0
# Anaemic blood without contrast medium is hardly below; calcium and metal are above.
LOWEST_HU, HIGHEST_HU = 15.0, 800.0
# One millimetre from the usual place weighs as much as this spread: fluid in bowel is even too, but lies further in
# front.
HU_PER_MM = 0.6
# A disc that is more uneven than this (times the noise, plus HU), such as bowel or streaky fat, is no vessel.
UNEVEN = 2.0, 8.0


def blood_hu(ct: Volume, labels: Volume, *, noise_hu: float) -> float | None:
    """Compute the median of the lumen of the abdominal aorta in front of T11 to L3.

    The space before the bodies is sampled on a grid that follows their front edge, so that the aorta runs along it. In
    every piece of 24 mm the evenest disc at a fitting place is taken; the median over pieces counts.

    Parameters
    ----------
    ct, labels : Volume
        Hounsfield units and canonical codes on one grid.
    noise_hu : float
        Noise of the scan, see `soft.noise_hu`.

    Returns
    -------
    float or None
        HU; None where no such vertebra is labelled or nothing before them is as even as blood.
    """
    edge = _front_edge(labels)
    if edge is None:
        return None
    hu, free, places = _straightened(ct, labels, edge)
    count = max(round(hu.shape[2] * ALONG_MM / BLOCK_MM), 1)
    pieces = np.array_split(np.arange(hu.shape[2]), count)
    lumens = [_evenest_disc(hu[..., piece], free[..., piece], places, noise_hu) for piece in pieces]
    values = [value for value in lumens if value is not None]
    return float(np.median(values)) if values else None


def _front_edge(labels: Volume) -> NDArray[np.float64] | None:
    """Find the middle of each body's front: (n, 3) points x, y, z from foot to head; None without such a body."""
    small = coarse(labels, 2.0)
    points = []
    for level in LEVELS:
        body = small.to_mm(np.argwhere(small.array == CODE_OF_LEVEL[level]))
        if len(body):
            centre = body.mean(axis=0)
            midline = body[np.abs(body[:, 0] - centre[0]) <= 8.0]
            points.append([centre[0], np.percentile(midline[:, 1], 98), centre[2]])
    return np.array(points)[np.argsort([point[2] for point in points])] if points else None


def _straightened(ct: Volume, labels: Volume, edge: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Sample the space before the bodies on a grid that follows their front edge.

    Returns (x, y, z) HU, whether a voxel is free of labels, and (x, y, 2) places from the front edge in millimetres.
    """
    margin = RADIUS_MM + STEP_MM
    x, y = (np.arange(low - margin, high + margin, STEP_MM) for low, high in SEARCH_MM)
    z = np.arange(edge[0, 2] - 10.0, edge[-1, 2] + 10.0, ALONG_MM)
    middle, front = (np.interp(z, edge[:, 2], edge[:, axis]) for axis in (0, 1))
    grid = np.broadcast_arrays(x[:, None, None] + middle, y[None, :, None] + front, z[None, None, :])
    voxels = ct.to_voxels(np.stack([axis.ravel() for axis in grid], axis=1)).T
    hu = ndimage.map_coordinates(ct.array, voxels, output=np.float32, order=1, mode="constant", cval=PADDING_HU)
    codes = ndimage.map_coordinates(labels.array, voxels, order=0, mode="constant", cval=0)
    shape = grid[0].shape
    return hu.reshape(shape), codes.reshape(shape) == 0, np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)


def _evenest_disc(hu: NDArray, free: NDArray, places: NDArray, noise_hu: float) -> float | None:
    """Compute the median HU of the most even disc, weighing its distance from the usual place; None if none is even."""
    reach = int(RADIUS_MM / STEP_MM)
    offsets = np.indices((2 * reach + 1, 2 * reach + 1)) - reach
    disc = (np.hypot(*offsets) * STEP_MM <= RADIUS_MM).astype(np.float32)
    mean = ndimage.convolve(hu.mean(axis=2), disc / disc.sum(), mode="nearest")
    square = ndimage.convolve((hu**2).mean(axis=2), disc / disc.sum(), mode="nearest")
    clear = ndimage.minimum_filter(free.all(axis=2), footprint=disc > 0)
    spread = np.sqrt(np.maximum(square - mean**2, 0.0))
    away = np.linalg.norm(places - USUAL_MM, axis=-1)
    inside = np.all([(places[..., i] >= low) & (places[..., i] <= high) for i, (low, high) in enumerate(SEARCH_MM)], 0)
    fits = clear & inside & (mean >= LOWEST_HU) & (mean <= HIGHEST_HU)
    fits &= spread <= UNEVEN[0] * noise_hu + UNEVEN[1]
    if not fits.any():
        return None
    x, y = np.unravel_index(np.argmin(np.where(fits, spread + HU_PER_MM * away, np.inf)), fits.shape)
    lumen = hu[x - reach : x + reach + 1, y - reach : y + reach + 1][disc > 0]
    return float(np.median(lumen))
