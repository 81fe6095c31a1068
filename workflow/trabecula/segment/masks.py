"""Backend `masks`: label maps that the user already has, as NIfTI."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trabecula.errors import StudyFailure
from trabecula.levels import BODY_CODES, CODE_OF_LEVEL, LEVEL_OF_CODE, POSTERIOR, SACRUM
from trabecula.segment.numbering import Level
from trabecula.volume import Volume, bounds_mm, read_nifti, resample

# TotalSegmentator 2, task total: 25 sacrum, 26 S1, then upwards from 27 L5 to 50 C1.
_TOTAL_UPWARDS = (
    [f"L{i}" for i in range(5, 0, -1)] + [f"T{i}" for i in range(12, 0, -1)] + [f"C{i}" for i in range(7, 0, -1)]
)


def _table(pairs: dict[int, int]) -> NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    table[list(pairs)] = list(pairs.values())
    return table


_VERSE = {code: code for code in LEVEL_OF_CODE}
# Coding of a label map -> lookup table from its numbers to the canonical codes.
CODINGS: dict[str, NDArray[np.uint8]] = {
    "canonical": np.arange(256, dtype=np.uint8),
    "verse": _table(_VERSE),
    "totalsegmentator": _table(
        {25: SACRUM, 26: SACRUM} | {27 + i: CODE_OF_LEVEL[level] for i, level in enumerate(_TOTAL_UPWARDS)}
    ),
    "vertebrae_pp": _table({code: code for code in range(1, 25)}),
}


def segment(ct: Volume, path: Path, *, coding: str) -> tuple[Volume, list[Level]]:
    """Read a study's label map and bring it to the canonical coding on the CT's grid.

    Parameters
    ----------
    ct : Volume
        HU; its grid is the result's.
    path : Path
        NIfTI label map in the patient's frame; another grid than the CT's is resampled (nearest).
    coding : str
        A key of `CODINGS`.

    Raises
    ------
    StudyFailure
        ``mask_missing`` without a file, ``mask_mismatch`` where it does not overlap the scan, ``no_vertebra`` where
        it holds none.
    """
    if not path.is_file():
        raise StudyFailure("mask_missing")
    mask = read_nifti(path)
    low, high = bounds_mm(ct)
    mask_low, mask_high = bounds_mm(mask)
    if np.any(mask_low > high) or np.any(mask_high < low):
        raise StudyFailure("mask_mismatch", "the label map lies outside the scan")
    if mask.array.min() < 0 or mask.array.max() > 255:
        raise StudyFailure("mask_mismatch", "the label map holds numbers that are no label codes")
    coded = mask.with_array(CODINGS[coding][mask.array.astype(np.uint8)])
    labels = resample(coded, ct.array.shape, ct.affine, outside=0, how="nearest")
    return labels, levels_in(labels.array)


def levels_in(labels: NDArray[np.uint8], *, confidence: float = 1.0) -> list[Level]:
    """The levels of a canonical label map, from foot to head.

    Raises
    ------
    StudyFailure
        ``no_vertebra`` where it holds none.
    """
    codes = [int(code) for code in np.unique(labels) if code in BODY_CODES and code < POSTERIOR]
    if not codes:
        raise StudyFailure("no_vertebra")
    names = [LEVEL_OF_CODE[code] for code in sorted(codes, reverse=True)]
    return [Level(piece, name, confidence) for piece, name in enumerate(names)]
