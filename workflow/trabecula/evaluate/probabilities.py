"""Calibration: a predicted probability of reduced density against the share of patients that QCT calls reduced."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from statsmodels.nonparametric.smoothers_lowess import lowess

from trabecula.evaluate.discrimination import wilson
from trabecula.evaluate.estimate import MIN_CELL, NO_VARIATION, ONE_CLASS, TAIL, TOO_FEW, Estimate, Z
from trabecula.evaluate.resampling import estimates
from trabecula.evaluate.sets import Group

WALD = "Wald, logistic recalibration"
# A curve is fitted anew to each resample, so there are fewer of them.
MAX_CURVES = 200
PERCENTILES = "percentile bootstrap of patients"
# Share of the patients that each local line stands on (the default of Austin and Steyerberg).
SPAN = 0.75
TENTHS = 10
GRID = np.linspace(0, 1, 41)
SEPARATED = "the prediction separates the classes: no finite fit"
# A probability of exactly 0 or 1 has no finite log odds.
_EDGE = 1e-6


def brier(truth: NDArray[np.bool_], probability: NDArray[np.float64], *, resamples: int, seed: int) -> Estimate:
    """Compute the mean squared error of the probability, (n,) arrays (Brier, Mon Weather Rev 1950;78:1).

    >>> brier(np.array([True, False, True, True]), np.array([0.5, 0.5, 0.0, 1.0]), resamples=100, seed=1).value
    0.375
    """
    columns = ((probability - truth) ** 2)[:, None]
    return estimates(columns, {"brier": lambda mean: mean[..., 0]}, resamples=resamples, seed=seed)["brier"]


def calibration_slope(truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> Estimate:
    """Fit the slope of the outcome on the log odds; below 1 the predictions are too extreme.

    Parameters
    ----------
    truth : (n,) boolean array
    probability : (n,) array
        Of reduced density.

    References
    ----------
    Cox, Biometrika 1958;45:562.
    """
    n, odds = len(truth), _log_odds(probability)
    if truth.sum() < 2 or (~truth).sum() < 2:
        return Estimate(None, None, None, n, WALD, ONE_CLASS)
    if np.ptp(odds) == 0:
        return Estimate(None, None, None, n, WALD, NO_VARIATION)
    reduced, normal = odds[truth], odds[~truth]
    if reduced.min() >= normal.max() or reduced.max() <= normal.min():
        return Estimate(None, None, None, n, WALD, SEPARATED)
    centred = odds - odds.mean()
    return _wald(truth, np.stack([np.ones(n), centred], axis=1), np.zeros(n), at=1)


def calibration_intercept(truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> Estimate:
    """Fit the calibration in the large: the number to add to all log odds, slope fixed at 1 (see `calibration_slope`).

    >>> round(calibration_intercept(np.array([True, False, False, False]), np.full(4, 0.5)).value, 3)  # log(1 / 3)
    -1.099
    """
    n = len(truth)
    if not 0 < truth.sum() < n:
        return Estimate(None, None, None, n, WALD, "patients of one class only")
    return _wald(truth, np.ones((n, 1)), _log_odds(probability), at=0)


def _log_odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the log odds of (n,) probabilities, finite also at 0 and 1."""
    return logit(np.clip(probability, _EDGE, 1 - _EDGE))


def _wald(truth: NDArray[np.bool_], design: NDArray[np.float64], offset: NDArray[np.float64], *, at: int) -> Estimate:
    """Fit one coefficient of a logistic regression with an offset, by Newton's method; steps are kept short."""
    coefficients = np.zeros(design.shape[1])
    information = np.eye(len(coefficients))
    for _ in range(200):
        fitted = expit(design @ coefficients + offset)
        weight = np.maximum(fitted * (1 - fitted), 1e-12)
        information = (design * weight[:, None]).T @ design
        step = np.clip(np.linalg.solve(information, design.T @ (truth - fitted)), -2, 2)
        coefficients += step
        if np.abs(step).max() < 1e-10:
            break
    half = Z * float(np.linalg.inv(information)[at, at]) ** 0.5
    value = float(coefficients[at])
    return Estimate(value, value - half, value + half, len(truth), WALD)


def curve(truth: NDArray[np.bool_], probability: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth the share of reduced density over the predicted probability, and read it off at (k,) places.

    Lowess of degree 1 without robustness.

    References
    ----------
    Cleveland, J Am Stat Assoc 1979;74:829; for calibration Austin and Steyerberg, Stat Med 2014;33:517.
    """
    if np.ptp(probability) == 0:
        return np.full(len(at), np.nan)
    # Local lines are fitted at steps of a hundredth of the range, and joined by straight lines in between.
    smooth = lowess(truth.astype(float), probability, frac=SPAN, it=0, delta=0.01 * float(np.ptp(probability)))
    smooth = smooth[np.isfinite(smooth[:, 1])]
    if not len(smooth):
        return np.full(len(at), np.nan)
    return np.clip(np.interp(at, smooth[:, 0], smooth[:, 1]), 0, 1)


def resampled_curves(
    truth: NDArray[np.bool_], probability: NDArray[np.float64], *, resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw resamples of the patients, and give the curve on `GRID` and the ICI in each; NaN where undefined.

    Returns
    -------
    (b, len(GRID)) array, (b,) array
        Curves, ICIs.
    """
    rng, n = np.random.default_rng(seed), len(truth)
    curves, distances = [], []
    for _ in range(min(resamples, MAX_CURVES)):
        drawn = rng.integers(0, n, n)
        p = probability[drawn]
        observed = curve(truth[drawn], p, np.concatenate([GRID, p]))
        curves.append(observed[: len(GRID)])
        distances.append(np.abs(observed[len(GRID) :] - p).mean())
    return np.array(curves), np.array(distances)


def ici(truth: NDArray[np.bool_], probability: NDArray[np.float64], resampled: NDArray[np.float64]) -> Estimate:
    """Compute the integrated calibration index: the mean distance of the smooth curve from the prediction.

    Parameters
    ----------
    truth : (n,) boolean array
    probability : (n,) array
    resampled : (b,) array
        See `resampled_curves`. The index can't be negative, so in small sets it and its interval lie too high.

    References
    ----------
    Austin and Steyerberg, Stat Med 2019;38:4051.
    """
    n = len(truth)
    if n < MIN_CELL or not 0 < truth.sum() < n:
        reason = TOO_FEW if n < 3 else "fewer than five patients, or one class only"
        return Estimate(None, None, None, n, PERCENTILES, reason)
    value = float(np.abs(curve(truth, probability, probability) - probability).mean())
    finite = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or not len(finite):
        return Estimate(None, None, None, n, PERCENTILES, NO_VARIATION)
    low, high = np.quantile(finite, [TAIL, 1 - TAIL])
    return Estimate(value, float(low), float(high), n, PERCENTILES)


@dataclass(frozen=True)
class Calibration:
    """How well a probability is calibrated.

    Attributes
    ----------
    figures : dict
        Brier score, slope, intercept and ICI by name.
    curve : list of dict
        Rows of the table calibration_curve.
    """

    figures: dict[str, Estimate]
    curve: list[dict[str, Any]]


def calibration(group: Group, predictor: str, *, resamples: int, seed: int) -> Calibration:
    """Judge the calibration of a predictor's probability.

    Parameters
    ----------
    group : Group
    predictor : str
        One whose score is a probability.
    resamples, seed : int
        Bootstrap of the patients; curves take the first `MAX_CURVES` at most.
    """
    truth, _, probability = group.decisions(predictor)
    curves, distances = np.empty((0, len(GRID))), np.empty(0)
    smooth = len(truth) >= MIN_CELL and 0 < truth.sum() < len(truth)
    if smooth:
        curves, distances = resampled_curves(truth, probability, resamples=resamples, seed=seed)
    figures = {
        "brier": brier(truth, probability, resamples=resamples, seed=seed),
        "calibration_slope": calibration_slope(truth, probability),
        "calibration_intercept": calibration_intercept(truth, probability),
        "ici": ici(truth, probability, distances),
    }
    rows = list(tenths(truth, probability))
    return Calibration(figures, rows + (list(smooth_curve(truth, probability, curves)) if smooth else []))


def tenths(truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> Iterator[dict[str, Any]]:
    """Divide the patients by predicted probability into ten groups of like size, or fewer of at least five patients."""
    n = len(truth)
    if n < MIN_CELL:
        return
    order = np.argsort(probability, kind="stable")
    for part in np.array_split(order, min(TENTHS, n // MIN_CELL)):
        share = wilson(int(truth[part].sum()), len(part))
        yield _row("tenth", float(probability[part].mean()), share)


def smooth_curve(
    truth: NDArray[np.bool_], probability: NDArray[np.float64], resampled: NDArray[np.float64]
) -> Iterator[dict[str, Any]]:
    """List the points of the smooth curve over the range of the predictions, with percentiles of (b, k) resamples."""
    n = len(truth)
    for i, value in enumerate(curve(truth, probability, GRID)):
        within = probability.min() <= GRID[i] <= probability.max()
        finite = resampled[np.isfinite(resampled[:, i]), i]
        if within and np.isfinite(value) and len(finite):
            low, high = np.quantile(finite, [TAIL, 1 - TAIL])
            point = Estimate(float(value), float(low), float(high), n, PERCENTILES)
            # Near 0 and 1 all resamples may give the same share, which is no certainty.
            bare = Estimate(float(value), None, None, n, PERCENTILES, NO_VARIATION)
            yield _row("smooth", float(GRID[i]), point if high > low else bare)


def _row(part: str, predicted: float, share: Estimate) -> dict[str, Any]:
    """Make a row of the table calibration_curve."""
    row = vars(share)
    return {"part": part, "predicted": predicted, "observed": share.value} | {
        name: row[name] for name in ("low", "high", "n", "method", "reason")
    }
