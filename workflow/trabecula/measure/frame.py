"""The vertebra's own axes, from its endplates and its pedicles.

In these axes, wedges, lordosis, scoliosis and rotation change neither region nor heights. Up is the mean of the
normals of planes through the two endplates. Front is the bisector between the pedicles, which stand on both sides of
the canal. Right is perpendicular to both.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trabecula.measure.solid import Solid

Array = NDArray[np.float64]

# Rays reach beyond every vertebral body.
FURTHEST_MM = 40.0
# Endplates are sampled in this part of the body's half width and depth: in the first turns where the rays of a tilted
# body still end at endplates, then out to where rims and osteophytes begin.
INNER, OUTER = 0.35, 0.75
# Deviations of an endplate from its plane below this are roughness; larger ones (Schmorl's nodes, spurs) weigh less.
TOLERATED_MM = 1.0
TURNS, INNER_TURNS, SETTLED_DEG, RAYS = 12, 2, 0.2, 96
# A mask smaller than this on any axis, or tilted by more than 60 degrees, is no vertebral body.
LEAST_VOXELS, MOST_TILTED = 4, 0.5
# A side of the posterior elements of less than this is no pedicle.
PEDICLE_MIN_MM3 = 150.0
# Seen from the body, pedicles lie 30 to 80 degrees apart; the halves of a single one 11.
APART_DEG = 20.0
# A vertebra never turns further; where it seems to, ribs or a neighbour's processes have a wrong label.
MOST_TURNED_DEG = 60.0
# Below this ratio of width to depth, the section of a body does not show its rotation.
OBLONG = 1.12
# The waist: this part of the height, half to each side of mid-height; osteophytes sit at the rims.
WAIST = 0.4

# Points in a disc, evenly spread without a period (Vogel, Math Biosci 1979;44:179-189,
# doi:10.1016/0025-5564(79)90080-4): a regular grid beats with the voxels' steps along a tilted endplate, and the beat
# looks like another tilt.
_TURN = np.arange(RAYS) * np.pi * (3 - np.sqrt(5))
_SPREAD = np.sqrt((np.arange(RAYS) + 0.5) / RAYS)[:, None] * np.column_stack([np.cos(_TURN), np.sin(_TURN)])


@dataclass(frozen=True)
class BodyFrame:
    """Axes, middle and size of a vertebral body.

    Attributes
    ----------
    axes : (3, 3) array
        Rows are the unit vectors right, front and up of the vertebra in RAS+: a rotation matrix.
    centre_mm : (3,) array
        Middle between the walls and the endplates, from the cube's middle.
    width_mm, depth_mm : float
        Between the walls at mid-height, through the middle.
    height_mm : float
        Between the planes through the endplates, at the middle.
    from_pedicles : bool
        Front comes from the pedicles; else from the body's own shape and the patient's axes.
    """

    axes: Array
    centre_mm: Array
    width_mm: float
    depth_mm: float
    height_mm: float
    from_pedicles: bool

    @property
    def tilt_sagittal_deg(self) -> float:
        """Lean of the up axis to the front, seen from the side."""
        _, front, up = self.axes[2]
        return float(np.degrees(np.arctan2(front, up)))

    @property
    def tilt_coronal_deg(self) -> float:
        """Lean of the up axis to the patient's right, seen from the front."""
        right, _, up = self.axes[2]
        return float(np.degrees(np.arctan2(right, up)))

    @property
    def rotation_deg(self) -> float:
        """Turn of the front axis to the patient's right, seen from above."""
        right, front, _ = self.axes[1]
        return float(np.degrees(np.arctan2(right, front)))

    def to_local(self, places_mm: Array) -> Array:
        """Turn (..., 3) places in the cube into coordinates along the vertebra's right, front and up."""
        return (places_mm - self.centre_mm) @ self.axes.T

    def to_cube(self, local_mm: Array) -> Array:
        """Turn (..., 3) coordinates along the vertebra's right, front and up into places in the cube."""
        return local_mm @ self.axes + self.centre_mm


def find_frame(body: Solid, posterior: NDArray[np.bool_]) -> BodyFrame | None:
    """Find a vertebra's own axes.

    Parameters
    ----------
    body : Solid
        The vertebral body.
    posterior : (size, size, size) array of bool
        The posterior elements in the same cube; may be empty.

    Returns
    -------
    BodyFrame or None
        None where the body is too small to have endplates, or seems to lie on its side.
    """
    centre = body.centroid_mm
    endplates = _between_endplates(body, centre)
    if endplates is None:
        return None
    axes, (above, below) = endplates
    centre, height = centre + (above - below) / 2 * axes[2], above + below
    front = _front_of_pedicles(body, posterior, axes, centre, height)
    axes = _upright(axes[2], _front_of_shape(body, axes, centre, height) if front is None else front)
    right, left = _walls(body, axes, centre, height, 0)
    ahead, behind = _walls(body, axes, centre, height, 1)
    if min(right + left, ahead + behind, height) < LEAST_VOXELS * body.spacing_mm:
        return None
    centre = centre + (right - left) / 2 * axes[0] + (ahead - behind) / 2 * axes[1]
    return BodyFrame(axes, centre, right + left, ahead + behind, height, front is not None)


def _between_endplates(body: Solid, centre: Array) -> tuple[Array, tuple[float, float]] | None:
    """Find axes whose up halves the angle between the endplates, and the endplates' distances above and below.

    Each turn samples the endplates along the up axis of the turn before, until that axis has settled.
    """
    axes = np.eye(3)
    for turn in range(TURNS):
        endplates = _endplates(body, axes, centre, INNER if turn < INNER_TURNS else OUTER)
        if endplates is None:
            return None
        slopes, ends = endplates
        up = _unit(np.array([-slopes[0], -slopes[1], 1.0]) @ axes)
        settled = np.degrees(np.arccos(np.clip(up @ axes[2], -1, 1))) < SETTLED_DEG
        axes = _upright(up, axes[1])
        if turn >= INNER_TURNS and settled:
            break
    return None if axes[2, 2] < MOST_TILTED else (axes, ends)  # pyright: ignore[reportPossiblyUnboundVariable]


def _unit(vector: Array) -> Array:
    """Scale a vector to length 1."""
    return vector / np.linalg.norm(vector)


def _upright(up: Array, ahead: Array) -> Array:
    """Give the axes with this up, and with the front that is nearest to the direction `ahead`.

    >>> _upright(np.array([0.0, 0.0, 1.0]), np.array([0.0, 2.0, 5.0])).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    front = _unit(ahead - (ahead @ up) * up)
    return np.stack([np.cross(front, up), front, up])


def _endplates(body: Solid, axes: Array, centre: Array, part: float) -> tuple[Array, tuple[float, float]] | None:
    """Fit planes to the endplates: slopes of their mean to the right and to the front, and distances up and down.

    None where the body is too small. `part` is the share of the body's half width and depth that is sampled.
    """
    half = [float(sum(body.ends_mm(centre, axis, FURTHEST_MM))) / 2 for axis in axes[:2]]
    if min(half) < LEAST_VOXELS / 2 * body.spacing_mm:
        return None
    place = part * _SPREAD * half
    starts = centre + place @ axes[:2]
    rays = body.ends_mm(starts, axes[2], FURTHEST_MM / 2)
    inside = np.minimum(*rays) > 0
    if np.count_nonzero(inside) < 12:
        return None
    upper, lower = (_plane(place[inside], ray[inside]) for ray in rays)
    return (upper[1:] - lower[1:]) / 2, (float(upper[0]), float(lower[0]))


def _plane(place: Array, height: Array) -> Array:
    """Fit a plane to heights at (n, 2) places, outliers weighing less (Huber): height at 0 and two slopes; (3,)."""
    design = np.column_stack([np.ones(len(place)), place])
    weighted = design
    for _ in range(4):
        plane = np.linalg.solve(weighted.T @ design, weighted.T @ height).astype(np.float64)
        weighted = design / np.maximum(np.abs(height - design @ plane), TOLERATED_MM)[:, None]
    return plane  # pyright: ignore[reportPossiblyUnboundVariable]


def _front_of_pedicles(
    body: Solid, posterior: NDArray[np.bool_], axes: Array, centre: Array, height_mm: float
) -> Array | None:
    """Find the front as the direction away from the middle between both pedicles; None where one of them is missing.

    Only voxels in an upright cylinder around the body count, since the cube cuts processes unevenly.
    """
    # For a direction, every fourth layer is enough.
    voxels = np.argwhere(posterior[:, :, ::4]) * [1, 1, 4]
    local = ((voxels - (body.size - 1) / 2) * body.spacing_mm - centre) @ axes.T
    across = np.hypot(local[:, 0], local[:, 1])
    room = (body.size - 1) / 2 * body.spacing_mm - float(np.linalg.norm(centre))
    local = local[(across < room) & (np.abs(local[:, 2]) < height_mm / 2)]
    if len(local) == 0:
        return None
    angle = np.arctan2(local[:, 0], -local[:, 1])
    back = float(np.arctan2(np.sin(angle).mean(), np.cos(angle).mean()))
    for _ in range(4):
        away = (angle - back + np.pi) % (2 * np.pi) - np.pi
        sides = away[away < 0], away[away > 0]
        if min(len(side) for side in sides) * 4 * body.spacing_mm**3 < PEDICLE_MIN_MM3:
            return None
        left, right = float(np.median(sides[0])), float(np.median(sides[1]))
        if right - left < np.radians(APART_DEG):
            return None
        back += (left + right) / 2
    if np.cos(back) < np.cos(np.radians(MOST_TURNED_DEG)):
        return None
    return -np.sin(back) * axes[0] + np.cos(back) * axes[1]


def _front_of_shape(body: Solid, axes: Array, centre: Array, height_mm: float) -> Array:
    """Find the front as the direction across the longer axis of the body's section; else the patient's front."""
    local = (body.voxels_mm() - centre) @ axes.T
    section = local[np.abs(local[:, 2]) < WAIST / 2 * height_mm, :2]
    if len(section) < 3:
        return axes[1]
    spread, directions = np.linalg.eigh(np.cov(section.T))
    across = directions[:, 0]
    if spread[1] < OBLONG**2 * spread[0] or abs(across[1]) < np.sqrt(0.5):
        return axes[1]
    return np.sign(across[1]) * (across @ axes[:2])


def _walls(body: Solid, axes: Array, centre: Array, height_mm: float, which: int) -> tuple[float, float]:
    """Measure the distances to the two walls along an axis (0 right and left, 1 front and back): waist medians."""
    other = np.array([-4.0, -2.0, 0.0, 2.0, 4.0])
    up = np.linspace(-WAIST / 2, WAIST / 2, 5) * height_mm
    starts = centre + other[:, None, None] * axes[1 - which] + up[:, None] * axes[2]
    ahead, behind = body.ends_mm(starts, axes[which], FURTHEST_MM)
    return float(np.median(ahead)), float(np.median(behind))
