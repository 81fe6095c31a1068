"""Describe where the slices of a scan lie, from positions and orientations alone (DICOM PS3.3 C.7.6.2.1.1).

A stack of slices is described by their *places*: millimetres along a row, along a column and along the normal, counted
from the first slice. They should lie on one straight line (`is_straight`), which may lean away from the normal
(`lean_of`), at even distances along it (`even_spacing_of`).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trabecula.errors import StudyFailure

SAME_POSITION_MM = 0.01
# Positions are often written with one decimal: that rounding, and the fit's share of it, is no unevenness.
ROUNDING_MM = 0.07
# Steps within this part of the usual one are mild unevenness: all slices stay, at their mean distance.
MILD = 0.1

# Rotations of a scan overlap by so many slices at most, and no detector is wider.
MOST_OVERLAPPING = 3
_WIDEST_ROTATION_MM = 160
# Slices of two rotations nearer than this part of the usual step lie at nearly one place.
_NEARLY = 0.3

# A slice that lies further beside the straight line of the others is no part of their stack.
STRAY_MM = 0.5

# Far beyond the largest real scans; a header that claims more is damaged or hostile.
MAX_VOXELS = 2**31
MAX_PIXELS = 2**24

# What interpolation along the normal mends: a key of `trabecula.errors.REPAIRS`.
Unevenness = Literal["missing_slices", "irregular_spacing"]


@dataclass(frozen=True)
class EvenSpacing:
    """Even distances along the normal at which a volume holds a stack's slices.

    Attributes
    ----------
    step_mm : float
        Distance between neighbouring slices of the volume.
    n_slices : int
        Number of slices of the volume.
    largest_gap_mm : float
        Largest distance between neighbouring slices of the scan.
    repair : str or None
        Why slices have to be interpolated; None where the scan's lie at even distances already.
    """

    step_mm: float
    n_slices: int
    largest_gap_mm: float
    repair: Unevenness | None


def is_thick(spacing_mm: float, limit_mm: float) -> bool:
    """Tell whether slices lie further apart than a limit, by more than positions are rounded.

    >>> is_thick(3.05, 3.0), is_thick(3.2, 3.0)
    (False, True)
    """
    return spacing_mm > limit_mm + ROUNDING_MM


def normal_of(orientation: ArrayLike) -> NDArray[np.float64]:
    """Give the (3,) unit normal of a slice from its (6,) row and column directions.

    Raises
    ------
    StudyFailure
        If the directions are no two perpendicular unit vectors (no_geometry).

    Examples
    --------
    >>> normal_of([1, 0, 0, 0, 1, 0]).tolist()
    [0.0, 0.0, 1.0]
    """
    return _normal(tuple(np.ravel(np.asarray(orientation, float)).tolist()))


@lru_cache(maxsize=1000)  # nearly all slices of a scan have the same directions
def _normal(orientation: tuple[float, ...]) -> NDArray[np.float64]:
    row, column = np.reshape(orientation, (2, 3))
    lengths = np.linalg.norm([row, column], axis=1)
    if np.any(np.abs(lengths - 1) > 0.01) or abs(row @ column) > 0.01:
        raise StudyFailure("no_geometry", "directions of rows and columns are not perpendicular unit vectors")
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    normal.flags.writeable = False
    return normal


def distances_mm(positions_mm: ArrayLike, orientation: ArrayLike) -> NDArray[np.float64]:
    """Give the (n,) distances of slices along their common normal, in millimetres, from (n, 3) positions.

    >>> distances_mm([[-17, -20, 3], [-17, -20, 6]], [1, 0, 0, 0, 1, 0]).tolist()
    [3.0, 6.0]
    """
    return np.asarray(positions_mm, float) @ normal_of(orientation)


def places_of(positions_mm: ArrayLike, orientation: ArrayLike) -> NDArray[np.float64]:
    """Give the (n, 3) places of slices, counted from the first one.

    Columns are millimetres along a row, along a column and along the normal.

    >>> places_of([[-17, -20, 3], [-17, -19, 6]], [1, 0, 0, 0, 1, 0]).tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.0, 3.0]]
    """
    row, column = np.reshape(np.asarray(orientation, float), (2, 3))
    positions = np.asarray(positions_mm, float)
    return (positions - positions[0]) @ np.column_stack([row, column, normal_of(orientation)])


def lean_of(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the (2,) drift of slices along rows and columns per millimetre along the normal, from their (n, 3) places.

    It is the median over pairs of slices half a stack apart, so that a few strays do not change it.

    >>> lean_of(np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 4.0], [0.0, 2.0, 8.0], [0.0, 3.0, 12.0]])).tolist()
    [0.0, 0.25]
    """
    places = places[np.argsort(places[:, 2], kind="stable")]
    half = len(places) // 2
    steps = places[half:] - places[: len(places) - half]
    steps = steps[np.abs(steps[:, 2]) >= SAME_POSITION_MM]
    return np.median(steps[:, :2] / steps[:, 2:], axis=0) if len(steps) else np.zeros(2)


def is_straight(places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the slices that lie on the straight line of most of them: (n,), from their (n, 3) places.

    >>> is_straight(np.array([[0.0, 0.0, 0.0], [5.0, 0.0, 3.0], [0.0, 0.0, 6.0], [0.0, 0.0, 9.0], [0.0, 0.0, 12.0]]))
    array([ True, False,  True,  True,  True])
    """
    beside = places[:, :2] - places[:, 2:] * lean_of(places)
    return np.linalg.norm(beside - np.median(beside, axis=0), axis=1) <= STRAY_MM


def even_spacing_of(distances: NDArray[np.float64], *, max_gap_mm: float) -> EvenSpacing:
    """Find the even distances at which a volume holds a stack's slices.

    Slices that are even but for rounding stay as they are. Where all steps are whole multiples of the usual one,
    slices are missing and are put back; other steps give a volume at the usual step.

    Parameters
    ----------
    distances : (n,) array
        Distances along the normal in millimetres, ascending, at least two.
    max_gap_mm : float
        Uneven slices further apart than this can't be interpolated.

    Raises
    ------
    StudyFailure
        duplicate_position, missing_slices or irregular_spacing.

    Examples
    --------
    >>> even_spacing_of(np.array([0.0, 3.0, 6.0, 12.0]), max_gap_mm=10)
    EvenSpacing(step_mm=3.0, n_slices=5, largest_gap_mm=6.0, repair='missing_slices')
    """
    steps = np.diff(distances)
    if steps.min() < SAME_POSITION_MM:
        raise StudyFailure("duplicate_position", f"{int((steps < SAME_POSITION_MM).sum())} slices")
    numbers = np.arange(len(distances))
    slope, first = np.polyfit(numbers, distances, 1)
    largest = float(steps.max())
    if np.abs(distances - first - slope * numbers).max() <= ROUNDING_MM:
        return EvenSpacing(float(slope), len(distances), largest, None)
    length = float(distances[-1] - distances[0])
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])  # of two middle ones the smaller: a gap is no usual step
    multiples = np.round(steps / usual)
    are_multiples = bool(np.all(multiples >= 1) and np.abs(steps - multiples * usual).max() <= MILD * usual)
    if largest > max_gap_mm + ROUNDING_MM and not (are_multiples and multiples.max() == 1):
        detail = f"steps of {steps.min():.2f} to {largest:.2f} mm, mostly {usual:.2f} mm"
        raise StudyFailure("missing_slices" if are_multiples else "irregular_spacing", detail)
    if are_multiples:
        n = int(multiples.sum()) + 1
        repair: Unevenness = "irregular_spacing" if n == len(distances) else "missing_slices"
        return EvenSpacing(length / (n - 1), n, largest, repair)
    n = int(length / usual + ROUNDING_MM) + 1
    return EvenSpacing(usual, n, largest, "irregular_spacing")


def repeats_of_rotations(distances: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the slices that repeat the one below them because rotations of an axial scan overlap.

    The first slice of a rotation then lies where the last one of the rotation before it does, or nearly there; up to
    three slices may overlap. This comes at regular distances, with single slices between. Two rotations alone are
    equally long and share one slice: stations that overlap by several are no rotations. A phase that covers a range
    again makes another pattern.

    Parameters
    ----------
    distances : (n,) array
        Distances along the normal in millimetres, ascending.

    Returns
    -------
    (n,) array
        All False where the repeated places have another pattern.

    Examples
    --------
    >>> repeats_of_rotations(np.array([0.0, 3, 6, 9, 9, 12, 15, 18]))
    array([False, False, False, False,  True, False, False, False])
    >>> int(repeats_of_rotations(np.array([0.0, 0, 3, 3, 6, 6, 9, 9])).sum())
    0
    """
    none = np.zeros(len(distances), bool)
    steps = np.diff(distances)
    if len(steps) < 3:
        return none
    usual = float(np.sort(steps)[17 * len(steps) // 20])  # some steps are those of overlaps, a few are gaps
    near = steps <= _NEARLY * usual + SAME_POSITION_MM
    places = distances[1:][near]
    begins = np.diff(places, prepend=-np.inf) > 1.5 * usual
    first, last = places[begins], places[np.append(begins[1:], True)] if len(places) else places
    if len(places) and not (near[1:] & near[:-1]).any() and _are_regular(distances, first, last, usual):
        none[1:] = near
    return none


def _are_regular(
    distances: NDArray[np.float64], first: NDArray[np.float64], last: NDArray[np.float64], usual: float
) -> bool:
    """Tell whether the lowest and highest places of overlaps are those of rotations that are equally long."""
    slack = _NEARLY * usual + ROUNDING_MM
    low, high = float(distances[0]), float(distances[-1])
    longest = max(float(last[0]) - low, high - float(first[-1]))
    if len(first) == 1:
        are_equal = abs((last[0] - low) - (high - first[0])) <= slack and last[0] - first[0] < slack
        return bool(are_equal) and 2.5 * usual < longest <= _WIDEST_ROTATION_MM
    period = float(np.diff(first).min())
    numbers = (first - first[0]) / period
    length = period + float((last - first).max())
    return (
        bool((last - first < (MOST_OVERLAPPING - 0.5) * usual).all())
        and bool((first[1:] - last[:-1] > 2.5 * usual).all())
        and bool((np.abs(numbers - np.rint(numbers)) * period <= slack).all())
        and longest <= length + slack
        and min(float(first[0]) - low, high - float(last[-1])) > usual / 2
        and length <= _WIDEST_ROTATION_MM + slack
    )
