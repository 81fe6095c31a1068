"""The grid that a stack of slices makes, and what has to be mended for it. LPS+ millimetres, as in DICOM."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trabecula.convert.planes import Plane, check_size, in_order
from trabecula.dicom.geometry import (
    SAME_POSITION_MM,
    is_straight,
    ladder_of,
    lean_of,
    normal_of,
    places_of,
)
from trabecula.errors import StudyFailure

# A stack that leans less than this from end to end was not tilted, and a slice that lies less than this beside its
# place does lie there: positions are rounded.
ROUNDED_MM = 0.1
_DIRECTION_TOLERANCE = 5e-3
_PIXEL_TOLERANCE_MM = 1e-3


@dataclass(frozen=True)
class Arrangement:
    """Slices on their way to a volume.

    Attributes
    ----------
    planes : list of Plane
        Slices that are read, in order.
    shape : (int, int, int)
        Columns, rows and slices of the volume.
    affine : (4, 4) array
        Its voxel indices to RAS+ millimetres, without shear.
    moves : (n, 2) array or None
        By how many columns and rows each plane lies beside the volume's first voxel; None where none does.
    between : (m,) array or None
        For each of the volume's slices the plane below it and the weight of the next one, as `below + weight`; None
        where the planes are the slices.
    repairs : list of str
        What is mended, keys of `trabecula.errors.REPAIRS`.
    largest_gap_mm : float
        Largest distance between neighbouring planes.
    tilt_degrees : float
        Lean of the stack away from its slices' normal.
    """

    planes: list[Plane]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    moves: NDArray[np.float64] | None
    between: NDArray[np.float64] | None
    repairs: list[str]
    largest_gap_mm: float
    tilt_degrees: float


def arrange(planes: Sequence[Plane], same: Callable[[Plane, Plane], bool], *, max_gap_mm: float) -> Arrangement:
    """Find the grid of a stack of slices.

    Parameters
    ----------
    planes : sequence of Plane
        Slices in any order.
    same : callable
        Whether two planes hold the same values; asked only of planes at one position.
    max_gap_mm : float
        Largest distance between uneven slices that is interpolated.

    Raises
    ------
    StudyFailure
        too_few_slices, duplicate_position, missing_slices, irregular_spacing, no_geometry or too_large.
    """
    fitting = _fitting(planes)
    ordered = in_order(fitting)
    single = _without_repeats(ordered, same)
    straight = _straight(single)
    repairs = ["odd_slices"] * (len(straight) + len(ordered) - len(single) < len(planes))
    repairs += ["duplicate_slices"] * (len(single) < len(ordered))
    if len(straight) < 2:
        raise StudyFailure("too_few_slices", f"{len(straight)} of {len(planes)} slices")
    return _on_grid(straight, repairs, max_gap_mm)


def _fitting(planes: Sequence[Plane]) -> list[Plane]:
    """Planes that share matrix, pixel spacing and directions with most of the others."""
    shape = Counter(plane.shape for plane in planes).most_common(1)[0][0]
    alike = [plane for plane in planes if plane.shape == shape]
    for values, tolerance in (("orientation", _DIRECTION_TOLERANCE), ("pixel_mm", _PIXEL_TOLERANCE_MM)):
        usual = np.median([getattr(plane, values) for plane in alike], axis=0)
        alike = [plane for plane in alike if np.abs(np.subtract(getattr(plane, values), usual)).max() <= tolerance]
        if not alike:
            raise StudyFailure("mixed_orientation" if values == "orientation" else "mixed_matrix")
    return alike


def _without_repeats(planes: list[Plane], same: Callable[[Plane, Plane], bool]) -> list[Plane]:
    """One plane per position, where the others there hold the same values.

    Raises
    ------
    StudyFailure
        duplicate_position, if they don't.
    """
    kept = planes[:1]
    for plane in planes[1:]:
        if np.linalg.norm(np.subtract(plane.position_mm, kept[-1].position_mm)) >= SAME_POSITION_MM:
            kept.append(plane)
        elif not same(kept[-1], plane):
            raise StudyFailure("duplicate_position", "different values at one position")
    return kept


def _straight(planes: list[Plane]) -> list[Plane]:
    """Planes that lie on one straight line."""
    if len(planes) < 3:
        return planes
    near = is_straight(_places(planes))
    if near.sum() * 2 <= len(planes):
        raise StudyFailure("irregular_spacing", "slices do not lie on a straight line")
    return [plane for plane, is_near in zip(planes, near, strict=True) if is_near]


def _places(planes: Sequence[Plane]) -> NDArray[np.float64]:
    return places_of([plane.position_mm for plane in planes], planes[0].orientation)


def _on_grid(planes: list[Plane], repairs: list[str], max_gap_mm: float) -> Arrangement:
    first = planes[0]
    places = _places(planes)
    distances, lean = places[:, 2], lean_of(places)
    ladder = ladder_of(distances, max_gap_mm=max_gap_mm)
    beside, line = places[:, :2], places[:, 2:] * lean
    tilted = bool(np.linalg.norm(lean) * places[-1, 2] > ROUNDED_MM)
    jumps = bool(np.abs(beside - line).max() > ROUNDED_MM)
    repairs = [*repairs, *["gantry_tilt"] * tilted, *([ladder.repair] if ladder.repair else [])]
    repairs += ["irregular_spacing"] * (jumps and "irregular_spacing" not in repairs)
    between_rows, between_columns = first.pixel_mm
    pixels = np.array([between_columns, between_rows])
    moves = (beside if jumps else line) / pixels if tilted or jumps else None
    low = np.zeros(2, int) if moves is None else np.floor(moves.min(axis=0)).astype(int)
    high = np.zeros(2, int) if moves is None else np.ceil(moves.max(axis=0)).astype(int)
    rows, columns = first.shape
    shape = (int(columns + high[0] - low[0]), int(rows + high[1] - low[1]), ladder.n)
    check_size(shape)
    row, column = np.reshape(first.orientation, (2, 3))
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([row, column, normal_of(first.orientation)]) * [*pixels, ladder.step_mm]
    affine[:3, 3] = first.position_mm + affine[:3, :2] @ low
    return Arrangement(
        planes,
        shape,
        np.diag([-1.0, -1.0, 1.0, 1.0]) @ _upright(affine),
        None if moves is None else moves - low,
        None if ladder.repair is None else _between(distances, ladder.step_mm, ladder.n),
        repairs,
        ladder.largest_mm,
        float(np.degrees(np.arctan(np.linalg.norm(lean)))) if tilted else 0.0,
    )


def _upright(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine with the second axis put exactly across the first: directions are written with few digits."""
    straight = affine.copy()
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / lengths
    directions[:, 1] = np.cross(directions[:, 2], directions[:, 0])
    straight[:3, :3] = directions / np.linalg.norm(directions, axis=0) * lengths
    return straight


def _between(distances: NDArray[np.float64], step_mm: float, n: int) -> NDArray[np.float64]:
    """(n,) number of the plane below each of the volume's slices, plus the weight of the plane above it."""
    wanted = (distances[0] + step_mm * np.arange(n)).clip(distances[0], distances[-1])
    found = np.interp(wanted, distances, np.arange(len(distances)))
    nearest = np.rint(found).astype(int)
    return np.where(np.abs(distances[nearest] - wanted) < ROUNDED_MM / 2, nearest, found)
