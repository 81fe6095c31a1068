"""Air in and around the patient, and padding, the part of an image that holds no measurement."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trabecula.density.tissue.soft import ENOUGH, chosen_slices, slice_axis
from trabecula.image.padding import PADDING_HU
from trabecula.image.volume import Volume

# Between lung and air.
NOT_LUNG_HU = -900
# Distance to keep from everything but air: beyond the point spread, clothes and scatter from the table.
CLEAR_MM = 8.0


def padding_share(ct: Volume) -> float:
    """Compute the share of the voxels, 0 to 1, that hold padding: at most -1024 HU in a whole 3 by 3 field of a slice.

    Air whose noise is cut off at -1024 HU has single voxels of this value, but no whole fields.
    """
    return float(np.mean([_is_padding(image) for image in chosen_slices(ct)]))


def air_hu(ct: Volume) -> float | None:
    """Compute the median of air outside the patient and in bowel, at least 8 mm from anything else, without padding.

    Parameters
    ----------
    ct : Volume
        Hounsfield units.

    Returns
    -------
    float or None
        HU; None where there is no air, as in a narrow field of view.
    """
    images = chosen_slices(ct)
    spacing = float(np.delete(ct.spacing_mm, slice_axis(ct)).mean())
    reach = 2 * max(round(CLEAR_MM / spacing), 1) + 1
    clear_air = []
    for image in images:
        # Noise leaves holes in a thresholded image; a mean over few voxels does not.
        smooth = ndimage.uniform_filter(image.astype(np.float32), 3)
        clear = np.asarray(ndimage.minimum_filter(smooth < NOT_LUNG_HU, size=reach), bool)
        clear_air.append(image[clear & ~_is_padding(image)])
    air = np.concatenate(clear_air)
    return float(np.median(air)) if air.size >= ENOUGH else None


def _is_padding(image: NDArray) -> NDArray[np.bool_]:
    """Mark the pixels of a slice that hold padding."""
    return np.asarray(ndimage.binary_opening(image <= PADDING_HU, np.ones((3, 3))), bool)
