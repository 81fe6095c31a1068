"""Quantiles that hold for the next patient, not only for those at hand."""

import math

import numpy as np
from numpy.typing import NDArray


def exceeded_by(values: NDArray[np.float64], *, share: float) -> float | None:
    """The value that the next patient exceeds with at most the given probability.

    The k-th smallest of n, k = ceil((n + 1) * (1 - share)): split conformal prediction
    (Lei et al., J Am Stat Assoc 2018, doi:10.1080/01621459.2017.1307116).

    Parameters
    ----------
    values : (n,) array
        Of patients with whom the next one is exchangeable.
    share : float
        Probability, 0 to 1.

    Returns
    -------
    float or None
        None where n is too small for the share.
    """
    above = math.floor((len(values) + 1) * share)
    return float(np.sort(values)[-above]) if above else None
