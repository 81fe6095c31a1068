"""The network against every baseline, and against the two-headed network, on the same patients."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trabecula.evaluate.agreement import mae_difference
from trabecula.evaluate.discrimination import DELONG, accuracy_difference, auc_difference, mcnemar
from trabecula.evaluate.estimate import Estimate
from trabecula.evaluate.metrics import figure
from trabecula.evaluate.resampling import BCA
from trabecula.evaluate.sets import MEASURING, NETWORK, Group

# Lines from HU that are fitted on the same patients as the network; the best of them is chosen by its MAE.
HU_LINES = ("hu", "hu_device", "hu_age_sex")
# Names of the other predictors in a sentence.
CALLED = {
    "joint": "the network with two heads",
    "hu": "HU alone",
    "hu_device": "HU with terms of tube voltage and contrast phase",
    "age_sex": "age and sex",
    "hu_age_sex": "HU with age and sex",
    "threshold_110": "a threshold of 110 HU",
    "threshold_135": "a threshold of 135 HU",
    "threshold_160": "a threshold of 160 HU",
    "calibrated": "the calibration of HU",
}
# The task that each figure judges, in a sentence.
TASKS = {
    "auc": "in telling reduced from normal density",
    "accuracy": "in calling density reduced or normal",
    "mae": "in measuring vBMD",
}
# A line is a candidate when it predicts this share of the patients of the line that predicts most.
MIN_SHARE = 0.8


def best_hu_line(group: Group) -> str | None:
    """Name the line from HU with the lowest MAE on the patients that all candidates predict; None where there are none.

    Parameters
    ----------
    group : Group
        The cross-validated patients, so that the choice is not made on the patients that it is judged by.
    """
    measured = {name: group.measured(name).sum() for name in HU_LINES if name in group.predictors}
    # A line that lacks facts of many patients would leave the choice to the few that all of them predict.
    names = [name for name, n in measured.items() if n >= MIN_SHARE * max(measured.values())]
    patients = group.measured(*names)
    errors = group.vbmd_mg_cm3.loc[patients, names].sub(group.qct[patients], axis="index").abs().mean()
    return str(errors.idxmin()) if patients.any() else None


def comparison(group: Group, *, best_hu: str | None, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    """List the rows of the table comparison: the network against each other predictor, on the patients of both.

    Parameters
    ----------
    group : Group
        One set.
    best_hu : str or None
        Predictor that is marked as the best line from HU.
    resamples, seed : int
        Bootstrap of the patients.
    """
    for second in group.predictors:
        if second == NETWORK:
            continue
        yield {**_auc_row(group, second), "best_hu": second == best_hu}
        yield {**_accuracy_row(group, second), "best_hu": second == best_hu}
        if second in MEASURING:
            yield {**_mae_row(group, second, resamples=resamples, seed=seed), "best_hu": second == best_hu}


def _auc_row(group: Group, second: str) -> dict[str, Any]:
    """Compare areas under the ROC curve."""
    both = group.classified(NETWORK, second)
    truth = group.patients["qct_reduced"][both].to_numpy(bool)
    areas = auc_difference(truth, *_pair(group.score, second, both))
    estimate = Estimate(areas.difference, areas.low, areas.high, int(both.sum()), f"{DELONG}, paired", areas.reason)
    return _row("auc", second, areas.first, areas.second, estimate) | {"p_value": areas.p_value}


def _accuracy_row(group: Group, second: str) -> dict[str, Any]:
    """Compare accuracies."""
    both = group.classified(NETWORK, second)
    truth = group.patients["qct_reduced"][both].to_numpy(float)
    network, other = (decided == truth for decided in _pair(group.reduced, second, both))
    difference = accuracy_difference(network, other)
    first_value, second_value = (float(right.mean()) if len(right) else None for right in (network, other))
    return _row("accuracy", second, first_value, second_value, difference) | {
        "p_value": mcnemar(network, other),
        "method": f"McNemar, exact; {difference.method}",
    }


def _mae_row(group: Group, second: str, *, resamples: int, seed: int) -> dict[str, Any]:
    """Compare mean absolute errors."""
    both = group.measured(NETWORK, second)
    qct = group.qct[both].to_numpy(float)
    network, other = _pair(group.vbmd_mg_cm3, second, both)
    difference = mae_difference(network, other, qct, resamples=resamples, seed=seed)
    return _row("mae", second, _mae(network, qct), _mae(other, qct), difference) | {
        "p_value": None,
        "method": f"{BCA}, paired",
    }


def _pair(frame: pd.DataFrame, second: str, both: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the values of network and second where both have one, (n,) arrays."""
    return frame.loc[both, NETWORK].to_numpy(float), frame.loc[both, second].to_numpy(float)


def _mae(predicted: NDArray[np.float64], qct: NDArray[np.float64]) -> float | None:
    """Compute the mean absolute error; None without patients."""
    return float(np.abs(predicted - qct).mean()) if len(qct) else None


def _row(
    metric: str, second: str, first_value: float | None, second_value: float | None, difference: Estimate
) -> dict[str, Any]:
    """Make a row of the table comparison."""
    row = figure(metric, difference)
    return row | {
        "first": NETWORK,
        "second": second,
        "first_value": first_value,
        "second_value": second_value,
        "difference": row.pop("value"),
        "sentence": sentence(metric, difference, CALLED[second]),
    }


def sentence(metric: str, difference: Estimate, other: str) -> str:
    """Put the outcome of a comparison into plain words.

    >>> sentence("mae", Estimate(-2.0, -3.0, -1.0, 40, "BCa"), "HU alone")
    'The network is better than HU alone in measuring vBMD.'

    Parameters
    ----------
    metric : {"auc", "accuracy", "mae"}
        Of an AUC or accuracy more is better, of a MAE less.
    difference : Estimate
        Network minus the other.
    other : str
        Name of the other predictor, one of `CALLED`.
    """
    task = TASKS[metric]
    if difference.value is None:
        return f"The network can't be compared with {other} {task}: {difference.reason}."
    sign = -1 if metric == "mae" else 1
    if difference.low is not None and difference.high is not None and difference.low * difference.high > 0:
        outcome = "better" if sign * difference.value > 0 else "worse"
        return f"The network is {outcome} than {other} {task}."
    if difference.low is None:
        return f"The network is not shown to be better than {other} {task}: {difference.reason}."
    return f"The network is not better than {other} {task}: the difference may be chance."
