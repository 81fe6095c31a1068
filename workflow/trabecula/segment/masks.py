"""Read label maps that the user already has, as NIfTI or DICOM SEG (backend `masks`)."""

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray
from pydicom.misc import is_dicom

from trabecula.cohort.label_maps import ArchivedStudy, mask_path, note
from trabecula.errors import StudyFailure
from trabecula.image.codings import MAX_VALUE, Coding, coding_of, find_coding
from trabecula.image.edge import EDGE_MM
from trabecula.image.levels import BODY_CODES, LEVEL_OF_CODE
from trabecula.image.volume import Volume, bounds_mm, resample
from trabecula.model.segmenter_settings import Masks
from trabecula.runtime.storage import passes, patiently
from trabecula.segment.backend import Backend
from trabecula.segment.bodies import split_bodies
from trabecula.segment.dicom_seg import read_seg
from trabecula.segment.numbering import Level
from trabecula.segment.review import READER, review

# Least and largest distance between neighbouring voxels of a label map.
SPACING_MM = 0.05, 20.0
# A label map may have so many voxels, or so many times those of its scan; one that claims more is damaged or hostile.
MOST_VOXELS, MOST_TIMES = 2**27, 4


def open_backend(settings: Masks, identities: Mapping[str, ArchivedStudy]) -> Backend:
    """Look for the label maps of a job's studies; `identities` are the original ids of these, by study."""
    coding = find_coding(settings.coding)

    def path_of(keys: Mapping[str, str]) -> Path:
        return mask_path(settings.pattern, keys, identities[keys["study_id"]])

    def read_mask(ct: Volume, keys: Mapping[str, str]) -> tuple[Volume, list[Level]]:
        frame_of_reference = identities[keys["study_id"]].frame_of_reference()
        return segment(ct, path_of(keys), coding=coding, frame_of_reference=frame_of_reference)

    return Backend(settings.backend, read_mask, lambda keys: note(path_of(keys)))


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
        Meaning of the numbers in a NIfTI file; a SEG object says by itself what its segments are.
    frame_of_reference : str, optional
        Frame of Reference UID (0020,0052) of the scan, where it is known.

    Raises
    ------
    StudyFailure
        ``mask_missing`` without a file, ``mask_unreadable`` if it can't be read, ``mask_mismatch`` where it does not
        overlap the scan or lies in another frame of reference, ``no_vertebra`` where it holds none.
    """
    if not os.path.isfile(path):
        raise StudyFailure("mask_missing")
    most = max(MOST_VOXELS, MOST_TIMES * ct.array.size)
    if is_dicom(path):
        segments = patiently(read_seg, path, most_voxels=most)
        if frame_of_reference is not None and segments.frame_of_reference != frame_of_reference:
            raise StudyFailure("mask_mismatch", "another frame of reference than the scan's")
        mask, coding = segments.labels, coding_of(segments.structures)
    else:
        mask = patiently(_read_labels, path, most)
    _check_place(mask, ct)
    coded = split_bodies(mask.with_array(recode(mask.array, coding)), coding.whole)
    labels = resample(coded, ct.array.shape, ct.affine, outside=0, how="nearest")
    cut = cut_by_mask(coded, ct)
    levels = review(labels, READER)
    return labels, [
        replace(level, flags=(*level.flags, "cut_by_mask")) if level.name in cut else level for level in levels
    ]


def _check_place(mask: Volume, ct: Volume) -> None:
    """Raise a StudyFailure where a label map's header does not place it in the scan, with voxels of a sensible size."""
    low, high = SPACING_MM
    if not np.isfinite(mask.affine).all():
        raise StudyFailure("mask_unreadable", "its header does not say where it lies")
    if not np.all((mask.spacing_mm >= low) & (mask.spacing_mm <= high)):
        raise StudyFailure("mask_unreadable", "its voxels are smaller or larger than those of any scan")
    if not _overlap(mask, ct):
        raise StudyFailure("mask_mismatch", "the label map lies outside the scan")


def cut_by_mask(mask: Volume, ct: Volume) -> set[str]:
    """Name the levels whose bodies reach the edge of a label map where the scan goes on.

    The map holds only a part of these bodies.
    """
    reach = np.maximum(np.ceil(EDGE_MM / mask.spacing_mm).astype(int), 1)
    levels = set()
    for axis in range(3):
        for at_end, edge in ((False, slice(0, reach[axis])), (True, slice(-reach[axis], None))):
            if not _goes_on(mask, ct, axis, at_end=at_end):
                continue
            slab = mask.array[tuple(edge if i == axis else slice(None) for i in range(3))]
            levels |= {LEVEL_OF_CODE[int(code)] for code in np.unique(slab) if code in BODY_CODES}
    return levels


def _goes_on(mask: Volume, ct: Volume, axis: int, *, at_end: bool) -> bool:
    """Tell whether the scan covers the place just beyond the middle of one face of a label map."""
    beyond = (np.array(mask.array.shape) - 1) / 2
    beyond[axis] = mask.array.shape[axis] + 1 if at_end else -2
    voxel = np.rint(ct.to_voxels(mask.to_mm([beyond]))[0])
    return bool(np.all(voxel >= 0) and np.all(voxel < ct.array.shape))


def _read_labels(path: Path, most_voxels: int) -> Volume:
    """Read a NIfTI label map with nibabel; ITK fills a file that was cut off with zeros, and warns with its path."""
    try:
        image = Nifti1Image.from_filename(path)
        if math.prod(image.shape) > most_voxels:
            raise StudyFailure("mask_unreadable", "its header tells of far more voxels than the scan has")
        numbers, affine = np.asanyarray(image.dataobj), np.asarray(image.affine, float)
    except StudyFailure:
        raise
    except Exception as error:  # damaged headers raise anything, from zlib.error to errors of nibabel's own
        if passes(error):
            raise
        raise StudyFailure("mask_unreadable", type(error).__name__) from None
    if numbers.ndim != 3 or numbers.size == 0:
        raise StudyFailure("mask_unreadable", f"an image of {numbers.ndim} dimensions")
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise StudyFailure("mask_unreadable", "its axes do not stand upright on each other")
    if not np.array_equal(numbers, np.floor(numbers)) or numbers.min() < 0 or numbers.max() > MAX_VALUE:
        raise StudyFailure("mask_mismatch", "the label map holds numbers that are no labels")
    return Volume(numbers.astype(np.uint16), affine)


def _overlap(mask: Volume, ct: Volume) -> bool:
    """Tell whether the boxes around two volumes meet."""
    low, high = bounds_mm(ct)
    mask_low, mask_high = bounds_mm(mask)
    return not (np.any(mask_low > high) or np.any(mask_high < low))


def recode(numbers: NDArray, coding: Coding) -> NDArray[np.uint8]:
    """Replace a coding's numbers (0 to 65535), in any shape, by canonical codes; unknown numbers become 0.

    >>> recode(np.array([31, 25, 1]), Coding({31: 20, 25: 26})).tolist()
    [20, 26, 0]
    """
    table = np.zeros(MAX_VALUE + 1, np.uint8)
    table[list(coding.codes)] = list(coding.codes.values())
    return table[numbers.astype(np.uint16, copy=False)]
