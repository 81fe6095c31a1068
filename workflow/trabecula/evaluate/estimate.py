"""A figure with its interval, its n, and the reason where either is undefined."""

from dataclasses import dataclass

from scipy.special import ndtri

# 95 % intervals throughout.
LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
Z = float(-ndtri(TAIL))

ONE_CLASS = "fewer than two patients with or without reduced density"
TOO_FEW = "fewer than three patients"
NO_VARIATION = "no variation among the patients"
EMPTY = "no patient in the denominator"


@dataclass(frozen=True)
class Estimate:
    """One figure.

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
