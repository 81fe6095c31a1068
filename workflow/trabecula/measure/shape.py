"""Heights of a vertebral body in its own frame, their loss, and osteophytes."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from trabecula.image.distance import depth_mm
from trabecula.measure.frame import FURTHEST_MM, BodyFrame
from trabecula.measure.roi import Section
from trabecula.measure.solid import Solid

# Anterior, middle, posterior, in millimetres.
Heights: TypeAlias = tuple[float, float, float]

# Heights are read in this part of the body, half to each side of its middle.
MID_SAGITTAL_MM = 12.0
# Where endplates are read, as shares of the depth at mid-height from the back wall: inside the rounded corners.
BANDS = {"posterior": (0.05, 0.15), "middle": (0.45, 0.55), "anterior": (0.85, 0.95)}
# From these bands, heights are extended in a straight line to the walls, where morphometry puts its six points.
TO_WALL = 0.10 / 0.80

# Loss of height from which a deformity is mild, moderate, severe (Genant et al., J Bone Miner Res 1993;8:1137-48,
# doi:10.1002/jbmr.5650080915).
GENANT_LOSS = (0.20, 0.25, 0.40)

# The rims lie between these shares of the half height from the middle.
RIM = (0.55, 0.75, 0.9)
# Rims without spurs stand out by 2 mm in synthetic spines and by 3 to 5 mm in the six whole bodies of real ones at
# hand, whose outlines are 1.5 and 3 mm coarse.
OSTEOPHYTE_MM = 6.0
# Spurs at the back meet pedicles and are not looked for.
RIM_FROM = -0.25


def heights_mm(body: Solid, frame: BodyFrame) -> Heights | None:
    """Anterior, middle and posterior height along the body's up axis.

    Parameters
    ----------
    body : Solid
        The vertebral body.
    frame : BodyFrame
        Its own axes.

    Returns
    -------
    (3,) tuple or None
        At the front wall, in the middle and at the back wall, in millimetres; means over the middle 12 mm. None where
        the middle of the body reaches a face of its cube, since it may go on beyond, and where a height is not above 0.
    """
    right = np.linspace(-MID_SAGITTAL_MM / 2, MID_SAGITTAL_MM / 2, 7)
    front = np.concatenate([np.linspace(*BANDS[name], 4) for name in ("anterior", "middle", "posterior")])
    if reaches_faces(body) and _middle_is_cut(body, frame):
        return None
    local = np.stack(np.broadcast_arrays(right[:, None], (front - 0.5) * frame.depth_mm, 0.0), axis=-1)
    starts = frame.to_cube(local)
    height = sum(body.ends_mm(starts, frame.axes[2], FURTHEST_MM))
    anterior, middle, posterior = np.reshape(height, (len(right), 3, -1)).mean(axis=(0, 2)).tolist()
    rise = TO_WALL * (anterior - posterior)
    heights = anterior + rise, middle, posterior - rise
    return heights if min(heights) > 0 else None


def _middle_is_cut(body: Solid, frame: BodyFrame) -> bool:
    """Tell whether the middle 12 mm of the body reach a face of the cube."""
    box = np.argwhere(body.mask)
    voxels = box + body.first
    at_face = ((voxels == 0) | (voxels == body.size - 1)).any(axis=1)
    right = frame.to_local(body.places_mm(box[at_face]))[:, 0]
    return bool(np.any(np.abs(right) <= MID_SAGITTAL_MM / 2))


def reaches_faces(body: Solid) -> bool:
    """Tell whether a body reaches a face of its cube, and may go on beyond."""
    last = body.first + np.array(body.mask.shape) - 2
    return bool(np.any(body.first < 0) or np.any(last >= body.size - 1))


def height_beside_neighbours(heights: Heights, neighbours: Sequence[Heights]) -> float | None:
    """Compare the height of a body with that of its neighbours: the larger of the anterior and the posterior ratio.

    A crushed body is lower in front and at the back. A loss on one side alone proves little: L5 is lower than L4 at the
    back in everybody. Neighbours count by their median, since one of them may be broken, or two outlined as one.

    Parameters
    ----------
    heights : tuple of three floats
        Anterior, middle and posterior height.
    neighbours : sequence of such tuples

    Returns
    -------
    float or None
        None without neighbours.

    Examples
    --------
    >>> height_beside_neighbours((15.0, 14.0, 18.0), [(20.0, 20.0, 20.0), (20.0, 20.0, 20.0)])
    0.9
    """
    if not neighbours:
        return None
    expected = np.median(neighbours, axis=0)
    return float(max(heights[0] / expected[0], heights[2] / expected[2]))


def genant_grade(*ratios: float | None) -> int | None:
    """Grade of the largest loss of height: 0 none, 1 mild, 2 moderate, 3 severe.

    Parameters
    ----------
    ratios : floats or None
        Heights over those that are expected: anterior over posterior (wedge), middle over posterior
        (biconcave), the body's over the neighbours' (crush); unknown ones do not count.

    Returns
    -------
    int or None
        None where no ratio is known.

    Examples
    --------
    >>> genant_grade(0.85), genant_grade(0.79, 0.9, None), genant_grade(0.59, 0.9), genant_grade(None)
    (0, 1, 3, None)
    """
    defined = [ratio for ratio in ratios if ratio is not None]
    return int(np.searchsorted(GENANT_LOSS, 1 - min(defined), side="right")) if defined else None


def rim_overhang_mm(body: Solid, frame: BodyFrame, waist: Section) -> float:
    """Measure how far the rims stand out beyond the waist's outline, in front and at the sides.

    Parameters
    ----------
    body : Solid
        The vertebral body.
    frame : BodyFrame
        Its own axes.
    waist : Section
        The section of its waist.

    Returns
    -------
    float
        Millimetres; the largest over both rims.
    """
    away = depth_mm(waist.depth_mm == 0, waist.step_mm)
    local = waist.first_mm + np.argwhere(away > 0) * waist.step_mm
    in_front = local[:, 1] >= RIM_FROM * frame.depth_mm
    local, away = local[in_front], away[away > 0][in_front]
    up = np.concatenate([np.array(RIM), -np.array(RIM)]) * frame.height_mm / 2
    places = frame.to_cube(np.concatenate([np.insert(local, 2, height, axis=1) for height in up]))
    return float(np.max(np.tile(away, len(up)), where=body.has(places), initial=0.0))
