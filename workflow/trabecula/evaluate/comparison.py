"""The network against the linear HU baseline, on the same patients."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from trabecula.evaluate.agreement import mae_difference
from trabecula.evaluate.discrimination import DELONG, auc_difference
from trabecula.evaluate.estimate import Estimate
from trabecula.evaluate.resampling import BCA
from trabecula.evaluate.sets import PREDICTORS, PURE_NUMBERS, UNIT, Patient, classified, measured


def comparison(group: Sequence[Patient], *, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    """Compare on the patients that both predicted: rows of the table comparison.

    Parameters
    ----------
    group : sequence of Patient
        One set.
    resamples, seed : int
        Bootstrap of the patients.
    """
    both = classified(group, *PREDICTORS)
    truth = np.array([p.qct_reduced for p in both], bool)
    scores = [np.array([p.predictions[name].score for p in both], float) for name in PREDICTORS]
    areas = auc_difference(truth, scores[0], scores[1])
    estimate = Estimate(areas.difference, areas.low, areas.high, len(both), f"{DELONG}, paired", areas.reason)
    yield _row("auc", areas.first, areas.second, estimate, areas.p_value)

    both = measured(group, *PREDICTORS)
    qct = np.array([p.qct_mg_cm3 for p in both], float)
    predicted = [np.array([p.predictions[name].vbmd_mg_cm3 for p in both], float) for name in PREDICTORS]
    network, baseline = (float(np.abs(values - qct).mean()) if both else None for values in predicted)
    difference = mae_difference(predicted[0], predicted[1], qct, resamples=resamples, seed=seed)
    yield _row("mae", network, baseline, difference, None)


def _row(
    metric: str, network: float | None, baseline: float | None, difference: Estimate, p_value: float | None
) -> dict[str, Any]:
    return {
        "metric": metric,
        "network": network,
        "hu_baseline": baseline,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "p_value": p_value,
        "n": difference.n,
        "unit": None if metric in PURE_NUMBERS else UNIT,
        "method": f"{BCA}, paired" if metric == "mae" else difference.method,
        "sentence": sentence(metric, difference),
        "reason": difference.reason,
    }


def sentence(metric: str, difference: Estimate) -> str:
    """The outcome of a comparison in plain words.

    Parameters
    ----------
    metric : {"auc", "mae"}
        Of an AUC more is better, of a MAE less.
    difference : Estimate
        Network minus HU baseline.
    """
    task = {"auc": "in telling reduced from normal density", "mae": "in measuring vBMD"}[metric]
    if difference.value is None:
        return f"The network can't be compared with HU alone {task}: {difference.reason}."
    sign = 1 if metric == "auc" else -1
    if difference.low is not None and difference.high is not None and difference.low * difference.high > 0:
        outcome = "better" if sign * difference.value > 0 else "worse"
        return f"The network is {outcome} than HU alone {task}."
    if difference.low is None:
        return f"The network is not shown to be better than HU alone {task}: {difference.reason}."
    return f"The network is not better than HU alone {task}: the difference may be chance."
