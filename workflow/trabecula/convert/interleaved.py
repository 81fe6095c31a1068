"""Notice two scans whose slices lie between each other, by the pixels alone.

In one scan a slice is more like its neighbours than they, two steps apart, are like each other. Where slices of two
phases, days or people alternate, it is the other way round, all along the scan: every second slice is alike, or all
values go up and down by turns.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from trabecula.convert.repeats import BODY_HU, MOST_HU

_SAMPLED = 64  # rows of a slice that are looked at; along them, blocks of as many pixels are averaged against noise
_MIN_SLICES = 10
_NEARLY_ALL = 0.9
# Smaller differences are those of neighbouring detector rows, and matter little.
_MIN_BETWEEN_HU, _MIN_SWING_HU = 10, 8
# A slice against its neighbours' mean, and these against each other: noise alone gives 0.87, real scans 0.2 to 0.7.
_MORE_UNLIKE = 1.1


class Alternation:
    """Compares each slice of a scan with what its two neighbours let expect.

    Parameters
    ----------
    distances_mm : sequence of float
        Distances of the slices along their normal, ascending, in the order in which they come.
    """

    def __init__(self, distances_mm: Sequence[float]) -> None:
        self._distances = distances_mm
        self._last: list[NDArray[np.float32]] = []
        self._compared: list[tuple[float, float, float]] = []
        self._n_alike = self._n_steady = 0  # slices that are no less like their neighbours, and do not swing back

    def watching(self, slices: Iterable[NDArray[np.int16]]) -> Iterator[NDArray[np.int16]]:
        """Pass slices on, (rows, columns) in Hounsfield units, and compare each with those before."""
        for number, slice_hu in enumerate(slices):
            if self._may_hold():
                self._last = [*self._last[-2:], _reduced(slice_hu)]
                if number > 1:
                    self._compare_last(*self._distances[number - 2 : number + 1])
            yield slice_hu

    def _may_hold(self) -> bool:
        """Tell whether the slices until now leave it open; in most scans, the first few of them do not."""
        n = len(self._distances) - 2
        if n < _MIN_SLICES - 2:
            return False
        return (n - self._n_alike) / n >= _NEARLY_ALL or (n - 1 - self._n_steady) / (n - 1) >= _NEARLY_ALL

    def _compare_last(self, below: float, at: float, above: float) -> None:
        between, across, swing = _compare(*self._last, weight=(at - below) / (above - below))
        self._n_alike += between <= _MORE_UNLIKE * across
        self._n_steady += bool(self._compared) and swing * self._compared[-1][2] >= 0
        self._compared.append((between, across, swing))

    def holds(self) -> bool:
        """Tell whether slices of two scans alternate."""
        if not self._may_hold():
            return False
        between, across, swing = np.array(self._compared).T
        unlike = np.mean(between > _MORE_UNLIKE * across) >= _NEARLY_ALL and np.median(between) >= _MIN_BETWEEN_HU
        by_turns = np.mean(swing[1:] * swing[:-1] < 0) >= _NEARLY_ALL and np.median(np.abs(swing)) >= _MIN_SWING_HU
        return bool(unlike or by_turns)


def _reduced(slice_hu: NDArray[np.int16]) -> NDArray[np.float32]:
    """Take some rows of a slice, and means of neighbouring pixels along them."""
    step, size = (max(1, n // _SAMPLED) for n in slice_hu.shape)
    rows = slice_hu[::step, : slice_hu.shape[1] // size * size].astype(np.float32)
    return rows.reshape(len(rows), -1, size) @ np.full(size, 1 / size, np.float32)  # faster than a mean


def _compare(
    below: NDArray[np.float32], at: NDArray[np.float32], above: NDArray[np.float32], *, weight: float
) -> tuple[float, float, float]:
    """Compare a slice with its neighbours, where all three show the body: edges against air would outweigh all else.

    Returns
    -------
    float, float, float
        Mean absolute difference from what they let expect, and of them from each other; mean difference from them.
    """
    body = np.minimum(np.minimum(below, at), above) > BODY_HU
    if not body.any():
        return 0.0, 0.0, 0.0
    difference = (above - below)[body]
    swing = (at[body] - below[body] - weight * difference).clip(-MOST_HU, MOST_HU)
    return float(np.abs(swing).mean()), float(np.abs(difference).clip(max=MOST_HU).mean()), float(swing.mean())
