"""From an outlined spine to numbered vertebrae.

The column of bodies is cut at the discs along the spine's curve, and the pieces are named
together, from all that is in view: the sacrum below, the last rib, and the order between.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import make_smoothing_spline
from scipy.spatial import KDTree

from trabecula.segmenter import BODY, DISC, RIB, SACRUM, SPACING_MM, SpineMap
from trabecula.volume import Volume

# Distance from disc to disc, mm, from T8 to L5 in adults, with room for fractures and small or tall people.
PITCH_MM = (15.0, 52.0)
# Smaller pieces at the ends of the column are no vertebrae.
MIN_BODY_MM3 = 2500.0
# An uncut piece at an end of less than this share of the usual volume is a fragment.
FRAGMENT = 0.4
# No part of a vertebral body lies farther from the spine's axis; what does is something else.
BODY_REACH_MM = 40.0
# A rib that comes no nearer to the spine's axis belongs to a vertebra above.
RIB_START_MM = 45.0
# Share of people with five lumbar vertebrae, with four, with six (Carrino et al., Radiology 2011;262:262-268, rounded).
LUMBAR_PRIOR = {5: 0.93, 4: 0.03, 6: 0.04}
# Thoracic levels from below; names below L1 come from the number of lumbar vertebrae.
THORACIC = tuple(f"T{i}" for i in range(12, 0, -1))
CERTAIN = 0.9


@dataclass(frozen=True)
class Column:
    """The column of vertebral bodies, cut into pieces.

    Attributes
    ----------
    curve_mm : (n, 3) array
        Points every millimetre along the spine's axis, from foot to head, RAS+.
    cuts_mm : (m,) array
        Arc lengths of the discs between the pieces, increasing (towards the head).
    """

    curve_mm: NDArray[np.float64]
    cuts_mm: NDArray[np.float64]

    def arc_mm(self, points_mm: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Arc length of the nearest point of the curve, and the distance to it, for (n, 3) points."""
        distance, nearest = KDTree(self.curve_mm).query(points_mm)
        return nearest.astype(float), distance

    def piece(self, points_mm: NDArray[np.float64]) -> NDArray[np.intp]:
        """Which piece (n,) points belong to, counted from the foot."""
        return np.searchsorted(self.cuts_mm, self.arc_mm(points_mm)[0])


@dataclass(frozen=True)
class Level:
    """One vertebra's name.

    Attributes
    ----------
    piece : int
        Index of its piece in the column, from the foot.
    name : str
        Level name.
    confidence : float
        Posterior probability of the name.
    """

    piece: int
    name: str
    confidence: float

    @property
    def uncertain(self) -> bool:
        """The name may be off by one."""
        return self.confidence < CERTAIN


def find_column(spine: SpineMap) -> Column | None:
    """Cut the column of bodies at its discs; None where there are no bodies."""
    column = _main_column(spine)
    if column is None:
        return None
    curve = _curve(Volume(column, spine.affine))
    if curve is None:
        return None
    whole = Column(curve, np.empty(0))
    return Column(curve, _cuts(_disc_profile(spine, column, whole)))


def _main_column(spine: SpineMap) -> NDArray[np.float32] | None:
    """Probability of body or disc, in the largest connected piece only."""
    bone = spine.probabilities[BODY].astype(np.float32)
    joined = bone + spine.probabilities[DISC].astype(np.float32)
    parts, n = cc3d.connected_components(
        ndimage.binary_closing(joined > 0.5) | (joined > 0.5), connectivity=6, return_N=True
    )
    if n == 0:
        return None
    volumes = np.bincount(parts.ravel(), bone.ravel(), minlength=n + 1)[1:] * SPACING_MM**3
    main = int(np.argmax(volumes)) + 1
    if volumes[main - 1] < MIN_BODY_MM3:
        return None
    # A missed disc or a fracture may part the column: add large pieces that lie in line with those already there.
    large = {int(i) + 1 for i in np.flatnonzero(volumes > MIN_BODY_MM3)}
    kept, ends = {main}, {main}
    while ends:
        ends = {i for i in large - kept if any(_in_line(parts, end, i) for end in ends)}
        kept |= ends
    return np.where(np.isin(parts, list(kept)), joined, 0)


def _in_line(parts: NDArray[np.integer], one: int, other: int) -> bool:
    """A piece lies above or below another, not beside it, and not far off its axis."""
    a, b = np.argwhere(parts == one), np.argwhere(parts == other)
    below, above = (a, b) if a[:, 2].mean() < b[:, 2].mean() else (b, a)
    if above[:, 2].min() < below[:, 2].max() - 2:
        return False
    end = below[below[:, 2] > below[:, 2].max() - 5].mean(axis=0)
    start = above[above[:, 2] < above[:, 2].min() + 5].mean(axis=0)
    return bool(np.linalg.norm((end - start) * SPACING_MM) < 50)


def _curve(column: Volume) -> NDArray[np.float64] | None:
    """(n, 3) points every millimetre along the column's axis, or None where it is too short for a curve."""
    weight = column.array.sum(axis=(0, 1))
    at = np.flatnonzero(weight > 8)
    if len(at) < 5:
        return None
    i, j = np.ogrid[: column.array.shape[0], : column.array.shape[1]]
    x = (column.array * i[..., None]).sum(axis=(0, 1))[at] / weight[at]
    y = (column.array * j[..., None]).sum(axis=(0, 1))[at] / weight[at]
    fine = np.linspace(at[0], at[-1], 10 * len(at))
    smooth = [make_smoothing_spline(at.astype(float), c, w=np.sqrt(weight[at]), lam=30.0)(fine) for c in (x, y)]
    points = column.to_mm(np.column_stack([*smooth, fine]))
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    every = np.arange(0, length[-1], 1.0)
    return np.column_stack([np.interp(every, length, points[:, axis]) for axis in range(3)])


def _disc_profile(spine: SpineMap, column: NDArray[np.float32], whole: Column) -> NDArray[np.float64]:
    """Per millimetre of the curve: -1 where all of the cross-section is body, 1 where all is disc or gap."""
    voxels = np.argwhere(column > 0.2)
    points = spine.to_mm(voxels)
    arc = whole.arc_mm(points)[0].astype(int)
    index = tuple(voxels.T)
    n = len(whole.curve_mm)
    body = np.bincount(arc, spine.probabilities[BODY][index].astype(float), minlength=n)
    disc = np.bincount(arc, spine.probabilities[DISC][index].astype(float), minlength=n)
    body, disc = (ndimage.gaussian_filter1d(profile, 2.5) for profile in (body, disc))
    full = ndimage.maximum_filter1d(ndimage.gaussian_filter1d(body + disc, 10), 41) + 1e-6
    return (disc - body) / full + np.clip(1 - (body + disc) / full, 0, 1)


def _cuts(profile: NDArray[np.float64]) -> NDArray[np.float64]:
    """Choose the discs together: deep minima of bone, at spacings that change little from one to the next."""
    peaks = [
        s
        for s in range(1, len(profile) - 1)
        if profile[s] >= profile[s - 1] and profile[s] > profile[s + 1] and profile[s] > -0.75
    ]
    if not peaks:
        return np.empty(0)
    gain = np.array([profile[s] + 0.75 for s in peaks])
    # best[(a, b)]: best score of a chain that ends with the cuts a, b.
    best: dict[tuple[int, int], tuple[float, tuple[int, int] | None]] = {}
    for b in range(len(peaks)):
        best[(-1, b)] = (gain[b], None)
        for a in range(b):
            pitch = peaks[b] - peaks[a]
            if not PITCH_MM[0] <= pitch <= PITCH_MM[1]:
                continue
            before = [(key, score) for key, (score, _) in best.items() if key[1] == a]
            step = [(score - _unevenness(peaks, key, pitch), key) for key, score in before]
            score, key = max(step, key=lambda pair: pair[0])
            best[(a, b)] = (score + gain[b], key)
    chain, key = [], max(best, key=lambda key: best[key][0])
    while key is not None:
        chain.append(peaks[key[1]])
        key = best[key][1]
    return np.array(chain[::-1], float)


def _unevenness(peaks: Sequence[int], key: tuple[int, int], pitch: float) -> float:
    """Penalty for a spacing that differs from the one before; a chain's first spacing is compared with 32 mm."""
    before, weight = (peaks[key[1]] - peaks[key[0]], 2.0) if key[0] >= 0 else (32.0, 0.5)
    return float(weight * np.log(pitch / before) ** 2)


def name_levels(spine: SpineMap, column: Column) -> list[Level]:
    """Name the pieces of the column that are vertebrae, from foot to head."""
    voxels = np.argwhere(spine.probabilities[BODY] > 0.5)
    points = spine.to_mm(voxels)
    near = column.arc_mm(points)[1] < BODY_REACH_MM
    voxels, points = voxels[near], points[near]
    piece = column.piece(points)
    inner = np.asarray(ndimage.binary_erosion(spine.seen), bool)[tuple(voxels.T)]
    cut = np.bincount(piece, np.logical_not(inner), minlength=len(column.cuts_mm) + 1) > 0
    vertebrae = whole_or_cut(np.bincount(piece, minlength=len(cut)) * SPACING_MM**3, cut)
    if not vertebrae:
        return []
    ribs = rib_evidence(spine, column, vertebrae)
    return _decide(vertebrae, ribs, sacrum_below=sees_sacrum(spine, points[piece == vertebrae[0]]))


def whole_or_cut(volumes_mm3: NDArray[np.floating], cut: NDArray[np.bool_]) -> list[int]:
    """Pieces that are vertebrae, from foot to head.

    A small piece at an end is a vertebra only if the edge of the scan made it small: inside the scan it is a part of
    the sacrum or of a neighbour.

    Parameters
    ----------
    volumes_mm3 : (n,) array
        Volume of body in each piece.
    cut : (n,) bool array
        The piece touches the edge of the scan.
    """
    large = [int(p) for p in np.flatnonzero(volumes_mm3 >= MIN_BODY_MM3)]
    usual = np.median(volumes_mm3[large]) if large else 0.0
    while large and not cut[large[0]] and volumes_mm3[large[0]] < FRAGMENT * usual:
        large.pop(0)
    while large and not cut[large[-1]] and volumes_mm3[large[-1]] < FRAGMENT * usual:
        large.pop()
    return large


def sees_sacrum(spine: SpineMap, lowest_mm: NDArray[np.float64]) -> bool:
    """The sacrum's top lies in view just below the lowest body, whose points are (n, 3)."""
    sacrum = np.argwhere(spine.probabilities[SACRUM] > 0.5)
    if len(sacrum) * SPACING_MM**3 < 8000:
        return False
    points = spine.to_mm(sacrum)
    near = KDTree(lowest_mm).query(points)[0] < 20
    lower = points[:, 2].mean() < lowest_mm[:, 2].mean()
    return bool(near.sum() * SPACING_MM**3 > 500 and lower)


def rib_evidence(spine: SpineMap, column: Column, vertebrae: Sequence[int]) -> NDArray[np.float64]:
    """Length in mm of rib beside each vertebra, the mean of left and right.

    A rib leaves the spine's axis and runs outwards and down. Its start tells whose it is: a rib of the vertebra above
    passes farther out, and a transverse process or a stub stays short.
    """
    rib = np.argwhere(_long_parts(spine.probabilities[RIB] > 0.5))
    points = spine.to_mm(rib)
    arc, distance = column.arc_mm(points) if len(points) else (np.empty(0), np.empty(0))
    near = (distance > 12) & (distance < 60)
    arc, points, distance = arc[near], points[near], distance[near]
    axis = column.curve_mm[arc.astype(int)] if len(arc) else np.empty((0, 3))
    edges = np.concatenate([[0.0], column.cuts_mm, [len(column.curve_mm)]])
    found = []
    for p in vertebrae:
        mine = (arc >= edges[p]) & (arc < edges[p + 1] + 4)
        sides = [mine & (points[:, 0] < axis[:, 0]), mine & (points[:, 0] >= axis[:, 0])]
        found.append(np.mean([_outward_mm(distance[side]) for side in sides]))
    return np.array(found)


def _outward_mm(distance_mm: NDArray[np.float64]) -> float:
    """How far a rib that starts here runs outwards; 0 where none starts."""
    starts = len(distance_mm) >= 3 and distance_mm.min() < RIB_START_MM
    return float(np.ptp(distance_mm)) if starts else 0.0


def _long_parts(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Connected parts longer than 30 mm: ribs, not stubs."""
    parts = cc3d.connected_components(mask, connectivity=26)
    boxes = cc3d.statistics(parts)["bounding_boxes"]
    long = [i for i, box in enumerate(boxes) if i and max(s.stop - s.start for s in box) * SPACING_MM >= 30]
    return np.isin(parts, long)


def _decide(vertebrae: Sequence[int], ribs_mm: NDArray[np.float64], *, sacrum_below: bool) -> list[Level]:
    """Weigh every way to name the pieces by what is seen, and keep the likeliest.

    A way is the number of lumbar vertebrae and the name of the lowest piece. Seeing the sacrum below fixes the lowest
    piece as the last lumbar one; ribs are seen beside thoracic vertebrae, seldom beside lumbar ones.
    """
    # A piece without a body between two vertebrae is one that was missed: it counts.
    offsets = [p - vertebrae[0] for p in vertebrae]
    seen = np.clip((ribs_mm - 8) / 8, 0, 1)  # a rib on one side alone counts in full
    ways: dict[tuple[str, ...], float] = {}
    for lumbar, prior in LUMBAR_PRIOR.items():
        order = [f"L{i}" for i in range(lumbar, 0, -1)] + list(THORACIC)
        starts = range(1 if sacrum_below else len(order) - offsets[-1])
        for start in starts:
            names = tuple(order[start + offset] for offset in offsets)
            likelihood = np.prod([_rib_likelihood(name, rib) for name, rib in zip(names, seen, strict=True)])
            ways[names] = ways.get(names, 0.0) + prior * float(likelihood) / len(starts)
    best = max(ways, key=lambda names: ways[names])
    total = sum(ways.values())
    return [
        Level(piece, name, sum(weight for names, weight in ways.items() if names[i] == name) / total)
        for i, (piece, name) in enumerate(zip(vertebrae, best, strict=True))
    ]


def _rib_likelihood(name: str, seen: float) -> float:
    """How likely it is to see (1) or not to see (0) a rib at a level; halves count as doubt."""
    chance = 0.02 if name.startswith("L") else 0.85 if name == "T12" else 0.95
    return seen * chance + (1 - seen) * (1 - chance)
