"""Gather the evidence for the numbering of a spine: the sacrum, the ribs, the sizes, and where the scan ends."""

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from trabecula.model.spine_network import BODY, RIB, SACRUM, SPACING_MM, VOXEL_MM3, SpineMap
from trabecula.segment.column import BODY_REACH_MM, MIN_BODY_MM3, Column

# An uncut piece at an end of less than this share of the usual volume is a fragment.
FRAGMENT = 0.4
# A rib that comes no nearer to the spine's axis belongs to a vertebra above.
RIB_START_MM = 45.0
# Ribs are looked for so far to each side; shorter pieces are stubs or transverse processes.
RIB_SEARCH_MM, RIB_LENGTH_MM = 60.0, 30.0
# Where the scan shows so much below the lowest body, the sacrum would be seen if it came next.
BELOW_MM = 35.0
# Less than this is no sacrum, and less than that beside the lowest body does not adjoin it.
SACRUM_MM3, SACRUM_BESIDE_MM3 = 8000.0, 500.0
# Less than this beside a vertebra is no rib.
RIB_MM3 = 80.0


@dataclass(frozen=True)
class Evidence:
    """Evidence for the numbering of n vertebrae, from foot to head.

    Attributes
    ----------
    pieces : (n,) tuple of int
        Places of the vertebrae in the column; a place that is left out is a vertebra that was missed.
    ribs : (n, 2) array
        How far a rib runs outwards from each, left and right, mm; NaN where the scan does not show the place.
    reaches_mm : (n, 2) array
        How far from the spine's axis these ribs come, mm; NaN where no rib starts or the scan cuts it off.
    sizes_mm : (n,) array
        Cube root of the body's volume; NaN where the scan cuts it.
    heights_mm : (n,) array
        Length of the spine from the disc below to the disc above; NaN where one of the discs is not seen.
    spans_mm : (n,) array
        Length of the spine along which the body was found.
    fused : (n,) bool array
        No disc was seen between the vertebra and one of its neighbours.
    sacrum : bool or None
        The sacrum lies just below the lowest vertebra; None where the scan ends before it would be seen.
    """

    pieces: tuple[int, ...]
    ribs: NDArray[np.float64]
    reaches_mm: NDArray[np.float64]
    sizes_mm: NDArray[np.float64]
    heights_mm: NDArray[np.float64]
    spans_mm: NDArray[np.float64]
    fused: NDArray[np.bool_]
    sacrum: bool | None


def find_evidence(spine: SpineMap, column: Column) -> Evidence | None:
    """Gather the evidence of a scan; None where no piece of the column is a vertebra."""
    voxels = np.argwhere(spine.probabilities[BODY] > 0.5)
    points = spine.to_mm(voxels)
    arc, distance = column.arc_mm(points)
    near = distance < BODY_REACH_MM
    voxels, points, arc = voxels[near], points[near], arc[near]
    piece = np.searchsorted(column.cuts_mm, arc)
    n = len(column.cuts_mm) + 1
    cut = np.bincount(piece, at_edge(spine.seen, voxels), minlength=n) > 0
    volumes = np.bincount(piece, minlength=n) * VOXEL_MM3
    vertebrae = whole_or_cut(volumes, cut)
    if not vertebrae:
        return None
    edges = np.concatenate([[np.nan], column.cuts_mm, [np.nan]])
    assumed = np.concatenate([[False], column.assumed, [False]])
    lengths, reaches = find_ribs(spine, column, vertebrae)
    return Evidence(
        pieces=tuple(vertebrae),
        ribs=lengths,
        reaches_mm=reaches,
        sizes_mm=np.where(cut, np.nan, np.cbrt(volumes))[vertebrae],
        heights_mm=np.diff(edges)[vertebrae],
        spans_mm=np.array([np.ptp(arc[piece == p]) for p in vertebrae]),
        fused=(assumed[:-1] | assumed[1:])[vertebrae],
        sacrum=sees_sacrum(spine, points[piece == vertebrae[0]]),
    )


def at_edge(seen: NDArray[np.bool_], voxels: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Tell which of (n, 3) voxels lie at the edge of what the scan shows.

    >>> at_edge(np.ones((5, 5, 5), bool), np.array([[2, 2, 2], [2, 2, 4]])).tolist()
    [False, True]
    """
    last = np.array(seen.shape) - 1
    outermost = np.any((voxels == 0) | (voxels == last), axis=1)
    for axis in range(3):
        for step in (-1, 1):
            beside = voxels.copy()
            beside[:, axis] = np.clip(beside[:, axis] + step, 0, last[axis])
            outermost |= ~seen[tuple(beside.T)]
    return outermost


def whole_or_cut(volumes_mm3: NDArray[np.floating], cut: NDArray[np.bool_]) -> list[int]:
    """List the pieces that are vertebrae, from foot to head.

    A small piece at an end is a vertebra only if the edge of the scan made it small: inside the scan it is a part of
    the sacrum or of a neighbour.

    Parameters
    ----------
    volumes_mm3 : (n,) array
        Volume of body in each piece.
    cut : (n,) bool array
        The piece touches the edge of the scan.

    Examples
    --------
    >>> whole_or_cut(np.array([4000.0, 30000, 31000]), np.array([False, False, False]))
    [1, 2]
    >>> whole_or_cut(np.array([4000.0, 30000, 31000]), np.array([True, False, False]))
    [0, 1, 2]
    """
    large = [int(p) for p in np.flatnonzero(volumes_mm3 >= MIN_BODY_MM3)]
    usual = np.median(volumes_mm3[large]) if large else 0.0
    while large and not cut[large[0]] and volumes_mm3[large[0]] < FRAGMENT * usual:
        large.pop(0)
    while large and not cut[large[-1]] and volumes_mm3[large[-1]] < FRAGMENT * usual:
        large.pop()
    return large


def sees_sacrum(spine: SpineMap, lowest_mm: NDArray[np.float64]) -> bool | None:
    """Tell whether the sacrum lies just below the lowest body, whose points are (n, 3).

    None where the scan ends before the sacrum would be seen.
    """
    sacrum = np.argwhere(spine.probabilities[SACRUM] > 0.5)
    if len(sacrum) * VOXEL_MM3 > SACRUM_MM3:
        points = spine.to_mm(sacrum)
        near = KDTree(lowest_mm).query(points, distance_upper_bound=20)[0] < 20
        if near.sum() * VOXEL_MM3 > SACRUM_BESIDE_MM3 and points[:, 2].mean() < lowest_mm[:, 2].mean():
            return True
    bottom = lowest_mm[lowest_mm[:, 2] <= np.percentile(lowest_mm[:, 2], 5)].mean(axis=0)
    voxel = _nearest_voxel(spine, bottom)
    i, j = np.clip(voxel[:2], 0, np.array(spine.seen.shape[:2]) - 1)
    below_mm = spine.seen[i, j, : max(voxel[2], 0)].sum() * SPACING_MM
    return False if below_mm >= BELOW_MM else None


def _nearest_voxel(spine: SpineMap, point_mm: NDArray[np.float64]) -> NDArray[np.int_]:
    """Give the (3,) indices of the voxel nearest to a point, which may lie outside the grid."""
    return np.rint(np.linalg.inv(spine.affine) @ [*point_mm, 1])[:3].astype(int)


def find_ribs(
    spine: SpineMap, column: Column, vertebrae: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure (n, 2) lengths and (n, 2) reaches of the ribs beside each vertebra, left and right (see `Evidence`)."""
    parts = _long_parts(spine.probabilities[RIB] > 0.5)
    return _lengths_mm(spine, parts, column, vertebrae), _reaches_mm(spine, parts, column, vertebrae)


def _lengths_mm(
    spine: SpineMap, parts: NDArray[np.unsignedinteger], column: Column, vertebrae: Sequence[int]
) -> NDArray[np.float64]:
    """Measure the lengths of ribs.

    A rib leaves the spine's axis and runs outwards and down. Its start tells to which vertebra it belongs: a rib of the
    vertebra above passes farther out, and a transverse process or a stub stays short.
    """
    points = spine.to_mm(np.argwhere(parts))
    arc, distance = column.arc_mm(points) if len(points) else (np.empty(0), np.empty(0))
    near = (distance > 12) & (distance < RIB_SEARCH_MM)
    arc, points, distance = arc[near], points[near], distance[near]
    axis = column.curve_mm[arc.astype(int)] if len(arc) else np.empty((0, 3))
    edges = np.concatenate([[0.0], column.cuts_mm, [len(column.curve_mm)]])
    lengths = np.zeros((len(vertebrae), 2))
    for row, p in enumerate(vertebrae):
        beside = (arc >= edges[p]) & (arc < edges[p + 1] + 4)
        middle = column.curve_mm[int(np.clip((edges[p] + edges[p + 1]) / 2, 0, len(column.curve_mm) - 1))]
        for side, sign in enumerate((-1, 1)):
            on_side = beside & (sign * (points[:, 0] - axis[:, 0]) > 0)
            length = _outward_mm(distance[on_side])
            lengths[row, side] = length if length or _is_seen(spine, middle, sign) else np.nan
    return lengths


def _reaches_mm(
    spine: SpineMap, parts: NDArray[np.unsignedinteger], column: Column, vertebrae: Sequence[int]
) -> NDArray[np.float64]:
    """Measure the reaches of ribs.

    The lowest ribs end in the flank, each shorter than the next above: their reach tells T12 from T11.
    """
    reaches = np.full((len(vertebrae), 2), np.nan)
    rows = {piece: row for row, piece in enumerate(vertebrae)}
    for _, image in cc3d.each(parts, binary=True, in_place=True):
        voxels = np.argwhere(image)
        points = spine.to_mm(voxels)
        arc, distance = column.arc_mm(points)
        start = int(np.argmin(distance))
        row = rows.get(int(np.searchsorted(column.cuts_mm, arc[start])))
        if row is None or distance[start] > RIB_START_MM or at_edge(spine.seen, voxels).any():
            continue
        side = int(np.mean(points[:, 0] - column.curve_mm[arc.astype(int), 0]) > 0)
        reaches[row, side] = np.fmax(reaches[row, side], distance.max())
    return reaches


def _is_seen(spine: SpineMap, middle_mm: NDArray[np.float64], sign: int) -> bool:
    """Tell whether the scan shows the place of a rib at one side of a vertebra, behind and beside its middle."""
    i, j, k = _nearest_voxel(spine, middle_mm + np.array([sign * 0.75 * RIB_SEARCH_MM, -20.0, 0.0]))
    inside = all(0 <= a < n for a, n in zip((i, j, k), spine.seen.shape, strict=True))
    return inside and bool(spine.seen[i, j, k])


def _outward_mm(distance_mm: NDArray[np.float64]) -> float:
    """Measure how far the voxels of a rib run outwards from the spine's axis; 0 where no rib starts near it."""
    starts = len(distance_mm) * VOXEL_MM3 >= RIB_MM3 and distance_mm.min() < RIB_START_MM
    return float(np.ptp(distance_mm)) if starts else 0.0


def _long_parts(mask: NDArray[np.bool_]) -> NDArray[np.unsignedinteger]:
    """Number the connected parts that are long enough for ribs; 0 elsewhere."""
    parts = cc3d.connected_components(mask, connectivity=26)
    boxes = cc3d.statistics(parts)["bounding_boxes"]
    long = [i for i, box in enumerate(boxes) if i and max(s.stop - s.start for s in box) * SPACING_MM >= RIB_LENGTH_MM]
    return np.where(np.isin(parts, long), parts, 0)
