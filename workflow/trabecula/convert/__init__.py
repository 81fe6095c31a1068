"""Turn a stack of slices, of DICOM or NIfTI files, into one volume in Hounsfield units, or refuse it with a reason.

Geometry comes from positions and orientations alone: slice thickness, spacing between slices, instance numbers and
patient position are never looked at. A stack passes through the modules in this order: `slices` describes its slices
by their headers, `copies` compares files that repeat an instance, `arrange` finds the slices' grid (`repeats` compares
slices at one place), `read` reads them (`decoder` decompresses, in a `child`; `read_nifti` reads NIfTI volumes,
`hounsfield` rescales), `sketch` notes their digests, `interleaved` notices slices of two scans, `mend` moves and
interpolates them. Slices are read, mended and written one by one, so that memory holds a few of them. `shard` does so
for all studies of a job, and `by_hand` for one folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trabecula.cohort.linked import Linked
from trabecula.cohort.pseudonym import pixel_key
from trabecula.convert.arrange import Arrangement, arrange, distances_of
from trabecula.convert.copies import readable, refuse_other_pixels
from trabecula.convert.hounsfield import Sample
from trabecula.convert.interleaved import Alternation
from trabecula.convert.mend import mended
from trabecula.convert.read import SliceFailure, read_slices
from trabecula.convert.repeats import have_same_values, look_alike
from trabecula.convert.sketch import Sketch
from trabecula.convert.slices import Slice, slices_of
from trabecula.dicom.quiet import quiet
from trabecula.errors import StudyFailure
from trabecula.image.nifti import writing_nifti

# Where a larger part of the slices is damaged, the reason is their damage rather than the gaps that they leave.
MAX_DAMAGED = 0.25


@dataclass(frozen=True)
class Converted:
    """Outcome of a stack that was written as a volume.

    Attributes
    ----------
    shape : (int, int, int)
        Columns, rows and slices.
    spacing_mm : list of float
        Distance between voxels along each axis.
    n_slices : int
        Slices that were read.
    repairs, flags : list of str
        Keys of `trabecula.errors.REPAIRS` and `FLAGS`.
    largest_gap_mm : float
        Largest distance between neighbouring slices that were read.
    tilt_degrees : float
        Lean of the stack away from its slices' normal.
    hu_p01, hu_p99 : float
        1st and 99th percentile of a sample of the voxels.
    slice_digests : list of str
        Keyed digests of some slices (see `sketch`).
    """

    shape: tuple[int, int, int]
    spacing_mm: list[float]
    n_slices: int
    repairs: list[str]
    flags: list[str]
    largest_gap_mm: float
    tilt_degrees: float
    hu_p01: float
    hu_p99: float
    slice_digests: list[str]


@quiet()
def convert_stack(stack: Linked, path: Path, *, max_gap_mm: float, key: bytes, any_values: bool = False) -> Converted:
    """Write a stack as a NIfTI file: int16 Hounsfield units, axes as acquired (row, column, normal).

    Parameters
    ----------
    stack : Linked
        Its files.
    path : Path
        Where the volume goes; compressed when the name ends in ``.gz``.
    max_gap_mm : float
        Largest distance between uneven slices that is interpolated.
    any_values : bool
        Values that no patient can have are flagged, not refused.
    key : bytes
        Key of the site's pseudonyms, from which that of the slices' digests is made.

    Raises
    ------
    StudyFailure
        If the stack is no volume, can't be read or holds no Hounsfield units, or files of one instance differ.
    """
    slices = slices_of(stack.headers)
    refuse_other_pixels(stack.copies)
    repairs = ["odd_slices"] * (stack.n_odd > 0) + ["damaged_slices"] * (stack.n_damaged > 0)
    options = {"max_gap_mm": max_gap_mm, "any_values": any_values, "key": pixel_key(key)}
    try:
        return _convert_slices(slices, path, repairs, **options)
    except SliceFailure:
        kept, repair = _readable(slices, stack)
        return _convert_slices(kept, path, repairs + repair, **options)


def _convert_slices(
    slices: list[Slice], path: Path, repairs: list[str], *, max_gap_mm: float, any_values: bool, key: bytes
) -> Converted:
    """Write slices as a volume; raises SliceFailure where the pixels of one can't be had."""
    plan = arrange(slices, have_same_values, look_alike, max_gap_mm=max_gap_mm)
    return _write(plan, path, repairs, _flags(slices), any_values=any_values, key=key)


def _readable(slices: Sequence[Slice], stack: Linked) -> tuple[list[Slice], list[str]]:
    """Keep the slices whose pixels can be had, or those of a copy, and name the repair.

    Raises
    ------
    StudyFailure
        The first one's, if too many can't be had.
    """
    kept, failures = readable(slices, stack.copies)
    if len(failures) > MAX_DAMAGED * len(slices):
        raise StudyFailure(failures[0].reason, f"{len(failures)} of {len(slices)} slices; {failures[0].detail}")
    return kept, ["damaged_slices"] * bool(failures)


def _flags(slices: Sequence[Slice]) -> list[str]:
    """List the flags that the headers of a stack's slices give reason for."""
    headers = [ct_slice.header for ct_slice in slices]
    encodings = {(header.bits_stored, header.high_bit, header.signed, header.photometric) for header in headers}
    applies = {
        "monochrome1": any(header.photometric == "MONOCHROME1" for header in headers),
        "rescale_varies": len({(ct_slice.slope, ct_slice.intercept) for ct_slice in slices}) > 1,
        "encoding_varies": len(encodings) > 1,
    }
    return [flag for flag, holds in applies.items() if holds]


def _write(
    plan: Arrangement, path: Path, repairs: list[str], flags: list[str], *, any_values: bool, key: bytes
) -> Converted:
    """Read, mend and write the slices of a volume, and tell what became of it."""
    sample, sketch, alternation = Sample(), Sketch(key), Alternation(distances_of(plan.slices))
    with writing_nifti(path, plan.shape, plan.affine, np.int16) as write:
        slices = sketch.watching(read_slices(plan.slices), plan.slices[0].orientation)
        for slice_hu in mended(alternation.watching(slices), plan.moves, plan.between, plan.shape[:2]):
            sample.add(slice_hu)
            write(slice_hu)
        implausible = sample.implausible()
        if implausible and not any_values:
            labels = sample.labels()
            raise StudyFailure("label_map", labels) if labels else StudyFailure("implausible_hu", implausible)
        if alternation.holds():
            raise StudyFailure("mixed_scans")
    low, high = sample.percentiles()
    return Converted(
        shape=plan.shape,
        spacing_mm=np.linalg.norm(plan.affine[:3, :3], axis=0).tolist(),
        n_slices=len(plan.slices),
        repairs=list(dict.fromkeys([*repairs, *plan.repairs])),
        flags=flags + ["implausible_hu"] * (implausible is not None),
        largest_gap_mm=plan.largest_gap_mm,
        tilt_degrees=plan.tilt_degrees,
        hu_p01=low,
        hu_p99=high,
        slice_digests=sketch.digests(),
    )


def failure_entries(failure: StudyFailure) -> dict[str, Any]:
    """Give the table's entries for a stack that was refused."""
    unknown = ("shape", "spacing_mm", "n_slices", "largest_gap_mm", "tilt_degrees", "hu_p01", "hu_p99")
    outcome = {"status": "failed", "reason": failure.reason, "detail": failure.detail or None}
    return outcome | {"repairs": [], "flags": [], "slice_digests": []} | dict.fromkeys(unknown)


def volume_entries(converted: Converted) -> dict[str, Any]:
    """Give the table's entries for a stack that was converted."""
    return {"status": "ok", "reason": None, "detail": None, **vars(converted), "shape": list(converted.shape)}
