"""Stored values to Hounsfield units, slice by slice."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000

from trabecula.convert.planes import Plane, read_dataset
from trabecula.dicom import UNCOMPRESSED, numbers
from trabecula.errors import StudyFailure

AIR_HU = -1024
MAX_HU = 32767
# Padding that rescales to more than this would be read as metal.
MAX_TISSUE_HU = 4000
# A body has air or fat somewhere, and soft tissue; MR, PET and noise under a CT header do not.
LOWEST_PERCENTILE_HU = -30
SOFT_TISSUE_HU = (-200, 300)
MIN_SOFT_TISSUE = 0.02


def read_slices(planes: Sequence[Plane]) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Decode slices, each file once.

    Yields
    ------
    int
        Number of the plane in the sequence.
    (rows, columns) array
        Its Hounsfield units.

    Raises
    ------
    StudyFailure
        vanished, unreadable, truncated, lossy or undecodable.
    """
    by_path: dict[str, list[int]] = {}
    for k, plane in enumerate(planes):
        by_path.setdefault(plane.path, []).append(k)
    for path, members in by_path.items():
        dataset = read_dataset(path)
        frames = decode(dataset)
        padding = numbers(dataset, "PixelPaddingValue", 1)
        for k in members:
            plane = planes[k]
            if plane.frame >= len(frames) or frames.shape[1:] != plane.shape:
                raise StudyFailure("undecodable", "the pixel data do not have the size that the header says")
            yield k, hounsfield(frames[plane.frame], plane.slope, plane.intercept, padding[0] if padding else None)


def decode(dataset: Dataset) -> NDArray[np.integer]:
    """Stored values of a data set, (frames, rows, columns).

    Raises
    ------
    StudyFailure
        truncated, lossy or undecodable.
    """
    if "PixelData" not in dataset:
        raise StudyFailure("truncated", "no pixel data")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == JPEG2000 and not _is_reversible(dataset.PixelData):
        raise StudyFailure("lossy", "irreversible wavelet")
    try:
        pixels = dataset.pixel_array
    except Exception as error:  # several decoder libraries, each with errors of its own
        short = "less than expected" in str(error) or "actual length" in str(error)
        raise StudyFailure("truncated" if short else "undecodable", type(error).__name__) from None
    if numbers(dataset, "SamplesPerPixel", 1) not in ([1.0], None) or pixels.dtype.kind not in "iu":
        raise StudyFailure("undecodable", "not one integer per pixel")
    if syntax in UNCOMPRESSED:
        pixels = _without_unused_bits(pixels, dataset)
    return pixels if pixels.ndim == 3 else pixels[None]


def _is_reversible(pixel_data: bytes) -> bool:
    """Whether a JPEG 2000 stream uses the reversible 5-3 wavelet (ISO 15444-1 A.6.1, last byte of the COD marker)."""
    marker = pixel_data.find(b"\xff\x52")
    return marker >= 0 and pixel_data[marker + 13 : marker + 14] == b"\x01"


def _without_unused_bits(pixels: NDArray[np.integer], dataset: Dataset) -> NDArray[np.integer]:
    """Extend the sign of the stored bits; bits above them may hold an overlay in old files."""
    stored, high = numbers(dataset, "BitsStored", 1), numbers(dataset, "HighBit", 1)
    if stored is None or high is None or high[0] != stored[0] - 1:
        return pixels
    unused = pixels.dtype.itemsize * 8 - int(stored[0])
    return (pixels << unused) >> unused if 0 < unused < pixels.dtype.itemsize * 8 else pixels


def hounsfield(
    stored: NDArray[np.integer], slope: float, intercept: float, padding: float | None = None
) -> NDArray[np.int16]:
    """Hounsfield units of stored values, rounded; air (-1024) outside the field of view.

    Parameters
    ----------
    stored : array of integers
        Stored values.
    slope, intercept : float
        Rescale slope and intercept of this slice.
    padding : float, optional
        Stored value that marks pixels outside the field of view. What lies below -1024 HU is such a pixel anyway,
        with or without this mark; the mark counts only where it would be read as dense matter.
    """
    if slope == 1 and intercept == round(intercept) and abs(intercept) < 2**20:
        hu = stored.astype(np.int32) + int(intercept)
    else:
        hu = np.rint(stored * slope + intercept)
    if padding is not None and padding * slope + intercept > MAX_TISSUE_HU:
        hu[stored == padding] = AIR_HU
    return hu.clip(AIR_HU, MAX_HU).astype(np.int16)


def check_plausible(stack: NDArray[np.int16]) -> tuple[float, float]:
    """1st and 99th percentile of a volume's HU, after a look whether a patient can have them.

    Raises
    ------
    StudyFailure
        implausible_hu, with the figures.
    """
    counts = np.zeros(2**16, np.int64)
    for plane in stack:
        counts += np.bincount(plane.ravel().astype(np.intp) + 2**15, minlength=2**16)
    share = counts.cumsum() / stack.size
    low, high = (float(np.searchsorted(share, part) - 2**15) for part in (0.01, 0.99))
    first, last = (limit + 2**15 for limit in SOFT_TISSUE_HU)
    tissue = float(counts[first:last].sum() / stack.size)
    if low > LOWEST_PERCENTILE_HU or tissue < MIN_SOFT_TISSUE:
        raise StudyFailure("implausible_hu", f"1st to 99th percentile {low:.0f} to {high:.0f} HU, {tissue:.0%} tissue")
    return low, high
