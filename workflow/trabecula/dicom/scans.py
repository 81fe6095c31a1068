"""Tell which slices of a series are one scan, by their headers: what is taken apart, and what stays together.

A series may hold several passes over the body: phases, repeated scans, stations. Each attribute that may tell them
apart parts the slices into *pieces* (`_partings`). Pieces that follow each other, and rotations that overlap by a few
slices, are put together again to *scans* (`_scans_of_pieces`). An attribute counts where that gives several even scans.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from trabecula.dicom.geometry import (
    MOST_OVERLAPPING,
    SAME_POSITION_MM,
    distances_mm,
    even_spacing_of,
    is_straight,
    places_of,
    repeats_of_rotations,
)
from trabecula.dicom.headers.record import Header
from trabecula.errors import StudyFailure

# What may tell phases or stations of one series apart, in the order in which it is tried.
_PARTS_BY = (
    *("phase", "cardiac_phase", "acquisition", "image_type", "thickness_mm", "kvp", "scan_options", "trigger_ms"),
    *("acquisition_moment", "acquisition_time", "content_time", "instance_uid"),
)
# Of these, what may take all together to tell phases apart: two acquisitions at two voltages.
_of_phase = attrgetter(*_PARTS_BY[:7])
# What goes up from slice to slice while a scan runs, so that it shows where the next pass begins.
_CLOCKS = ("acquisition", "acquisition_moment", "acquisition_time", "content_time")
# Slices are reconstructed in any order: these times are believed only where slices lie at one place.
_OF_RECONSTRUCTION = frozenset({"content_time"})
# The slices of one scan share these, whatever their UIDs and places say.
_OF_ONE_SCAN = ("study_date", "manufacturer", "model")
_FEW = 0.1  # so small a part beside another is a stray
_FEW_MISSING = 1.25  # a sweep that lacks no more than a fifth of its slices is one all the same
_OTHER_STEP = 1.2  # steps that differ by more are not those of one stack
_PART_OF_ROTATION = 0.75  # of a rotation that overlaps with the next one, also where it is cut
_BACK_STEPS = 2.5  # times of neighbouring slices may be swapped; who goes back further begins anew
_LEAST_OF_SWEEP = 4  # slices, in the mean
_HALF_DAY_S, _DAY_S = 43_200, 86_400
_MOMENT = re.compile(r"(?:(\d{4})(\d\d)(\d\d))?(\d\d):?(\d\d):?(\d\d(?:\.\d*)?)")

T = TypeVar("T")


def scans_of(headers: list[Header], max_gap_mm: float) -> list[list[Header]]:
    """Part slices that are alike into scans by the first attribute that gives even ones; else leave them together.

    Parameters
    ----------
    headers : list of Header
        Slices of one series with the same directions, matrix and pixel spacing.
    max_gap_mm : float
        Largest distance between slices that interpolation may bridge.

    Returns
    -------
    list of list of Header
        The slices of each scan, and strays.
    """
    if groups := _of_several_frames(headers) or _of_several_scanners(headers):
        return [scan for group in groups for scan in scans_of(group, max_gap_mm)]
    whole = _evenness(headers, max_gap_mm)
    for pieces in _partings(headers, whole):
        if scans := _scans_of_pieces(headers, pieces, whole, max_gap_mm):
            return scans
    return [headers]


def distances_of(headers: Sequence[Header]) -> NDArray[np.float64] | None:
    """Give the (n,) distances of slices along their normal, ascending; None without positions or orientation."""
    distances = _distances(headers)
    return None if distances is None else np.sort(distances)


def _distances(headers: Sequence[Header]) -> NDArray[np.float64] | None:
    orientation = headers[0].orientation
    points: list[float] = []
    for header in headers:
        if header.positions_mm is None or orientation is None:
            return None
        points += header.positions_mm
    try:
        return distances_mm(np.reshape(points, (-1, 3)), orientation or ())
    except StudyFailure:
        return None


# --- what is never one scan ---------------------------------------------------------------------------------


def _of_several_frames(headers: list[Header]) -> list[list[Header]]:
    """Part slices of several frames of reference, whose places can't be compared; none where there is one.

    Some tools give each file a frame of its own, or leave it out: that says nothing. A frame that one or two slices
    have, beside others that share one, is that of strays.
    """
    counts = Counter(header.frame_of_reference for header in headers if header.frame_of_reference)
    shared = {frame for frame, n in counts.items() if n > 2}
    strays = sum(n for frame, n in counts.items() if frame not in shared)
    if len(counts) < 2 or not shared or strays > _FEW * len(headers):
        return []
    usual = max(sorted(shared), key=lambda frame: counts[frame])
    return _sorted_parts(headers, lambda header: header.frame_of_reference or usual)


def _of_several_scanners(headers: list[Header]) -> list[list[Header]]:
    """Part slices of several days or scanners, which one UID may hold where people's ids were taken out; else none.

    A value that one or two slices have, or that is missing, is no scan.
    """
    for name in _OF_ONE_SCAN:
        stated = Counter(value for header in headers if (value := getattr(header, name)))
        if len(stated) > 1 and min(stated.values()) > 2:
            return _sorted_parts(headers, lambda header, name=name: getattr(header, name) or "")
    return []


def _sorted_parts(headers: Sequence[Header], key: Callable[[Header], Any]) -> list[list[Header]]:
    return [part for _, part in sorted(_groups(headers, key).items())]


def _groups(items: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    groups = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


# --- pieces ---------------------------------------------------------------------------------------------------


def _partings(headers: list[Header], whole: "_Evenness | None") -> Iterator[list[list[Header]]]:
    """Part slices into pieces by each attribute and the sweeps of each clock, in the order of their values.

    Where slices make no volume, several attributes together are tried last.
    """
    for name in _PARTS_BY:
        values = [getattr(header, name) for header in headers]
        n_values = len(set(values))
        if n_values == 1 or (whole and name in _OF_RECONSTRUCTION):
            continue
        if n_values <= len(headers) // 2:
            groups = _groups(range(len(headers)), values.__getitem__)
            ordered = sorted(groups, key=lambda value: (value is not None, value if value is not None else 0))
            yield [[headers[number] for number in groups[value]] for value in ordered]
        if name in _CLOCKS and len(sweeps := _sweeps(headers, _seconds(values))) > 1:
            yield sweeps
    if whole is None:
        together = _groups(headers, _of_phase)
        yield [together[values] for values in sorted(together, key=repr)]


def _seconds(values: Sequence[int | str | None]) -> list[float | None]:
    """Give moments as numbers that go up, also past midnight."""
    seconds = [float(value) if isinstance(value, int) else _second_of(value) for value in values]
    stated = [moment for moment in seconds if moment is not None]
    if not stated or max(stated) >= _DAY_S or max(stated) - min(stated) < _HALF_DAY_S:
        return seconds
    return [moment + _DAY_S if moment is not None and moment < _HALF_DAY_S else moment for moment in seconds]


@lru_cache(maxsize=10_000)
def _second_of(moment: str | None) -> float | None:
    """Give a number for a time of day (VR TM), or for a day with its time (DT), by which they can be sorted.

    >>> _second_of("101010.5"), _second_of("00:00:01"), _second_of("20190304000000") > _second_of("20190303235959")
    (36610.5, 1.0, True)
    """
    match = _MOMENT.match(moment or "")
    if not match:
        return None
    year, month, day, hour, minute, second = (float(part or 0) for part in match.groups())
    return ((year * 12 + month) * 31 + day) * _DAY_S + hour * 3600 + minute * 60 + second


class _Moment(NamedTuple):
    """Slices of one moment: their numbers, and the middle, lowest and highest of their distances."""

    slices: list[int]
    middle: float
    low: float
    high: float


def _sweeps(headers: list[Header], seconds: Sequence[float | None]) -> list[list[Header]]:
    """Part slices by time into sweeps, each of which goes along the normal in one direction.

    Slices without a time are a piece of their own. Where there are too many sweeps for scans, all slices are one piece.
    """
    distances = _distances(headers)
    timed = [number for number, second in enumerate(seconds) if second is not None]
    if distances is None or not timed or _is_one_way(distances[timed], np.array([seconds[n] for n in timed])):
        return [headers]
    groups = _groups(timed, seconds.__getitem__)
    places, moments = distances.tolist(), []
    for second in sorted(groups):
        there = [places[number] for number in groups[second]]
        low, high = min(there), max(there)
        moments.append(_Moment(groups[second], (low + high) / 2, low, high))
    steps = np.diff(np.sort(distances))
    usual = float(np.median(steps[steps >= SAME_POSITION_MM])) if steps.max() >= SAME_POSITION_MM else 0.0
    starts = [*_starts_of_sweeps(moments, _BACK_STEPS * usual), len(moments)]
    if len(starts) > len(headers) / _LEAST_OF_SWEEP:
        return [headers]
    sweeps = [[n for moment in moments[start:end] for n in moment.slices] for start, end in pairwise(starts)]
    timeless = [number for number, second in enumerate(seconds) if second is None]
    return [[headers[number] for number in sorted(sweep)] for sweep in (timeless, *sweeps) if sweep]


def _is_one_way(distances: NDArray[np.float64], seconds: NDArray[np.float64]) -> bool:
    """Tell whether slices follow each other up or down in the order of time: most scans do."""
    up, down = distances[np.lexsort((distances, seconds))], distances[np.lexsort((-distances, seconds))]
    return bool((np.diff(up) >= -SAME_POSITION_MM).all() or (np.diff(down) <= SAME_POSITION_MM).all())


def _starts_of_sweeps(moments: Sequence[_Moment], back_mm: float) -> list[int]:
    """Number the moments at which a sweep begins: those after which slices go back, or cover the sweep again."""
    steps = np.abs(np.diff([moment.middle for moment in moments]))
    unlike = np.abs(steps - np.median(steps)) if len(steps) else steps
    starts, direction, furthest, number = [0], 0, 0, 1
    low, high = moments[0].low, moments[0].high
    while number < len(moments):
        start, moment = None, moments[number]
        ahead = moment.middle - moments[furthest].middle
        if _covers(moment, low, high):
            start = number
        elif ahead * direction < -back_mm or (not direction and _is_amid(moment, moments[furthest], back_mm)):
            start = _turn_of(unlike, max(furthest, starts[-1] + 1), number)
        elif ahead * direction > 0 or (not direction and abs(ahead) > back_mm):
            direction, furthest = (1 if ahead > 0 else -1), number
        low, high = min(low, moment.low), max(high, moment.high)
        if start is not None:
            starts.append(start)
            direction, furthest, number = 0, start, start
            low, high = moments[start].low, moments[start].high
        number += 1
    return starts


def _covers(moment: _Moment, low: float, high: float) -> bool:
    """Tell whether several slices of a moment cover a sweep again, by more than half of the shorter."""
    shorter = min(moment.high - moment.low, high - low)
    return shorter > 0 and min(moment.high, high) - max(moment.low, low) > shorter / 2


def _is_amid(moment: _Moment, other: _Moment, margin_mm: float) -> bool:
    return other.low + margin_mm < moment.middle < other.high - margin_mm


def _turn_of(unlike: NDArray[np.float64], begin: int, end: int) -> int:
    """Number the moment at which slices turned or jumped back: the step to it is least like the others."""
    steps = unlike[begin - 1 : end]
    return begin + int(np.argmax(steps > steps.max() - SAME_POSITION_MM))


# --- scans ----------------------------------------------------------------------------------------------------


class _Evenness(NamedTuple):
    """How even slices are.

    Attributes
    ----------
    is_even : bool
        They lie at even distances.
    is_nearly_even : bool
        Some may be missing, few of them.
    """

    is_even: bool
    is_nearly_even: bool


class _Piece(NamedTuple):
    """Slices that one attribute puts together; the lowest and highest of their distances and their median step."""

    slices: list[Header]
    low: float
    high: float
    step: float


def _scans_of_pieces(
    headers: list[Header], pieces: list[list[Header]], whole: _Evenness | None, max_gap_mm: float
) -> list[list[Header]]:
    """Put pieces together to scans; none where they are one scan, or too many of their slices make no scan."""
    sound, strays = [], []
    for piece in pieces:
        evenness = _evenness(piece, max_gap_mm) if len(piece) > 2 else None
        (sound if evenness and (whole is None or evenness.is_nearly_even) else strays).append(piece)
    n_strays = sum(map(len, strays))
    if not sound or n_strays > _FEW * len(headers):
        return []
    scans = _put_together(sound, whole, max_gap_mm)
    if len(sound) == 1:
        is_one = not strays or bool(whole and whole.is_nearly_even)
    else:
        is_one = len(scans) == 1 and (not strays or _evenness(headers, max_gap_mm, rotations=True) is not None)
    if is_one:
        return []
    return sorted([*scans, *strays], key=lambda scan: next(n for n, piece in enumerate(pieces) if piece[0] is scan[0]))


def _put_together(sound: Iterable[list[Header]], whole: _Evenness | None, max_gap_mm: float) -> list[list[Header]]:
    """Put each piece to the first scan that it continues; pieces that make no volume together stay apart."""
    scans: list[list[_Piece]] = []
    for slices in sound:
        piece = _piece_of(slices)
        for scan in scans:
            if all(_continue(piece, other, whole) for other in scan):
                scan.append(piece)
                break
        else:
            scans.append([piece])
    apart = []
    for scan in scans:
        joined = [header for piece in scan for header in piece.slices]
        apart += [joined] if _is_one_volume(scan, joined, max_gap_mm) else [piece.slices for piece in scan]
    return apart


def _is_one_volume(scan: list[_Piece], joined: list[Header], max_gap_mm: float) -> bool:
    """Tell whether pieces make a volume: they follow each other, or overlap as rotations do."""
    if len(scan) == 1:
        return True
    ordered = sorted(scan, key=lambda piece: piece.low)
    overlap = any(before.high - after.low >= after.step / 2 for before, after in pairwise(ordered))
    return _evenness(joined, max_gap_mm, rotations=True) is not None and (not overlap or _overlap_as_rotations(joined))


def _piece_of(slices: list[Header]) -> _Piece:
    distances = distances_of(slices)
    assert distances is not None  # the piece is even
    return _Piece(slices, float(distances[0]), float(distances[-1]), float(np.median(np.diff(distances))))


def _continue(piece: _Piece, other: _Piece, whole: _Evenness | None) -> bool:
    """Tell whether two pieces may be of one scan: they follow each other, as rotations also do that overlap a little.

    Pieces that lie in each other are scans of their own, and so are those whose slices are differently far apart.
    """
    steps = sorted((piece.step, other.step))
    if steps[1] > _OTHER_STEP * steps[0] and not (whole and whole.is_even):
        return False
    overlap_mm = min(piece.high, other.high) - max(piece.low, other.low)
    shorter_mm = min(piece.high - piece.low, other.high - other.low)
    most_mm = min((MOST_OVERLAPPING - 0.5) * steps[0], _PART_OF_ROTATION * shorter_mm)
    return overlap_mm < max(steps[0] / 2, most_mm)


def _overlap_as_rotations(headers: Sequence[Header]) -> bool:
    distances = distances_of(headers)
    return distances is not None and bool(repeats_of_rotations(distances).any())


def _evenness(headers: Sequence[Header], max_gap_mm: float, *, rotations: bool = False) -> _Evenness | None:
    """Tell how even slices are; None where interpolation can't mend them, or two lie at one place.

    Where they may be overlapping rotations, one of two slices at a place counts.
    """
    distances = distances_of(headers)
    if distances is None or len(distances) < 2:
        return None
    if rotations:
        distances = distances[~repeats_of_rotations(distances)]
    try:
        spacing = even_spacing_of(distances, max_gap_mm=max_gap_mm)
    except StudyFailure:
        return None
    places = places_of([header.positions_mm or [] for header in headers], headers[0].orientation or ())
    if len(headers) > 2 and not is_straight(places).all():
        return None
    few_missing = spacing.repair == "missing_slices" and spacing.n_slices <= _FEW_MISSING * len(headers)
    return _Evenness(spacing.repair is None, spacing.repair is None or few_missing)
