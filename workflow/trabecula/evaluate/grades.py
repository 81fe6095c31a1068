"""The three grades by QCT and by each predictor's vBMD."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trabecula.evaluate.agreement import kappa
from trabecula.evaluate.estimate import Estimate
from trabecula.evaluate.sets import Group

# From dense to thin: the order of the weights.
GRADES = ("normal", "low", "osteoporosis")


def graded(group: Group, predictor: str, cuts_mg_cm3: Sequence[float]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Grades as numbers into `GRADES` by QCT and by the predictor, of the patients that have both.

    Parameters
    ----------
    group : Group
    predictor : str
        One that gives a vBMD.
    cuts_mg_cm3 : sequence of float
        A value below k of them has grade k.
    """
    own = group.measured(predictor)
    values = group.qct[own].to_numpy(float), group.vbmd_mg_cm3[predictor][own].to_numpy(float)
    qct, given = (sum((value < cut).astype(int) for cut in cuts_mg_cm3) for value in values)
    return np.asarray(qct), np.asarray(given)


def grade_kappa(group: Group, predictor: str, *, cuts_mg_cm3: Sequence[float], resamples: int, seed: int) -> Estimate:
    """Quadratic kappa of the grades (see `agreement.kappa`)."""
    return kappa(*graded(group, predictor, cuts_mg_cm3), resamples=resamples, seed=seed)


def grade_table(group: Group, predictor: str, *, cuts_mg_cm3: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Rows of the table grades: all nine cells; none without patients."""
    qct, given = graded(group, predictor, cuts_mg_cm3)
    if not len(qct):
        return
    for i, of_qct in enumerate(GRADES):
        for j, grade in enumerate(GRADES):
            yield {"qct_grade": of_qct, "grade": grade, "n": int(((qct == i) & (given == j)).sum())}
