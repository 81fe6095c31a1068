"""How well a score separates patients with reduced density from the others."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import binomtest, rankdata

from trabecula.evaluate.estimate import EMPTY, LEVEL, ONE_CLASS, Estimate, Z

DELONG = "DeLong"
WILSON = "Wilson score"
OBUCHOWSKI = "Obuchowski, patients as clusters"


@dataclass(frozen=True)
class Difference:
    """Two areas under the ROC curve on the same patients, compared.

    Attributes
    ----------
    first, second : float or None
        The two areas.
    difference, low, high : float or None
        First minus second, with its 95 % interval.
    p_value : float or None
        Two-sided.
    reason : str or None
        Why any of these is undefined.
    """

    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    reason: str | None = None


def delong(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the areas under the ROC curves of several scores on the same patients, and their covariance.

    >>> areas, covariance = delong(np.array([True, True, False, False]), np.array([[4.0, 2, 3, 1]]))
    >>> areas.tolist(), covariance.tolist()
    ([0.75], [[0.125]])

    Parameters
    ----------
    truth : (n,) boolean array
        True where density is reduced; at least two patients of each class.
    scores : (k, n) array
        Higher means more likely reduced.

    Returns
    -------
    (k,) array, (k, k) array
        Areas, covariance.

    References
    ----------
    DeLong et al., Biometrics 1988;44:837 (the estimator); Sun and Xu, IEEE Signal Process Lett
    2014;21:1389 (by mid-ranks, in O(n log n)).
    """
    positive, negative = scores[:, truth], scores[:, ~truth]
    m, n = positive.shape[1], negative.shape[1]
    ranks = rankdata(np.hstack([positive, negative]), axis=1)
    above = (ranks[:, :m] - rankdata(positive, axis=1)) / n
    below = 1 - (ranks[:, m:] - rankdata(negative, axis=1)) / m
    covariance = np.atleast_2d(np.cov(above)) / m + np.atleast_2d(np.cov(below)) / n
    return above.mean(axis=1), covariance


def _has_both_classes(truth: NDArray[np.bool_]) -> bool:
    """Tell whether there are at least two patients of each class."""
    return 2 <= int(truth.sum()) <= len(truth) - 2


def auc(truth: NDArray[np.bool_], score: NDArray[np.float64]) -> Estimate:
    """Compute the area under the ROC curve with DeLong's interval, cut off at 0 and 1.

    Parameters
    ----------
    truth : (n,) boolean array
    score : (n,) array
        Higher means more likely reduced.
    """
    if not _has_both_classes(truth):
        return Estimate(None, None, None, len(truth), DELONG, ONE_CLASS)
    (area,), ((variance,),) = delong(truth, score[None])
    if variance <= 0:
        return Estimate(float(area), None, None, len(truth), DELONG, "perfect separation has no DeLong variance")
    half = Z * variance**0.5
    return Estimate(float(area), max(0.0, float(area - half)), min(1.0, float(area + half)), len(truth), DELONG)


def auc_difference(truth: NDArray[np.bool_], first: NDArray[np.float64], second: NDArray[np.float64]) -> Difference:
    """Compare two scores on the same patients by the paired DeLong test, (n,) arrays each (see `delong`)."""
    if not _has_both_classes(truth):
        return Difference(None, None, None, None, None, None, ONE_CLASS)
    (a, b), covariance = delong(truth, np.stack([first, second]))
    difference = float(a - b)
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if variance <= 1e-15:  # rounding of the three terms
        return Difference(float(a), float(b), difference, None, None, None, "both rank the patients alike")
    error = variance**0.5
    p_value = float(2 * ndtr(-abs(difference) / error))
    return Difference(float(a), float(b), difference, difference - Z * error, difference + Z * error, p_value)


def clustered_auc(truth: NDArray[np.bool_], score: NDArray[np.float64], patient: NDArray[np.intp]) -> Estimate:
    """Compute the area under the ROC curve of several values per patient; n is the number of patients.

    With one value per patient it is DeLong's.

    Parameters
    ----------
    truth : (n,) boolean array
    score : (n,) array
        Higher means more likely reduced.
    patient : (n,) array
        Number of the patient, from 0, none skipped.

    References
    ----------
    Obuchowski, Biometrics 1997;53:567.
    """
    n = int(patient.max()) + 1 if len(patient) else 0
    reduced, normal = np.bincount(patient[truth], minlength=n), np.bincount(patient[~truth], minlength=n)
    with_reduced, with_normal = int((reduced > 0).sum()), int((normal > 0).sum())
    if with_reduced < 2 or with_normal < 2:
        return Estimate(None, None, None, n, OBUCHOWSKI, ONE_CLASS)
    positive, negative = score[truth], score[~truth]
    ranks = rankdata(np.concatenate([positive, negative]))
    above = (ranks[: len(positive)] - rankdata(positive)) / len(negative)
    below = 1 - (ranks[len(positive) :] - rankdata(negative)) / len(positive)
    area = float(above.mean())
    x = np.bincount(patient[truth], above, n) - reduced * area
    y = np.bincount(patient[~truth], below, n) - normal * area
    variance = float(
        with_reduced / (with_reduced - 1) * (x * x).sum() / len(positive) ** 2
        + with_normal / (with_normal - 1) * (y * y).sum() / len(negative) ** 2
        + 2 * n / (n - 1) * (x * y).sum() / (len(positive) * len(negative))
    )
    if variance <= 1e-15:  # rounding of the three terms
        return Estimate(area, None, None, n, OBUCHOWSKI, "perfect separation has no variance")
    half = Z * variance**0.5
    return Estimate(area, max(0.0, area - half), min(1.0, area + half), n, OBUCHOWSKI)


DISCORDANT = "Clopper-Pearson on the patients on whom they differ"


def accuracy_difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Estimate:
    """Compute the accuracy of the first minus that of the second decision on the same patients.

    >>> accuracy_difference(np.array([True, True, True, False]), np.array([True, True, False, False])).value
    0.25

    The interval follows from the share of the first among the patients on whom the two differ, so that it excludes 0
    just when McNemar's exact test finds a difference.

    Parameters
    ----------
    first, second : (n,) boolean arrays
        True where the decision is right.

    References
    ----------
    Clopper and Pearson, Biometrika 1934;26:404.
    """
    n, only_first, differ = len(first), int((first & ~second).sum()), int((first != second).sum())
    if not n:
        return Estimate(None, None, None, 0, DISCORDANT, EMPTY)
    value = (2 * only_first - differ) / n
    if not differ:
        return Estimate(value, None, None, n, DISCORDANT, "both decide alike")
    share = binomtest(only_first, differ).proportion_ci(confidence_level=LEVEL, method="exact")
    low, high = ((2 * end - 1) * differ / n for end in (share.low, share.high))
    return Estimate(value, float(low), float(high), n, DISCORDANT)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float | None:
    """Compute the exact two-sided p-value that both are right equally often; None where they never differ.

    >>> mcnemar(np.array([True, True, True, True, False]), np.array([False, False, False, False, False]))
    0.125

    Parameters
    ----------
    first, second : (n,) boolean arrays
        True where the decision on a patient is right; the same patients in both.

    References
    ----------
    McNemar, Psychometrika 1947;12:153; by the binomial distribution of the patients on whom they differ.
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    differ = only_first + only_second
    return float(binomtest(only_first, differ).pvalue) if differ else None


def wilson(successes: int, n: int) -> Estimate:
    """Compute a proportion with Wilson's score interval (J Am Stat Assoc 1927;22:209).

    >>> share = wilson(8, 10)
    >>> share.value, round(share.low, 3), round(share.high, 3)
    (0.8, 0.49, 0.943)
    """
    if n == 0:
        return Estimate(None, None, None, 0, WILSON, EMPTY)
    p, z2 = successes / n, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * (p * (1 - p) / n + z2 / (4 * n * n)) ** 0.5
    return Estimate(p, max(0.0, centre - half), min(1.0, centre + half), n, WILSON)


def proportions(truth: NDArray[np.bool_], decided: NDArray[np.bool_]) -> dict[str, Estimate]:
    """Compute recall, precision, specificity, NPV and accuracy of decisions, (n,) boolean arrays; True is reduced."""
    return {
        "recall": wilson(int((truth & decided).sum()), int(truth.sum())),
        "precision": wilson(int((truth & decided).sum()), int(decided.sum())),
        "specificity": wilson(int((~truth & ~decided).sum()), int((~truth).sum())),
        "npv": wilson(int((~truth & ~decided).sum()), int((~decided).sum())),
        "accuracy": wilson(int((truth == decided).sum()), len(truth)),
    }
