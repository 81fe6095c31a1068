"""Quantiles that hold for the next patient, not only for those at hand."""

import math

import numpy as np
from numpy.typing import NDArray


def exceeded_by(values: NDArray[np.float64], *, share: float) -> float | None:
    """Give the value that the next patient exceeds with at most the given probability.

    It is the k-th smallest of n values, k = ceil((n + 1) * (1 - share)): split conformal prediction
    (Lei et al., J Am Stat Assoc 2018, doi:10.1080/01621459.2017.1307116).

    >>> exceeded_by(np.arange(1.0, 20.0), share=0.1)  # the 18th of 19
    18.0

    Parameters
    ----------
    values : (n,) array
        Values of patients with whom the next patient is exchangeable.
    share : float
        Probability, 0 to 1.

    Returns
    -------
    float or None
        None where n is too small for the share.
    """
    above = math.floor((len(values) + 1) * share)
    return float(np.sort(values)[-above]) if above else None
