"""Name the vertebrae of a column together, from all that is in view.

Every way to name them (four, five or six lumbar vertebrae, with or without a thirteenth thoracic vertebra, from each
possible start) gets a posterior probability from the sacrum, the ribs and the sizes. The likeliest way gives the names;
the confidence in a name is its probability over all ways.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trabecula.errors import StudyFailure
from trabecula.segment.evidence import Evidence

CERTAIN = 0.9
# Flags that say nothing against a name.
HARMLESS = {"transitional", "cut_by_mask"}
# Number of lumbar vertebrae, with a thirteenth thoracic vertebra or without, and how common that is (Carrino et al.,
# Radiology 2011;262:262-268; Paik et al., Spine 2013, doi:10.1097/BRS.0b013e318277d3a7; rounded).
VARIANTS = ((5, False, 0.92), (4, False, 0.025), (6, False, 0.035), (5, True, 0.01), (4, True, 0.01))
# How often a long rib is seen at a level, and at all levels above the last ones.
RIB_SEEN = {"T13": 0.8, "T12": 0.94, "L1": 0.03}
RIB_SEEN_ABOVE, RIB_SEEN_BELOW = 0.97, 0.01
# In a poor scan all ribs may be missed at once.
RIBS_LOST = 0.02
# How far ribs come from the spine's axis, mean and spread, mm: the twelfth are some 3 to 14 cm long, the eleventh about
# twice that, and those above go round the trunk (Gray's Anatomy); rounded, and wide for differences of build.
RIB_REACH_MM = {
    "L1": (35.0, 15.0),
    "T13": (40.0, 20.0),
    "T12": (65.0, 25.0),
    "T11": (100.0, 20.0),
    "T10": (130.0, 20.0),
}
RIB_REACH_ABOVE_MM = (145.0, 25.0)
# A rib of up to the first length (mm) is no rib at all, and a rib of the second length is unmistakable.
STUB_MM, RIB_MM = 8.0, 26.0
# How often the sacrum is taken for something else, and something else for the sacrum.
SACRUM_MISSED, SACRUM_MISTAKEN = 0.03, 0.001
# Height with the disc (mm) and cube root of the body's volume (mm) of C5 and from T1 to L5: depth, width and height
# of bodies of Panjabi et al., Spine 1991;16:888-901 and 1992;17:299-306, with discs of 4 to 11 mm; only ratios matter.
HEIGHT_MM = (17.0, 18.5, 19.5, 20.0, 20.5, 21.5, 22.5, 24.0, 25.0, 26.0, 27.5, 29.0, 31.5, 34.5, 36.5, 38.0, 38.5, 38.0)
SIZE_MM = (15.5, 19.0, 19.2, 19.4, 20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 26.3, 27.6, 29.3, 31.0, 32.3, 33.3, 34.0, 34.4)
# Spread of the logarithms between people, and between the vertebrae of one person.
BETWEEN, WITHIN = 0.1, 0.08
# Neighbours' sizes vary together: they tell less than as many independent sizes.
SIZE_WEIGHT = 0.5
# A piece this much higher or lower than its neighbours is two vertebrae, or a part of one.
MERGED, SPLIT = 1.6, 0.6
# Share of wrong names that are wrong by one level.
OFF_BY_ONE = 0.9
# How seldom a scan of the trunk shows cervical vertebrae alone.
CERVICAL = 0.05
# Without sacrum and last rib, sizes alone never make a name certain.
BLIND = 0.85
# From this probability on, the number of vertebrae is reported as unusual.
UNUSUAL = 0.2


@dataclass(frozen=True)
class Level:
    """Name of one vertebra.

    Attributes
    ----------
    piece : int
        Index of its piece in the column, from the foot.
    name : str
        Level name.
    confidence : float
        Posterior probability of the name.
    flags : tuple of str
        Reasons against the numbering; keys of `errors.LEVEL_FLAGS`.
    """

    piece: int
    name: str
    confidence: float
    flags: tuple[str, ...] = ()

    @property
    def uncertain(self) -> bool:
        """The name may be off by one."""
        return self.confidence < CERTAIN or bool(set(self.flags) - HARMLESS)


def name_levels(
    evidence: Evidence, names: Sequence[str] = (), *, trust: float = 0.0, blind: float = BLIND
) -> list[Level]:
    """Name vertebrae, from foot to head.

    Parameters
    ----------
    evidence : Evidence
        Evidence from the scan.
    names : sequence of str
        Names that a reader or another network gave; these are kept, and only the confidence in them is found. None by
        default.
    trust : float
        How often such names are right.
    blind : float
        Highest confidence where neither the sacrum nor the last rib is in view.

    Raises
    ------
    StudyFailure
        ``no_vertebra`` where there are more pieces than a spine has vertebrae.
    """
    offsets = [p - evidence.pieces[0] for p in evidence.pieces]
    ways = _ways(offsets, evidence)
    if names:
        ways = {way: weight * _trusted(way, names, trust) for way, weight in ways.items()}
    total = sum(ways.values())
    if not total:
        raise StudyFailure("no_vertebra", f"{len(offsets)} pieces, more than a spine has vertebrae")
    best = tuple(names) or max(ways, key=lambda way: ways[way])
    most = 1.0 if is_anchored(evidence) else blind
    # A level that others left out is no vertebra that was overlooked.
    in_row = replace(evidence, pieces=tuple(range(len(offsets)))) if names else evidence
    unusual = sum(weight for way, weight in ways.items() if _is_unusual(way, evidence)) / total
    transitional = ("transitional",) if unusual > UNUSUAL else ()
    return [
        Level(piece, name, min(most, _share(ways, i, name, total)), flags + transitional)
        for i, (piece, name, flags) in enumerate(zip(evidence.pieces, best, piece_flags(in_row), strict=True))
    ]


def _share(ways: Mapping[tuple[str, ...], float], i: int, name: str, total: float) -> float:
    """Give the share of all ways, by their weights, that give the i-th vertebra this name."""
    return sum(weight for way, weight in ways.items() if way[i] == name) / total


def is_anchored(evidence: Evidence) -> bool:
    """Tell whether the sacrum is in view, or the last rib: a vertebra with a long rib above a vertebra without."""
    sides = [side[~np.isnan(side)] for side in evidence.ribs]
    bears = [len(side) > 0 and side.max() >= RIB_MM for side in sides]
    lacks = [len(side) > 0 and side.max() < STUB_MM for side in sides]
    last = bears.index(True) if True in bears else 0
    return evidence.sacrum is True or any(lacks[:last])


def _trusted(way: Sequence[str], names: Sequence[str], trust: float) -> float:
    """Give how often `names` are given where the names of `way` are right; wrong names are mostly off by one."""
    if tuple(way) == tuple(names):
        return trust
    by_one = abs(_place(way[0]) - _place(names[0])) == 1
    return (1 - trust) * (OFF_BY_ONE / 2 if by_one else 0.01)


def _ways(offsets: Sequence[int], evidence: Evidence) -> dict[tuple[str, ...], float]:
    """List every way to name the vertebrae, with its weight; ways with the same names are put together."""
    ways: dict[tuple[str, ...], float] = {}
    for lumbar, thirteenth, prior in VARIANTS:
        order = order_of(lumbar, thirteenth=thirteenth)
        starts = [start for start in range(len(order)) if start + offsets[-1] < len(order)]
        for start in starts:
            names = tuple(order[start + offset] for offset in offsets)
            weight = prior * (CERVICAL if names[0].startswith("C") else 1.0)
            weight *= _sacrum_likelihood(evidence.sacrum, is_last=start == 0)
            weight *= _ribs_likelihood(names, evidence.ribs) * _reach_likelihood(names, evidence.reaches_mm)
            weight *= _sizes_likelihood(names, evidence)
            ways[names] = ways.get(names, 0.0) + weight
    return ways


def order_of(lumbar: int, *, thirteenth: bool) -> list[str]:
    """List the level names from the last lumbar vertebra upwards.

    >>> order_of(4, thirteenth=True)[:6]
    ['L4', 'L3', 'L2', 'L1', 'T13', 'T12']
    """
    parts = (("L", lumbar), ("T", 13 if thirteenth else 12), ("C", 7))
    return [f"{part}{i}" for part, n in parts for i in range(n, 0, -1)]


def _is_unusual(names: Sequence[str], evidence: Evidence) -> bool:
    """Tell whether names mean four or six lumbar vertebrae, or a thirteenth thoracic vertebra."""
    return "T13" in names or "L6" in names or (evidence.sacrum is True and names[0] == "L4")


def _sacrum_likelihood(sacrum: bool | None, *, is_last: bool) -> float:
    """Give how likely the sacrum is seen or not, if the lowest vertebra in view is the last lumbar one or not."""
    if sacrum is None:
        return 1.0
    chance = 1 - SACRUM_MISSED if is_last else SACRUM_MISTAKEN
    return chance if sacrum else 1 - chance


def _ribs_likelihood(names: Sequence[str], ribs_mm: NDArray[np.float64]) -> float:
    """Give how likely these ribs are at levels of these names.

    The mean of both sides counts, and lengths between those of a stub and of a rib count as doubt.
    """
    product = 1.0
    lost = 0.0 if np.nansum(ribs_mm) else RIBS_LOST
    for name, sides in zip(names, ribs_mm, strict=True):
        if np.all(np.isnan(sides)):
            continue
        seen = float(np.nanmean(np.clip((sides - STUB_MM) / (RIB_MM - STUB_MM), 0, 1)))
        chance = RIB_SEEN.get(name, RIB_SEEN_ABOVE if name.startswith("T") else RIB_SEEN_BELOW)
        product *= seen * chance + (1 - seen) * (1 - chance)
    return lost + (1 - lost) * product


def _reach_likelihood(names: Sequence[str], reaches_mm: NDArray[np.float64]) -> float:
    """Give how likely ribs of these reaches are at levels of these names; no rib counts beyond two deviations."""
    product = 1.0
    for name, sides in zip(names, reaches_mm, strict=True):
        if np.all(np.isnan(sides)):
            continue
        mean, spread = RIB_REACH_MM.get(name, RIB_REACH_ABOVE_MM if name.startswith("T") else RIB_REACH_MM["L1"])
        # A rib that reaches all around tells no more than that it is not one of the last.
        apart = min(float(np.nanmean(sides)), RIB_REACH_ABOVE_MM[0]) - mean
        product *= float(np.exp(-0.5 * min((apart / spread) ** 2, 4.0)))
    return product


def _sizes_likelihood(names: Sequence[str], evidence: Evidence) -> float:
    """Give how likely these sizes are at levels of these names, whatever the person's own size."""
    places = [_place(name) for name in names]
    shares = [
        np.log(seen) - np.log(np.array(table)[places])
        for seen, table in ((evidence.heights_mm, HEIGHT_MM), (evidence.sizes_mm, SIZE_MM))
    ]
    ratio = np.concatenate(shares)
    ratio = ratio[~np.isnan(ratio)]
    if not len(ratio):
        return 1.0
    middle = float(np.median(ratio))
    # Fractures and missed discs make outliers: no size counts for more than two and a half deviations.
    apart = np.minimum(np.abs(ratio - middle) / WITHIN, 2.5) ** 2
    return float(np.exp(-0.5 * SIZE_WEIGHT * (apart.sum() + middle**2 / (BETWEEN**2 + WITHIN**2 / len(ratio)))))


def _place(name: str) -> int:
    """Give the row of a level in the tables of sizes; T13 is like T12, L6 like L5, and all cervical levels like C5.

    >>> _place("C3"), _place("T1"), _place("T13"), _place("L5")
    (0, 1, 12, 17)
    """
    number = int(name[1:])
    return {"C": 0, "T": min(number, 12), "L": 12 + min(number, 5)}[name[0]]


def piece_flags(evidence: Evidence) -> list[tuple[str, ...]]:
    """Flag each vertebra whose place in the order is in doubt: two in one, one in two, or a vertebra missed below.

    Where the sacrum is seen, all vertebrae above the first doubt share it; without the sacrum, all vertebrae do.
    """
    n = len(evidence.pieces)
    flags: list[tuple[str, ...]] = [()] * n
    relative = _relative_heights(evidence)
    for i in range(n):
        if relative[i] > MERGED or evidence.fused[i]:
            flags[i] = (*flags[i], "merged")
        if relative[i] < SPLIT and _is_half(relative, evidence, i):
            flags[i] = (*flags[i], "split")
    for i, (below, above) in enumerate(pairwise(evidence.pieces)):
        if above - below > 1:
            flags[i + 1] = (*flags[i + 1], "gap")
    # Two vertebrae that have grown together are counted as two: the order goes on behind them.
    doubtful = [i for i in range(n) if flags[i] and not evidence.fused[i]]
    if doubtful:
        first = doubtful[0] if evidence.sacrum else 0
        flags = [flags[i] or (("order_in_doubt",) if i >= first else ()) for i in range(n)]
    return flags


def _relative_heights(evidence: Evidence) -> NDArray[np.float64]:
    """Give (n,) heights relative to those of the nearest other vertebrae; NaN where too few are measured.

    Where the end of the column leaves a height open, it is at least the length along which the body was found.
    """
    measured = np.flatnonzero(~np.isnan(evidence.heights_mm))
    least = np.where(np.isnan(evidence.heights_mm), evidence.spans_mm, evidence.heights_mm)
    relative = np.full(len(least), np.nan)
    for i in range(len(least)):
        others = measured[measured != i]
        if len(others) >= 2:
            # Neighbours tell most; heights change slowly along the spine.
            nearest = others[np.argsort(np.abs(others - i), kind="stable")[:4]]
            relative[i] = least[i] / np.median(evidence.heights_mm[nearest])
    return relative


def _is_half(relative: NDArray[np.float64], evidence: Evidence, i: int) -> bool:
    """Tell whether a low piece is half a vertebra: another low piece lies beside it.

    A single low piece is a fracture, and a piece at the end is cut off.
    """
    inner = ~np.isnan(evidence.heights_mm)
    beside = [j for j in (i - 1, i + 1) if 0 <= j < len(relative)]
    return bool(inner[i]) and any(inner[j] and relative[j] < SPLIT for j in beside)
