"""Regions that bone density is read in: the trabecular region and the ellipse that radiologists draw.

Both lie in the vertebra's own frame, clear of cortex, endplates, osteophytes, the basivertebral
vein and metal.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trabecula.image.distance import bounding_box, depth_mm, eroded
from trabecula.measure.frame import WAIST, BodyFrame
from trabecula.measure.solid import Solid

# Metal spoils the values around it.
METAL_KEEP_OFF_MM = 5.0

# The vein's foramen takes 1/5, 2/5 and 1/4 of the body's width, depth and height on average, with an SD of
# 1/5 of that: 7.8 x 12.4 x 5.4 mm (He et al., Chin J Clin Anat 2023;41:283-287; 107 patients, CT). Kept off:
# the mean and one SD to the sides and along the height; the mean alone in depth, since it opens at the back wall.
VEIN_WIDTH, VEIN_DEPTH, VEIN_HEIGHT = 0.24, 0.40, 0.30

# Grids reach beyond rims and osteophytes.
AROUND_MM = 12.0

# The ellipse is half as wide as the body, and goes from the vein to the anterior cortex.
ELLIPSE_WIDTH = 0.5
ELLIPSE_THICKNESS_MM = 3.0
# An ellipse is not read where a smaller share of it lies in trabecular bone.
ELLIPSE_LEFT = 0.75


@dataclass(frozen=True)
class Section:
    """Cross-section of the body's waist, seen along its up axis.

    Attributes
    ----------
    depth_mm : (m, n) array
        Distance to the section's outline on a grid of right and front; 0 outside.
    first_mm : (2,) array
        Right and front of the grid's first point.
    step_mm : float
        Distance between the grid's points.
    """

    depth_mm: NDArray[np.float64]
    first_mm: NDArray[np.float64]
    step_mm: float

    def at(self, local_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Look up the distance to the outline at (n, 2 or more) places in the vertebra's frame; 0 off the grid."""
        i, j = np.rint((local_mm[:, :2] - self.first_mm) / self.step_mm).astype(int).T
        on_grid = (i >= 0) & (j >= 0) & (i < self.depth_mm.shape[0]) & (j < self.depth_mm.shape[1])
        return np.where(on_grid, self.depth_mm[np.where(on_grid, i, 0), np.where(on_grid, j, 0)], 0.0)


@dataclass(frozen=True)
class Regions:
    """Voxels of a cube that density is read from.

    Attributes
    ----------
    trabecular, ellipse : (size, size, size) arrays of bool
        The trabecular region, and the voxels of the ellipse at mid-height.
    ellipse_area_mm2 : float
        Area of the ellipse; 0 where too little of it lies in trabecular bone.
    """

    trabecular: NDArray[np.bool_]
    ellipse: NDArray[np.bool_]
    ellipse_area_mm2: float


def waist_section(body: Solid, frame: BodyFrame) -> Section:
    """Take the section that at least half of the waist shares; osteophytes sit at the rims and are not in it."""
    step = body.spacing_mm
    half = np.array([frame.width_mm, frame.depth_mm]) / 2 + AROUND_MM
    right, front = (np.arange(-np.ceil(h / step), np.ceil(h / step) + 1) * step for h in half)
    up = np.array([-0.5, 0.0, 0.5]) * WAIST * frame.height_mm
    local = np.stack(np.meshgrid(right, front, up, indexing="ij"), axis=-1)
    section = body.share_at(frame.to_cube(local)).mean(axis=-1) >= 0.5
    depth = np.maximum(depth_mm(section, step) - step / 2, 0)
    return Section(depth, np.array([right[0], front[0]]), step)


def find_regions(
    body: Solid,
    frame: BodyFrame,
    waist: Section,
    metal: NDArray[np.bool_],
    *,
    erosion_mm: float,
    endplate_mm: float,
) -> Regions:
    """Find the trabecular region and the ellipse.

    Parameters
    ----------
    body : Solid
        The vertebral body.
    frame : BodyFrame
        Its own axes.
    waist : Section
        The section of its waist.
    metal : (size, size, size) array
        Metal in or at the body.
    erosion_mm : float
        Distance kept from the body's surface and from the outline of its waist.
    endplate_mm : float
        Distance kept from the endplates, along the body's up axis.
    """
    step = body.spacing_mm
    voxels = np.argwhere(eroded(body.mask, erosion_mm, step))
    if metal.any():
        voxels = voxels[~_near(metal, body)[tuple((voxels + body.first).T)]]
    places = body.places_mm(voxels)
    local = frame.to_local(places)
    # Where nothing is eroded, the section ends at the body's own surface.
    clear = (waist.at(local) >= erosion_mm) if erosion_mm > 0 else np.ones(len(local), bool)
    ends = clear & body.has(places + endplate_mm * frame.axes[2])
    ends &= body.has(places - endplate_mm * frame.axes[2])
    in_ellipse, area_mm2 = _ellipse(local, waist, frame, erosion_mm)
    in_ellipse &= clear
    left = np.count_nonzero(in_ellipse) * step**3 / ELLIPSE_THICKNESS_MM
    area_mm2 = area_mm2 if left >= ELLIPSE_LEFT * area_mm2 else 0.0
    return Regions(
        _in_cube(voxels[ends & ~_in_vein(local, frame)], body),
        _in_cube(voxels[in_ellipse] if area_mm2 else voxels[:0], body),
        area_mm2,
    )


def _near(metal: NDArray[np.bool_], body: Solid) -> NDArray[np.bool_]:
    """Mark the voxels of the cube within 5 mm of metal."""
    near = np.zeros_like(metal)
    reach = int(np.ceil(METAL_KEEP_OFF_MM / body.spacing_mm)) + 1
    box = bounding_box(metal)
    assert box is not None
    wide = tuple(slice(max(axis.start - reach, 0), axis.stop + reach) for axis in box)
    near[wide] = depth_mm(~metal[wide], body.spacing_mm) <= METAL_KEEP_OFF_MM
    return near


def _in_vein(local: NDArray[np.float64], frame: BodyFrame) -> NDArray[np.bool_]:
    """Tell which of (n, 3) places lie in the box around the basivertebral vein, at the middle of the back wall."""
    right, front, up = local.T
    return (
        (np.abs(right) <= VEIN_WIDTH / 2 * frame.width_mm)
        & (np.abs(up) <= VEIN_HEIGHT / 2 * frame.height_mm)
        & (front <= (VEIN_DEPTH - 0.5) * frame.depth_mm)
    )


def _ellipse(
    local: NDArray[np.float64], waist: Section, frame: BodyFrame, erosion_mm: float
) -> tuple[NDArray[np.bool_], float]:
    """Tell which of (n, 3) places lie in the ellipse, and give its area in mm²."""
    back, ahead = (VEIN_DEPTH - 0.5) * frame.depth_mm, frame.depth_mm / 2 - erosion_mm
    half_right, half_front = ELLIPSE_WIDTH / 2 * frame.width_mm, (ahead - back) / 2
    if half_front <= waist.step_mm:
        return np.zeros(len(local), bool), 0.0
    right, front, up = local.T
    across = np.hypot(right / half_right, (front - (ahead + back) / 2) / half_front)
    return (across <= 1) & (np.abs(up) <= ELLIPSE_THICKNESS_MM / 2), float(np.pi * half_right * half_front)


def _in_cube(voxels: NDArray[np.int64], body: Solid) -> NDArray[np.bool_]:
    """Turn voxels of the body's box into a mask of the cube."""
    mask = np.zeros((body.size,) * 3, bool)
    mask[tuple((voxels + body.first).T)] = True
    return mask
