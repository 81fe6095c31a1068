"""Make results for the report: a development, an external, a screening and an empty cohort of random patients."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import small_study
from small_study import LOST, empty, fold_of, patient, study, training, vertebra

from trabecula import evaluate, report, tables
from trabecula.density.thresholds import Thresholds
from trabecula.model.bundle import Bundle, Roi
from trabecula.model.uncertainty import DecisionThresholds, Experience, Reference, Temperature, Uncertainty, Width

THRESHOLDS = Thresholds()
ROLES = {"clinic_a": "development", "clinic_b": "external", "clinic_c": "screening", "clinic_d": "screening"}
SIZES = {"clinic_a": 40, "clinic_b": 30, "clinic_c": 25, "clinic_d": 0}
DEVICES = small_study.DEVICES | {"clinic_c": ("Other|Three|120|FC08",) * 2, "clinic_d": ("", "")}
OPTIONS = {"thresholds": [0.3, 0.5], "prevalences": [0.05, 0.2], "repeat_days": 30, "bootstrap": 60, "seed": 1}
UNLABELLED = {"qct_vbmd_mg_cm3": None, "qct_reduced": None, "days_from_scan": None}
RUN = {
    "run_id": "0f" * 8,
    "started": datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
    "finished": datetime(2025, 1, 2, 3, 5, 6, tzinfo=UTC),
    "version": "0.1.0",
    "commit": "ab" * 20,
    "config_hash": "cd" * 32,
    "code": "{}",
    "model_id": "demo-0123abcd",
    "packages": json.dumps({"torch": "2.13.0", "monai": "1.6.1"}),
    "inputs": "{}",
    "model_sha256": "{}",
    "kept": True,
}


def bundle(folder: Path, *, synthetic: bool = True, lines: tuple = ()) -> Bundle:
    """Make a model bundle without weights."""
    experience = Experience(("Maker|One|120|B30f",), None, None, None, None, 8.0, 25.0, 40)
    widths = (Width("all patients", 14.2, 40), Width("native, 111-130 kV", None, 3))
    reference = Reference(None, Temperature(1.1, 40, None), DecisionThresholds(0.4, 0.6, 20, 20), widths, experience)
    return Bundle(
        folder=folder,
        name="demo",
        model_id="demo-0123abcd",
        synthetic=synthetic,
        tasks=("classification", "regression", "joint"),
        folds=tuple(range(5)),
        network={},
        roi=Roi(64, 1.0, (-200.0, 600.0)),
        scan_inputs=("kvp", "phase"),
        baselines=lines,
        uncertainty=Uncertainty((reference,)),
        sha256={},
    )


def rows(sizes: dict[str, int]) -> tuple[list[dict], list[dict], list[dict]]:
    """Make studies, patients and vertebrae; one scan fails, one has no series, one is uncertain, one is flagged."""
    rng = np.random.default_rng(4)
    studies, patients, vertebrae = [], [], []
    small_study.DEVICES.update(DEVICES)
    for cohort, n in sizes.items():
        for i in range(n):
            fate = {
                3: {"status": "failed", "stage": "convert", "reason": "missing_slices"},
                7: {"status": "rejected", "stage": "index", "reason": "no_acceptable_series"},
            }.get(i, {})
            row = study(cohort, i, **fate)
            changes: dict[str, Any] = UNLABELLED if ROLES[cohort] == "screening" else {}
            changes = LOST | {"decision_reason": fate["reason"]} if fate else changes | {"quality": "good"}
            if i == 6:
                changes = changes | {"flags": ["metal"], "quality": "limited"}
            studies.append(row)
            patients.append(patient(row, ROLES[cohort], rng, **changes))
            if not fate:
                vertebrae += [vertebra(row, level, level_uncertain=i == 5) for level in ("T12", "L1", "L2", "L3")]
    return studies, patients, vertebrae


def flow_of(studies: list[dict], cohort: str) -> list[dict]:
    """Make the flow of the studies and patients of a cohort."""
    of_cohort = [row for row in studies if row["cohort"] == cohort]
    measured = sum(row["status"] == "measured" for row in of_cohort)
    failed, rejected = (sum(row["status"] == status for row in of_cohort) for status in ("failed", "rejected"))
    steps = [
        ("studies", "found", None, len(of_cohort)),
        ("studies", "chosen", None, len(of_cohort) - rejected),
        ("studies", "chosen", "no_acceptable_series", rejected),
        ("studies", "measured", None, measured),
        ("studies", "measured", "missing_slices", failed),
        ("patients", "found", None, len(of_cohort)),
    ]
    position = {("studies", "found"): 0, ("studies", "chosen"): 1, ("studies", "measured"): 2, ("patients", "found"): 3}
    return [
        {"cohort": cohort, "position": position[unit, step], "unit": unit, "step": step, "reason": reason, "n": n}
        for unit, step, reason, n in steps
        if n or reason is None
    ]


def everything(folder: Path, sizes: dict[str, int] | None = None, **changes: Any) -> tuple[dict, dict]:
    """Make all tables of all cohorts, and the statistics on them."""
    sizes = sizes or SIZES
    studies, patients, vertebrae = rows(sizes)
    patients = changes.get("patients", patients)
    lines = small_study.lines(patients, studies)
    cast = {
        "patients": tables.cast(patients, tables.PATIENTS),
        "studies": tables.cast(studies, tables.STUDIES),
        "vertebrae": tables.cast(vertebrae, tables.VERTEBRAE),
        "failures": tables.cast([row for study in studies for row in _failures(study)], tables.FAILURES),
        "flow": tables.cast([row for cohort in sizes for row in flow_of(studies, cohort)], tables.FLOW),
        "verdicts": tables.cast([VERDICT], tables.VERDICTS),
        "runs": tables.cast([RUN], tables.RUNS),
        "bundle": bundle(folder, lines=lines),
        "training": tables.cast(changes.get("training", training()), tables.TRAINING),
    }
    people = cast["patients"].to_pylist()
    evidence = evaluate.Evidence(
        **{name: cast[name] for name in ("patients", "studies", "vertebrae")},
        predictions=tables.cast(_predictions(people), tables.PREDICTIONS),
        labels=tables.cast(_labels(people), tables.LABELS),
        protocol=tables.cast(changes.get("protocol", small_study.protocol(patients, studies)), tables.PROTOCOL),
        lines=lines,
        folds={row["patient_id"]: fold_of(row["patient_id"]) for row in people if row["in_training"]},
    )
    statistics = evaluate.statistics(evidence, THRESHOLDS, **OPTIONS)
    return cast, {name: tables.cast(statistics[name], schema) for name, schema in evaluate.STATISTICS.items()}


VERDICT = empty(tables.VERDICTS, line=1, cohort="clinic_a", study_id="sta000000000000000001", level="L1") | {
    "verdict": "accept",
    "status": "used",
}


def of_cohort(outcome: tuple[dict, dict], cohort: str) -> report.Results:
    """Select the results of one cohort."""
    cast, statistics = outcome
    selected = {name: cast[name].filter([value == cohort for value in cast[name]["cohort"].to_pylist()]) for name in
           ("patients", "studies", "vertebrae", "failures", "flow")}  # fmt: skip
    whole = {name: cast[name] for name in ("runs", "bundle", "training")}
    verdicts = report.verdicts_of(cast["verdicts"], cohort)
    return report.Results(
        **selected,
        **whole,
        verdicts=verdicts,
        statistics=report.of_cohort(statistics, cohort, ROLES[cohort]),
        roles={cohort: ROLES[cohort]},
    )


def compose(outcome: tuple[dict, dict], cohort: str) -> report.Report:
    """Compose a cohort's page."""
    return report.compose(of_cohort(outcome, cohort), cohort=cohort, title="Bones & <more>", thresholds=THRESHOLDS)


def summary(outcome: tuple[dict, dict]) -> str:
    """Compose the page over all cohorts."""
    cast, statistics = outcome
    by_cohort = {name: report.of_cohort(statistics, name, role) for name, role in ROLES.items()}
    results = report.Results(**cast, statistics=report.pooled(statistics), roles=ROLES)
    return report.compose_summary(results, by_cohort, title="Bones & <more>", thresholds=THRESHOLDS)


def _failures(row: dict) -> list[dict]:
    if row["status"] == "measured":
        return []
    return [empty(tables.FAILURES) | {name: row[name] for name in ("cohort", "study_id", "stage", "reason")}]


def _predictions(people: list[dict]):
    for row in people:
        if row["vbmd_mg_cm3"] is not None:
            keys = {name: row[name] for name in ("cohort", "patient_id", "study_id", "model_id", "in_training")}
            yield keys | {"level": "L1", "task": "regression", "fold": 0, "value": row["vbmd_mg_cm3"]}


def _labels(people: list[dict]):
    for row in people:
        if row["qct_vbmd_mg_cm3"] is not None:
            keys = {name: row[name] for name in ("cohort", "patient_id", "days_from_scan")}
            yield empty(tables.LABELS, **keys, level="L1", vbmd_mg_cm3=row["qct_vbmd_mg_cm3"], status="used")
