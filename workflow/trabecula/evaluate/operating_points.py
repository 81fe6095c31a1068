"""Operating points: net benefit, other probability thresholds, assumed prevalences, and who is reclassified."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from trabecula.evaluate.discrimination import proportions
from trabecula.evaluate.estimate import EMPTY, Estimate, Z
from trabecula.evaluate.metrics import figure
from trabecula.evaluate.resampling import estimates
from trabecula.evaluate.sets import HU, NETWORK, PROBABLE, Group

# Thresholds of the decision curve.
CURVE = tuple(round(0.05 * i, 2) for i in range(1, 20))
AT_THRESHOLDS = ("recall", "specificity", "precision", "npv")
LOGIT = "logit, from recall and specificity"
REDUCED, NORMAL = "reduced", "normal"


def net_benefit(
    truth: NDArray[np.bool_], called: NDArray[np.bool_], thresholds: Sequence[float], *, resamples: int, seed: int
) -> list[Estimate]:
    """Compute the net benefit of calling patients reduced: TP / n - FP / n x t / (1 - t), by threshold probability t.

    >>> truth, called = np.array([True, True, False, False]), np.array([[True], [True], [True], [False]])
    >>> net_benefit(truth, called, [0.5], resamples=100, seed=1)[0].value
    0.25

    Parameters
    ----------
    truth : (n,) boolean array
    called : (n, k) boolean array
        True where the strategy calls the patient reduced at the threshold.
    thresholds : (k,) sequence of float
        Between 0 and 1.
    resamples, seed : int
        Bootstrap of the patients.

    References
    ----------
    Vickers and Elkin, Med Decis Making 2006;26:565.
    """
    odds = np.array(thresholds) / (1 - np.array(thresholds))
    columns = called.astype(float) * np.where(truth[:, None], 1.0, -odds)
    names = [str(threshold) for threshold in thresholds]
    figures = {name: lambda mean, i=i: mean[..., i] for i, name in enumerate(names)}
    benefits = estimates(columns, figures, resamples=resamples, seed=seed)
    return [benefits[name] for name in names]


def decision_curve(group: Group, *, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    """List the rows of the table decision_curve, on patients that network and HU both classify.

    HU alone decides by its threshold of vBMD, the same at every threshold probability.
    """
    both, strategies = group.classified(NETWORK), [name for name in PROBABLE if name in group.predictors]
    for name in (*strategies[1:], HU):
        both = both & group.classified(name)
    truth = group.patients["qct_reduced"][both].to_numpy(bool)
    at = np.array(CURVE)
    called = {name: group.score[name][both].to_numpy(float)[:, None] >= at for name in strategies}
    called[HU] = np.repeat(group.reduced[HU][both].to_numpy(float)[:, None] == 1, len(at), axis=1)
    called["all"] = np.ones((len(truth), len(at)), bool)
    for strategy, calls in called.items():
        benefits = net_benefit(truth, calls, CURVE, resamples=resamples, seed=seed)
        for threshold, estimate in zip(CURVE, benefits, strict=True):
            yield _benefit(strategy, threshold, estimate)
    n = len(truth)
    for threshold in CURVE:
        nobody = Estimate(0.0, 0.0, 0.0, n, "zero by definition") if n else Estimate(None, None, None, 0, "none", EMPTY)
        yield _benefit("none", threshold, nobody)


def _benefit(strategy: str, threshold: float, estimate: Estimate) -> dict[str, Any]:
    """Make a row of the table decision_curve."""
    row = figure("net_benefit", estimate)
    row.pop("metric")
    return {"strategy": strategy, "threshold": threshold, **row}


def at_thresholds(group: Group, predictor: str, *, thresholds: Sequence[float]) -> Iterator[dict[str, Any]]:
    """List the rows of the table thresholds, of a predictor whose score is a probability."""
    truth, _, score = group.decisions(predictor)
    for threshold in thresholds:
        shares = proportions(truth, score >= threshold)
        for metric in AT_THRESHOLDS:
            yield {"threshold": float(threshold), **figure(metric, shares[metric])}


def reclassification(group: Group, *, thresholds: Sequence[float]) -> Iterator[dict[str, Any]]:
    """List the rows of the table reclassification: QCT, network and HU on the patients that both classify."""
    both = group.classified(NETWORK, HU)
    if not both.any():
        return
    truth = group.patients["qct_reduced"][both].to_numpy(bool)
    hu = group.reduced[HU][both].to_numpy(float) == 1
    score = group.score[NETWORK][both].to_numpy(float)
    for threshold in thresholds:
        network = score >= threshold
        for sides in product((True, False), repeat=3):
            in_cell = (truth == sides[0]) & (network == sides[1]) & (hu == sides[2])
            names = [REDUCED if side else NORMAL for side in sides]
            cell = dict(zip(("qct", "network", "hu"), names, strict=True))
            yield {"threshold": float(threshold), **cell, "n": int(in_cell.sum())}


def predictive_values(group: Group, predictor: str, *, prevalences: Sequence[float]) -> Iterator[dict[str, Any]]:
    """List the rows of the table predictive_values."""
    truth, called, _ = group.decisions(predictor)
    for prevalence in prevalences:
        for metric, estimate in at_prevalence(truth, called, prevalence).items():
            yield {"prevalence": float(prevalence), **figure(metric, estimate)}


def at_prevalence(truth: NDArray[np.bool_], called: NDArray[np.bool_], prevalence: float) -> dict[str, Estimate]:
    """Compute PPV and NPV at an assumed prevalence of reduced density, with intervals on the scale of log odds.

    Parameters
    ----------
    truth, called : (n,) boolean arrays
        Reduced by QCT, and called reduced by the predictor.
    prevalence : float
        Between 0 and 1.

    References
    ----------
    Bayes' rule; the intervals by Mercaldo, Lau and Zhou, Stat Med 2007;26:2170.
    """
    reduced, normal, n = int(truth.sum()), int((~truth).sum()), len(truth)
    if not reduced or not normal:
        unknown = Estimate(None, None, None, n, LOGIT, "recall or specificity is undefined")
        return {"ppv": unknown, "npv": unknown}
    recall, specificity = float(called[truth].mean()), float((~called[~truth]).mean())
    missed, false = 1 - recall, 1 - specificity
    # Variance of the logarithm of a share p of m patients by the delta method: (1 - p) / (m p).
    ppv = recall * prevalence, false * (1 - prevalence)
    npv = specificity * (1 - prevalence), missed * prevalence
    return {
        "ppv": _predictive_value(*ppv, (missed / reduced, recall), (specificity / normal, false), n),
        "npv": _predictive_value(*npv, (recall / reduced, missed), (false / normal, specificity), n),
    }


def _predictive_value(
    right: float, wrong: float, of_reduced: tuple[float, float], of_normal: tuple[float, float], n: int
) -> Estimate:
    """Compute a predictive value from the shares of right and wrong calls among all patients.

    Parameters
    ----------
    right, wrong : float
        Shares of all patients that are called so rightly and wrongly, at the prevalence.
    of_reduced, of_normal : tuple of float
        Numerator and divisor of the variance of the logarithm of the share called so, in either class.
    n : int
        Number of patients.
    """
    if right + wrong == 0:
        return Estimate(None, None, None, n, LOGIT, "no patient is called so")
    value = right / (right + wrong)
    if not (of_reduced[1] and of_normal[1]) or not (0 < value < 1):
        return Estimate(value, None, None, n, LOGIT, "a share of 0 or 1 has no interval on the scale of log odds")
    half = Z * (of_reduced[0] / of_reduced[1] + of_normal[0] / of_normal[1]) ** 0.5
    low, high = expit(logit(value) + np.array([-half, half]))
    return Estimate(value, float(low), float(high), n, LOGIT)
