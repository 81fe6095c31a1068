"""Review the level names of a label map that a reader or another network made."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cc3d
import numpy as np
from numpy.typing import NDArray

from trabecula.errors import StudyFailure
from trabecula.image.levels import BODY_CODES, LEVEL_OF_CODE, ORDER, RIB, SACRUM, SUPERNUMERARY, USUAL_VERTEBRAE
from trabecula.image.volume import Volume, aligned_grid, bounds_mm, resample
from trabecula.model import spine_network
from trabecula.model.spine_network import SPACING_MM, VOXEL_MM3, SpineMap
from trabecula.segment.column import Column, at_every_mm, lengths_mm
from trabecula.segment.evidence import Evidence, at_edge, find_ribs, sees_sacrum
from trabecula.segment.numbering import Level, name_levels

# A label in two pieces is two vertebrae under one name, unless the second piece is a speck: less than this share.
SPECK = 0.2
# A label with more than this share on one side of the spine shares its vertebra with another label.
ONE_SIDED = 0.75
# A label smaller than this is no vertebral body.
LEAST_MM3 = 800.0


@dataclass(frozen=True)
class Origin:
    """How far level names are trusted, by who gave them.

    Attributes
    ----------
    trust : float
        How often names of this origin are right.
    blind : float
        The same where neither the sacrum nor the last rib is in view.
    """

    trust: float
    blind: float


# Networks give wrong names in a few per cent of scans, and their output does not say in which.
NETWORK = Origin(0.95, 0.8)
# Whoever has made label maps has looked at them.
READER = Origin(0.99, 0.99)


def review(labels: Volume, origin: Origin) -> list[Level]:
    """Name the levels of a label map, from foot to head, with the confidence in each name and the flags against it.

    Parameters
    ----------
    labels : Volume
        uint8 canonical label map (see `levels`).
    origin : Origin
        Trust in the names.

    Raises
    ------
    StudyFailure
        ``no_vertebra`` where the map holds no vertebra.
    """
    coarse = _on_coarse_grid(labels)
    codes = [int(code) for code in np.unique(coarse.array) if code in BODY_CODES]
    codes = [code for code in codes if (coarse.array == code).sum() * VOXEL_MM3 >= LEAST_MM3]
    if not codes:
        raise StudyFailure("no_vertebra")
    centres = {code: _centre_mm(coarse, code) for code in codes}
    codes.sort(key=lambda code: centres[code][2])
    names = [LEVEL_OF_CODE[code] for code in codes]
    if len(codes) == 1:
        return [Level(0, names[0], origin.blind)]
    evidence = evidence_in(coarse, codes, np.array([centres[code] for code in codes]))
    levels = name_levels(evidence, names, trust=origin.trust, blind=origin.blind)
    flags = [[*order_flags(names, i), *_shape_flags(coarse, code, centres)] for i, code in enumerate(codes)]
    return [
        replace(level, flags=tuple(dict.fromkeys((*level.flags, *more))))
        for level, more in zip(levels, flags, strict=True)
    ]


def _on_coarse_grid(labels: Volume) -> Volume:
    """Bring a label map to a patient-aligned grid with the network's spacing."""
    shape, affine = aligned_grid(*bounds_mm(labels), SPACING_MM)
    return resample(labels, shape, affine, outside=0, how="nearest")


def _centre_mm(labels: Volume, code: int) -> NDArray[np.float64]:
    """Give the middle of a label's largest piece; specks elsewhere, as at rims of other bodies, do not count."""
    largest = cc3d.largest_k(labels.array == code, k=1, connectivity=6)
    return labels.to_mm([np.argwhere(largest).mean(axis=0)])[0]


def evidence_in(labels: Volume, codes: Sequence[int], centres_mm: NDArray[np.float64]) -> Evidence:
    """Gather the evidence for the numbering from a label map on the network's grid.

    Codes and (n, 3) centres run from foot to head.
    """
    spine, column = as_spine(labels), column_through(centres_mm)
    voxels_of_body = [np.argwhere(labels.array == code) for code in codes]
    cut = np.array([at_edge(spine.seen, voxels).any() for voxels in voxels_of_body])
    spans = np.array([np.ptp(column.arc_mm(labels.to_mm(voxels))[0]) for voxels in voxels_of_body])
    pieces = range(len(codes))
    ribs, reaches = find_ribs(spine, column, pieces)
    # A map without any rib or sacrum was made of vertebrae alone: it does not say that the scan shows none.
    if not np.any(labels.array == RIB):
        ribs = reaches = np.full((len(codes), 2), np.nan)
    has_sacrum = bool(np.any(labels.array == SACRUM))
    return Evidence(
        pieces=tuple(pieces) if not rises(codes) else tuple(place(codes[0]) - place(code) for code in codes),
        ribs=ribs,
        reaches_mm=reaches,
        sizes_mm=np.where(cut, np.nan, [np.cbrt(len(voxels) * VOXEL_MM3) for voxels in voxels_of_body]),
        # In a map, only the bodies' own extent tells two vertebrae under one label from one.
        heights_mm=np.where(cut, np.nan, spans),
        spans_mm=spans,
        fused=np.zeros(len(codes), bool),
        sacrum=sees_sacrum(spine, labels.to_mm(voxels_of_body[0])) if has_sacrum else None,
    )


def place(code: int) -> int:
    """Give the place of a level's code among the usual ones, from head to foot; T13 and L6 count as T12 and L5.

    >>> place(1), place(20), place(28) == place(19)  # C1, L1, T13 and T12
    (0, 19, True)
    """
    name = {"T13": "T12", "L6": "L5"}.get(LEVEL_OF_CODE[code], LEVEL_OF_CODE[code])
    return USUAL_VERTEBRAE.index(name)


def rises(codes: Sequence[int]) -> bool:
    """Tell whether codes from foot to head name levels from foot to head, each in its own place.

    >>> rises([24, 23, 22]), rises([24, 22, 23])  # L5 L4 L3, and L5 L3 L4
    (True, False)
    """
    return all(place(upper) < place(lower) for lower, upper in pairwise(codes))


def as_spine(labels: Volume) -> SpineMap:
    """Turn a label map on the network's grid into the answer of a network that is sure of it."""
    classes = np.zeros((len(spine_network.CLASSES), *labels.array.shape), np.float16)
    classes[spine_network.BODY] = np.isin(labels.array, BODY_CODES)
    classes[spine_network.SACRUM] = labels.array == SACRUM
    classes[spine_network.RIB] = labels.array == RIB
    return SpineMap(classes, labels.affine, np.ones(labels.array.shape, bool))


def column_through(centres_mm: NDArray[np.float64]) -> Column:
    """Make the column through (n, 3) centres of bodies, from foot to head, cut halfway between them."""
    first, last = centres_mm[1] - centres_mm[0], centres_mm[-1] - centres_mm[-2]
    path = np.vstack([centres_mm[0] - 0.6 * first, centres_mm, centres_mm[-1] + 0.6 * last])
    lengths = lengths_mm(path)
    cuts = (lengths[1:-2] + lengths[2:-1]) / 2
    return Column(at_every_mm(path), cuts, np.zeros(len(cuts), bool))


def order_flags(names: list[str], i: int) -> list[str]:
    """Flag the i-th of these names, which run from foot to head, where it does not fit its neighbours' names.

    >>> order_flags(["L5", "L3", "L2"], 1), order_flags(["L5", "L4", "L5"], 1), order_flags(["L1", "T12"], 0)
    (['gap'], ['out_of_order'], [])
    """
    pairs = [*pairwise(names)][max(i - 1, 0) : i + 1]
    if not all(_rises(lower, upper) for lower, upper in pairs):
        return ["out_of_order"]
    return [] if all(_adjoins(lower, upper) for lower, upper in pairs) else ["gap"]


def _rises(lower: str, upper: str) -> bool:
    """Tell whether one level is nearer to the head than another."""
    return ORDER.index(upper) < ORDER.index(lower)


def _adjoins(lower: str, upper: str) -> bool:
    """Tell whether one level may follow another, with at most levels between that only some people have."""
    between = ORDER[ORDER.index(upper) + 1 : ORDER.index(lower)]
    return set(between) <= set(SUPERNUMERARY)


def _shape_flags(labels: Volume, code: int, centres: dict[int, NDArray[np.float64]]) -> list[str]:
    """Flag a label that lies in two pieces, or on one side of its vertebra only."""
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
    """Give where the middle of a body should lie from side to side, by the line through the nearest other bodies."""
    centre = centres[code]
    others = [other for name, other in centres.items() if name != code]
    nearest = sorted(others, key=lambda other: abs(other[2] - centre[2]))[:3]
    if len(nearest) < 2:
        return float(centre[0])
    x, _, z = np.transpose(nearest)
    return float(np.polyval(np.polyfit(z, x, 1), centre[2]))
