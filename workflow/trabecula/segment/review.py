"""Look over the level names of a label map that somebody else made: a network, a reader."""

from collections.abc import Sequence
from itertools import pairwise

import cc3d
import numpy as np
from numpy.typing import NDArray

from trabecula.errors import StudyFailure
from trabecula.image.levels import BODY_CODES, LEVEL_OF_CODE, ORDER, RIB, SACRUM
from trabecula.image.volume import Volume, aligned_grid, bounds_mm, resample
from trabecula.model import spine_network
from trabecula.model.spine_network import SPACING_MM, SpineMap
from trabecula.segment.column import Column
from trabecula.segment.evidence import Evidence, at_edge, find_ribs, sees_sacrum
from trabecula.segment.numbering import Level, name_levels

# A label in two pieces is two labels in one name, unless the second piece is a speck.
SPECK = 0.2
# A label that lies so much on one side of the spine shares its vertebra with another.
ONE_SIDED = 0.75
# A label smaller than this is no vertebral body.
LEAST_MM3 = 800.0


def review(labels: Volume, *, trust: float, blind: float) -> list[Level]:
    """Levels of a label map, from foot to head, with what speaks for and against their names.

    Parameters
    ----------
    labels : Volume
        uint8 canonical label map (see `levels`).
    trust : float
        How often names of this origin are right.
    blind : float
        The same where neither the sacrum nor the last rib is in view.

    Raises
    ------
    StudyFailure
        ``no_vertebra`` where it holds none.
    """
    coarse = _on_coarse_grid(labels)
    codes = [int(code) for code in np.unique(coarse.array) if code in BODY_CODES]
    codes = [code for code in codes if (coarse.array == code).sum() * SPACING_MM**3 >= LEAST_MM3]
    if not codes:
        raise StudyFailure("no_vertebra")
    centres = {code: _centre_mm(coarse, code) for code in codes}
    codes.sort(key=lambda code: centres[code][2])
    names = [LEVEL_OF_CODE[code] for code in codes]
    if len(codes) == 1:
        return [Level(0, names[0], blind)]
    evidence = evidence_in(coarse, codes, np.array([centres[code] for code in codes]))
    levels = name_levels(evidence, names, trust=trust, blind=blind)
    against = [[*order_flags(names, i), *_shape_flags(coarse, code, centres)] for i, code in enumerate(codes)]
    return [
        Level(level.piece, level.name, level.confidence, tuple(dict.fromkeys((*level.flags, *flags))))
        for level, flags in zip(levels, against, strict=True)
    ]


def _on_coarse_grid(labels: Volume) -> Volume:
    shape, affine = aligned_grid(*bounds_mm(labels), SPACING_MM)
    return resample(labels, shape, affine, outside=0, how="nearest")


def _centre_mm(labels: Volume, code: int) -> NDArray[np.float64]:
    """Middle of a label's largest piece: specks elsewhere, as at rims of other bodies, are not where it lies."""
    largest = cc3d.largest_k(labels.array == code, k=1, connectivity=6)
    return labels.to_mm([np.argwhere(largest).mean(axis=0)])[0]


def evidence_in(labels: Volume, codes: Sequence[int], centres_mm: NDArray[np.float64]) -> Evidence:
    """What a label map on the network's grid shows of its numbering; codes and (n, 3) centres from foot to head."""
    spine, column = as_spine(labels), column_through(centres_mm)
    voxels = [np.argwhere(labels.array == code) for code in codes]
    cut = np.array([at_edge(spine.seen, mine).any() for mine in voxels])
    spans = np.array([np.ptp(column.arc_mm(labels.to_mm(mine))[0]) for mine in voxels])
    n = range(len(codes))
    ribs, reaches = find_ribs(spine, column, n)
    # A map without any rib or sacrum was made of vertebrae alone: it says nothing of what is in the scan.
    if not np.any(labels.array == RIB):
        ribs = reaches = np.full((len(codes), 2), np.nan)
    has_sacrum = bool(np.any(labels.array == SACRUM))
    return Evidence(
        pieces=tuple(n) if not rises(codes) else tuple(place(codes[0]) - place(code) for code in codes),
        ribs=ribs,
        reaches_mm=reaches,
        sizes_mm=np.where(cut, np.nan, [np.cbrt(len(mine) * SPACING_MM**3) for mine in voxels]),
        # Of a map, only the bodies' own extent tells two vertebrae in one label from one.
        heights_mm=np.where(cut, np.nan, spans),
        spans_mm=spans,
        fused=np.zeros(len(codes), bool),
        sacrum=sees_sacrum(spine, labels.to_mm(voxels[0])) if has_sacrum else None,
    )


def place(code: int) -> int:
    """Place of a level's code among the usual ones, from head to foot; T13 and L6 count as T12 and L5."""
    name = {"T13": "T12", "L6": "L5"}.get(LEVEL_OF_CODE[code], LEVEL_OF_CODE[code])
    return [other for other in ORDER if other not in ("T13", "L6")].index(name)


def rises(codes: Sequence[int]) -> bool:
    """Whether codes from foot to head name levels from foot to head, each in its own place."""
    return all(place(upper) < place(lower) for lower, upper in pairwise(codes))


def as_spine(labels: Volume) -> SpineMap:
    """A label map on the network's grid as if the network had said it."""
    classes = np.zeros((len(spine_network.CLASSES), *labels.array.shape), np.float16)
    classes[spine_network.BODY] = np.isin(labels.array, BODY_CODES)
    classes[spine_network.SACRUM] = labels.array == SACRUM
    classes[spine_network.RIB] = labels.array == RIB
    return SpineMap(classes, labels.affine, np.ones(labels.array.shape, bool))


def column_through(centres_mm: NDArray[np.float64]) -> Column:
    """The column through (n, 3) bodies' centres, from foot to head, cut halfway between them."""
    first, last = centres_mm[1] - centres_mm[0], centres_mm[-1] - centres_mm[-2]
    path = np.vstack([centres_mm[0] - 0.6 * first, centres_mm, centres_mm[-1] + 0.6 * last])
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    every = np.arange(0, length[-1], 1.0)
    curve = np.column_stack([np.interp(every, length, path[:, axis]) for axis in range(3)])
    cuts = (length[1:-2] + length[2:-1]) / 2
    return Column(curve, cuts, np.zeros(len(cuts), bool))


def order_flags(names: list[str], i: int) -> list[str]:
    """What is wrong with the place of the i-th of these names, which run from foot to head."""
    below = [(a, b) for a, b in pairwise(names)][i - 1] if i else None
    above = (names[i], names[i + 1]) if i + 1 < len(names) else None
    found = []
    if any(pair and not _rises(*pair) for pair in (below, above)):
        found.append("out_of_order")
    elif any(pair and not _adjoins(*pair) for pair in (below, above)):
        found.append("gap")
    return found


def _rises(lower: str, upper: str) -> bool:
    return ORDER.index(upper) < ORDER.index(lower)


def _adjoins(lower: str, upper: str) -> bool:
    """Whether one level may follow another; T13 and L6 exist in some people only."""
    between = ORDER[ORDER.index(upper) + 1 : ORDER.index(lower)]
    return set(between) <= {"T13", "L6"}


def _shape_flags(labels: Volume, code: int, centres: dict[int, NDArray[np.float64]]) -> list[str]:
    """Whether a label lies in two pieces, or on one side of its vertebra only."""
    mask = labels.array == code
    parts, n = cc3d.connected_components(mask, connectivity=26, return_N=True)
    sizes = np.bincount(parts.ravel(), minlength=n + 1)[1:]
    large = [i + 1 for i in np.argsort(-sizes, kind="stable")[:2] if sizes[i] > SPECK * sizes.max()]
    middle = _midline_mm(code, centres)
    sides = [np.mean(labels.to_mm(np.argwhere(parts == i))[:, 0] > middle) for i in large]
    if any(abs(side - 0.5) > ONE_SIDED - 0.5 for side in sides):
        return ["mixed_sides"]
    return ["split"] if len(large) > 1 else []


def _midline_mm(code: int, centres: dict[int, NDArray[np.float64]]) -> float:
    """Where the nearest other bodies say that the middle of this one lies, from side to side."""
    here = centres[code]
    others = sorted((c for other, c in centres.items() if other != code), key=lambda c: abs(c[2] - here[2]))[:3]
    if len(others) < 2:
        return float(here[0])
    x, z = np.array([c[0] for c in others]), np.array([c[2] for c in others])
    return float(np.polyval(np.polyfit(z, x, 1), here[2]))
