"""The column of vertebral bodies: its curve, and the discs at which it is cut into pieces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import make_smoothing_spline
from scipy.spatial import KDTree

from trabecula.image.distance import bounding_box
from trabecula.image.volume import Volume
from trabecula.model.spine_network import BODY, DISC, SPACING_MM, SpineMap

# Distance from disc to disc, mm, from T8 to L5 in adults, with room for fractures and small or tall people.
PITCH_MM = (15.0, 52.0)
# Smaller pieces at the ends of the column are no vertebrae.
MIN_BODY_MM3 = 2500.0
# No part of a vertebral body lies farther from the spine's axis; what does is something else.
BODY_REACH_MM = 40.0
# A cross-section with so much more bone than disc (see `_disc_profile`) is no disc.
DEPTH = 0.75
# Two vertebrae grown together are at least so high each; to assume that costs as much as a clear disc gives.
FUSED_MM, MISSED = 22.0, 0.5
# Stiffness of the smoothing spline through the slices' centres, per mm.
STIFFNESS = 810.0

# The last two cuts of a chain.
_Ends: TypeAlias = tuple[int, int]


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
        """Arc length of the nearest point of the curve, and the distance to it, for (n, 3) points."""
        distance, nearest = KDTree(self.curve_mm).query(points_mm)
        return nearest.astype(float), distance

    def piece(self, points_mm: NDArray[np.float64]) -> NDArray[np.intp]:
        """Which piece (n,) points belong to, counted from the foot."""
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
    """Probability of body or disc around the largest connected piece and those in line with it; 0 elsewhere."""
    joined = spine.probabilities[BODY] + spine.probabilities[DISC]
    box = bounding_box(joined > 0.2)
    if box is None:
        return None
    joined, bone = joined[box].astype(np.float32), spine.probabilities[BODY][box].astype(np.float32)
    likely = joined > 0.5
    parts = cc3d.connected_components(likely | ndimage.binary_closing(likely), connectivity=6)
    volumes = np.bincount(parts.ravel(), bone.ravel())[1:] * SPACING_MM**3
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
    """A piece lies above or below another, not beside it, and not far off its axis; (n, 3) voxels each."""
    below, above = (a, b) if a[:, 2].mean() < b[:, 2].mean() else (b, a)
    if (above[:, 2].min() - below[:, 2].max()) * SPACING_MM < -6:
        return False
    end = below[(below[:, 2].max() - below[:, 2]) * SPACING_MM < 15].mean(axis=0)
    start = above[(above[:, 2] - above[:, 2].min()) * SPACING_MM < 15].mean(axis=0)
    return bool(np.linalg.norm((end - start) * SPACING_MM) < 50)


def _curve(column: Volume) -> NDArray[np.float64] | None:
    """(n, 3) points every millimetre along the column's axis, or None where it is too short for a curve."""
    area_mm2 = column.array.sum(axis=(0, 1)) * SPACING_MM**2
    at = np.flatnonzero(area_mm2 > 70)
    if len(at) * SPACING_MM < 15:
        return None
    i, j = np.ogrid[: column.array.shape[0], : column.array.shape[1]]
    slices = column.array[:, :, at]
    whole = slices.sum(axis=(0, 1))
    x, y = ((slices * axis[..., None]).sum(axis=(0, 1)) / whole * SPACING_MM for axis in (i, j))
    weight = np.sqrt(area_mm2[at]) * SPACING_MM
    fine = np.linspace(at[0], at[-1], 10 * len(at))
    smooth = [
        make_smoothing_spline(at * SPACING_MM, c, w=weight / 9, lam=STIFFNESS)(fine * SPACING_MM) / SPACING_MM
        for c in (x, y)
    ]
    points = column.to_mm(np.column_stack([*smooth, fine]))
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    every = np.arange(0, length[-1], 1.0)
    return np.column_stack([np.interp(every, length, points[:, axis]) for axis in range(3)])


def _disc_profile(spine: SpineMap, column: Volume, whole: Column) -> NDArray[np.float64]:
    """Per millimetre of the curve: -1 where all of the cross-section is body, 1 where all is disc or gap."""
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

    Where bodies have grown together, or a disc was missed, a step may span two vertebrae; a cut is assumed halfway.

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
    # Of the chains that end with the cuts a and b: score, the chain before, and vertebrae between a and b.
    best: dict[_Ends, tuple[float, _Ends | None, int]] = {}
    for b, at in enumerate(peaks):
        gain = profile[at] + DEPTH
        best[(-1, b)] = gain, None, 1
        for a in [a for a in range(b) if at - peaks[a] <= 2 * PITCH_MM[1]]:
            chains = [(key, *best[key]) for key in ((c, a) for c in range(-1, a)) if key in best]
            for vertebrae in (1, 2):
                spacing = (at - peaks[a]) / vertebrae
                if not (PITCH_MM[0] if vertebrae == 1 else FUSED_MM) <= spacing <= PITCH_MM[1]:
                    continue
                step = [(score - _unevenness(peaks, key, n, spacing), key) for key, score, _, n in chains]
                score, key = max(step, key=lambda pair: pair[0])
                score += gain - MISSED * (vertebrae - 1)
                if (a, b) not in best or score > best[(a, b)][0]:
                    best[(a, b)] = score, key, vertebrae
    return _chain(peaks, best)


def _chain(
    peaks: Sequence[int], best: Mapping[_Ends, tuple[float, _Ends | None, int]]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Cuts of the best chain, and which of them are assumed."""
    cuts, key = [], max(best, key=lambda key: best[key][0])
    while key is not None:
        _, before, vertebrae = best[key]
        cuts.append((float(peaks[key[1]]), False))
        if vertebrae == 2:
            cuts.append(((peaks[key[0]] + peaks[key[1]]) / 2, True))
        key = before
    at, assumed = zip(*cuts[::-1], strict=True)
    return np.array(at), np.array(assumed)


def _unevenness(peaks: Sequence[int], key: _Ends, vertebrae: int, spacing: float) -> float:
    """Penalty for a spacing that differs from the one before; a chain's first spacing is compared with 32 mm."""
    before, weight = ((peaks[key[1]] - peaks[key[0]]) / vertebrae, 2.0) if key[0] >= 0 else (32.0, 0.5)
    return float(weight * np.log(spacing / before) ** 2)
