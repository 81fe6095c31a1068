"""Agreement of predicted vBMD with QCT, kappa and F1: figures that follow from means over patients or clusters."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from trabecula.evaluate.estimate import NO_VARIATION, TOO_FEW, Estimate, Z
from trabecula.evaluate.resampling import BCA, Figure, estimates

FISHER = "Fisher's z"
FIGURES = ("mae", "rmse", "bias", "limit_low", "limit_high", "pearson_r", "ccc", "icc_a1", "spearman_rho")


def _ratio(numerator: NDArray[np.float64], divisor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide, giving NaN where the divisor is zero (or noise of rounding)."""
    safe = np.where(divisor > 1e-12, divisor, np.nan)
    return numerator / safe


def _columns(predicted: NDArray[np.float64], qct: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stack what all figures are means of, (n, 8): error, |error|, error^2, p, q, p^2, q^2 and p q.

    p and q are predicted and QCT about their means.
    """
    error = predicted - qct
    p, q = predicted - predicted.mean(), qct - qct.mean()
    return np.stack([error, np.abs(error), error**2, p, q, p * p, q * q, p * q], axis=1)


def _pearson(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute Pearson's correlation."""
    _, _, _, p, q, pp, qq, pq = np.moveaxis(mean, -1, 0)
    return _ratio(pq - p * q, np.sqrt(np.clip(pp - p * p, 0, None) * np.clip(qq - q * q, 0, None)))


def _moments(mean: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Give the mean error, and variances and covariance of predicted and QCT with the divisor n."""
    error, _, _, p, q, pp, qq, pq = np.moveaxis(mean, -1, 0)
    return error, pp - p * p, qq - q * q, pq - p * q


def _ccc(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the concordance correlation (Lin, Biometrics 1989;45:255), with the divisor n as there."""
    error, pp, qq, pq = _moments(mean)
    return _ratio(2 * pq, pp + qq + error**2)


def _icc(n: int) -> Figure:
    """Give the function for ICC(A,1), the absolute agreement of two single measurements of n patients.

    With two measurements the mean squares of rows, columns and error follow from the variances and the mean error
    (McGraw and Wong, Psychol Methods 1996;1:30).
    """

    def icc(mean: NDArray[np.float64]) -> NDArray[np.float64]:
        error, *moments = _moments(mean)
        pp, qq, pq = (moment * n / max(n - 1, 1) for moment in moments)
        return _ratio(2 * pq, pp + qq + error**2 - (pp + qq - 2 * pq) / n)

    return icc


def _limit(sign: int, n: int) -> Figure:
    """Give the function for a limit of agreement: bias plus or minus 1.96 standard deviations, by the sign.

    References
    ----------
    Bland and Altman, Lancet 1986;327:307.
    """
    unbiased = n / max(n - 1, 1)

    def limit(mean: NDArray[np.float64]) -> NDArray[np.float64]:
        variance = np.clip(mean[..., 2] - mean[..., 0] ** 2, 0, None) * unbiased
        return mean[..., 0] + sign * 1.96 * np.sqrt(variance)

    return limit


def agreement(
    predicted: NDArray[np.float64], qct: NDArray[np.float64], *, resamples: int, seed: int
) -> dict[str, Estimate]:
    """Compute MAE, RMSE, bias, limits of agreement, correlations, CCC and ICC(A,1) on patients with both values.

    Intervals are by BCa bootstrap, that of Spearman's rho by Fisher's z.

    >>> figures = agreement(np.array([102.0, 98, 122, 118]), np.array([100.0, 100, 120, 120]), resamples=100, seed=1)
    >>> [round(figures[name].value, 3) for name in ("mae", "bias", "ccc")]
    [2.0, 0.0, 0.98]

    Parameters
    ----------
    predicted, qct : (n,) arrays
        vBMD in mg/cm3 HA; errors are predicted - qct.
    resamples, seed : int
        Bootstrap of the patients.

    Returns
    -------
    dict
        An estimate by each name in `FIGURES`.
    """
    n = len(qct)
    if not n:
        return {name: Estimate(None, None, None, 0, BCA, TOO_FEW) for name in FIGURES}
    figures = estimates(
        _columns(predicted, qct),
        {
            "mae": lambda mean: mean[..., 1],
            "rmse": lambda mean: np.sqrt(mean[..., 2]),
            "bias": lambda mean: mean[..., 0],
            "limit_low": _limit(-1, n),
            "limit_high": _limit(1, n),
            "pearson_r": _pearson,
            "ccc": _ccc,
            "icc_a1": _icc(n),
        },
        resamples=resamples,
        seed=seed,
    )
    if n < 3:  # two points always lie on a line
        figures |= {name: Estimate(None, None, None, n, BCA, TOO_FEW) for name in ("pearson_r", "ccc", "icc_a1")}
    return figures | {"spearman_rho": spearman(predicted, qct)}


def clustered_agreement(
    predicted: NDArray[np.float64], qct: NDArray[np.float64], patient: NDArray[np.intp], *, resamples: int, seed: int
) -> dict[str, Estimate]:
    """Compute MAE, RMSE, bias and CCC of several values per patient; patients are resampled with all their values.

    Every value counts alike, so a figure is one of ratios of patients' sums (Field and Welsh, J R Stat Soc B
    2007;69:369); the acceleration leaves one patient out. n is the number of patients.

    Parameters
    ----------
    predicted, qct : (n,) arrays
        vBMD in mg/cm3 HA.
    patient : (n,) array
        Number of the patient, from 0, none skipped.
    resamples, seed : int
        Bootstrap of the patients.
    """
    if not len(qct):
        return {name: Estimate(None, None, None, 0, BCA, TOO_FEW) for name in CLUSTERED}
    columns = np.column_stack([np.ones(len(qct)), _columns(predicted, qct)])
    sums = np.zeros((int(patient.max()) + 1, columns.shape[1]))
    np.add.at(sums, patient, columns)

    def per_value(figure: Figure) -> Figure:
        return lambda mean: figure(mean[..., 1:] / mean[..., :1])

    return estimates(
        sums, {name: per_value(figure) for name, figure in CLUSTERED.items()}, resamples=resamples, seed=seed
    )


# Figures of values within patients.
CLUSTERED: dict[str, Figure] = {
    "mae": lambda mean: mean[..., 1],
    "rmse": lambda mean: np.sqrt(mean[..., 2]),
    "bias": lambda mean: mean[..., 0],
    "ccc": _ccc,
}


def spearman(predicted: NDArray[np.float64], qct: NDArray[np.float64]) -> Estimate:
    """Compute Spearman's rank correlation; interval by Fisher's z with the variance (1 + rho^2 / 2) / (n - 3).

    >>> round(spearman(np.array([1.0, 3, 2, 4, 5]), np.array([1.0, 2, 3, 4, 5])).value, 6)
    0.9

    References
    ----------
    Bonett and Wright, Psychometrika 2000;65:23.
    """
    n = len(qct)
    if n < 3:
        return Estimate(None, None, None, n, FISHER, TOO_FEW)
    if np.ptp(predicted) == 0 or np.ptp(qct) == 0:
        return Estimate(None, None, None, n, FISHER, NO_VARIATION)
    rho = float(np.clip(np.asarray(spearmanr(predicted, qct))[0], -1, 1))
    if n == 3:
        return Estimate(rho, None, None, n, FISHER, "fewer than four patients")
    if abs(rho) > 1 - 1e-12:
        return Estimate(rho, None, None, n, FISHER, "all patients are ranked alike")
    half = Z * ((1 + rho**2 / 2) / (n - 3)) ** 0.5
    low, high = np.tanh(np.arctanh(rho) + np.array([-half, half]))
    return Estimate(rho, float(low), float(high), n, FISHER)


def kappa(first: NDArray[np.int_], second: NDArray[np.int_], *, resamples: int, seed: int) -> Estimate:
    """Compute Cohen's kappa with quadratic weights of grades 0, 1, 2, ... on the same patients, (n,) arrays.

    With quadratic weights the observed and the expected disagreement are mean squares, so that kappa follows from
    means over patients (Fleiss and Cohen, Educ Psychol Meas 1973;33:613).
    """
    a, b = first.astype(float), second.astype(float)
    if not len(a):
        return Estimate(None, None, None, 0, BCA, TOO_FEW)

    def figure(mean: NDArray[np.float64]) -> NDArray[np.float64]:
        observed, a, b, aa, bb = np.moveaxis(mean, -1, 0)
        return 1 - _ratio(observed, aa + bb - 2 * a * b)

    columns = np.stack([(a - b) ** 2, a, b, a * a, b * b], axis=1)
    return estimates(columns, {"kappa": figure}, resamples=resamples, seed=seed)["kappa"]


def mae_difference(
    first: NDArray[np.float64], second: NDArray[np.float64], qct: NDArray[np.float64], *, resamples: int, seed: int
) -> Estimate:
    """Compute the MAE of the first minus that of the second prediction on the same patients, paired bootstrap."""
    columns = (np.abs(first - qct) - np.abs(second - qct))[:, None]
    return estimates(columns, {"mae": lambda mean: mean[..., 0]}, resamples=resamples, seed=seed)["mae"]


def f1(truth: NDArray[np.bool_], decided: NDArray[np.bool_], *, resamples: int, seed: int) -> Estimate:
    """Compute F1, the harmonic mean of recall and precision, from (n,) boolean arrays; True is reduced."""
    columns = np.stack([truth & decided, truth, decided], axis=1).astype(float)

    def figure(mean: NDArray[np.float64]) -> NDArray[np.float64]:
        return _ratio(2 * mean[..., 0], mean[..., 1] + mean[..., 2])

    return estimates(columns, {"f1": figure}, resamples=resamples, seed=seed)["f1"]
