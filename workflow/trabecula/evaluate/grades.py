"""The three grades by QCT and by each predictor's vBMD."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trabecula.density.thresholds import Thresholds
from trabecula.evaluate.agreement import kappa
from trabecula.evaluate.estimate import Estimate
from trabecula.evaluate.sets import Group

# From dense to thin: the order of the weights.
GRADES = ("normal", "low", "osteoporosis")


def grade_numbers(vbmd_mg_cm3: NDArray[np.float64], thresholds: Thresholds) -> NDArray[np.int_]:
    """Grade (n,) values as numbers into `GRADES`: how many of the two thresholds each value stays below.

    >>> grade_numbers(np.array([79.9, 80.0, 119.9, 120.0]), Thresholds()).tolist()
    [2, 1, 1, 0]
    """
    low = vbmd_mg_cm3 < thresholds.reduced_below_mg_cm3
    return low.astype(int) + (vbmd_mg_cm3 < thresholds.osteoporosis_below_mg_cm3)


def grade_pairs(group: Group, predictor: str, thresholds: Thresholds) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Grade the patients that have a vBMD by QCT and by the predictor, as numbers into `GRADES`: QCT's, predictor's."""
    both = group.measured(predictor)
    qct, predicted = group.qct[both].to_numpy(float), group.vbmd_mg_cm3[predictor][both].to_numpy(float)
    return grade_numbers(qct, thresholds), grade_numbers(predicted, thresholds)


def grade_kappa(group: Group, predictor: str, *, thresholds: Thresholds, resamples: int, seed: int) -> Estimate:
    """Compute the quadratic kappa of the grades (see `agreement.kappa`)."""
    return kappa(*grade_pairs(group, predictor, thresholds), resamples=resamples, seed=seed)


def grade_table(group: Group, predictor: str, *, thresholds: Thresholds) -> Iterator[dict[str, Any]]:
    """List the rows of the table grades: all nine cells; none without patients."""
    qct, predicted = grade_pairs(group, predictor, thresholds)
    if not len(qct):
        return
    for i, qct_grade in enumerate(GRADES):
        for j, grade in enumerate(GRADES):
            yield {"qct_grade": qct_grade, "grade": grade, "n": int(((qct == i) & (predicted == j)).sum())}
