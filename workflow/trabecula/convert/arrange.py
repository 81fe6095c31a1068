"""Find the grid that a stack of slices makes, and what has to be mended for it. LPS+ millimetres, as in DICOM."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trabecula.convert.slices import Slice
from trabecula.dicom.geometry import (
    MAX_VOXELS,
    MOST_OVERLAPPING,
    SAME_POSITION_MM,
    even_spacing_of,
    is_straight,
    lean_of,
    normal_of,
    places_of,
    repeats_of_rotations,
)
from trabecula.errors import StudyFailure

# A stack that leans less than this from end to end was not tilted, and a slice that lies less than this beside its
# place does lie there: positions are rounded.
ROUNDED_MM = 0.1
_DIRECTION_TOLERANCE = 5e-3
_PIXEL_TOLERANCE_MM = 1e-3
_DIFFERENT = "different values at one position"


@dataclass(frozen=True)
class Arrangement:
    """Slices on their way to a volume.

    Attributes
    ----------
    slices : list of Slice
        Slices that are read, in order.
    shape : (int, int, int)
        Columns, rows and slices of the volume.
    affine : (4, 4) array
        Its voxel indices to RAS+ millimetres, without shear.
    moves : (n, 2) array or None
        By how many columns and rows each slice lies beside the volume's first voxel; None where none does.
    between : (m,) array or None
        For each of the volume's slices the number of the scan's slice below it, plus the weight of the next one; None
        where the scan's slices are the volume's.
    repairs : list of str
        What is mended, keys of `trabecula.errors.REPAIRS`.
    largest_gap_mm : float
        Largest distance between neighbouring slices of the scan.
    tilt_degrees : float
        Lean of the stack away from its slices' normal.
    """

    slices: list[Slice]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    moves: NDArray[np.float64] | None
    between: NDArray[np.float64] | None
    repairs: list[str]
    largest_gap_mm: float
    tilt_degrees: float


def arrange(
    slices: Sequence[Slice],
    have_same_values: Callable[[Slice, Slice], bool],
    look_alike: Callable[[Slice, Slice, Sequence[Slice]], bool],
    *,
    max_gap_mm: float,
) -> Arrangement:
    """Find the grid of a stack of slices.

    Parameters
    ----------
    slices : sequence of Slice
        Slices in any order.
    have_same_values : callable
        Tells whether two slices hold the same values; asked only of slices at one position.
    look_alike : callable
        Tells whether two slices show the same but for noise, beside the next slices; asked only of slices of two
        rotations at one position, or nearly.
    max_gap_mm : float
        Largest distance between uneven slices that is interpolated.

    Raises
    ------
    StudyFailure
        too_few_slices, duplicate_position, missing_slices, irregular_spacing, no_geometry or too_large.
    """
    ordered = in_order(_alike(slices))
    different = _without_same(ordered, have_same_values)
    single = _without_overlaps(different, look_alike)
    straight = _straight(single)
    repairs = ["odd_slices"] * (len(straight) + len(ordered) - len(single) < len(slices))
    repairs += ["duplicate_slices"] * (len(different) < len(ordered))
    repairs += ["overlapping_rotations"] * (len(single) < len(different))
    if len(straight) < 2:
        raise StudyFailure("too_few_slices", f"{len(straight)} of {len(slices)} slices")
    return _on_grid(straight, repairs, max_gap_mm)


def _alike(slices: Sequence[Slice]) -> list[Slice]:
    """Keep the slices that share matrix, pixel spacing and directions with most of the others."""
    shape = Counter(ct_slice.shape for ct_slice in slices).most_common(1)[0][0]
    alike = [ct_slice for ct_slice in slices if ct_slice.shape == shape]
    alike = _near_median(alike, lambda ct_slice: ct_slice.orientation, _DIRECTION_TOLERANCE)
    if not alike:
        raise StudyFailure("mixed_orientation")
    alike = _near_median(alike, lambda ct_slice: ct_slice.pixel_mm, _PIXEL_TOLERANCE_MM)
    if not alike:
        raise StudyFailure("mixed_matrix")
    return alike


def _near_median(slices: list[Slice], values_of: Callable[[Slice], list[float]], tolerance: float) -> list[Slice]:
    """Keep the slices whose values differ from the median of all by no more than a tolerance."""
    values = np.array([values_of(ct_slice) for ct_slice in slices])
    near = np.all(np.abs(values - np.median(values, axis=0)) <= tolerance, axis=1)
    return [ct_slice for ct_slice, is_near in zip(slices, near.tolist(), strict=True) if is_near]


def in_order(slices: Iterable[Slice]) -> list[Slice]:
    """Sort slices as they follow each other along the normal of the first one."""
    listed = list(slices)
    normal = normal_of(listed[0].orientation).tolist()

    def place(ct_slice: Slice) -> tuple[float, str, str, int]:
        along = sum(n * p for n, p in zip(normal, ct_slice.position_mm, strict=True))
        header = ct_slice.header
        return along, header.path, header.member or "", header.frame or 0

    return sorted(listed, key=place)


def _without_same(slices: list[Slice], have_same_values: Callable[[Slice, Slice], bool]) -> list[Slice]:
    """Keep one of the slices at one position that hold the same values.

    Raises
    ------
    StudyFailure
        duplicate_position, if other values follow at more positions than rotations overlap by.
    """
    kept, n_in_a_row, last_is_double = slices[:1], 0, False
    for ct_slice in slices[1:]:
        if not _are_at_one_place(kept[-1], ct_slice):
            n_in_a_row *= last_is_double
            last_is_double = False
        elif have_same_values(kept[-1], ct_slice):
            continue
        else:
            n_in_a_row += 1
            last_is_double = True
        kept.append(ct_slice)
        if n_in_a_row > MOST_OVERLAPPING:  # so that a whole scan need not be read to refuse it
            raise StudyFailure("duplicate_position", _DIFFERENT)
    return kept


def _are_at_one_place(first: Slice, second: Slice) -> bool:
    return math.dist(first.position_mm, second.position_mm) < SAME_POSITION_MM


def _without_overlaps(slices: list[Slice], look_alike: Callable[[Slice, Slice, Sequence[Slice]], bool]) -> list[Slice]:
    """Keep one of two slices at one position, or nearly, where rotations of an axial scan overlap.

    A slice of one rotation has the noise of its neighbours, and no blur where the patient moved; the mean of both has
    neither. So the lower one stays, of two at one position the first by its path.

    Raises
    ------
    StudyFailure
        duplicate_position, if slices at one position are no rotations' or differ by more than noise.
    """
    repeats = repeats_of_rotations(_places(slices)[:, 2])
    for number in range(1, len(slices)):
        below, above = slices[number - 1], slices[number]
        if repeats[number]:
            beside = [*slices[number - 2 : number - 1], *slices[number + 1 : number + 2]]
            if not look_alike(below, above, beside):
                raise StudyFailure("duplicate_position", "rotations that overlap, with different values")
        elif _are_at_one_place(below, above):
            raise StudyFailure("duplicate_position", _DIFFERENT)
    return [ct_slice for ct_slice, is_repeat in zip(slices, repeats, strict=True) if not is_repeat]


def _straight(slices: list[Slice]) -> list[Slice]:
    """Keep the slices that lie on one straight line.

    Raises
    ------
    StudyFailure
        irregular_spacing, if that is not more than half of them.
    """
    if len(slices) < 3:
        return slices
    near = is_straight(_places(slices))
    if near.sum() * 2 <= len(slices):
        raise StudyFailure("irregular_spacing", "slices do not lie on a straight line")
    return [ct_slice for ct_slice, is_near in zip(slices, near, strict=True) if is_near]


def distances_of(slices: Sequence[Slice]) -> list[float]:
    """Give the distances of slices along the normal of the first one, in millimetres, from that on."""
    return _places(slices)[:, 2].tolist()


def _places(slices: Sequence[Slice]) -> NDArray[np.float64]:
    return places_of([ct_slice.position_mm for ct_slice in slices], slices[0].orientation)


def _on_grid(slices: list[Slice], repairs: list[str], max_gap_mm: float) -> Arrangement:
    """Lay a grid through slices that lie on one line, in order."""
    first, places = slices[0], _places(slices)
    spacing, lean = even_spacing_of(places[:, 2], max_gap_mm=max_gap_mm), lean_of(places)
    beside, line = places[:, :2], places[:, 2:] * lean
    tilted = bool(np.linalg.norm(lean) * places[-1, 2] > ROUNDED_MM)
    jumps = bool(np.abs(beside - line).max() > ROUNDED_MM)
    repairs = [*repairs, *["gantry_tilt"] * tilted, *([spacing.repair] if spacing.repair else [])]
    repairs += ["irregular_spacing"] * (jumps and "irregular_spacing" not in repairs)
    moves = (beside if jumps else line) / first.pixel_mm[::-1] if tilted or jumps else None
    low, high = _reach(moves)
    rows, columns = first.shape
    shape = (int(columns + high[0] - low[0]), int(rows + high[1] - low[1]), spacing.n_slices)
    if math.prod(shape) > MAX_VOXELS:
        raise StudyFailure("too_large")
    return Arrangement(
        slices,
        shape,
        affine=_affine_ras(first, low, spacing.step_mm),
        moves=None if moves is None else moves - low,
        between=_between(places[:, 2], spacing.step_mm, spacing.n_slices) if spacing.repair else None,
        repairs=repairs,
        largest_gap_mm=spacing.largest_gap_mm,
        tilt_degrees=float(np.degrees(np.arctan(np.linalg.norm(lean)))) if tilted else 0.0,
    )


def _reach(moves: NDArray[np.float64] | None) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give the least and the largest whole move, (2,) columns and rows each, that hold all slices."""
    if moves is None:
        return np.zeros(2, int), np.zeros(2, int)
    return np.floor(moves.min(axis=0)).astype(int), np.ceil(moves.max(axis=0)).astype(int)


def _affine_ras(first: Slice, low: NDArray[np.intp], step_mm: float) -> NDArray[np.float64]:
    """Give the (4, 4) affine of a volume that begins `low` columns and rows beside its first slice."""
    row, column = np.reshape(first.orientation, (2, 3))
    affine = np.eye(4)
    steps_mm = [*first.pixel_mm[::-1], step_mm]
    affine[:3, :3] = np.column_stack([row, column, normal_of(first.orientation)]) * steps_mm
    affine[:3, 3] = first.position_mm + affine[:3, :2] @ low
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ _upright(affine)


def _upright(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put the second axis of an affine exactly across the first: directions are written with few digits."""
    straight = affine.copy()
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / lengths
    directions[:, 1] = np.cross(directions[:, 2], directions[:, 0])
    straight[:3, :3] = directions / np.linalg.norm(directions, axis=0) * lengths
    return straight


def _between(distances_mm: NDArray[np.float64], step_mm: float, n: int) -> NDArray[np.float64]:
    """Give the number of the scan's slice below each of the volume's, plus the weight of the slice above it.

    A slice of the volume that lies on one of the scan's, but for rounding, is that slice.

    >>> _between(np.array([0.0, 3.0, 9.0]), 3.0, 4).tolist()
    [0.0, 1.0, 1.5, 2.0]
    """
    heights_mm = (distances_mm[0] + step_mm * np.arange(n)).clip(distances_mm[0], distances_mm[-1])
    numbers = np.interp(heights_mm, distances_mm, np.arange(len(distances_mm)))
    nearest = np.rint(numbers).astype(int)
    return np.where(np.abs(distances_mm[nearest] - heights_mm) < ROUNDED_MM / 2, nearest, numbers)
