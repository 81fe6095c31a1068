"""Overlap of masks."""

import numpy as np


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the Dice coefficient of two masks."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))
