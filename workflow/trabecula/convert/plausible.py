"""Tell by the distribution of a volume's values whether they can be the Hounsfield units of a patient.

A header may call anything a CT: perfusion and material maps, differences, pictures of 8 bits, values whose rescale was
lost, MR and PET. Every part of a living body, however it was cropped, shows fat or air and soft tissue, no single value
but air and padding fills much of it, and bone and metal are the smaller part. Figures in brackets are those of the 12
real scans of the tests, from neck to ankle, cropped to the spine or not, with contrast medium, metal and padding.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trabecula.image.padding import PADDING_HU

# Fat or air: this part of the voxels lies lower (1st percentile at most -205 HU).
LOWEST_PART, LOWEST_HU = 0.01, -30
SOFT_TISSUE_HU = (-200, 300)
MIN_SOFT_TISSUE = 0.02
# Neither 0 HU nor the lowest value above air fills so much (no value does more than 1 %): what lies beside a map does,
# and so does the dark end of a grey scale.
AIR_HU = -300
MAX_ONE_VALUE = 0.3
# Nor do so many lie so close together above air (at most 27 %): differences, densities and fractions do.
CLOSE_HU, MAX_CLOSE = 50, 0.8
# Nor are so many brighter than this (at most 4 %) where there is no air: water without the rescale has 1,000 or 1,024.
BRIGHT_HU, MAX_BRIGHT = 700, 0.2
# Bone was cut off at the highest value where that is no denser than this, and where so large a part of the voxels, so
# many of them, and so many times more than have any value just below, have this very value.
MAX_CUT_OFF_HU, MIN_CUT_OFF, MIN_CUT_OFF_VOXELS, MIN_CUT_OFF_TIMES = 1500, 1e-3, 50, 5
_JUST_BELOW_HU = 100
# What is added to Hounsfield units to store them without a sign, and has to be taken off again.
_OFFSET_HU = 1024
# Fewer voxels beside padding tell nothing.
_MIN_BESIDE_PADDING = 1e-3

# Place of 0 HU among the counts, which begin at air; and so many values, up to 3071 HU, have most scanners.
_ZERO_HU, _USUAL_RANGE = -PADDING_HU, 4096

Counts = NDArray[np.int64]


def why_implausible(counts: Counts) -> str | None:
    """Give the figures for which values can't be Hounsfield units of a patient; None where they can.

    Parameters
    ----------
    counts : (33792,) array of int
        Number of voxels by value, from -1024 HU on. Values at -1024 HU count as padding, whether they were padding or
        air: what lies beside them has to look like a body.

    Examples
    --------
    A map of blood flow in -1024 HU of padding:

    >>> counts = np.zeros(33792, int)
    >>> counts[[0, 1024 + 40, 1024 + 90]] = 700, 200, 100
    >>> why_implausible(counts)
    'beside padding the darkest hundredth reaches 40 HU: no air, no fat'
    """
    counts = counts[: max(_USUAL_RANGE, int(np.flatnonzero(counts)[-1]) + 1)]  # most of the range is empty
    figures = _figures_against(counts)
    if figures is None:
        return None
    lowered = np.concatenate([_beside_padding(counts)[_OFFSET_HU:], np.zeros(_OFFSET_HU, counts.dtype)])
    if lowered.any() and _figures_against(lowered) is None:
        return f"{figures}; they would fit with {_OFFSET_HU} less"
    return figures


def _figures_against(counts: Counts) -> str | None:
    beside = _beside_padding(counts)
    if beside.sum() < _MIN_BESIDE_PADDING * counts.sum():
        return "nothing but padding"
    shares = beside / beside.sum()
    return next((figures for check in _CHECKS if (figures := check(shares))), None) or _cut_off(beside)


def _beside_padding(counts: Counts) -> Counts:
    beside = counts.copy()
    beside[0] = 0
    return beside


def _without_air_or_fat(shares: NDArray[np.float64]) -> str | None:
    lowest = int(np.searchsorted(shares.cumsum(), LOWEST_PART)) - _ZERO_HU
    if lowest > LOWEST_HU:
        return f"beside padding the darkest hundredth reaches {lowest} HU: no air, no fat"
    return None


def _without_tissue(shares: NDArray[np.float64]) -> str | None:
    tissue = _share_between(shares, *SOFT_TISSUE_HU)
    if tissue < MIN_SOFT_TISSUE:
        return f"{tissue:.1%} lie between {SOFT_TISSUE_HU[0]} and {SOFT_TISSUE_HU[1]} HU: no soft tissue"
    return None


def _of_one_value(shares: NDArray[np.float64]) -> str | None:
    above_air = shares[_ZERO_HU + AIR_HU :]
    lowest = int(np.searchsorted(shares.cumsum(), LOWEST_PART)) - _ZERO_HU
    for value in {0, max(lowest, AIR_HU)}:
        if (share := above_air[value - AIR_HU]) > MAX_ONE_VALUE:
            return f"{share:.0%} have the same value, {value} HU: the background of a map or picture"
    return None


def _close_together(shares: NDArray[np.float64]) -> str | None:
    sums = np.concatenate([[0.0], shares[_ZERO_HU + AIR_HU :].cumsum()])
    windows = sums[CLOSE_HU:] - sums[:-CLOSE_HU]
    first = int(windows.argmax())
    if windows[first] > MAX_CLOSE:
        low = first + AIR_HU
        return f"{windows[first]:.0%} lie between {low} and {low + CLOSE_HU} HU: a map or a difference"
    return None


def _too_bright(shares: NDArray[np.float64]) -> str | None:
    bright = float(shares[_ZERO_HU + BRIGHT_HU :].sum())
    if bright > MAX_BRIGHT and shares[: _ZERO_HU + AIR_HU].sum() < LOWEST_PART:
        return f"{bright:.0%} lie above {BRIGHT_HU} HU and none is air: brighter than a body"
    return None


def _cut_off(counts: Counts) -> str | None:
    highest = int(np.flatnonzero(counts)[-1])
    n, n_below = int(counts[highest]), int(counts[highest - _JUST_BELOW_HU : highest].max())
    share = n / float(counts.sum())
    piled = n >= max(MIN_CUT_OFF_VOXELS, MIN_CUT_OFF_TIMES * n_below) and share >= MIN_CUT_OFF
    if not piled or highest - _ZERO_HU > MAX_CUT_OFF_HU:
        return None
    return f"cut off at {highest - _ZERO_HU} HU, which {share:.1%} of the voxels have"


def _share_between(shares: NDArray[np.float64], low: int, high: int) -> float:
    return float(shares[low + _ZERO_HU : high + _ZERO_HU].sum())


_CHECKS: tuple[Callable[[NDArray[np.float64]], str | None], ...] = (
    _without_air_or_fat,
    _without_tissue,
    _of_one_value,
    _close_together,
    _too_bright,
)
