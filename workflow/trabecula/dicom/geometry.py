"""Where the slices of a scan lie, from positions and orientations alone (DICOM PS3.3 C.7.6.2.1.1)."""

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

# A slice that lies further beside the straight line of the others is no part of their stack.
STRAY_MM = 0.5

# What interpolation along the normal mends: a key of `trabecula.errors.REPAIRS`.
Unevenness = Literal["missing_slices", "irregular_spacing"]


@dataclass(frozen=True)
class Ladder:
    """Even distances along the normal that stand for a stack's slices.

    Attributes
    ----------
    step_mm : float
        Distance between neighbours.
    n : int
        Number of slices.
    largest_mm : float
        Largest distance between neighbouring slices that there are.
    repair : str or None
        Why slices have to be interpolated; None where they lie on the ladder already.
    """

    step_mm: float
    n: int
    largest_mm: float
    repair: Unevenness | None


def is_thick(spacing_mm: float, limit_mm: float) -> bool:
    """Whether slices lie further apart than a limit, by more than positions are rounded."""
    return spacing_mm > limit_mm + ROUNDING_MM


def normal_of(orientation: ArrayLike) -> NDArray[np.float64]:
    """(3,) unit normal of a slice from its (6,) row and column directions.

    Raises
    ------
    StudyFailure
        If the directions are no two perpendicular unit vectors (no_geometry).
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
    """(n,) distances of slices along their common normal, in millimetres, from (n, 3) positions."""
    return np.asarray(positions_mm, float) @ normal_of(orientation)


def places_of(positions_mm: ArrayLike, orientation: ArrayLike) -> NDArray[np.float64]:
    """(n, 3) places of slices from the first one on: along a row, along a column, along the normal, in millimetres."""
    row, column = np.reshape(np.asarray(orientation, float), (2, 3))
    positions = np.asarray(positions_mm, float)
    return (positions - positions[0]) @ np.column_stack([row, column, normal_of(orientation)])


def lean_of(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2,) drift along rows and columns per millimetre along the normal; a few strays do not change it."""
    places = places[np.argsort(places[:, 2], kind="stable")]
    half = len(places) // 2
    steps = places[half:] - places[: len(places) - half]
    steps = steps[np.abs(steps[:, 2]) >= SAME_POSITION_MM]
    return np.median(steps[:, :2] / steps[:, 2:], axis=0) if len(steps) else np.zeros(2)


def is_straight(places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) whether slices (see `places_of`) lie on the straight line of most of them."""
    beside = places[:, :2] - places[:, 2:] * lean_of(places)
    return np.linalg.norm(beside - np.median(beside, axis=0), axis=1) <= STRAY_MM


def ladder_of(distances: NDArray[np.float64], *, max_gap_mm: float) -> Ladder:
    """Even distances for a stack of slices.

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
    """
    steps = np.diff(distances)
    if steps.min() < SAME_POSITION_MM:
        raise StudyFailure("duplicate_position", f"{int((steps < SAME_POSITION_MM).sum())} slices")
    numbers = np.arange(len(distances))
    slope, first = np.polyfit(numbers, distances, 1)
    largest = float(steps.max())
    if np.abs(distances - first - slope * numbers).max() <= ROUNDING_MM:
        return Ladder(float(slope), len(distances), largest, None)
    length = float(distances[-1] - distances[0])
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])  # of two middle ones the smaller: a gap is no usual step
    multiples = np.round(steps / usual)
    of_usual = bool(np.all(multiples >= 1) and np.abs(steps - multiples * usual).max() <= MILD * usual)
    if largest > max_gap_mm + ROUNDING_MM and not (of_usual and multiples.max() == 1):
        detail = f"steps of {steps.min():.2f} to {largest:.2f} mm, mostly {usual:.2f} mm"
        raise StudyFailure("missing_slices" if of_usual else "irregular_spacing", detail)
    if of_usual:
        n = int(multiples.sum()) + 1
        return Ladder(length / (n - 1), n, largest, "irregular_spacing" if n == len(distances) else "missing_slices")
    n = int(length / usual + ROUNDING_MM) + 1
    return Ladder(usual, n, largest, "irregular_spacing")
