"""Compare the pixels of slices that lie at one place."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trabecula.convert.read import SliceFailure, read_slices
from trabecula.convert.slices import Slice

BODY_HU = -500
_BLOCKS = 64  # across a slice: their means hardly show noise
# Two scans of one place differ by noise and breath: in the mean over blocks of the body by no more than this, or than
# twice what the next slices differ by.
_SPREAD_HU, _BIAS_HU = 20, 10
_TIMES_NEIGHBOURS = 2
MOST_HU = 500  # that a block counts, so that a few pixels of metal or overflow do not decide


def have_same_values(first: Slice, second: Slice) -> bool:
    """Tell whether two slices hold the same Hounsfield units; not, where one can't be read."""
    try:
        first_hu, second_hu = read_slices([first, second])
    except SliceFailure:
        return False
    return bool(np.array_equal(first_hu, second_hu))


def look_alike(first: Slice, second: Slice, beside: Sequence[Slice]) -> bool:
    """Tell whether two slices at one place show the same but for noise; not, where one can't be read.

    Parameters
    ----------
    first, second : Slice
        Slices at one place, or nearly.
    beside : sequence of Slice
        The next slices below and above, at least one.
    """
    try:
        blocks = [_block_means(slice_hu) for slice_hu in read_slices([first, second, *beside])]
    except SliceFailure:
        return False
    spread, bias = _difference(blocks[0], blocks[1])
    usual = [_difference(blocks[0], neighbour) for neighbour in blocks[2:]]  # the nearer one is of the same rotation
    most_spread, most_bias = (_TIMES_NEIGHBOURS * min(values) for values in zip(*usual, strict=True))
    return spread <= max(_SPREAD_HU, most_spread) and bias <= max(_BIAS_HU, most_bias)


def _block_means(slice_hu: NDArray[np.int16]) -> NDArray[np.float64]:
    size = max(1, min(slice_hu.shape) // _BLOCKS)
    rows, columns = (n // size for n in slice_hu.shape)
    blocks = slice_hu[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return blocks.mean(axis=(1, 3))


def _difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float]:
    """Give the mean absolute difference within the body, and the mean one."""
    body = np.maximum(first, second) > BODY_HU
    difference = (first - second)[body].clip(-MOST_HU, MOST_HU) if body.any() else np.zeros(1)
    return float(np.abs(difference).mean()), abs(float(difference.mean()))
