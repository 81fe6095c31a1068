"""Where the slices of a scan lie, from positions and orientations alone (DICOM PS3.3 C.7.6.2.1.1)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trabecula.errors import StudyFailure

SAME_POSITION_MM = 0.01
# Positions are often written with one decimal: that rounding, and the fit's share of it, is no unevenness.
ROUNDING_MM = 0.07
# Steps within this part of the median are mended by interpolation between neighbours.
MILD = 0.1


def normal_of(orientation: ArrayLike) -> NDArray[np.float64]:
    """(3,) unit normal of a slice from its (6,) row and column directions.

    Raises
    ------
    StudyFailure
        If the directions are no two perpendicular unit vectors (no_geometry).
    """
    row, column = np.reshape(np.asarray(orientation, float), (2, 3))
    lengths = np.linalg.norm([row, column], axis=1)
    if np.any(np.abs(lengths - 1) > 0.01) or abs(row @ column) > 0.01:
        raise StudyFailure("no_geometry", "directions of rows and columns are not perpendicular unit vectors")
    normal = np.cross(row, column)
    return normal / np.linalg.norm(normal)


def distances_mm(positions_mm: ArrayLike, orientation: ArrayLike) -> NDArray[np.float64]:
    """(n,) distances of slices along their common normal, in millimetres, from (n, 3) positions."""
    return np.asarray(positions_mm, float) @ normal_of(orientation)


def spacing_of(distances: NDArray[np.float64]) -> tuple[float, bool]:
    """Distance between slices.

    Parameters
    ----------
    distances : (n,) array
        Distances along the normal in millimetres, ascending, at least two.

    Returns
    -------
    float
        Spacing in millimetres of the regular stack nearest to these slices.
    bool
        Whether the slices are that stack; if not, they deviate mildly and have to be resampled.

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
    if np.abs(distances - first - slope * numbers).max() <= ROUNDING_MM:
        return float(slope), True
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])  # of two middle ones the smaller: a gap is no usual step
    if np.abs(steps - usual).max() <= MILD * usual:
        return float(steps.mean()), False
    detail = f"steps of {steps.min():.2f} to {steps.max():.2f} mm, mostly {usual:.2f} mm"
    multiples = np.round(steps / usual)
    if np.all(multiples >= 1) and np.abs(steps - multiples * usual).max() <= MILD * usual:
        raise StudyFailure("missing_slices", detail)
    raise StudyFailure("irregular_spacing", detail)
