"""How close predicted vBMD comes to QCT, and F1: figures that follow from means over patients."""

import numpy as np
from numpy.typing import NDArray

from trabecula.evaluate.estimate import TOO_FEW, Estimate
from trabecula.evaluate.resampling import BCA, Figure, estimates


def _ratio(over: NDArray[np.float64], under: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quotient, NaN where the divisor is zero (or noise of rounding)."""
    safe = np.where(under > 1e-12, under, np.nan)
    return over / safe


# Columns: error, |error|, error^2, then predicted and QCT about their means: p, q, p^2, q^2, pq.
def _columns(predicted: NDArray[np.float64], qct: NDArray[np.float64]) -> NDArray[np.float64]:
    error = predicted - qct
    p, q = predicted - predicted.mean(), qct - qct.mean()
    return np.stack([error, np.abs(error), error**2, p, q, p * p, q * q, p * q], axis=1)


def _pearson(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    _, _, _, p, q, pp, qq, pq = np.moveaxis(mean, -1, 0)
    return _ratio(pq - p * q, np.sqrt(np.clip(pp - p * p, 0, None) * np.clip(qq - q * q, 0, None)))


def _limit(sign: int, n: int) -> Figure:
    """Bias and 1.96 standard deviations of the error (Bland and Altman, Lancet 1986;327:307)."""
    unbiased = n / max(n - 1, 1)

    def limit(mean: NDArray[np.float64]) -> NDArray[np.float64]:
        variance = np.clip(mean[..., 2] - mean[..., 0] ** 2, 0, None) * unbiased
        return mean[..., 0] + sign * 1.96 * np.sqrt(variance)

    return limit


def agreement(
    predicted: NDArray[np.float64], qct: NDArray[np.float64], *, resamples: int, seed: int
) -> dict[str, Estimate]:
    """MAE, RMSE, bias, limits of agreement and Pearson's r with BCa intervals.

    Parameters
    ----------
    predicted, qct : (n,) arrays
        vBMD in mg/cm3 HA; errors are predicted - qct.
    resamples, seed : int
        Bootstrap of the patients.
    """
    n = len(qct)
    if not n:
        names = ("mae", "rmse", "bias", "limit_low", "limit_high", "pearson_r")
        return {name: Estimate(None, None, None, 0, BCA, TOO_FEW) for name in names}
    found = estimates(
        _columns(predicted, qct),
        {
            "mae": lambda mean: mean[..., 1],
            "rmse": lambda mean: np.sqrt(mean[..., 2]),
            "bias": lambda mean: mean[..., 0],
            "limit_low": _limit(-1, n),
            "limit_high": _limit(1, n),
            "pearson_r": _pearson,
        },
        resamples=resamples,
        seed=seed,
    )
    if n < 3:  # two points always lie on a line
        found["pearson_r"] = Estimate(None, None, None, n, BCA, TOO_FEW)
    return found


def mae_difference(
    first: NDArray[np.float64], second: NDArray[np.float64], qct: NDArray[np.float64], *, resamples: int, seed: int
) -> Estimate:
    """MAE of the first minus MAE of the second prediction on the same patients, paired bootstrap."""
    columns = (np.abs(first - qct) - np.abs(second - qct))[:, None]
    return estimates(columns, {"mae": lambda mean: mean[..., 0]}, resamples=resamples, seed=seed)["mae"]


def f1(truth: NDArray[np.bool_], decided: NDArray[np.bool_], *, resamples: int, seed: int) -> Estimate:
    """Harmonic mean of recall and precision, (n,) boolean arrays; True is reduced."""
    columns = np.stack([truth & decided, truth, decided], axis=1).astype(float)

    def figure(mean: NDArray[np.float64]) -> NDArray[np.float64]:
        return _ratio(2 * mean[..., 0], mean[..., 1] + mean[..., 2])

    return estimates(columns, {"f1": figure}, resamples=resamples, seed=seed)["f1"]
