"""Turn a stack of DICOM slices into one volume in Hounsfield units, or refuse it with a reason.

Geometry comes from positions and orientations alone: slice thickness, spacing between slices, instance numbers and
patient position are never looked at. `planes` are the slices, `arrange` finds their grid, `voxels` reads them, `mend`
moves and interpolates. Slices are read, mended and written one by one, so that memory holds a few of them.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trabecula import tables
from trabecula.cohort.linkage import Linked, read_archive, read_linked
from trabecula.cohort.shards import Chosen, read_manifest
from trabecula.convert.arrange import Arrangement, arrange
from trabecula.convert.mend import mended
from trabecula.convert.planes import Plane, planes_of
from trabecula.convert.voxels import Sample, SliceFailure, read_slices
from trabecula.dicom.attributes import quiet
from trabecula.errors import StudyFailure
from trabecula.image.nifti import writing_nifti
from trabecula.runtime.log import progress
from trabecula.runtime.storage import must_be_there

log = logging.getLogger(__name__)

# With more slices damaged than this part, a scan says what is wrong with it rather than how large its gaps are.
MAX_DAMAGED = 0.25


@dataclass(frozen=True)
class Converted:
    """What became of a stack that was written as a volume.

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


@quiet()
def convert_stack(stack: Linked, path: Path, *, max_gap_mm: float, any_values: bool = False) -> Converted:
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

    Raises
    ------
    StudyFailure
        If the stack is no volume, can't be read or holds no Hounsfield units.
    """
    planes = planes_of(stack.headers)
    found = ["odd_slices"] * (stack.n_odd > 0) + ["damaged_slices"] * (stack.n_damaged > 0)
    try:
        return _write(_arranged(planes, max_gap_mm), planes, found, path, any_values)
    except SliceFailure:
        whole = _readable(planes)
        return _write(_arranged(whole, max_gap_mm), whole, [*found, "damaged_slices"], path, any_values)


def _arranged(planes: Sequence[Plane], max_gap_mm: float) -> Arrangement:
    return arrange(planes, _same_values, max_gap_mm=max_gap_mm)


def _same_values(one: Plane, other: Plane) -> bool:
    try:
        first, second = read_slices([one, other])
    except SliceFailure:
        return False
    return bool(np.array_equal(first, second))


def _readable(planes: Sequence[Plane]) -> list[Plane]:
    """Planes whose pixels can be had.

    Raises
    ------
    StudyFailure
        The first one's, if it is too many that can't.
    """
    kept, failures = [], []
    for plane in planes:
        try:
            next(read_slices([plane]))
            kept.append(plane)
        except SliceFailure as damaged:
            failures.append(damaged.failure)
    if len(failures) > MAX_DAMAGED * len(planes):
        raise StudyFailure(failures[0].reason, f"{len(failures)} of {len(planes)} slices; {failures[0].detail}")
    return kept


def _write(plan: Arrangement, planes: Sequence[Plane], found: list[str], path: Path, any_values: bool) -> Converted:
    sample, flags = Sample(), _flags(planes)
    with writing_nifti(path, plan.shape, plan.affine, np.int16) as write:
        for plane in mended(read_slices(plan.planes), plan.moves, plan.between, plan.shape[:2]):
            sample.add(plane)
            write(plane)
        against = sample.implausible()
        if against and not any_values:
            raise StudyFailure("implausible_hu", against)
    low, high = sample.percentiles()
    return Converted(
        plan.shape,
        np.linalg.norm(plan.affine[:3, :3], axis=0).tolist(),
        len(plan.planes),
        list(dict.fromkeys([*found, *plan.repairs])),
        flags + ["implausible_hu"] * (against is not None),
        plan.largest_gap_mm,
        plan.tilt_degrees,
        low,
        high,
    )


def _flags(planes: Sequence[Plane]) -> list[str]:
    encodings = {
        (plane.header.bits_stored, plane.header.high_bit, plane.header.signed, plane.header.photometric)
        for plane in planes
    }
    found = {
        "monochrome1": any(plane.header.photometric == "MONOCHROME1" for plane in planes),
        "rescale_varies": len({(plane.slope, plane.intercept) for plane in planes}) > 1,
        "encoding_varies": len(encodings) > 1,
    }
    return [flag for flag, holds in found.items() if holds]


def convert_shard(
    studies: Iterable[Chosen],
    stacks: Mapping[str, Linked],
    *,
    archive: Path | str,
    cohort: str,
    folder: Path,
    max_gap_mm: float,
    file_format: str,
) -> Iterator[dict[str, Any]]:
    """Convert a shard's studies, one after another.

    Parameters
    ----------
    studies : iterable of Chosen
        Studies and the series chosen for each.
    stacks : mapping
        Each study's chosen stack.
    archive : Path or str
        Top folder of the archive.
    cohort : str
        Name of the cohort.
    folder : Path
        Where ``{study_id}.{file_format}`` files go.
    max_gap_mm : float
        See `convert_stack`.
    file_format : {"nii.gz", "nii"}
        Compressed or not.

    Yields
    ------
    dict
        Row of the table `convert`.

    Raises
    ------
    ConfigError
        If the archive is away as a whole.
    """
    for study in studies:
        row = {"cohort": cohort, "patient_id": study.patient_id, "study_id": study.study_id}
        row |= {"series_id": study.series_id}
        try:
            path = folder / f"{study.study_id}.{file_format}"
            done = convert_stack(stacks[study.study_id], path, max_gap_mm=max_gap_mm)
        except StudyFailure as failure:
            if failure.reason in ("vanished", "unreadable"):
                must_be_there(archive)
            log.info("%s: %s", study.study_id, failure)
            yield row | failed(failure)
        else:
            yield row | ok(done)


def failed(failure: StudyFailure) -> dict[str, Any]:
    """What the table says of a stack that was refused."""
    unknown = ("shape", "spacing_mm", "n_slices", "largest_gap_mm", "tilt_degrees", "hu_p01", "hu_p99")
    outcome = {"status": "failed", "reason": failure.reason, "detail": failure.detail or None}
    return outcome | {"repairs": [], "flags": []} | dict.fromkeys(unknown)


def ok(done: Converted) -> dict[str, Any]:
    """What the table says of a stack that was converted."""
    return {"status": "ok", "reason": None, "detail": None, **vars(done), "shape": list(done.shape)}


def write_shard(
    manifest: Path, linkage: Path, *, cohort: str, folder: Path, table: Path, max_gap_mm: float, file_format: str
) -> None:
    """Convert a shard: a NIfTI file per study, and a table with a row per study.

    Parameters
    ----------
    manifest : Path
        List of the shard's studies (``results/{cohort}/shards/{shard}.tsv``).
    linkage : Path
        Private table that tells where slices lie.
    cohort : str
        Name of the cohort.
    folder : Path
        Where the NIfTI files go.
    table : Path
        Where the table goes.
    max_gap_mm, file_format
        See `convert_shard`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    studies = read_manifest(manifest)
    shown = progress(studies, what=f"convert {manifest.stem}", unit="studies", total=len(studies))
    stacks = read_linked(linkage, manifest.stem)
    options = {"archive": read_archive(linkage), "folder": folder, "max_gap_mm": max_gap_mm, "file_format": file_format}
    tables.write(convert_shard(shown, stacks, cohort=cohort, **options), tables.CONVERT, table)
