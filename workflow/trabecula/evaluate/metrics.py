"""Figures of each predictor on a set of patients, and what they stand on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from trabecula.evaluate.agreement import agreement, f1
from trabecula.evaluate.discrimination import auc, proportions
from trabecula.evaluate.estimate import Estimate
from trabecula.evaluate.sets import MEASURING, PURE_NUMBERS, UNIT, Group

Row = dict[str, Any]


def figure(metric: str, estimate: Estimate) -> Row:
    """An estimate as a row of a table: metric, unit, and all of the estimate."""
    return {"metric": metric, "unit": None if metric in PURE_NUMBERS else UNIT, **vars(estimate)}


def figures(group: Group, predictor: str, *, resamples: int, seed: int) -> Iterator[Row]:
    """Rows of the table metrics for one predictor.

    Parameters
    ----------
    group : Group
    predictor : str
        One of the group's.
    resamples, seed : int
        Bootstrap of the patients.
    """
    own = group.classified(predictor)
    truth = group.patients["qct_reduced"][own].to_numpy(bool)
    decided = group.reduced[predictor][own].to_numpy(float) == 1
    found = {
        "auc": auc(truth, group.score[predictor][own].to_numpy(float)),
        "f1": f1(truth, decided, resamples=resamples, seed=seed),
        **proportions(truth, decided),
    }
    for metric, estimate in found.items():
        yield {"task": "classification", **figure(metric, estimate)}
    if predictor not in MEASURING:
        return
    own = group.measured(predictor)
    predicted, qct = group.vbmd_mg_cm3[predictor][own].to_numpy(float), group.qct[own].to_numpy(float)
    for metric, estimate in agreement(predicted, qct, resamples=resamples, seed=seed).items():
        yield {"task": "regression", **figure(metric, estimate)}


def roc(group: Group, predictor: str) -> Iterator[Row]:
    """Corners of the curve; nothing where one class is missing."""
    own = group.classified(predictor)
    truth = group.patients["qct_reduced"][own].to_numpy(bool)
    if truth.all() or not truth.any():
        return
    false, true, thresholds = roc_curve(truth, group.score[predictor][own].to_numpy(float))
    for x, y, threshold in zip(false, true, thresholds, strict=True):
        yield {
            "threshold": float(threshold) if np.isfinite(threshold) else None,
            "false_positive_rate": float(x),
            "true_positive_rate": float(y),
        }


def pairs(group: Group, predictor: str) -> Iterator[Row]:
    """Predicted and QCT value of every patient that has both."""
    own = group.measured(predictor)
    people = group.patients[own]
    for cohort, patient_id, vbmd, qct in zip(
        people["cohort"], people["patient_id"], group.vbmd_mg_cm3[predictor][own], group.qct[own], strict=True
    ):
        yield {"cohort": cohort, "patient_id": patient_id, "vbmd_mg_cm3": vbmd, "qct_vbmd_mg_cm3": qct}


def left_out(group: Group, predictor: str) -> Iterator[Row]:
    """Reasons why patients of the set do not count for a predictor's figures, with their number."""
    counted = {"classification": group.classified(predictor)}
    if predictor in MEASURING:
        counted["regression"] = group.measured(predictor)
    for task, own in counted.items():
        for reason, n in sorted(group.reason[predictor][~own].value_counts().items()):
            yield {"task": task, "reason": reason, "n": int(n)}
