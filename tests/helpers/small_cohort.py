"""A cohort's files as the stages leave them, made by hand: studies with known fates."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trabecula import tables
from trabecula.model import bundle, uncertainty
from trabecula.model.bundle_checks import METADATA, weight_file

SIZE = 16
LEVELS, SUBSTITUTES = ("L1", "L2"), ("L3", "T12", "L4", "T11")
FOLDS = (0, 1)


@dataclass(frozen=True)
class Study:
    """A study, the stage and reason of its failure, and its vertebrae (by level, the values unlike a good one's)."""

    patient: str
    name: str
    day: int | None = 0
    fails: tuple[str, str] | None = None
    vertebrae: dict[str, dict[str, Any]] = field(default_factory=dict)
    predicted: bool = True
    earlier: tuple[str, ...] = ()
    shard: str = "00000"
    digests: tuple[str, ...] = ()
    n_slices: int = 90

    @property
    def status(self) -> str:
        return "rejected" if self.fails and self.fails[0] == "index" else "accepted"


def good(*levels: str) -> dict[str, dict[str, Any]]:
    """Make vertebrae without a fault."""
    return {level: {} for level in levels}


def known_errors() -> uncertainty.Uncertainty:
    """Make the uncertainty: temperature 2, no call from 0.4 to 0.6, half widths 20, 21 in the folds, 30 elsewhere."""
    ranges = dict(kvp=(100.0, 120.0), trabecular_hu=(0.0, 200.0), thickness_mm=(1.0, 2.0), spacing_mm=(1.0, 2.0))
    seen = uncertainty.Experience(
        devices=("M X 120 B",),
        rmse_mg_cm3=9.0,
        hu_difference_mg_cm3=90.0,
        n=10,
        **{name: uncertainty.Range(*ends) for name, ends in ranges.items()},
    )
    return uncertainty.Uncertainty(
        tuple(
            uncertainty.Reference(
                fold=fold,
                temperature=uncertainty.Temperature(2.0, 10, None),
                thresholds=uncertainty.DecisionThresholds(0.4, 0.6, 5, 5),
                widths=(uncertainty.Width("all patients", half_width, 10),),
                experience=seen,
            )
            for fold, half_width in {0: 20.0, 1: 21.0, None: 30.0}.items()
        )
    )


def write_bundle(folder: Path, splits: dict[str, int], *digests: str) -> Path:
    """Write a bundle without weights, with the files that aggregate reads."""
    sha256 = {weight_file(task, fold): f"{fold}" * 64 for task in bundle.TASKS for fold in FOLDS}
    lines = [
        {"name": "hu", "fold": fold, "terms": {"intercept": 10.0 * fold, "hu": 1.0 + fold}, "n": 5} for fold in FOLDS
    ]
    facts = {
        "name": "test",
        "model_id": bundle.model_id("test", sha256),
        "synthetic": True,
        "tasks": list(bundle.TASKS),
        "folds": list(FOLDS),
        "network": {},
        "roi_size": 16,
        "roi_spacing_mm": 1.0,
        "hu_window": [-200, 600],
        "scan_inputs": [],
        "baselines": lines,
        "uncertainty": uncertainty.to_facts(known_errors()),
        "sha256": sha256,
    }
    bundle.write_json(facts, folder / METADATA)
    keys = {"scheme": "cross-validation", "held_out": None, "part": "test"}
    rows = [keys | {"patient_id": patient, "split": f"fold{fold}"} for patient, fold in splits.items()]
    tables.write(rows, tables.SPLITS, folder / bundle.SPLITS)
    tables.write([{"slice_digest": digest} for digest in digests], tables.SCANS, folder / bundle.SCANS)
    return folder


def write_cohort(
    results: Path,
    cohort: str,
    studies: list[Study],
    labels: list[dict[str, Any]],
    model_id: str,
    splits: dict[str, int],
) -> None:
    """Write the index's tables and every shard's."""
    index = results / cohort / "index"
    shown = dict(spacing_mm=1.0, kvp=120.0, kernel="B", manufacturer="M", model="X", image_type=None, thickness_mm=1.0)
    tables.write(_series(cohort, studies, shown), tables.SERIES, index / "series.parquet")
    tables.write([_study(cohort, study, shown) for study in studies], tables.STUDIES, index / "studies.parquet")
    tables.write([_label(cohort, label) for label in labels], tables.LABELS, index / "labels.parquet")
    lost = dict(patient_id=None, study_id=None, series_id=None, stage="index", detail=None)
    tables.write(
        [{"cohort": cohort, "reason": "unreadable", "n_files": 3, **lost}], tables.FAILURES, index / "failures.parquet"
    )
    for shard in sorted({study.shard for study in studies}):
        accepted = [study for study in studies if study.shard == shard and study.status == "accepted"]
        write_shard(results / cohort, shard, cohort, accepted, model_id, splits)


def shard_paths(results: Path) -> dict[str, list[Path]]:
    """List every stage's files, as the rule lists them."""
    convert = sorted(results.glob("*/convert/*.parquet"))
    places = {stage: (stage, ".parquet") for stage in ("convert", "segment", "crop", "measure", "infer")}
    places["cubes"] = ("crop", ".arrow")
    return {
        stage: [path.parents[1] / folder / f"{path.stem}{suffix}" for path in convert]
        for stage, (folder, suffix) in places.items()
    }


def _series(cohort: str, studies: list[Study], shown: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for study in studies:
        key = dict(cohort=cohort, patient_id=study.patient, study_id=study.name, stack=0, n_slices=90, extent_mm=90.0)
        key |= shown | {
            "modality": "CT",
            "score": None,
            "n_damaged": 0,
            "n_odd": 0,
            "field_of_view_mm": 400.0,
            "derivation": [],
        }
        key |= {"series_uid": "2.25.1", "gates": [], "flags": []}
        chosen = study.status == "accepted"
        reason = None if chosen else study.fails and study.fails[1]
        rows.append(key | {"series_id": f"{study.name}.1", "accepted": chosen, "reason": reason})
        rows.append(key | {"series_id": f"{study.name}.2", "accepted": False, "reason": "localizer"})
        if chosen:
            rows.append(key | {"series_id": f"{study.name}.3", "accepted": False, "reason": "not_chosen"})
    return rows


def _study(cohort: str, study: Study, shown: dict[str, Any]) -> dict[str, Any]:
    chosen = study.status == "accepted"
    return (
        dict.fromkeys(tables.STUDIES.names)
        | {"levels_used": [], "novelty": [], "earlier_ids": []}
        | shown
        | {
            "cohort": cohort,
            "patient_id": study.patient,
            "study_id": study.name,
            "earlier_ids": [*study.earlier],
            "series_id": f"{study.name}.1" if chosen else None,
            "shard": study.shard if chosen else None,
            "age_years": 61.5,
            "sex": "F",
            "days_from_first_study": study.day,
            "device_key": "M X 120 B",
            "repairs": [],
            "flags": ["thick_slices"],
            "status": study.status,
            "stage": None if chosen else "index",
            "reason": study.fails[1] if study.fails and not chosen else None,
        }
    )


def _label(cohort: str, label: dict[str, Any]) -> dict[str, Any]:
    plain = dict(cohort=cohort, line=2, days_from_scan=None, unit_given="mg/cm3 HA", status="used", reason=None)
    return plain | {"faults": []} | label


def write_shard(
    folder: Path, shard: str, cohort: str, studies: list[Study], model_id: str, splits: dict[str, int]
) -> None:
    """Write one shard's tables of all stages."""
    left = studies
    for stage, schema in (("convert", tables.CONVERT), ("segment", tables.SEGMENT), ("crop", tables.CROP)):
        rows = [row for study in left for row in _stage_rows(schema, cohort, study, stage)]
        tables.write(rows, schema, folder / stage / f"{shard}.parquet")
        left = [study for study in left if not (study.fails and study.fails[0] == stage)]
    vertebrae = [(study, level, facts) for study in left for level, facts in study.vertebrae.items()]
    _write_cubes(folder / "crop" / f"{shard}.arrow", [_vertebra(cohort, *vertebra) for vertebra in vertebrae])
    tables.write(
        [_measured(cohort, *vertebra) for vertebra in vertebrae],
        tables.MEASURE,
        folder / "measure" / f"{shard}.parquet",
    )
    predictions = [row for vertebra in vertebrae for row in _predictions(cohort, *vertebra, model_id, splits)]
    tables.write(predictions, tables.INFER, folder / "infer" / f"{shard}.parquet")


def _stage_rows(schema: pa.Schema, cohort: str, study: Study, stage: str) -> list[dict[str, Any]]:
    failed = study.fails is not None and study.fails[0] == stage
    row: dict[str, Any] = dict.fromkeys(schema.names)
    row |= dict(cohort=cohort, patient_id=study.patient, study_id=study.name, status="failed" if failed else "ok")
    row |= {"reason": study.fails[1], "detail": "3 of 90"} if failed and study.fails else {}
    row |= {name: value for name, value in _STAGE_FACTS.items() if name in schema.names}
    if stage == "convert":
        row |= {"series_id": f"{study.name}.1", "n_slices": study.n_slices}
        row["slice_digests"] = [] if failed else list(study.digests)
    return (
        [row | {"level": level} for level in study.vertebrae or ["L1"]] if stage == "segment" and not failed else [row]
    )


_STAGE_FACTS = {"segmenter": "test 1", "n_vertebrae": 0, "picture": b"webp", "repairs": ["gantry_tilt"], "flags": []}
_STAGE_FACTS |= {"air_hu": -999.0, "fat_hu": -95.0, "muscle_hu": 35.0, "blood_hu": 42.0, "level_flags": []}


def _key(cohort: str, study: Study, level: str) -> dict[str, Any]:
    return dict(cohort=cohort, patient_id=study.patient, study_id=study.name, level=level)


def _vertebra(cohort: str, study: Study, level: str, facts: dict[str, Any]) -> dict[str, Any]:
    centre = dict(centroid_x_mm=0.0, centroid_y_mm=1.0, centroid_z_mm=2.0)
    segmentation = dict(level_confidence=0.9, level_uncertain=False, level_flags=[], complete=True, segmenter="test 1")
    return (
        _key(cohort, study, level)
        | centre
        | segmentation
        | {name: facts[name] for name in facts if name in segmentation}
    )


def _measured(cohort: str, study: Study, level: str, facts: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(tables.MEASURE.names)
    row |= _key(cohort, study, level) | {"trabecular_hu_mean": 100.0, "flags": []}
    return row | {name: facts[name] for name in facts if name in row}


def _predictions(
    cohort: str, study: Study, level: str, facts: dict[str, Any], model_id: str, splits: dict[str, int]
) -> list[dict[str, Any]]:
    trained = study.patient in splits
    folds = [splits[study.patient]] if trained else FOLDS
    vbmd, probability = facts.get("vbmd", 110.0), facts.get("probability", 0.75)
    return [
        _key(cohort, study, level)
        | dict(model_id=model_id, task=task, fold=fold, in_training=trained)
        | {"value": probability if task.endswith("classification") else vbmd + 10 * fold}
        for fold in folds
        for outputs in bundle.OUTPUTS.values()
        for task in outputs
        if study.predicted
    ]


def _write_cubes(path: Path, rows: list[dict[str, Any]]) -> None:
    schema = tables.crop_schema(SIZE, 1.0)
    facts = pa.schema([column for column in schema if column.name not in ("ct", "label")])
    facts_table = pa.Table.from_pylist(rows, schema=facts)
    cubes = [
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((max(len(rows), 1), SIZE, SIZE, SIZE), kind))[: len(rows)]
        for kind in (np.int16, np.uint8)
    ]
    table = pa.Table.from_arrays([*facts_table.columns, *cubes], schema=schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_file(path, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
