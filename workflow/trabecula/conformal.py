"""Prediction intervals from residuals, without an assumption on their distribution."""

import math

import numpy as np
from numpy.typing import NDArray

from trabecula.bundle import Interval

COVERAGE = 0.9


def half_width(residuals: NDArray[np.float64], *, coverage: float = COVERAGE) -> float | None:
    """Half width that covers a new case with at least the given probability.

    The k-th smallest absolute residual, k = ceil((n + 1) * coverage): split conformal prediction
    (Lei et al., J Am Stat Assoc 2018, doi:10.1080/01621459.2017.1307116).

    Parameters
    ----------
    residuals : (n,) array
        Prediction minus truth of cases that the model did not learn from.
    coverage : float
        Wanted probability.

    Returns
    -------
    float or None
        In the residuals' unit; None where n is too small for the coverage.
    """
    k = math.ceil((len(residuals) + 1) * coverage)
    if k > len(residuals):
        return None
    return float(np.sort(np.abs(residuals))[k - 1])


def intervals(residuals: NDArray[np.float64], fold: NDArray[np.int64]) -> tuple[Interval, ...]:
    """For the patients of each fold, the half width from the residuals of all other folds' patients.

    Each residual is from the networks that did not see its patient, and no patient's own
    residual is in his half width.

    Parameters
    ----------
    residuals : (n,) array
        Out-of-fold prediction minus truth, per patient, in mg/cm3.
    fold : (n,) array
        Fold of each patient.
    """
    return tuple(
        Interval(int(own), half_width(residuals[fold != own]), int((fold != own).sum())) for own in np.unique(fold)
    )
