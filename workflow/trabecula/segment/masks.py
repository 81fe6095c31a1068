"""Backend `masks`: label maps that the user already has, as NIfTI or DICOM SEG."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.misc import is_dicom

from trabecula.codings import Coding, coding_of
from trabecula.errors import StudyFailure
from trabecula.segment.bodies import split_bodies
from trabecula.segment.dicom_seg import read_seg
from trabecula.segment.numbering import Level
from trabecula.segment.review import review
from trabecula.volume import Volume, bounds_mm, read_nifti, resample

# Who gives label maps of his own has looked at them.
TRUST = 0.99
_MAX_VALUE = np.iinfo(np.uint16).max


def segment(
    ct: Volume, path: Path, *, coding: Coding, frame_of_reference: str | None = None
) -> tuple[Volume, list[Level]]:
    """Read a study's label map and bring it to the canonical coding on the CT's grid.

    Bodies are told from posterior elements on the label map's own grid (see `bodies`), which is then resampled to the
    CT's by nearest neighbour.

    Parameters
    ----------
    ct : Volume
        HU; its grid is the result's.
    path : Path
        Label map in the patient's frame, NIfTI or DICOM SEG, on any grid.
    coding : Coding
        What the numbers of a NIfTI file mean; a SEG object says by itself what its segments are.
    frame_of_reference : str, optional
        Frame of Reference UID (0020,0052) of the scan, where it is known.

    Raises
    ------
    StudyFailure
        ``mask_missing`` without a file, ``mask_unreadable`` if it can't be read, ``mask_mismatch`` where it does not
        overlap the scan or lies in another frame of reference, ``no_vertebra`` where it holds none.
    """
    if not path.is_file():
        raise StudyFailure("mask_missing")
    if is_dicom(path):
        found = read_seg(path)
        if frame_of_reference is not None and found.frame_of_reference != frame_of_reference:
            raise StudyFailure("mask_mismatch", "another frame of reference than the scan's")
        mask, coding = found.labels, coding_of(found.structures)
    else:
        mask = _read_labels(path)
    if not _overlap(mask, ct):
        raise StudyFailure("mask_mismatch", "the label map lies outside the scan")
    coded = split_bodies(mask.with_array(recode(mask.array, coding)), coding.whole)
    labels = resample(coded, ct.array.shape, ct.affine, outside=0, how="nearest")
    return labels, review(labels, trust=TRUST)


def _read_labels(path: Path) -> Volume:
    try:
        mask = read_nifti(path)
    except (RuntimeError, ValueError) as error:
        raise StudyFailure("mask_unreadable", "no three-dimensional NIfTI image") from error
    whole_numbers = np.array_equal(mask.array, np.floor(mask.array))
    if not whole_numbers or mask.array.min() < 0 or mask.array.max() > _MAX_VALUE:
        raise StudyFailure("mask_mismatch", "the label map holds numbers that are no labels")
    return mask


def _overlap(mask: Volume, ct: Volume) -> bool:
    low, high = bounds_mm(ct)
    mask_low, mask_high = bounds_mm(mask)
    return not (np.any(mask_low > high) or np.any(mask_high < low))


def recode(numbers: NDArray, coding: Coding) -> NDArray[np.uint8]:
    """Canonical codes in place of a coding's numbers (0 to 65535), in any shape; unknown numbers become 0."""
    table = np.zeros(_MAX_VALUE + 1, np.uint8)
    table[list(coding.codes)] = list(coding.codes.values())
    return table[numbers.astype(np.uint16, copy=False)]
