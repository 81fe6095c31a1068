"""From a probability to normal, reduced, or neither."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trabecula.model.uncertainty.quantile import exceeded_by

# Largest share of a class that may be called the other one.
ERROR = 0.1
# Without reason to abstain, the likelier class is called.
EVEN = 0.5


@dataclass(frozen=True)
class Cuts:
    """Where the decision changes, in calibrated probability of reduced density.

    Attributes
    ----------
    normal_below : float or None
        At most `ERROR` of reduced patients lie below it; None where there are too few to say.
    reduced_from : float or None
        At most `ERROR` of normal patients lie at or above it; None where there are too few to say.
    n_normal, n_reduced : int
        Patients of each class that they were taken from.
    """

    normal_below: float | None
    reduced_from: float | None
    n_normal: int
    n_reduced: int

    @property
    def low(self) -> float:
        """Below it the decision is normal: one half unless too many reduced patients lie there."""
        return EVEN if self.normal_below is None else min(EVEN, self.normal_below)

    @property
    def high(self) -> float:
        """From it on the decision is reduced: one half unless too many normal patients lie there."""
        return EVEN if self.reduced_from is None else max(EVEN, self.reduced_from)


def learn(probability: NDArray[np.float64], reduced: NDArray[np.bool_]) -> Cuts:
    """Class-conditional split conformal cuts.

    Each class has its own quantile, so the error holds within each, whatever their shares
    (Vovk, Conditional validity of inductive conformal predictors, ACML 2012, arXiv:1209.2673).

    Parameters
    ----------
    probability : (n,) array
        Calibrated, of patients that the networks did not learn from.
    reduced : (n,) array
        True where density is reduced.
    """
    of_normal, of_reduced = probability[~reduced], probability[reduced]
    highest = exceeded_by(of_normal, share=ERROR)
    lowest = exceeded_by(-of_reduced, share=ERROR)
    return Cuts(
        normal_below=None if lowest is None else -lowest,
        # The patient at the quantile is still normal.
        reduced_from=None if highest is None else float(np.nextafter(highest, 1.0)),
        n_normal=len(of_normal),
        n_reduced=len(of_reduced),
    )


def decide(probability: NDArray[np.float64], cuts: Cuts) -> list[str]:
    """Decide for each of (n,) probabilities: normal, reduced, indeterminate; not_evaluable where it is NaN."""
    cases = [np.isnan(probability), probability >= cuts.high, probability < cuts.low]
    return np.select(cases, ["not_evaluable", "reduced", "normal"], default="indeterminate").tolist()
