"""Turn a DICOM series into one volume in Hounsfield units, or refuse it with a reason.

Geometry comes from positions and orientations alone: slice thickness, spacing between slices, instance numbers and
patient position are never looked at. `planes` reads headers, `voxels` pixels; `mend` resamples what is tilted.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trabecula import tables
from trabecula.convert.mend import drift_mm, even_slices, upright, without_shear
from trabecula.convert.planes import Plane, affine_of, check_alike, in_order, read_planes
from trabecula.convert.voxels import check_plausible, read_slices
from trabecula.dicom import quiet
from trabecula.errors import StudyFailure
from trabecula.geometry import SAME_POSITION_MM, distances_mm, spacing_of
from trabecula.linkage import read_files
from trabecula.log import progress
from trabecula.shards import Chosen, read_manifest
from trabecula.volume import Volume, write_nifti

log = logging.getLogger(__name__)

# A stack that leans less than this from end to end was not tilted: its positions are rounded.
MAX_DRIFT_MM = 0.1


@dataclass(frozen=True)
class Converted:
    """A series as a volume.

    Attributes
    ----------
    ct : Volume
        int16 Hounsfield units; axes as acquired: along a row, along a column, along the normal.
    resampled : bool
        Tilt or mildly uneven spacing was mended by resampling.
    hu_p01, hu_p99 : float
        1st and 99th percentile of the voxels.
    """

    ct: Volume
    resampled: bool
    hu_p01: float
    hu_p99: float


@quiet()
def convert_series(paths: Sequence[str]) -> Converted:
    """Read a series from its files.

    Parameters
    ----------
    paths : sequence of str
        Files of one series, in any order.

    Raises
    ------
    StudyFailure
        If the series is no volume, can't be read or holds no Hounsfield units.
    """
    planes = in_order(plane for path in paths for plane in read_planes(path))
    check_alike(planes)
    planes = without_repeats(planes)
    distances = distances_mm([plane.position_mm for plane in planes], planes[0].orientation)
    spacing_mm, even = spacing_of(distances)
    affine = affine_of(planes, spacing_mm)
    stack = np.empty((len(planes), *planes[0].shape), np.int16)
    for k, hu in read_slices(planes):
        stack[k] = hu
    low, high = check_plausible(stack)
    if not even:
        stack = even_slices(stack, distances, spacing_mm)
    tilted = drift_mm(affine, len(stack)) > MAX_DRIFT_MM
    ct = Volume(stack.transpose(2, 1, 0), affine if tilted else upright(affine))
    return Converted(without_shear(ct) if tilted else ct, tilted or not even, low, high)


def without_repeats(planes: Sequence[Plane]) -> list[Plane]:
    """One plane per position, where the others there hold the same values.

    Raises
    ------
    StudyFailure
        duplicate_position, if they don't; too_few_slices, if one plane is left.
    """
    kept = [planes[0]]
    for plane in planes[1:]:
        if np.linalg.norm(np.subtract(plane.position_mm, kept[-1].position_mm)) >= SAME_POSITION_MM:
            kept.append(plane)
            continue
        (_, before), (_, after) = read_slices([kept[-1], plane])
        if not np.array_equal(before, after):
            raise StudyFailure("duplicate_position", "different values at one position")
    if len(kept) < 2:
        raise StudyFailure("too_few_slices", "all slices lie at one position")
    return kept


def convert_shard(
    studies: Iterable[Chosen], files: Mapping[str, Sequence[str]], *, cohort: str
) -> Iterator[tuple[dict[str, Any], Volume | None]]:
    """Convert a shard's studies, one after another.

    Parameters
    ----------
    studies : iterable of Chosen
        Studies and the series chosen for each.
    files : mapping
        Files of each study's chosen series.
    cohort : str
        Name of the cohort.

    Yields
    ------
    dict
        Row of the table `convert`.
    Volume or None
        The study in Hounsfield units; None where it failed.
    """
    for study in studies:
        row = {"cohort": cohort, "patient_id": study.patient_id, "study_id": study.study_id}
        row |= {"series_id": study.series_id}
        try:
            done = convert_series(files[study.study_id])
        except StudyFailure as failure:
            log.info("%s: %s", study.study_id, failure)
            yield row | _failed(failure), None
        else:
            yield row | _ok(done), done.ct


def _failed(failure: StudyFailure) -> dict[str, Any]:
    unknown = dict.fromkeys(("shape", "spacing_mm", "resampled", "hu_p01", "hu_p99"))
    return {"status": "failed", "reason": failure.reason, "detail": failure.detail or None, **unknown}


def _ok(done: Converted) -> dict[str, Any]:
    return {
        "status": "ok",
        "reason": None,
        "detail": None,
        "shape": list(done.ct.array.shape),
        "spacing_mm": done.ct.spacing_mm.tolist(),
        "resampled": done.resampled,
        "hu_p01": done.hu_p01,
        "hu_p99": done.hu_p99,
    }


def write_shard(manifest: Path, linkage: Path, *, cohort: str, folder: Path, table: Path) -> None:
    """Convert a shard: a NIfTI file per study, and a table with a row per study.

    Parameters
    ----------
    manifest : Path
        List of the shard's studies (``results/{cohort}/shards/{shard}.tsv``).
    linkage : Path
        Private table that tells where files lie.
    cohort : str
        Name of the cohort.
    folder : Path
        Where ``{study_id}.nii`` files go.
    table : Path
        Where the table goes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    studies = progress(read_manifest(manifest), what="convert", unit="studies")
    rows = []
    for row, ct in convert_shard(studies, read_files(linkage, manifest.stem), cohort=cohort):
        rows.append(row)
        if ct is not None:
            write_nifti(ct, folder / f"{row['study_id']}.nii")
    tables.write(rows, tables.CONVERT, table)
