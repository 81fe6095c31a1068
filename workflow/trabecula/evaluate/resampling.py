"""Bootstrap of patients for every figure that is a function of means over patients.

F1, MAE, RMSE, bias, limits of agreement and Pearson's r all follow from the means of a few
columns. So one draw of resamples, as counts per patient, serves them all by one product of
matrices, and leaving each patient out in turn costs one subtraction.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from trabecula.evaluate.estimate import NO_VARIATION, TAIL, TOO_FEW, Estimate

BCA = "BCa bootstrap of patients"
# Values held at once while resampling.
_BATCH = 4_000_000

# (..., k) means of columns to (...) figures.
Figure = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def resampled_means(columns: NDArray[np.float64], *, resamples: int, seed: int) -> NDArray[np.float64]:
    """Compute means of columns in resamples of the patients.

    Parameters
    ----------
    columns : (n, k) array
        A row per patient.
    resamples : int
        Number of resamples, each of n patients drawn with replacement.
    seed : int
        The same seed gives the same resamples.

    Returns
    -------
    (resamples, k) array
    """
    n = len(columns)
    if n * resamples <= _BATCH:
        return _counts(n, resamples, seed) @ columns / n
    rng = np.random.default_rng(seed)
    size = max(1, _BATCH // n)
    parts = [_drawn(rng, n, min(size, resamples - start)) @ columns for start in range(0, resamples, size)]
    return np.concatenate(parts) / n


def _drawn(rng: np.random.Generator, n: int, resamples: int) -> NDArray[np.float64]:
    """Draw how often each resample holds each of n patients, (resamples, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)


@lru_cache(maxsize=8)
def _counts(n: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """Count how often each resample holds each patient, (resamples, n); drawn once for all figures of a set."""
    return _drawn(np.random.default_rng(seed), n, resamples)


def left_out_means(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the (n, k) means of columns, the i-th row without patient i.

    >>> left_out_means(np.array([[1.0], [2.0], [6.0]])).ravel().tolist()
    [4.0, 3.5, 1.5]
    """
    return (columns.sum(axis=0) - columns) / (len(columns) - 1)


def bca(value: float, resampled: NDArray[np.float64], left_out: NDArray[np.float64]) -> tuple[float, float] | None:
    """Compute the bias-corrected and accelerated interval; None when the resamples do not vary.

    Parameters
    ----------
    value : float
        The figure on all patients.
    resampled : (b,) array
        The figure in resamples.
    left_out : (n,) array
        The figure without each patient in turn.

    References
    ----------
    Efron, J Am Stat Assoc 1987;82:171; ties with the value count half.
    """
    rounding = 1e-12 * max(1.0, abs(value))
    below = ((resampled < value - rounding).mean() + (resampled <= value + rounding).mean()) / 2
    centred = left_out.mean() - left_out
    spread = (centred**2).sum()
    if np.ptp(resampled) <= rounding or spread <= rounding**2 or not 0 < below < 1:
        return None
    bias = ndtri(below)
    acceleration = (centred**3).sum() / (6 * spread**1.5)
    shifted = bias + ndtri([TAIL, 1 - TAIL])
    low, high = np.quantile(resampled, ndtr(bias + shifted / (1 - acceleration * shifted)))
    return float(low), float(high)


def estimates(
    columns: NDArray[np.float64], figures: dict[str, Figure], *, resamples: int, seed: int
) -> dict[str, Estimate]:
    """Compute figures with BCa intervals.

    Resamples and left-out samples in which a figure is undefined (such as F1 without any
    reduced patient) do not count for its interval.

    Parameters
    ----------
    columns : (n, k) array
        A row per patient.
    figures : dict
        Name of each figure, and the figure as a function of the columns' means.
    resamples, seed : int
        See `resampled_means`.
    """
    n = len(columns)
    if n < 3:
        values = {name: float(figure(columns.mean(axis=0))) if n else np.nan for name, figure in figures.items()}
        return {
            name: Estimate(value if np.isfinite(value) else None, None, None, n, BCA, TOO_FEW)
            for name, value in values.items()
        }
    drawn, left_out = resampled_means(columns, resamples=resamples, seed=seed), left_out_means(columns)
    return {
        name: _estimate(float(figure(columns.mean(axis=0))), figure(drawn), figure(left_out), n)
        for name, figure in figures.items()
    }


def _estimate(value: float, drawn: NDArray[np.float64], left_out: NDArray[np.float64], n: int) -> Estimate:
    """Put a figure and its interval together, or the reason why either is undefined."""
    if not np.isfinite(value):
        return Estimate(None, None, None, n, BCA, NO_VARIATION)
    interval = bca(value, drawn[np.isfinite(drawn)], left_out[np.isfinite(left_out)])
    low, high = interval or (None, None)
    return Estimate(value, low, high, n, BCA, None if interval else NO_VARIATION)
