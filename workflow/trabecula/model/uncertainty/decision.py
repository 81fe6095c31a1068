"""The decision from a probability: normal, reduced, or neither."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trabecula.model.uncertainty.quantile import exceeded_by

# Largest share of a class that may be called the other one.
ERROR = 0.1
# Probability of reduced density from which a patient counts as reduced where nobody may abstain: the likelier class.
REDUCED_FROM = 0.5


@dataclass(frozen=True)
class DecisionThresholds:
    """Probabilities of reduced density, calibrated, at which the decision changes.

    Attributes
    ----------
    normal_below : float or None
        At most `ERROR` of reduced patients lie below it; None where there are too few to say.
    reduced_from : float or None
        At most `ERROR` of normal patients lie at or above it; None where there are too few to say.
    n_normal, n_reduced : int
        Patients of each class that the thresholds were taken from.
    """

    normal_below: float | None
    reduced_from: float | None
    n_normal: int
    n_reduced: int

    @property
    def low(self) -> float:
        """Give the probability below which the decision is normal: 0.5 unless too many reduced patients lie there."""
        return REDUCED_FROM if self.normal_below is None else min(REDUCED_FROM, self.normal_below)

    @property
    def high(self) -> float:
        """Give the probability from which the decision is reduced: 0.5 unless too many normal patients lie there."""
        return REDUCED_FROM if self.reduced_from is None else max(REDUCED_FROM, self.reduced_from)


def learn(probability: NDArray[np.float64], reduced: NDArray[np.bool_]) -> DecisionThresholds:
    """Learn the thresholds by class-conditional split conformal prediction.

    Each class has its own quantile, so the error holds within each class, whatever their shares
    (Vovk, Conditional validity of inductive conformal predictors, ACML 2012, arXiv:1209.2673).

    Parameters
    ----------
    probability : (n,) array
        Calibrated probabilities of patients that the networks did not learn from.
    reduced : (n,) array
        True where density is reduced.
    """
    normal_patients, reduced_patients = probability[~reduced], probability[reduced]
    highest = exceeded_by(normal_patients, share=ERROR)
    lowest = exceeded_by(-reduced_patients, share=ERROR)
    return DecisionThresholds(
        normal_below=None if lowest is None else -lowest,
        # The patient at the quantile is still normal.
        reduced_from=None if highest is None else float(np.nextafter(highest, 1.0)),
        n_normal=len(normal_patients),
        n_reduced=len(reduced_patients),
    )


def decide(probability: NDArray[np.float64], thresholds: DecisionThresholds) -> list[str]:
    """Decide for each of (n,) probabilities: normal, reduced, indeterminate; not_evaluable where it is NaN.

    >>> thresholds = DecisionThresholds(normal_below=0.4, reduced_from=0.7, n_normal=50, n_reduced=50)
    >>> decide(np.array([0.39, 0.5, 0.7, np.nan]), thresholds)
    ['normal', 'indeterminate', 'reduced', 'not_evaluable']
    """
    cases = [np.isnan(probability), probability >= thresholds.high, probability < thresholds.low]
    return np.select(cases, ["not_evaluable", "reduced", "normal"], default="indeterminate").tolist()
