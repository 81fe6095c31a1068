"""Rods of a calibration phantom that lies under the patient."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trabecula.density.tissue.soft import coarse
from trabecula.image.levels import BODY_CODES
from trabecula.image.padding import PADDING_HU
from trabecula.image.volume import Volume

# Where rods are searched: to both sides of the spine, and from behind its last point downwards (supine).
SIDE_MM, BELOW_MM, CLEAR_MM = 130.0, 140.0, 5.0
STEP_MM = 1.0
# Slices evenly along the labelled vertebrae; rods run through all of them, patients do not.
ALONG = 24
# Neither air nor metal.
LOWEST_HU, HIGHEST_HU = -250.0, 1500.0
# A steeper gradient is an edge; noise that is left in the mean over the slices is flatter.
EDGE_HU_PER_MM = 6.0
# Along the body, a rod varies by noise alone (times the noise, plus HU).
UNEVEN = 1.5, 6.0
# The even core of rods of about 8 to 30 mm.
AREA_MM2 = (20.0, 650.0)
# Round: sides of its box, and its share of the box (a disc fills 0.79).
LONGEST, FULLEST = 1.5, 0.62
# Rods of one phantom lie in a row and are about equally thick; the core of a dense rod shrinks behind its edge.
ROW_MM, ALIKE = 6.0, 4.0


@dataclass(frozen=True)
class Spot:
    """A round even spot in the mean of the slices: middle in millimetres, area, median HU."""

    x_mm: float
    y_mm: float
    area_mm2: float
    hu: float


def rods_hu(ct: Volume, labels: Volume, *, noise_hu: float) -> list[float]:
    """Find a row of even cylinders along the body behind the spine, and give the median of each.

    The space is averaged along the body: rods stay sharp, all else blurs. The densities of the rods are not needed
    here, so that the scan need not be read again once they are known.

    Parameters
    ----------
    ct, labels : Volume
        Hounsfield units and canonical codes on one grid.
    noise_hu : float
        Noise of the scan, see `soft.noise_hu`.

    Returns
    -------
    list of float
        HU from the patient's left to right; empty where there are not at least two.
    """
    space = _space_below(ct, labels)
    if space is None:
        return []
    row = _longest_row(_spots(*space, noise_hu))
    return [spot.hu for spot in sorted(row, key=lambda spot: spot.x_mm)]


def _space_below(ct: Volume, labels: Volume) -> tuple[NDArray, NDArray, NDArray] | None:
    """Sample the space behind the spine: (x, y, slices) HU, x and y in millimetres; None without a labelled body."""
    small = coarse(labels, 3.0)
    places = small.to_mm(np.argwhere(small.array > 0))
    body = small.to_mm(np.argwhere(np.isin(small.array, BODY_CODES)))
    if not len(body):
        return None
    last = places[np.abs(places[:, 0] - body[:, 0].mean()) <= 15.0, 1].min() - CLEAR_MM
    x = body[:, 0].mean() + np.arange(-SIDE_MM, SIDE_MM, STEP_MM)
    y = np.arange(last - BELOW_MM, last, STEP_MM)
    z = np.linspace(body[:, 2].min(), body[:, 2].max(), ALONG)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(x, y, z, indexing="ij")], axis=1)
    hu = ndimage.map_coordinates(
        ct.array, ct.to_voxels(grid).T, output=np.float32, order=1, mode="constant", cval=PADDING_HU
    )
    return hu.reshape(len(x), len(y), ALONG), x, y


def _spots(hu: NDArray, x_mm: NDArray, y_mm: NDArray, noise_hu: float) -> list[Spot]:
    """Find round spots that are even within the slice and along the body."""
    mean = ndimage.gaussian_filter(hu.mean(axis=2), 1.0 / STEP_MM)
    steep = ndimage.gaussian_gradient_magnitude(hu.mean(axis=2), 1.2 / STEP_MM) / STEP_MM
    # The median deviation, so that rods may end before the first or last vertebra.
    along = np.median(np.abs(hu - np.median(hu, axis=2, keepdims=True)), axis=2)
    even = ndimage.uniform_filter(along, 3) <= UNEVEN[0] * noise_hu + UNEVEN[1]
    flat = even & (steep <= EDGE_HU_PER_MM) & (mean >= LOWEST_HU) & (mean <= HIGHEST_HU)
    pieces, _ = ndimage.label(flat)  # type: ignore[misc]
    spots = []
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        core = pieces[box] == number
        sides, area = np.array(core.shape) * STEP_MM, float(core.sum()) * STEP_MM**2
        if not AREA_MM2[0] <= area <= AREA_MM2[1]:
            continue
        if sides.max() <= LONGEST * sides.min() and area >= FULLEST * sides.prod():
            i, j = np.nonzero(core)
            middle = float(x_mm[box[0]][i].mean()), float(y_mm[box[1]][j].mean())
            spots.append(Spot(*middle, area, float(np.median(hu[box][core]))))
    return spots


def _longest_row(spots: list[Spot]) -> list[Spot]:
    """Find the longest row of spots from left to right that are alike in size; empty where fewer than two are."""
    rows = [[other for other in spots if _of_one_row(spot, other)] for spot in spots]
    longest = max(rows, key=len, default=[])
    return longest if len(longest) >= 2 else []


def _of_one_row(spot: Spot, other: Spot) -> bool:
    """Tell whether two spots lie at one height and are alike in size."""
    return abs(other.y_mm - spot.y_mm) <= ROW_MM and 1 / ALIKE <= other.area_mm2 / spot.area_mm2 <= ALIKE
