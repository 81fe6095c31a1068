"""Statistics on the result tables: the network and the linear HU baseline against QCT.

The patient is the unit. Each set of patients is judged by itself: those in the model's training
(predicted only by networks that never saw them), external ones, and development patients that
the model was not trained on.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.metrics import roc_curve

from trabecula.evaluate.agreement import agreement, f1
from trabecula.evaluate.comparison import comparison
from trabecula.evaluate.discrimination import auc, proportions
from trabecula.evaluate.estimate import Estimate
from trabecula.evaluate.flow import flow
from trabecula.evaluate.sets import (
    PREDICTORS,
    PURE_NUMBERS,
    SETS,
    UNIT,
    Patient,
    classified,
    measured,
    patients_in_sets,
)

__all__ = ["SETS", "flow", "statistics"]

Rows = list[dict[str, Any]]


def statistics(patients: pa.Table, *, reduced_below_mg_cm3: float, bootstrap: int, seed: int) -> dict[str, Rows]:
    """Every statistic of every set of patients.

    Parameters
    ----------
    patients : table
        Of the schema PATIENTS.
    reduced_below_mg_cm3 : float
        Cut at which the HU baseline decides; QCT's own decision is in the table.
    bootstrap : int
        Resamples of the patients.
    seed : int
        Seed of the resampling.

    Returns
    -------
    dict
        Rows of the tables metrics, roc, agreement, comparison and left_out.
    """
    everyone = patients_in_sets(patients, reduced_below_mg_cm3)
    options = {"resamples": bootstrap, "seed": seed}
    tables: dict[str, Rows] = {name: [] for name in ("metrics", "roc", "agreement", "comparison", "left_out")}
    for name, role in SETS.items():
        group = [patient for patient in everyone if patient.group == name]
        if not group:
            continue
        same = {"set": name, "role": role}
        tables["comparison"] += [same | row for row in comparison(group, **options)]
        for predictor in PREDICTORS:
            by = same | {"predictor": predictor}
            tables["metrics"] += [by | row for row in _metrics(group, predictor, **options)]
            tables["roc"] += [by | row for row in _roc(group, predictor)]
            tables["agreement"] += [by | row for row in _agreement(group, predictor)]
            tables["left_out"] += [by | row for row in _left_out(group, predictor)]
    return tables


def _metrics(group: Sequence[Patient], predictor: str, *, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    judged = classified(group, predictor)
    truth = np.array([p.qct_reduced for p in judged], bool)
    score = np.array([p.predictions[predictor].score for p in judged], float)
    decided = np.array([p.predictions[predictor].reduced for p in judged], bool)
    found = {
        "auc": auc(truth, score),
        "f1": f1(truth, decided, resamples=resamples, seed=seed),
        **proportions(truth, decided),
    }
    for metric, estimate in found.items():
        yield _metric("classification", metric, estimate)
    judged = measured(group, predictor)
    predicted = np.array([p.predictions[predictor].vbmd_mg_cm3 for p in judged], float)
    qct = np.array([p.qct_mg_cm3 for p in judged], float)
    for metric, estimate in agreement(predicted, qct, resamples=resamples, seed=seed).items():
        yield _metric("regression", metric, estimate)


def _metric(task: str, metric: str, estimate: Estimate) -> dict[str, Any]:
    unit = None if metric in PURE_NUMBERS else UNIT
    return {"task": task, "metric": metric, "unit": unit, **vars(estimate)}


def _roc(group: Sequence[Patient], predictor: str) -> Iterator[dict[str, Any]]:
    """Corners of the curve; nothing where one class is missing."""
    judged = classified(group, predictor)
    truth = np.array([p.qct_reduced for p in judged], bool)
    if truth.all() or not truth.any():
        return
    false, true, thresholds = roc_curve(truth, [p.predictions[predictor].score for p in judged])
    for x, y, threshold in zip(false, true, thresholds, strict=True):
        yield {
            "threshold": float(threshold) if np.isfinite(threshold) else None,
            "false_positive_rate": float(x),
            "true_positive_rate": float(y),
        }


def _agreement(group: Sequence[Patient], predictor: str) -> Iterator[dict[str, Any]]:
    for patient in measured(group, predictor):
        yield {
            "cohort": patient.cohort,
            "patient_id": patient.patient_id,
            "vbmd_mg_cm3": patient.predictions[predictor].vbmd_mg_cm3,
            "qct_vbmd_mg_cm3": patient.qct_mg_cm3,
        }


def _left_out(group: Sequence[Patient], predictor: str) -> Iterator[dict[str, Any]]:
    """Reasons why patients of the set do not count for a predictor's figures, with their number."""
    for task, choose in (("classification", classified), ("regression", measured)):
        judged = {(p.cohort, p.patient_id) for p in choose(group, predictor)}
        out = [p for p in group if (p.cohort, p.patient_id) not in judged]
        counts = Counter(p.reason for p in out)
        for reason, n in sorted(counts.items()):
            yield {"task": task, "reason": reason, "n": n}
