"""Errors where they matter most: near the thresholds between grades."""

from collections.abc import Iterator
from typing import Any

from trabecula.density.thresholds import Thresholds
from trabecula.evaluate.agreement import agreement
from trabecula.evaluate.discrimination import wilson
from trabecula.evaluate.estimate import in_cell
from trabecula.evaluate.metrics import figure
from trabecula.evaluate.sets import Group

WITHIN_MG_CM3 = 10.0


def near_threshold(
    group: Group, predictor: str, *, thresholds: Thresholds, resamples: int, seed: int
) -> Iterator[dict[str, Any]]:
    """List the rows of the table near_cuts: MAE, bias, and the share put on the right side of the threshold.

    Parameters
    ----------
    group : Group
    predictor : str
        One of the group's that gives a vBMD.
    thresholds : Thresholds
        A patient stands near a threshold when the QCT value is at most `WITHIN_MG_CM3` away.
    resamples, seed : int
        Bootstrap of the patients.
    """
    for threshold in sorted((thresholds.osteoporosis_below_mg_cm3, thresholds.reduced_below_mg_cm3)):
        near = group.measured(predictor) & (group.qct.sub(threshold).abs() <= WITHIN_MG_CM3)
        predicted, qct = group.vbmd_mg_cm3[predictor][near].to_numpy(float), group.qct[near].to_numpy(float)
        errors = agreement(predicted, qct, resamples=resamples, seed=seed)
        right = int(((predicted < threshold) == (qct < threshold)).sum())
        estimates = {"mae": errors["mae"], "bias": errors["bias"], "right_side": wilson(right, len(qct))}
        for metric, estimate in estimates.items():
            yield {"cut_mg_cm3": float(threshold), "within_mg_cm3": WITHIN_MG_CM3, **figure(metric, in_cell(estimate))}
