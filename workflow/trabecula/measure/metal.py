"""Metal and cement in or at a vertebral body."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trabecula.image.distance import bounding_box, depth_mm

# Metal may touch the body from outside (screws, rods).
METAL_REACH_MM = 2.0
# Single bright voxels are noise or dense cortex.
METAL_MIN_MM3 = 20.0
# Screws and rods fill the scale of CT numbers (12 bits end at 3071 HU) and leave the body through a pedicle;
# acrylic cement with barium or zirconium stays well below, and most of it in the body that it was put into.
CEMENT_MAX_HU, CEMENT_INSIDE = 2500.0, 0.8


def find_metal(
    ct: NDArray[np.int16], body: NDArray[np.bool_], *, spacing_mm: float, metal_hu: float
) -> NDArray[np.bool_]:
    """Find the voxels of metal or cement in a body or within 2 mm of it; specks below 20 mm³ do not count.

    Parameters
    ----------
    ct : (n, n, n) array
        Hounsfield units.
    body : (n, n, n) array
        The vertebral body.
    spacing_mm, metal_hu : float
        Distance between voxels, and the value above which a voxel is metal.
    """
    metal, box = np.zeros_like(body), bounding_box(body)
    if box is None:
        return metal
    reach = int(np.ceil(METAL_REACH_MM / spacing_mm))
    wide = tuple(slice(max(axis.start - reach, 0), axis.stop + reach) for axis in box)
    bright = ct[wide] > metal_hu
    if np.count_nonzero(bright) * spacing_mm**3 >= METAL_MIN_MM3:
        metal[wide] = bright & (depth_mm(~body[wide], spacing_mm) <= METAL_REACH_MM)
    return metal if np.count_nonzero(metal) * spacing_mm**3 >= METAL_MIN_MM3 else np.zeros_like(metal)


def is_cement(ct: NDArray[np.int16], body: NDArray[np.bool_], metal: NDArray[np.bool_], *, metal_hu: float) -> bool:
    """Tell whether the metal looks like bone cement: less bright, and kept within the body.

    Parameters
    ----------
    ct, body, metal : (n, n, n) arrays
        Hounsfield units, the vertebral body, and the metal from `find_metal`.
    metal_hu : float
        Value above which a voxel is metal.
    """
    if not metal.any():
        return False
    pieces, _ = ndimage.label(ct > metal_hu)  # pyright: ignore[reportGeneralTypeIssues]
    whole = np.isin(pieces, np.unique(pieces[metal]))
    return bool(body[whole].mean() >= CEMENT_INSIDE and np.percentile(ct[whole], 99) < CEMENT_MAX_HU)
