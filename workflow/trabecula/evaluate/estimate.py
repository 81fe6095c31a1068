"""A figure with its interval, its n, and the reason where either is undefined."""

from dataclasses import dataclass, replace

from scipy.special import ndtri

# 95 % intervals throughout.
LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
Z = float(-ndtri(TAIL))

ONE_CLASS = "fewer than two patients with or without reduced density"
TOO_FEW = "fewer than three patients"
NO_VARIATION = "no variation among the patients"
EMPTY = "no patient in the denominator"
# A smaller cell of a stratum shows next to nothing, and could point to a person.
MIN_CELL = 5
TOO_SMALL = "fewer than five patients"


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes
    ----------
    value, low, high : float or None
        The figure and its 95 % interval; None when undefined.
    n : int
        Patients that it stands on; the denominator of a proportion.
    method : str
        How the interval was made.
    reason : str or None
        Why value or interval is undefined.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str
    reason: str | None = None


def in_cell(estimate: Estimate) -> Estimate:
    """Blank the figure of a stratum's cell where the cell is too small.

    >>> in_cell(Estimate(0.5, 0.2, 0.8, 4, "Wilson score")).reason
    'fewer than five patients'
    """
    if estimate.n >= MIN_CELL:
        return estimate
    return replace(estimate, value=None, low=None, high=None, reason=TOO_SMALL)
