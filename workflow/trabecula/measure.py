"""Measure a vertebral body in its cube: trabecular density, volume, heights.

Nothing but the cube is looked at, so a new measurement needs neither scan nor segmentation.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trabecula.cubes import VertebraCrop
from trabecula.distance import bounding_box, depth_mm

# Metal may touch the body from outside (screws, rods), and spoils what lies next to it.
METAL_REACH_MM, METAL_KEEP_OFF_MM = 2.0, 5.0
# Single bright voxels are noise or dense cortex.
METAL_MIN_MM3 = 20.0
# Heights are read in this part of the body, half to each side of its middle.
MID_SAGITTAL_MM = 12.0
VOXEL_PARTS = 6


@dataclass(frozen=True)
class Measurement:
    """What is known of a vertebral body; None where undefined.

    Attributes
    ----------
    trabecular_hu_mean, trabecular_hu_median, trabecular_hu_sd : float or None
        Over the trabecular region, in Hounsfield units.
    trabecular_volume_mm3, body_volume_mm3 : float or None
        Volumes of the trabecular region and of the body.
    height_anterior_mm, height_middle_mm, height_posterior_mm : float or None
        Mean heights of the thirds from front to back, in the middle of the body.
    flags : list of str
        Reason codes: incomplete, level_uncertain, too_large, metal, empty_roi.
    """

    trabecular_hu_mean: float | None = None
    trabecular_hu_median: float | None = None
    trabecular_hu_sd: float | None = None
    trabecular_volume_mm3: float | None = None
    body_volume_mm3: float | None = None
    height_anterior_mm: float | None = None
    height_middle_mm: float | None = None
    height_posterior_mm: float | None = None
    flags: list[str] = field(default_factory=list)


def touches_faces(mask: NDArray[np.bool_]) -> bool:
    """Whether a mask reaches a face of its cube, and may go on beyond."""
    return any(mask.take(end, axis).any() for axis in range(mask.ndim) for end in (0, -1))


def find_metal(
    ct: NDArray[np.int16], body: NDArray[np.bool_], *, spacing_mm: float, metal_hu: float
) -> NDArray[np.bool_]:
    """Voxels of metal or cement in a body or within 2 mm of it; none where they are but specks.

    Parameters
    ----------
    ct : (n, n, n) array
        Hounsfield units.
    body : (n, n, n) array
        The vertebral body.
    spacing_mm, metal_hu : float
        Distance between voxels, and the value above which a voxel is metal.
    """
    metal = ct > metal_hu
    if metal.any():
        metal &= depth_mm(~body, spacing_mm) <= METAL_REACH_MM if body.any() else body
    return metal if metal.sum() * spacing_mm**3 >= METAL_MIN_MM3 else np.zeros_like(metal)


def trabecular_roi(
    body: NDArray[np.bool_], metal: NDArray[np.bool_], *, spacing_mm: float, erosion_mm: float
) -> NDArray[np.bool_]:
    """Erode the body, and take away what lies near metal.

    Parameters
    ----------
    body, metal : (n, n, n) arrays
        The vertebral body, and metal in or at it.
    spacing_mm : float
        Distance between neighbouring voxels.
    erosion_mm : float
        Distance kept from the surface, cortex and endplates; the cube's faces count as surface.

    Notes
    -----
    The surface lies half a voxel before the centre of the next voxel outside.
    """
    roi = np.zeros_like(body)
    box = bounding_box(body)
    if box is not None:
        depth = depth_mm(np.pad(body[box], 1), spacing_mm)[1:-1, 1:-1, 1:-1]
        roi[box] = body[box] & (depth - spacing_mm / 2 >= erosion_mm)
    if metal.any():
        roi &= depth_mm(~metal, spacing_mm) > METAL_KEEP_OFF_MM
    return roi


def heights_mm(body: NDArray[np.bool_], *, spacing_mm: float) -> tuple[float, float, float] | None:
    """Mean heights of a body's front, middle and back thirds, along its own axis.

    The middle 12 mm from side to side are turned in the sagittal plane until the body's
    mid-height runs level, so that lordosis neither lengthens nor clips a third. A height is
    the third's volume over its depth and breadth.

    Parameters
    ----------
    body : (n, n, n) array
        The vertebral body, axes RAS+ (right, front, head).
    spacing_mm : float
        Distance between neighbouring voxels.

    Returns
    -------
    (3,) tuple or None
        Millimetres; None for an empty or very small body.
    """
    x, y, z = (np.argwhere(body) * spacing_mm).T
    if x.size == 0:
        return None
    slab = np.abs(x - x.mean()) <= MID_SAGITTAL_MM / 2
    breadth = np.unique(x[slab]).size * spacing_mm
    # Voxels as short lines, not points: else a plane of them falls wholly into one third.
    parts = (np.arange(VOXEL_PARTS) + 0.5) / VOXEL_PARTS - 0.5
    front = np.add.outer(parts * spacing_mm, y[slab] - y[slab].mean()).ravel()
    front = _levelled(front, np.tile(z[slab] - z[slab].mean(), VOXEL_PARTS))
    low, high = np.percentile(front, [2, 98])
    third = (high - low) / 3
    if third < spacing_mm:
        return None
    counts, _ = np.histogram(front, bins=[low, low + third, high - third, high])
    posterior, middle, anterior = counts / VOXEL_PARTS * spacing_mm**3 / (third * breadth)
    return float(anterior), float(middle), float(posterior)


def _levelled(front: NDArray[np.float64], up: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn centred points of a sagittal section until mid-height is the same all along; their new front positions."""
    for _ in range(4):
        # Columns near the ends of a tilted body are clipped; the middle half shows its slope.
        middle = np.abs(front) <= np.ptp(front) / 4
        y, z = front[middle] - front[middle].mean(), up[middle] - up[middle].mean()
        angle = np.arctan2(np.sum(y * z), np.sum(y * y))
        front, up = front * np.cos(angle) + up * np.sin(angle), up * np.cos(angle) - front * np.sin(angle)
    return front


def measure_vertebra(
    crop: VertebraCrop, *, spacing_mm: float, erosion_mm: float, metal_hu: float, min_volume_mm3: float
) -> Measurement:
    """Measure one vertebra.

    A body cut by the edge of the scan is never measured as a whole, the volume of one that
    leaves its cube is unknown, and a trabecular region that is too small is not measured:
    these values are None, with a flag.

    Parameters
    ----------
    crop : VertebraCrop
        The vertebra in its cube.
    spacing_mm : float
        Distance between neighbouring voxels of the cube.
    erosion_mm : float
        Distance kept from the surface of the body.
    metal_hu : float
        Value above which a voxel is metal or cement.
    min_volume_mm3 : float
        Smallest trabecular region that is measured.
    """
    body = crop.label == crop.code
    metal = find_metal(crop.ct, body, spacing_mm=spacing_mm, metal_hu=metal_hu)
    noted = {
        "incomplete": not crop.complete,
        "level_uncertain": crop.level_uncertain,
        "beyond_cube": touches_faces(body),
        "metal": bool(metal.any()),
    }
    flags = [flag for flag, so in noted.items() if so]
    if not crop.complete:
        return Measurement(flags=flags)
    roi = trabecular_roi(body, metal, spacing_mm=spacing_mm, erosion_mm=erosion_mm)
    anterior, middle, posterior = heights_mm(body, spacing_mm=spacing_mm) or (None, None, None)
    whole = Measurement(
        body_volume_mm3=None if noted["beyond_cube"] or not body.any() else float(body.sum()) * spacing_mm**3,
        height_anterior_mm=anterior,
        height_middle_mm=middle,
        height_posterior_mm=posterior,
        flags=flags,
    )
    volume_mm3 = float(roi.sum()) * spacing_mm**3
    # A standard deviation needs two voxels, whatever smallest volume is asked for.
    if volume_mm3 < min_volume_mm3 or roi.sum() < 2:
        return replace(whole, flags=[*flags, "empty_roi"])
    return replace(whole, **_density(crop.ct[roi]), trabecular_volume_mm3=volume_mm3)


def _density(hu: NDArray[np.int16]) -> dict[str, float]:
    return {
        "trabecular_hu_mean": float(hu.mean()),
        "trabecular_hu_median": float(np.median(hu)),
        "trabecular_hu_sd": float(hu.std(ddof=1)),
    }


def measure_shard(
    crops: Iterable[VertebraCrop], *, spacing_mm: float, erosion_mm: float, metal_hu: float, min_volume_mm3: float
) -> Iterator[dict[str, Any]]:
    """Rows of the table `tables.MEASURE`, one per vertebra; parameters are those of `measure_vertebra`."""
    for crop in crops:
        measured = measure_vertebra(
            crop, spacing_mm=spacing_mm, erosion_mm=erosion_mm, metal_hu=metal_hu, min_volume_mm3=min_volume_mm3
        )
        keys = {name: getattr(crop, name) for name in ("cohort", "patient_id", "study_id", "level")}
        yield keys | asdict(measured)
