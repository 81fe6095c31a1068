"""Turn stored values into Hounsfield units, and tell whether a patient can have them. Arrays in, arrays out."""

import numpy as np
from numpy.typing import NDArray

from trabecula.convert.plausible import why_implausible
from trabecula.convert.slices import PixelLayout
from trabecula.image.padding import PADDING_HU

MAX_HU = 32767
# Padding that rescales to more than this would be read as metal.
MAX_TISSUE_HU = 4000
# A label map has a background of 0, none below, few different values (TotalSegmentator's has 118), and neighbours that
# are alike; a picture of few greys has noise.
MAX_LABELS, MIN_ALIKE = 128, 0.5
_SAMPLED = 64  # rows and columns of a slice that are enough for percentiles
_AT_ONCE = 32  # slices whose values are counted together


def hounsfield_of_layout(
    pixels: NDArray[np.integer],
    layout: PixelLayout,
    slope: float,
    intercept: float,
    padding: tuple[int, int] | None = None,
) -> NDArray[np.int16]:
    """Give the Hounsfield units of pixels as they lie in the file, whose unused bits may hold anything.

    The array is used up. For the other parameters see `hounsfield`.

    >>> layout = PixelLayout(offset=0, bits=16, bits_stored=12, high_bit=11, signed=False)
    >>> hounsfield_of_layout(np.array([0x5000 + 1064], np.uint16), layout, 1, -1024).tolist()
    [40]
    """
    outside = None
    if padding is not None and not _is_storable(padding[1], layout):
        # A mark that needs more bits than are stored would turn into some tissue below.
        outside = _is_padding(pixels, padding)
    _strip(pixels, layout)
    hu = hounsfield(pixels, slope, intercept, None if outside is not None else padding)
    if outside is not None:
        hu[outside] = PADDING_HU
    return hu


def _is_storable(mark: int, layout: PixelLayout) -> bool:
    """Tell whether the stored bits can hold a mark: with a sign, the bits above the stored ones repeat it."""
    above = mark >> (layout.bits_stored - layout.signed)
    return above == 0 or (layout.signed and above == 0xFFFF >> (layout.bits_stored - 1))


def _strip(pixels: NDArray[np.integer], layout: PixelLayout) -> None:
    """Cut the stored bits out of their words, and extend their sign, in place.

    Bits above and below them may hold anything, such as an overlay in old files.

    >>> pixels = np.array([0x0FFF, 0x0028], np.int16)
    >>> _strip(pixels, PixelLayout(offset=0, bits=16, bits_stored=12, high_bit=11, signed=True))
    >>> pixels.tolist()
    [-1, 40]
    """
    above = layout.bits - 1 - layout.high_bit
    below = layout.high_bit + 1 - layout.bits_stored
    if not layout.signed:
        if below:
            pixels >>= below
        if above:
            pixels &= (1 << layout.bits_stored) - 1
    elif above or below:
        pixels <<= above
        pixels >>= above + below


def hounsfield(
    stored: NDArray[np.integer], slope: float, intercept: float, padding: tuple[int, int] | None = None
) -> NDArray[np.int16]:
    """Give the Hounsfield units of stored values, rounded; air (-1024) outside the field of view.

    Parameters
    ----------
    stored : array of integers
        Stored values; used up where they have 16 bits.
    slope, intercept : float
        Rescale slope and intercept of this slice.
    padding : (int, int), optional
        Range of stored values, as 16 bits without a sign, that mark pixels outside the field of view. A value below
        -1024 HU is such a pixel anyway, with or without a mark; the mark counts only where it would be read as dense
        matter.

    Examples
    --------
    >>> hounsfield(np.array([-2000, 1064, 30000], np.int16), 1, -1024, padding=(30000, 30000)).tolist()
    [-1024, 40, -1024]
    """
    outside = None
    if padding is not None:
        mark = np.array(padding[0], np.uint16).view(np.int16 if stored.dtype.kind == "i" else np.uint16)
        if float(mark) * slope + intercept > MAX_TISSUE_HU:
            outside = _is_padding(stored, padding)
    if slope == 1 and intercept == round(intercept) and abs(intercept) < 2**15 and stored.dtype.itemsize == 2:
        hu = _plus_intercept(stored, int(intercept))
    else:
        hu = np.rint(stored * slope + intercept).clip(PADDING_HU, MAX_HU).astype(np.int16)
    if outside is not None:
        hu[outside] = PADDING_HU
    return hu


def hounsfield_of_numbers(stored: NDArray, slope: float, intercept: float) -> NDArray[np.int16]:
    """Give the Hounsfield units of numbers of any type, rounded; air (-1024) where they are no numbers, or infinite.

    Parameters
    ----------
    stored : array of integers or decimals
        Stored values, which stay as they are.
    slope, intercept : float
        Stored value to HU.

    Examples
    --------
    >>> hounsfield_of_numbers(np.array([-3000.0, 39.6, 1e9, np.nan, np.inf]), 1, 0).tolist()
    [-1024, 40, 32767, -1024, -1024]
    """
    if stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2:
        return hounsfield(stored, slope, intercept)
    with np.errstate(over="ignore", invalid="ignore"):
        hu = np.rint(stored.astype(np.float64) * slope + intercept)
    return np.where(np.isfinite(hu), hu, PADDING_HU).clip(PADDING_HU, MAX_HU).astype(np.int16)


def _is_padding(pixels: NDArray[np.integer], padding: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the pixels with a padding value; written with a sign or without, 16 bits are the same."""
    low, high = padding
    if pixels.dtype.itemsize == 2:
        pixels = pixels.view(np.uint16)
    elif pixels.dtype.kind == "i":
        low, high = sorted(np.array(padding, np.uint16).view(np.int16).tolist())
    return (pixels >= low) & (pixels <= high)


def _plus_intercept(stored: NDArray[np.integer], intercept: int) -> NDArray[np.int16]:
    """Add a whole number to 16-bit values in place, and cut them off at air and at the highest value."""
    if not (stored.flags.writeable and stored.dtype.isnative):
        stored = stored.astype(stored.dtype.newbyteorder("="))
    limits = np.iinfo(stored.dtype)
    low, high = PADDING_HU - intercept, MAX_HU - intercept
    if low > limits.min and stored.min() < low:  # looking takes a tenth of the time of cutting off
        np.maximum(stored, low, out=stored)
    if high < limits.max and stored.max() > high:
        np.minimum(stored, high, out=stored)
    bits = stored.view(np.uint16)
    bits += np.uint16(intercept & 0xFFFF)  # within the limits above, the overflow of 16 bits comes out right
    return bits.view(np.int16)


class Sample:
    """Counts of a volume's HU, none below air, from some rows and columns of each slice."""

    def __init__(self) -> None:
        self._counts = np.zeros(MAX_HU - PADDING_HU + 1, np.int64)
        self._waiting: list[NDArray[np.uint16]] = []
        self._n_pairs = self._n_alike = 0
        self._has_negative = False  # which no label map has

    def add(self, slice_hu: NDArray[np.int16]) -> None:
        """Count a slice."""
        step = max(1, min(slice_hu.shape) // _SAMPLED)
        sampled = slice_hu[::step, ::step].ravel()
        self._waiting.append(sampled.view(np.uint16) + np.uint16(-PADDING_HU))
        self._has_negative = self._has_negative or bool(sampled.min() < 0)
        if not self._has_negative:
            voxels, beside = slice_hu[::step, :-1:step], slice_hu[::step, 1::step]
            self._n_pairs += np.count_nonzero(voxels)
            self._n_alike += np.count_nonzero(voxels[voxels == beside])
        if len(self._waiting) == _AT_ONCE:
            self._count()

    def _count(self) -> None:
        if self._waiting:
            counts = np.bincount(np.concatenate(self._waiting))
            self._counts[: len(counts)] += counts
            self._waiting.clear()

    def percentiles(self) -> tuple[float, float]:
        """Give the 1st and 99th percentile, in HU."""
        self._count()
        share = self._counts.cumsum() / self._counts.sum()
        low, high = (float(np.searchsorted(share, part) + PADDING_HU) for part in (0.01, 0.99))
        return low, high

    def labels(self) -> str | None:
        """Give the figures for which the values are those of a label map; None where they are not."""
        self._count()
        if self._has_negative:
            return None
        values = np.flatnonzero(self._counts) + PADDING_HU
        if values[0] != 0 or not 2 <= len(values) <= MAX_LABELS or self._n_alike < MIN_ALIKE * self._n_pairs:
            return None
        return f"{len(values)} different values from {values[0]} to {values[-1]}"

    def implausible(self) -> str | None:
        """Give the figures for which a patient can't have these values (see `plausible`); None where one can."""
        self._count()
        return why_implausible(self._counts)
