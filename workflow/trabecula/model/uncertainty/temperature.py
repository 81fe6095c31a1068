"""One scalar that makes a network's probabilities as sure as they deserve."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.special import logit as log_odds

# Probabilities are kept this far from 0 and 1, where the logit is infinite.
NEAREST = 1e-6
# With classes that the logits part without a mistake, the likelihood asks for 0; with useless ones for infinity.
LOWEST, HIGHEST = 0.25, 20.0
MIN_PATIENTS = 10


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by.

    Attributes
    ----------
    value : float
        1 leaves probabilities as they are; above 1 they move towards one half.
    n : int
        Patients that it was fitted on.
    reason : str or None
        Why it is 1 without a fit (a key of `errors.REASONS`).
    """

    value: float
    n: int
    reason: str | None


def logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the odds, of probabilities cut to `NEAREST` and 1 - `NEAREST`; NaN stays NaN."""
    return log_odds(np.clip(probability, NEAREST, 1 - NEAREST))


def fit(logits: NDArray[np.float64], reduced: NDArray[np.bool_]) -> Temperature:
    """Temperature of least negative log-likelihood.

    Guo et al., On calibration of modern neural networks, ICML 2017 (arXiv:1706.04599).

    Parameters
    ----------
    logits : (n,) array
        Of patients that the networks did not learn from.
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
        return float(np.logaddexp(0.0, -towards / np.exp(log_temperature)).mean())

    # The loss is convex in 1 / temperature, so it has one minimum in its logarithm.
    best: Any = minimize_scalar(
        loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-8}
    )
    return Temperature(float(np.exp(best.x)), n, None)


def probability(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Probabilities of logits that were divided by the temperature."""
    return expit(logits / temperature)
