"""A synthetic study's tables as evaluate and report read them: random numbers, a cohort of each role."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from trabecula import evaluate, tables
from trabecula.model import baselines
from trabecula.model.baselines import Baseline

COHORTS = {"clinic_a": ("development", 40), "clinic_b": ("external", 24)}
DEVICES = {
    "clinic_a": ("Maker|One|120|B30f", "Maker|Two|100|STD"),
    "clinic_b": ("Other|Three|120|FC08", "Other|Four|80|B"),
}
FOLDS = range(5)
# Options of evaluate as its tests call it.
OPTIONS = {"thresholds": [0.3, 0.5, 0.7], "prevalences": [0.05, 0.2], "repeat_days": 30}
PREDICTORS = ("network", "joint", *baselines.NAMES, *baselines.THRESHOLDS_HU)


def empty(schema: pa.Schema, **values: Any) -> dict[str, Any]:
    """Make a row of a schema: other columns are NULL, or a plain value where NULL may not be."""
    return {field.name: None if field.nullable else _plain(field.type) for field in schema} | values


def _plain(kind: pa.DataType) -> Any:
    """Give an empty list or text, False or 0."""
    return (
        [] if pa.types.is_list(kind) else "" if pa.types.is_string(kind) else False if pa.types.is_boolean(kind) else 0
    )


def study(cohort: str, i: int, **values: Any) -> dict[str, Any]:
    """Make a row of STUDIES; every fourth is contrast-enhanced."""
    keys = {"cohort": cohort, "patient_id": f"pa{cohort[-1]}{i:018d}", "study_id": f"st{cohort[-1]}{i:018d}"}
    device = DEVICES[cohort][i % 2]
    facts = {"age_years": 45.0 + i * 0.9, "sex": "FM"[i % 2], "device_key": device, "kvp": float(device.split("|")[2])}
    facts |= {"phase": "portal" if i % 4 == 0 else "native", "thickness_mm": 1.25, "status": "measured"}
    return empty(tables.STUDIES, **keys, **facts, repairs=[], flags=[]) | values


def patient(scan: Mapping[str, Any], role: str, rng: np.random.Generator, **values: Any) -> dict[str, Any]:
    """Make a row of PATIENTS: measured, labelled and predicted."""
    qct = rng.normal(150 - scan["age_years"] * 0.5, 28)
    vbmd, joint = qct + rng.normal(1, 8), qct + rng.normal(1, 9)
    facts = {name: scan[name] for name in ("cohort", "patient_id", "study_id", "age_years", "sex", "device_key")}
    probability = 1 / (1 + np.exp((vbmd - 120) / 9))
    decision = "reduced" if probability >= 0.6 else "normal" if probability < 0.4 else "indeterminate"
    result = {
        "model_id": "demo-0123abcd",
        "role": role,
        "in_training": role == "development",
        "vbmd_mg_cm3": vbmd,
        "vbmd_low": vbmd - 14,
        "vbmd_high": vbmd + 14,
        "interval_group": "all patients",
        "probability_reduced": probability,
        "joint_vbmd_mg_cm3": joint,
        "joint_probability_reduced": 1 / (1 + np.exp((joint - 120) / 9)),
        "grade": "normal" if vbmd >= 120 else "low" if vbmd >= 80 else "osteoporosis",
        "decision": decision,
        "decision_reason": "near_cut" if decision == "indeterminate" else None,
        "novelty": [],
        "levels_used": ["L1", "L2"],
        "level_uncertain": False,
        "trabecular_hu": qct * 1.3 + rng.normal(10, 14),
        "vbmd_hu_mg_cm3": qct + rng.normal(-6, 16),
        "qct_vbmd_mg_cm3": qct,
        "qct_reduced": qct < 120,
        "days_from_scan": 0,
        "synthetic": True,
    }
    return empty(tables.PATIENTS, **facts, **result) | values


UNDONE = dict.fromkeys(
    ["vbmd_mg_cm3", "vbmd_low", "vbmd_high", "interval_group", "probability_reduced", "joint_vbmd_mg_cm3",
     "joint_probability_reduced", "grade", "level_uncertain", "trabecular_hu", "vbmd_hu_mg_cm3",
     "hu_baseline_vbmd_mg_cm3", "qct_vbmd_mg_cm3", "qct_reduced", "days_from_scan"]
)  # fmt: skip
LOST = UNDONE | {"levels_used": [], "study_id": None, "decision": "not_evaluable"}


def vertebra(scan: Mapping[str, Any], level: str, **values: Any) -> dict[str, Any]:
    """Make a row of VERTEBRAE."""
    keys = {name: scan[name] for name in ("cohort", "patient_id", "study_id")}
    measures = {"level": level, "level_confidence": 0.9, "level_uncertain": False, "complete": True}
    measures |= {"level_flags": [], "flags": [], "trabecular_hu_mean": 140.0, "level_found": level}
    return empty(tables.VERTEBRAE, **keys, **measures) | values


def fold_of(patient_id: str) -> int:
    """Give the fold of a development patient."""
    return int(patient_id[3:]) % len(FOLDS)


def lines(patients: list[dict[str, Any]], studies: list[dict[str, Any]]) -> tuple[Baseline, ...]:
    """Fit the baselines as in training."""
    frame = facts(patients, studies)
    frame = frame[(frame["role"] == "development") & frame["qct_vbmd_mg_cm3"].notna()]
    folds = frame["patient_id"].map(fold_of)
    return tuple(line for fold in FOLDS for line in baselines.fit(frame[folds != fold], fold=fold))


def facts(patients: list[dict[str, Any]], studies: list[dict[str, Any]]) -> pd.DataFrame:
    """Join patients with tube voltage and phase."""
    scans = pd.DataFrame(studies)[["study_id", "kvp", "phase"]]
    return pd.DataFrame(patients).merge(scans, on="study_id", how="left")


SPLITS = {"cross-validation": "fold", "random": "random", "device": "device"}


def protocol(patients: list[dict[str, Any]], studies: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Make rows of PROTOCOL: every development patient in every split, with every predictor."""
    rng = np.random.default_rng(seed)
    frame = facts(patients, studies)
    frame = frame[(frame["role"] == "development") & frame["qct_vbmd_mg_cm3"].notna()]
    rows = []
    for scheme, word in SPLITS.items():
        for number in range(2 if scheme == "device" else len(FOLDS)):
            for _, row in frame.iterrows():
                rows += _rows_of_split(row, scheme, f"{word}{number}", number, rng)
    return rows


def _rows_of_split(
    patient: pd.Series, scheme: str, split: str, number: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Make a patient's rows of a split, one per predictor."""
    device = DEVICES["clinic_a"][number % 2] if scheme == "device" else None
    tested = {
        "cross-validation": fold_of(patient["patient_id"]) == number,
        "random": rng.random() < 0.2,
        "device": patient["device_key"] == device,
    }[scheme]
    part = "test" if tested else "validation" if rng.random() < 0.2 else "train"
    same = {name: patient[name] for name in ("cohort", "patient_id", "device_key", "kvp", "phase", "trabecular_hu")}
    same |= {name: patient[name] for name in ("qct_vbmd_mg_cm3", "qct_reduced")}
    for predictor in PREDICTORS:
        vbmd = patient["qct_vbmd_mg_cm3"] + rng.normal(0, 3 if part == "train" else 9)
        by_hu = predictor.startswith("threshold")
        network = predictor in ("network", "joint")
        score = -patient["trabecular_hu"] if by_hu else 1 / (1 + np.exp((vbmd - 120) / 9)) if network else -vbmd
        yield same | {
            "scheme": scheme,
            "split": split,
            "held_out": device,
            "part": part,
            "predictor": predictor,
            "vbmd_mg_cm3": None if by_hu else vbmd,
            "score": score,
            "reduced": bool(patient["trabecular_hu"] < float(predictor[-3:])) if by_hu else bool(vbmd < 120),
        }


def training() -> list[dict[str, Any]]:
    """Make rows of TRAINING: learning curves of every split and task."""
    return [
        {"scheme": scheme, "split": f"{word}{number}", "task": task, "epoch": epoch, "learning_rate": 0.01}
        | {"training_loss": 1.0 / epoch, "validation_loss": 1.2 / epoch + 0.02 * epoch, "kept": epoch == 8}
        for scheme, word in SPLITS.items()
        for number in range(2)
        for task in ("classification", "regression", "joint")
        for epoch in range(1, 13)
    ]


def evidence(patients: list[dict[str, Any]], studies: list[dict[str, Any]], **others: Any) -> evaluate.Evidence:
    """Put together what evaluate reads; other tables are empty by default."""
    names = ("vertebrae", "predictions", "labels")
    return evaluate.Evidence(
        patients=tables.cast(patients, tables.PATIENTS),
        studies=tables.cast(studies, tables.STUDIES),
        **{name: tables.cast(others.get(name, []), tables.PUBLIC[name]) for name in names},
        protocol=tables.cast(others.get("protocol", []), tables.PROTOCOL),
        lines=others.get("lines", ()),
        folds=others.get(
            "folds", {row["patient_id"]: fold_of(row["patient_id"]) for row in patients if row["in_training"]}
        ),
    )
