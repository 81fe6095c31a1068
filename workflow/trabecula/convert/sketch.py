"""Note a few keyed digests of a scan's slices, by which the same pixels are known again whoever they are said to be of.

The digests are those of Hounsfield units as they are read, so that compression, encoding, slope and intercept do not
count, and of slices turned along the patient's axes, so that neither does the order in which a file holds rows and
columns: a NIfTI file usually has the slices of its DICOM series upside down. Kept are those of the slices with the
smallest checksums (a bottom-k sketch, Broder, Compression and Complexity of Sequences 1997:21-29): a copy that lacks a
third of the slices shares at least one of eight in 9,998 of 10,000 cases. A checksum takes a thirtieth of the time of
a digest, and most slices need no digest.
"""

from collections.abc import Iterable, Iterator
from hmac import digest

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import ArrayLike, NDArray

N_DIGESTS = 8
_BYTES = 8  # no two of a thousand million different slices are expected to share 64 bits
_ROWS = 32  # so many rows of a slice hold enough noise to tell scans apart, and take a sixteenth of the time
_SAMPLED = 16  # rows and columns of a slice that are looked at for content
_MIN_VALUES = 16  # a slice with fewer different values is blank, and many people have the same


class Sketch:
    """Collects the digests of a volume's slices.

    Parameters
    ----------
    key : bytes
        Key of the digests (HMAC-SHA256): without it nobody can tell whether a scan that they have is among those of
        a table.

    Examples
    --------
    >>> scan = [np.arange(64, dtype=np.int16).reshape(8, 8) + k for k in range(3)]
    >>> whole, part = Sketch(b"key"), Sketch(b"key")
    >>> axial = [1, 0, 0, 0, 1, 0]
    >>> n_read = len(list(whole.watching(scan, axial))), len(list(part.watching(scan[1:], axial)))
    >>> len(whole.digests()), set(part.digests()) < set(whole.digests())
    (3, True)
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._kept: list[tuple[int, bytes]] = []  # checksums and digests, ascending

    def watching(self, slices: Iterable[NDArray[np.int16]], orientation: ArrayLike) -> Iterator[NDArray[np.int16]]:
        """Pass slices on, (rows, columns) in Hounsfield units, and take the digest of each that is not blank.

        `orientation` is (6,), the directions along a row and along a column, LPS+.
        """
        for slice_hu in slices:
            turned = along_axes(slice_hu, orientation)
            rows = np.ascontiguousarray(turned[:: max(1, len(turned) // _ROWS)], "<i2")
            checksum = crc32(rows.data)
            if (len(self._kept) < N_DIGESTS or checksum <= self._kept[-1][0]) and not _is_blank(turned):
                entry = checksum, digest(self._key, rows.data, "sha256")[:_BYTES]
                self._kept = sorted({*self._kept, entry})[:N_DIGESTS]
            yield slice_hu

    def digests(self) -> list[str]:
        """Give `N_DIGESTS` digests at most, as hexadecimal digits in ascending order."""
        return sorted(digest.hex() for _, digest in self._kept)


def along_axes(pixels: NDArray, orientation: ArrayLike) -> NDArray:
    """Turn a slice, (rows, columns), so that it is read along the patient's axes.

    Columns follow the axis of the patient, of left, posterior and superior, that comes first, and rows the other one.
    Nothing is copied.

    Parameters
    ----------
    pixels : (rows, columns) array
        A slice.
    orientation : (6,) array
        Directions along a row and along a column, LPS+.

    Examples
    --------
    >>> along_axes(np.array([[1, 2], [3, 4]]), [-1, 0, 0, 0, 1, 0]).tolist()
    [[2, 1], [4, 3]]
    """
    row, column = np.reshape(np.asarray(orientation, float), (2, 3))
    row_axis, column_axis = np.abs(row).argmax(), np.abs(column).argmax()
    turned = pixels[:: 1 if column[column_axis] > 0 else -1, :: 1 if row[row_axis] > 0 else -1]
    return turned.T if row_axis > column_axis else turned


def _is_blank(slice_hu: NDArray[np.int16]) -> bool:
    step = max(1, min(slice_hu.shape) // _SAMPLED)
    return len(set(slice_hu[::step, ::step].ravel().tolist())) < _MIN_VALUES
