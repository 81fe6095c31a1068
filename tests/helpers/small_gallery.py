"""Make a small synthetic gallery: twelve studies, of which some failed, are uncertain, or were reviewed."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from small_study import LOST, empty, patient, study, vertebra

from trabecula import report, tables
from trabecula.model.bundle import Bundle, Roi
from trabecula.model.uncertainty import Uncertainty

COHORT = "clinic_a"
N, FAILED, REJECTED, UNCERTAIN, METAL, REVIEWED = 12, 3, 4, 5, 6, 7
LEVELS = ("T12", "L1", "L2", "L3")
KEYS = ("cohort", "patient_id", "study_id")
# This study, the first one of the second shard, was in the first shard before and has left other pictures there.
MOVED_ON, SHARDS = 6, ("00000", "00001")


def results(n: int = N) -> report.Results:
    """Make the tables of the cohort; those that the gallery does not read are empty."""
    rng = np.random.default_rng(4)
    studies, patients, vertebrae = [], [], []
    for i in range(n):
        fate = {FAILED: {"status": "failed", "stage": "convert", "reason": "missing_slices"}}.get(i, {})
        fate = {"status": "rejected", "stage": "index", "reason": "no_acceptable_series"} if i == REJECTED else fate
        studies.append(study(COHORT, i, shard=SHARDS[i >= MOVED_ON], **fate))
        patients.append(
            patient(studies[-1], "development", rng, **(LOST | {"decision_reason": fate["reason"]} if fate else {}))
        )
        vertebrae += [] if fate else [_vertebra(studies[-1], i, level) for level in LEVELS]
    verdict = {name: studies[METAL][name] for name in KEYS} | {"line": 2, "level": "L1", "verdict": "relabel"}
    verdict |= {"new_level": "L2", "status": "unused", "reason": "level_taken"}
    nothing = {name: tables.PUBLIC[name].empty_table() for name in ("failures", "flow", "runs")}
    return report.Results(
        patients=tables.cast(patients, tables.PATIENTS),
        studies=tables.cast(studies, tables.STUDIES),
        vertebrae=tables.cast(vertebrae, tables.VERTEBRAE),
        verdicts=tables.cast([verdict], tables.VERDICTS),
        **nothing,
        statistics={},
        training=tables.TRAINING.empty_table(),
        bundle=_bundle(),
        roles={COHORT: "development"},
    )


def z_mm(level: str) -> int:
    """Give the height of a level's centre, in mm."""
    return -400 - 30 * LEVELS.index(level)


def _vertebra(owner: dict, i: int, level: str) -> dict:
    changes = {"level_found": level, "level_uncertain": i == UNCERTAIN, "flags": ["metal"] if i == METAL else []}
    changes |= {"centroid_z_mm": z_mm(level) + 0.4}
    if i == REVIEWED and level == "T12":
        changes |= {"level": "T11", "verdict": "relabel"}
    if i == REVIEWED and level == "L3":
        changes |= {"verdict": "reject", "flags": ["rejected_by_reviewer"]}
    return vertebra(owner, level) | changes


def _bundle() -> Bundle:
    return Bundle(
        folder=Path(),
        name="demo",
        model_id="demo-0123abcd",
        synthetic=True,
        tasks=("regression",),
        folds=(0,),
        network={},
        roi=Roi(64, 1.0, (-200.0, 600.0)),
        scan_inputs=(),
        baselines=(),
        uncertainty=Uncertainty(()),
        sha256={},
    )


def webp(colour: int) -> bytes:
    """Make a small image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (20, 40), (colour % 256, 80, 90)).save(buffer, "WEBP")
    return buffer.getvalue()


def write_images(shown: report.Results, folder: Path) -> tuple[list[Path], list[Path]]:
    """Write the overlays as tables of crop, and the thumbnails as tables of measure; L3 has no thumbnail."""
    shards = {row["study_id"]: row["shard"] for row in shown.studies.to_pylist()}
    measured = [row for row in shown.studies.to_pylist() if row["status"] == "measured"]
    crops = [
        empty(tables.CROP, status="ok", picture=webp(i)) | {name: row[name] for name in KEYS}
        for i, row in enumerate(measured)
    ]
    thumbnails = [
        empty(tables.MEASURE, flags=[], picture=None if row["level_found"] == "L3" else webp(i))
        | {name: row[name] for name in KEYS}
        | {"level": row["level_found"]}
        for i, row in enumerate(shown.vertebrae.to_pylist())
    ][::-1]
    paths: dict[str, list[Path]] = {"crop": [], "measure": []}
    for stage, rows, schema in (("crop", crops, tables.CROP), ("measure", thumbnails, tables.MEASURE)):
        by_shard = {shard: [row for row in rows if shards[row["study_id"]] == shard] for shard in SHARDS}
        moved = shown.studies["study_id"][MOVED_ON].as_py()
        by_shard[SHARDS[0]] += [row | {"picture": webp(99)} for row in rows if row["study_id"] == moved]
        for shard, rows_of_shard in by_shard.items():
            paths[stage].append(folder / COHORT / stage / f"{shard}.parquet")
            tables.write(rows_of_shard, schema, paths[stage][-1])
    return paths["crop"], paths["measure"]


def write_gallery(folder: Path, *, per_page: int = 4) -> report.Results:
    """Write the gallery in a folder of that name, and give the results that it shows."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    shown = results()
    report.write_gallery(shown, *write_images(shown, folder.parent), folder, patients_per_page=per_page)
    return shown
