"""Make a Segmentation and a structured report for every scan of a shard, as files that a PACS accepts."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import highdicom
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from trabecula import tables
from trabecula.cohort.current import current_studies
from trabecula.export import measurements
from trabecula.export.grid import join
from trabecula.export.identity import Study
from trabecula.export.measurements import structured_report
from trabecula.export.segmentation import segmentation
from trabecula.image.levels import ORDER
from trabecula.tables.cubes import VertebraCrop

_OF_STUDY = ["patient_id", "study_id", "series_id", "sex", "levels_used", "flags", "novelty"]
_OF_STUDY += measurements.OF_SCAN
_OF_VERTEBRA = ["study_id", "level", "level_found", "level_uncertain", "level_flags", "flags", "segmenter"]
_OF_VERTEBRA += measurements.OF_LEVEL


@dataclass(frozen=True)
class ScanObjects:
    """The objects of a scan.

    Attributes
    ----------
    study : Study
        The scan, its patient and the run.
    seg : Segmentation
        A segment per vertebral body.
    report : Comprehensive3DSR
        The measurements in them.
    """

    study: Study
    seg: highdicom.seg.Segmentation
    report: highdicom.sr.Comprehensive3DSR


def studies_of_shard(studies: Path | str, cubes: Path | str) -> frozenset[str]:
    """List the studies, of a cohort's table `studies`, that belong to the shard of a file of cubes."""
    return current_studies(tables.read(studies, tables.STUDIES)).of_file(cubes)


def read_rows(studies: Path | str, vertebrae: Path | str, study_ids: Iterable[str]) -> tuple[pa.Table, pa.Table]:
    """Read the rows of some studies from a cohort's tables `studies` and `vertebrae`, with the columns used here."""
    selected = pc.field("study_id").isin(sorted(set(study_ids)))
    return (
        ds.dataset(studies, format="parquet").to_table(_OF_STUDY, selected),
        ds.dataset(vertebrae, format="parquet").to_table(_OF_VERTEBRA, selected),
    )


def make_objects(
    crops: Iterable[VertebraCrop],
    studies: pa.Table,
    vertebrae: pa.Table,
    runs: pa.Table,
    *,
    spacing_mm: float,
    synthetic: bool,
) -> Iterator[ScanObjects]:
    """Make the objects of every scan whose vertebrae are among the cubes; memory holds one scan at a time.

    Parameters
    ----------
    crops : iterable of VertebraCrop
        Those of one study follow each other.
    studies, vertebrae : Table
        Rows of the cubes' studies (see `read_rows`).
    runs : Table
        The table `runs`; the run of its last row made the other tables.
    spacing_mm : float
        Distance between the cubes' voxels.
    synthetic : bool
        The cohort's patients are simulated.

    Yields
    ------
    ScanObjects
        Vertebrae that a reviewer rejected are left out; a scan without any other vertebra is left out as a whole.
    """
    run = runs.to_pylist()[-1]
    scans = {row["study_id"]: row for row in studies.to_pylist()}
    in_order = sorted(vertebrae.to_pylist(), key=lambda row: ORDER.index(row["level"]))
    accepted = _by_study(row for row in in_order if "rejected_by_reviewer" not in row["flags"])
    for study_id, group in groupby(crops, attrgetter("study_id")):
        outlined_crops = {crop.level: crop for crop in group if (crop.label == crop.code).any()}
        rows = [row for row in accepted.get(study_id, []) if row["level_found"] in outlined_crops]
        if not rows:
            continue
        study = _study(scans[study_id], run, synthetic=synthetic)
        bodies = join({row["level"]: outlined_crops[row["level_found"]] for row in rows}, spacing_mm=spacing_mm)
        seg = segmentation(study, bodies, segmenter=rows[0]["segmenter"] or "unknown")
        yield ScanObjects(study, seg, structured_report(study, scans[study_id], rows, seg))


def _by_study(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    by_study: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_study.setdefault(row["study_id"], []).append(row)
    return by_study


def _study(scan: Mapping[str, Any], run: Mapping[str, Any], *, synthetic: bool) -> Study:
    return Study(
        patient_id=scan["patient_id"],
        study_id=scan["study_id"],
        series_id=scan["series_id"],
        sex=scan["sex"],
        run_id=run["run_id"],
        model_id=run["model_id"],
        started=run["started"],
        synthetic=synthetic,
    )


def write_objects(scans: Iterable[ScanObjects], folder: Path) -> None:
    """Write two files per scan: ``{study_id}/seg.dcm`` and ``{study_id}/sr.dcm``."""
    folder.mkdir(parents=True, exist_ok=True)
    for scan in scans:
        place = folder / scan.study.study_id
        place.mkdir(exist_ok=True)
        scan.seg.save_as(place / "seg.dcm", enforce_file_format=True)
        scan.report.save_as(place / "sr.dcm", enforce_file_format=True)
