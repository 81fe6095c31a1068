"""Bring slices onto their grid: moved along their rows and columns, and mixed from their neighbours."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from trabecula.image.padding import PADDING_HU

_CLOSE = 1e-6  # rows: a whole row's move is no interpolation, whatever the last digit says


def mended(
    slices: Iterable[NDArray[np.int16]],
    moves: NDArray[np.float64] | None,
    between: NDArray[np.float64] | None,
    shape: tuple[int, int],
) -> Iterator[NDArray[np.int16]]:
    """Give the slices of the volume one after another; two of the scan's are held at a time.

    Parameters
    ----------
    slices : iterable of (rows, columns) arrays
        Hounsfield units of the scan's slices, padding already air. Each may be overwritten when two more are read.
    moves, between
        See `trabecula.convert.arrange.Arrangement`.
    shape : (int, int)
        Columns and rows of the volume.
    """
    if moves is None and between is None:
        yield from slices
        return
    moved = _moved(slices, moves, shape)
    for exact in moved if between is None else _mixed(moved, between):
        yield np.rint(exact).astype(np.int16)


def _moved(
    slices: Iterable[NDArray[np.int16]], moves: NDArray[np.float64] | None, shape: tuple[int, int]
) -> Iterator[NDArray[np.float32]]:
    """Move each slice by its columns and rows, onto the columns and rows of the volume."""
    for number, slice_hu in enumerate(slices):
        exact = slice_hu.astype(np.float32)
        if moves is not None:
            columns, rows = shape
            exact = _shifted(_shifted(exact, moves[number, 1], rows).T, moves[number, 0], columns).T
        yield exact


def _shifted(slice_hu: NDArray[np.float32], move: float, n: int) -> NDArray[np.float32]:
    """Move a slice along its first axis by linear interpolation, onto n rows; air where it has nothing.

    >>> _shifted(np.array([[0], [10]], np.float32), 0.5, 3).ravel().tolist()
    [0.0, 5.0, 10.0]
    """
    whole = int(np.floor(_CLOSE - move))
    weight = np.float32(max(0.0, -move - whole))  # the same for all rows
    below, last = np.arange(n) + whole, len(slice_hu) - 1
    mixed = slice_hu[below.clip(0, last)] * (1 - weight)
    mixed += slice_hu[(below + 1).clip(0, last)] * weight
    mixed[(below + weight < -0.5) | (below + weight > last + 0.5)] = PADDING_HU
    return mixed


def _mixed(slices: Iterator[NDArray[np.float32]], between: NDArray[np.float64]) -> Iterator[NDArray[np.float32]]:
    """Mix each slice of the volume from the two of the scan beside it."""
    number = 0
    lower = upper = next(slices)
    for place in between:
        while number < np.ceil(place):
            lower, upper = upper, next(slices)
            number += 1
        weight = np.float32(place - number + 1) if number else np.float32(1)
        if weight == 1:
            yield upper
        else:
            yield (lower + (upper - lower) * weight).astype(np.float32, copy=False)
