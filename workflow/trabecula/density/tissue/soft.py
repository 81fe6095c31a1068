"""Noise of a scan, and its soft tissues and air."""

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trabecula.image.distance import bounding_box, depth_mm
from trabecula.image.levels import POSTERIOR
from trabecula.image.volume import Volume

# A median of fewer voxels than this is undefined.
ENOUGH = 100
# This many slices, evenly through the scan, stand for the whole.
SLICES = 16
# Between air and fat.
SKIN_HU = -300
# From the median absolute deviation to the standard deviation of a normal distribution.
MAD_TO_SD = 1.4826


def noise_hu(ct: Volume, *, block: int = 4) -> float | None:
    """Measure the noise of a scan: standard deviation between neighbouring voxels in soft tissue.

    Soft tissue is where the mean over a small in-plane block lies in 0 to 100 HU, so that noise
    itself does not choose the voxels. The noise is the median absolute deviation of the differences
    between neighbours, over the square root of two: edges between organs count little. Noise that
    is correlated between neighbours (soft kernels) comes out lower than a region's SD.

    Parameters
    ----------
    ct : Volume
        Hounsfield units.
    block : int
        Voxels along a block's side.

    Returns
    -------
    float or None
        HU; None where there is no soft tissue.
    """
    stack = chosen_slices(ct)
    rows, columns = (n - n % block for n in stack.shape[1:])
    blocks = stack[:, :rows, :columns].reshape(-1, rows // block, block, columns // block, block)
    mean = blocks.mean(axis=(2, 4), dtype=np.float32)
    soft = blocks.transpose(0, 1, 3, 2, 4)[(mean >= 0) & (mean <= 100)]
    difference = np.diff(soft.astype(np.float32), axis=-1).ravel()
    if difference.size < ENOUGH:
        return None
    return float(MAD_TO_SD * np.median(np.abs(difference - np.median(difference))) / np.sqrt(2))


def slice_axis(volume: Volume) -> int:
    """Find the array axis that runs most nearly along the patient's length."""
    return int(np.argmax(np.abs(volume.affine[2, :3]) / volume.spacing_mm))


def chosen_slices(volume: Volume) -> NDArray:
    """Take at most 16 slices of a scan, evenly from end to end; (n, rows, columns)."""
    stack = np.moveaxis(volume.array, slice_axis(volume), 0)
    return stack[np.linspace(0, len(stack) - 1, min(SLICES, len(stack))).astype(int)]


def coarse(volume: Volume, step_mm: float) -> Volume:
    """Take every n-th voxel along each axis, so that they lie about `step_mm` apart; not averaged."""
    step = np.maximum(np.rint(step_mm / volume.spacing_mm).astype(int), 1)
    affine = volume.affine.copy()
    affine[:3, :3] = affine[:3, :3] * step
    return Volume(volume.array[:: step[0], :: step[1], :: step[2]], affine)


def muscle_hu(ct: Volume, labels: Volume, *, near_mm: float = 4.0, far_mm: float = 20.0) -> float | None:
    """Compute the median of the soft tissue (-30 to 100 HU) around the posterior elements.

    Parameters
    ----------
    ct, labels : Volume
        Hounsfield units and canonical codes on one grid.
    near_mm, far_mm : float
        Distance to keep from every label, and greatest distance from a posterior element.

    Returns
    -------
    float or None
        HU; None where no posterior elements are labelled or no soft tissue is around them.
    """
    hu, codes = coarse(ct, 3.0), coarse(labels, 3.0)
    posterior = codes.array > POSTERIOR
    tight = bounding_box(posterior)
    if tight is None:
        return None
    margin = np.ceil(far_mm / hu.spacing_mm).astype(int)
    box = tuple(slice(max(int(s.start - n), 0), int(s.stop + n)) for s, n in zip(tight, margin, strict=True))
    to_posterior = depth_mm(~posterior[box], hu.spacing_mm)
    to_bone = depth_mm(codes.array[box] == 0, hu.spacing_mm)
    return _median(hu.array[box][(to_posterior <= far_mm) & (to_bone >= near_mm)], low=-30, high=100)


def fat_hu(ct: Volume, *, near_mm: float = 4.0, far_mm: float = 15.0) -> float | None:
    """Compute the median of the fat (-150 to -50 HU) under the skin.

    Parameters
    ----------
    ct : Volume
        Hounsfield units.
    near_mm, far_mm : float
        Depths under the body's surface between which fat counts.

    Returns
    -------
    float or None
        HU; None where there is no fat at that depth.
    """
    hu = coarse(ct, 4.0)
    spacing = np.delete(hu.spacing_mm, slice_axis(hu))
    under_skin = [image[_under_skin(image, spacing, near_mm, far_mm)] for image in chosen_slices(hu)]
    return _median(np.concatenate(under_skin), low=-150, high=-50)


def _under_skin(image: NDArray, spacing_mm: NDArray, near_mm: float, far_mm: float) -> NDArray[np.bool_]:
    """Mark the pixels of a slice at a depth under the surface of the patient, the largest piece that is not air."""
    patient = cc3d.largest_k(image > SKIN_HU, k=1, connectivity=4).astype(bool)
    filled = np.asarray(ndimage.binary_fill_holes(patient), bool)
    # The body goes on beyond the edge of the scan: that edge is not skin.
    body = np.pad(filled, 1, mode="edge")
    depth = depth_mm(body, spacing_mm)[1:-1, 1:-1]
    return (depth >= near_mm) & (depth <= far_mm)


def _median(hu: NDArray, *, low: float, high: float) -> float | None:
    """Compute the median of the values within limits; None where they are too few."""
    chosen = hu[(hu >= low) & (hu <= high)]
    return float(np.median(chosen)) if chosen.size >= ENOUGH else None
