"""Temperature scaling: one number that makes a network's probabilities as sure as they deserve."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.special import logit as log_odds

# Probabilities are kept this far from 0 and 1, where the logit is infinite.
NEAREST = 1e-6
# Where the logits part the classes without a mistake, the likelihood asks for 0; where they are useless, for infinity.
LOWEST, HIGHEST = 0.25, 20.0
MIN_PATIENTS = 10


@dataclass(frozen=True)
class Temperature:
    """The number that logits are divided by.

    Attributes
    ----------
    value : float
        1 leaves probabilities as they are; above 1 they move towards one half.
    n : int
        Patients that it was fitted on.
    reason : str or None
        The reason why it is 1 without a fit (a key of `errors.REASONS`).
    """

    value: float
    n: int
    reason: str | None


def logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the logarithm of the odds, with probabilities kept from `NEAREST` to 1 - `NEAREST`; NaN stays NaN.

    >>> logit(np.array([0.5, 1.0])).round(1).tolist()
    [0.0, 13.8]
    """
    return log_odds(np.clip(probability, NEAREST, 1 - NEAREST))


def fit(logits: NDArray[np.float64], reduced: NDArray[np.bool_]) -> Temperature:
    """Find the temperature of least negative log-likelihood.

    Guo et al., On calibration of modern neural networks, ICML 2017 (arXiv:1706.04599).

    Parameters
    ----------
    logits : (n,) array
        Logits of patients that the networks did not learn from.
    reduced : (n,) array
        True where density is reduced.

    Returns
    -------
    Temperature
        1 with a reason where there are fewer than `MIN_PATIENTS`, or one class only.
    """
    n = len(logits)
    if n < MIN_PATIENTS:
        return Temperature(1.0, n, "too_few_patients")
    if reduced.all() or not reduced.any():
        return Temperature(1.0, n, "one_class")
    towards = np.where(reduced, logits, -logits)

    def loss(log_temperature: float) -> float:
        """Give the mean negative log-likelihood."""
        return float(np.logaddexp(0.0, -towards / np.exp(log_temperature)).mean())

    # The loss is convex in 1 / temperature, so it has one minimum in its logarithm.
    best: Any = minimize_scalar(
        loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-8}
    )
    return Temperature(float(np.exp(best.x)), n, None)


def probability(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Give the probabilities of logits that are divided by the temperature.

    >>> probability(np.array([0.0, 4.0]), 2.0).round(2).tolist()
    [0.5, 0.88]
    """
    return expit(logits / temperature)
