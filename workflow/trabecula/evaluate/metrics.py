"""Figures of each predictor on a set of patients, and which patients they stand on."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from trabecula.evaluate.agreement import agreement, f1
from trabecula.evaluate.discrimination import auc, proportions
from trabecula.evaluate.estimate import Estimate
from trabecula.evaluate.sets import MEASURING, PURE_NUMBERS, UNIT, Group

Row = dict[str, Any]


def figure(metric: str, estimate: Estimate) -> Row:
    """Put an estimate into a row of a table: metric, unit, and all of the estimate."""
    return {"metric": metric, "unit": None if metric in PURE_NUMBERS else UNIT, **vars(estimate)}


def rows_of_task(task: str, estimates: Mapping[str, Estimate]) -> Iterator[Row]:
    """List rows of the table metrics: one for each named estimate of a task."""
    for metric, estimate in estimates.items():
        yield {"task": task, **figure(metric, estimate)}


def figures(group: Group, predictor: str, *, resamples: int, seed: int) -> Iterator[Row]:
    """List the rows of the table metrics for one predictor, but calibration and kappa.

    Parameters
    ----------
    group : Group
    predictor : str
        One of the group's.
    resamples, seed : int
        Bootstrap of the patients.
    """
    truth, decided, score = group.decisions(predictor)
    estimates = {
        "auc": auc(truth, score),
        "f1": f1(truth, decided, resamples=resamples, seed=seed),
        **proportions(truth, decided),
    }
    yield from rows_of_task("classification", estimates)
    if predictor in MEASURING:
        yield from rows_of_task("regression", agreement(*group.pairs(predictor), resamples=resamples, seed=seed))


def roc(group: Group, predictor: str) -> Iterator[Row]:
    """List the corners of the ROC curve; none where one class is missing."""
    truth, _, score = group.decisions(predictor)
    if truth.all() or not truth.any():
        return
    false, true, thresholds = roc_curve(truth, score)
    for x, y, threshold in zip(false, true, thresholds, strict=True):
        yield {
            "threshold": float(threshold) if np.isfinite(threshold) else None,
            "false_positive_rate": float(x),
            "true_positive_rate": float(y),
        }


def pairs(group: Group) -> Iterator[Row]:
    """List the rows of the table agreement: every patient and predictor with a predicted and a QCT value."""
    for predictor in group.predictors:
        patients = group.patients[group.measured(predictor)]
        keys = zip(patients["cohort"], patients["patient_id"], strict=True)
        for (cohort, patient_id), vbmd, qct in zip(keys, *group.pairs(predictor), strict=True):
            row = {"cohort": cohort, "patient_id": patient_id, "predictor": predictor}
            yield row | {"vbmd_mg_cm3": float(vbmd), "qct_vbmd_mg_cm3": float(qct)}


def left_out(group: Group, predictor: str) -> Iterator[Row]:
    """Count the patients of the set that a predictor's figures leave out, by task and reason."""
    counted = {"classification": group.classified(predictor)}
    if predictor in MEASURING:
        counted["regression"] = group.measured(predictor)
    for task, patients in counted.items():
        for reason, n in sorted(group.reason[predictor][~patients].value_counts().items()):
            yield {"task": task, "reason": reason, "n": int(n)}
