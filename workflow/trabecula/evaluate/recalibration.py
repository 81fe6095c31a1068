"""Recalibration at a new site: the error after a fit to k local QCT labels, as a learning curve."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trabecula.evaluate.estimate import TAIL
from trabecula.evaluate.sets import HU, NETWORK, Group

COUNTS = (0, 3, 5, 10, 15, 20, 30, 50)
# At least this many patients are left to judge the fit by.
MIN_REST = 10
DRAWS = 200
INTERCEPT, BOTH = "intercept", "intercept and slope"


def recalibration(group: Group, *, seed: int) -> Iterator[dict[str, Any]]:
    """List the rows of the table recalibration: per cohort, and per device where a cohort has several.

    Network and HU alone are fitted on the same draws of the same patients: those that both predict.

    Parameters
    ----------
    group : Group
        External patients.
    seed : int
        Seed of the draws.
    """
    both = group.part(group.measured(NETWORK, HU))
    for cohort, people in both.patients.groupby("cohort"):
        devices = people["device_key"].dropna()
        parts = {None: people.index}
        if devices.nunique() > 1:
            parts |= {device: members.index for device, members in devices.groupby(devices)}
        for device, rows in parts.items():
            qct = both.qct[rows].to_numpy(float)
            for predictor in (NETWORK, HU):
                predicted = both.vbmd_mg_cm3.loc[rows, predictor].to_numpy(float)
                for row in curve(predicted, qct, draws=DRAWS, seed=seed):
                    yield {"cohort": cohort, "device_key": device, "predictor": predictor, **row}


def curve(
    predicted: NDArray[np.float64], qct: NDArray[np.float64], *, draws: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Compute the MAE by the number of labelled patients that a line from predicted to QCT is fitted on.

    Parameters
    ----------
    predicted, qct : (n,) arrays
        vBMD in mg/cm3 HA.
    draws : int
        Random orders of the patients; the line is fitted on the first k of each and judged by the others.
    seed : int
        Seed of the orders.
    """
    n = len(qct)
    orders = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (draws, 1)), axis=1)
    x, y = predicted[orders], qct[orders]
    for k in (count for count in COUNTS if count <= n - MIN_REST):
        if k == 0:
            error = float(np.abs(predicted - qct).mean())
            yield {"terms": "none", "k": 0, "mae_mg_cm3": error, "low": None, "high": None, "draws": 0, "n": n}
            continue
        for terms in (INTERCEPT, BOTH):
            low, high, mean = _summary(_errors(x, y, k, slope=terms == BOTH))
            yield {"terms": terms, "k": k, "mae_mg_cm3": mean, "low": low, "high": high, "draws": draws, "n": n}


def _errors(x: NDArray[np.float64], y: NDArray[np.float64], k: int, *, slope: bool) -> NDArray[np.float64]:
    """Compute the (draws,) MAE on the patients after the k-th, of a least squares fit to the first k.

    x and y are predicted and QCT, (draws, n). Without slope, an offset is fitted.

    >>> _errors(np.array([[1.0, 2, 3, 4]]), np.array([[2.0, 3, 4, 6]]), 2, slope=False)
    array([0.5])
    """
    x_mean, y_mean = x[:, :k].mean(axis=1, keepdims=True), y[:, :k].mean(axis=1, keepdims=True)
    gain = np.ones_like(x_mean)
    if slope:
        centred = x[:, :k] - x_mean
        squares = (centred**2).sum(axis=1, keepdims=True)
        # Where all patients have the same prediction, no slope can be fitted, and it stays 1.
        product = (centred * (y[:, :k] - y_mean)).sum(axis=1, keepdims=True)
        gain = np.divide(product, squares, out=gain, where=squares > 0)
    return np.abs(y_mean + gain * (x[:, k:] - x_mean) - y[:, k:]).mean(axis=1)


def _summary(errors: NDArray[np.float64]) -> tuple[float, float, float]:
    """Give the ends of the range that holds 95 % of the draws, and the mean over draws."""
    low, high = np.quantile(errors, [TAIL, 1 - TAIL])
    return float(low), float(high), float(errors.mean())


def enough(rows: pd.DataFrame, *, within: float = 0.1) -> int | None:
    """Find the smallest k that brings the MAE within a share of the curve's lowest; None for an empty curve.

    >>> enough(pd.DataFrame({"k": [0, 3, 5, 10], "mae_mg_cm3": [9.0, 6.5, 6.2, 6.0]}))
    3

    Parameters
    ----------
    rows : DataFrame
        Rows of the table recalibration of one cohort, device and predictor; at each k the better fit counts.
    within : float
        Share above the lowest MAE that is near enough.
    """
    best = rows.groupby("k")["mae_mg_cm3"].min().sort_index()
    if best.empty:
        return None
    near = best <= (1 + within) * best.min()
    return int(best.index[near][0])
