"""Follow the column of vertebral bodies, and cut it into pieces at its discs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import make_smoothing_spline
from scipy.spatial import KDTree

from trabecula.image.distance import bounding_box
from trabecula.image.volume import Volume
from trabecula.model.spine_network import BODY, DISC, SPACING_MM, VOXEL_MM3, SpineMap

# Distance from disc to disc, mm, from T8 to L5 in adults, with room for fractures and small or tall people.
PITCH_MM = (15.0, 52.0)
# Smaller pieces at the ends of the column are no vertebrae.
MIN_BODY_MM3 = 2500.0
# No part of a vertebral body lies farther from the spine's axis.
BODY_REACH_MM = 40.0
# A cross-section with so much more bone than disc (see `_disc_profile`) is no disc.
DEPTH = 0.75
# Each of two vertebrae that have grown together is at least so high; to assume two costs as much as a clear disc gives.
FUSED_MM, MISSED = 22.0, 0.5
# Stiffness of the smoothing spline through the slices' centres, per mm.
STIFFNESS = 810.0

# Indices of the last two peaks at which a chain of discs cuts; -1 in place of the first where there is one cut alone.
_Ends: TypeAlias = tuple[int, int]


class _Chain(NamedTuple):
    """Best chain of cuts with the same two last cuts: its score, the chain before, and vertebrae between the two."""

    score: float
    before: _Ends | None
    vertebrae: int


@dataclass(frozen=True)
class Column:
    """The column of vertebral bodies, cut into pieces.

    Attributes
    ----------
    curve_mm : (n, 3) array
        Points every millimetre along the spine's axis, from foot to head, RAS+.
    cuts_mm : (m,) array
        Arc lengths of the discs between the pieces, increasing (towards the head).
    assumed : (m,) bool array
        No disc was seen at a cut: it lies halfway between the next ones.
    """

    curve_mm: NDArray[np.float64]
    cuts_mm: NDArray[np.float64]
    assumed: NDArray[np.bool_]

    def arc_mm(self, points_mm: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give the arc length of the nearest point of the curve and the distance to it, for (n, 3) points.

        >>> straight = np.column_stack([np.zeros(9), np.zeros(9), np.arange(9.0)])
        >>> arc, distance = Column(straight, np.array([4.0]), np.array([False])).arc_mm(np.array([[3.0, 4.0, 6.0]]))
        >>> arc.tolist(), distance.tolist()
        ([6.0], [5.0])
        """
        distance, nearest = KDTree(self.curve_mm).query(points_mm)
        return nearest.astype(float), distance

    def piece(self, points_mm: NDArray[np.float64]) -> NDArray[np.intp]:
        """Give the piece to which each of (n, 3) points belongs, counted from the foot."""
        return np.searchsorted(self.cuts_mm, self.arc_mm(points_mm)[0])


def find_column(spine: SpineMap) -> Column | None:
    """Cut the column of bodies at its discs; None where there are no bodies."""
    column = _main_column(spine)
    if column is None:
        return None
    curve = _curve(column)
    if curve is None:
        return None
    whole = Column(curve, np.empty(0), np.empty(0, bool))
    return Column(curve, *_cuts(_disc_profile(spine, column, whole)))


def _main_column(spine: SpineMap) -> Volume | None:
    """Give the probability of body or disc in the largest connected piece and those in line with it; 0 elsewhere."""
    joined = spine.probabilities[BODY] + spine.probabilities[DISC]
    box = bounding_box(joined > 0.2)
    if box is None:
        return None
    joined, bone = joined[box].astype(np.float32), spine.probabilities[BODY][box].astype(np.float32)
    likely = joined > 0.5
    parts = cc3d.connected_components(likely | ndimage.binary_closing(likely), connectivity=6)
    volumes = np.bincount(parts.ravel(), bone.ravel())[1:] * VOXEL_MM3
    if not len(volumes) or volumes.max() < MIN_BODY_MM3:
        return None
    # A missed disc or a fracture may part the column: add large pieces that lie in line with those already there.
    large = {int(i) + 1: np.argwhere(parts == i + 1) for i in np.flatnonzero(volumes > MIN_BODY_MM3)}
    main = int(np.argmax(volumes)) + 1
    kept, ends = {main}, {main}
    while ends:
        ends = {i for i in large.keys() - kept if any(_in_line(large[end], large[i]) for end in ends)}
        kept |= ends
    return Volume(spine.seen, spine.affine).part(box).with_array(np.where(np.isin(parts, list(kept)), joined, 0))


def _in_line(a: NDArray[np.intp], b: NDArray[np.intp]) -> bool:
    """Tell whether a piece lies above or below another and not far off its axis; (n, 3) voxels each."""
    below, above = (a, b) if a[:, 2].mean() < b[:, 2].mean() else (b, a)
    if (above[:, 2].min() - below[:, 2].max()) * SPACING_MM < -6:
        return False
    end = below[(below[:, 2].max() - below[:, 2]) * SPACING_MM < 15].mean(axis=0)
    start = above[(above[:, 2] - above[:, 2].min()) * SPACING_MM < 15].mean(axis=0)
    return bool(np.linalg.norm((end - start) * SPACING_MM) < 50)


def _curve(column: Volume) -> NDArray[np.float64] | None:
    """Give (n, 3) points every millimetre along the column's axis, or None where it is too short for a curve."""
    area_mm2 = column.array.sum(axis=(0, 1)) * SPACING_MM**2
    rows = np.flatnonzero(area_mm2 > 70)
    if len(rows) * SPACING_MM < 15:
        return None
    i, j = np.ogrid[: column.array.shape[0], : column.array.shape[1]]
    slices = column.array[:, :, rows]
    whole = slices.sum(axis=(0, 1))
    x, y = ((slices * axis[..., None]).sum(axis=(0, 1)) / whole * SPACING_MM for axis in (i, j))
    weight = np.sqrt(area_mm2[rows]) * SPACING_MM
    fine = np.linspace(rows[0], rows[-1], 10 * len(rows))
    smooth = [
        make_smoothing_spline(rows * SPACING_MM, c, w=weight / 9, lam=STIFFNESS)(fine * SPACING_MM) / SPACING_MM
        for c in (x, y)
    ]
    points = column.to_mm(np.column_stack([*smooth, fine]))
    return at_every_mm(points)


def at_every_mm(points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give (n, 3) points at every millimetre along the line through other points.

    >>> at_every_mm(np.array([[0.0, 0, 0], [0, 0, 2.5]])).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 2.0]]
    """
    length = lengths_mm(points_mm)
    every_mm = np.arange(0, length[-1], 1.0)
    return np.column_stack([np.interp(every_mm, length, points_mm[:, axis]) for axis in range(3)])


def lengths_mm(points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the length of the line from the first of (n, 3) points to each of them."""
    return np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points_mm, axis=0), axis=1))])


def _disc_profile(spine: SpineMap, column: Volume, whole: Column) -> NDArray[np.float64]:
    """Rate every millimetre of the curve: -1 where all of the cross-section is body, 1 where all is disc or gap."""
    points = column.to_mm(np.argwhere(column.array > 0.2))
    arc = whole.arc_mm(points)[0].astype(int)
    index = tuple(np.rint(Volume(spine.seen, spine.affine).to_voxels(points)).astype(int).T)
    n = len(whole.curve_mm)
    body = np.bincount(arc, spine.probabilities[BODY][index].astype(float), minlength=n)
    disc = np.bincount(arc, spine.probabilities[DISC][index].astype(float), minlength=n)
    body, disc = (ndimage.gaussian_filter1d(profile, 2.5) for profile in (body, disc))
    full = ndimage.maximum_filter1d(ndimage.gaussian_filter1d(body + disc, 10), 41) + 1e-6
    return (disc - body) / full + np.clip(1 - (body + disc) / full, 0, 1)


def _cuts(profile: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Choose the discs together: deep minima of bone, at spacings that change little from one to the next.

    Where bodies have grown together or a disc was missed, a step may span two vertebrae; a cut is assumed halfway.

    Returns
    -------
    cuts : (m,) array
        Arc lengths, increasing.
    assumed : (m,) bool array
        No disc was seen there.
    """
    peaks = [
        s
        for s in range(1, len(profile) - 1)
        if profile[s] >= profile[s - 1] and profile[s] > profile[s + 1] and profile[s] > -DEPTH
    ]
    if not peaks:
        return np.empty(0), np.empty(0, bool)
    best: dict[_Ends, _Chain] = {}
    for b, peak in enumerate(peaks):
        gain = profile[peak] + DEPTH
        best[(-1, b)] = _Chain(gain, None, 1)
        for a in [a for a in range(b) if peak - peaks[a] <= 2 * PITCH_MM[1]]:
            chains = [(c, a) for c in range(-1, a) if (c, a) in best]
            for vertebrae in (1, 2):
                spacing = (peak - peaks[a]) / vertebrae
                if not (PITCH_MM[0] if vertebrae == 1 else FUSED_MM) <= spacing <= PITCH_MM[1]:
                    continue
                scores = [best[ends].score - _unevenness(peaks, ends, best[ends], spacing) for ends in chains]
                before = int(np.argmax(scores))
                score = scores[before] + (gain - MISSED * (vertebrae - 1))
                if (a, b) not in best or score > best[(a, b)].score:
                    best[(a, b)] = _Chain(score, chains[before], vertebrae)
    return _chain(peaks, best)


def _chain(peaks: Sequence[int], best: Mapping[_Ends, _Chain]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Give the cuts of the best chain, and which of them are assumed."""
    cuts, ends = [], max(best, key=lambda ends: best[ends].score)
    while ends is not None:
        chain = best[ends]
        cuts.append((float(peaks[ends[1]]), False))
        if chain.vertebrae == 2:
            cuts.append(((peaks[ends[0]] + peaks[ends[1]]) / 2, True))
        ends = chain.before
    arcs, assumed = zip(*cuts[::-1], strict=True)
    return np.array(arcs), np.array(assumed)


def _unevenness(peaks: Sequence[int], ends: _Ends, chain: _Chain, spacing: float) -> float:
    """Penalise a spacing that differs from the spacing before; a chain's first spacing is compared with 32 mm."""
    before, weight = ((peaks[ends[1]] - peaks[ends[0]]) / chain.vertebrae, 2.0) if ends[0] >= 0 else (32.0, 0.5)
    return float(weight * np.log(spacing / before) ** 2)
