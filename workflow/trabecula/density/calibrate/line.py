"""Straight line of a study from Hounsfield units to bone density, with its uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Line:
    """vBMD = slope * HU + intercept, in mg/cm3 HA.

    >>> line = Line(0.8, 10.0, np.zeros((2, 2)), 5.0, low_hu=50.0, high_hu=200.0)
    >>> line.vbmd_mg_cm3([100.0, 250.0]).tolist(), line.extrapolates([100.0, 250.0]).tolist()
    ([90.0, 210.0], [False, True])

    Attributes
    ----------
    slope, intercept : float, or (n,) array for n values of Hounsfield units (see `of_many`), as all that follows
        mg/cm3 HA per HU, and mg/cm3 HA at 0 HU.
    covariance : (2, 2) array
        Of slope and intercept.
    residual_sd : float
        Standard deviation of single patients around the line, in mg/cm3 HA; the line's own uncertainty is not in it.
    low_hu, high_hu : float
        Lowest and highest value that the line was made from; beyond them it is an extrapolation.
    """

    slope: float
    intercept: float
    covariance: NDArray[np.float64]
    residual_sd: float
    low_hu: float = -np.inf
    high_hu: float = np.inf

    @classmethod
    def of_many(cls, lines: Sequence["Line"], place: NDArray[np.intp]) -> "Line":
        """Give each value its line: each attribute becomes an (n,) array, taken from the line at the value's place."""
        names = ("slope", "intercept", "residual_sd", "low_hu", "high_hu")
        values: dict[str, Any] = {name: np.array([getattr(line, name) for line in lines])[place] for name in names}
        return cls(covariance=np.stack([line.covariance for line in lines], axis=-1)[..., place], **values)

    def vbmd_mg_cm3(self, hu: ArrayLike) -> NDArray[np.float64]:
        """Compute the vBMD at Hounsfield units, in mg/cm3 HA."""
        return self.slope * np.asarray(hu, float) + self.intercept

    def sd_mg_cm3(self, hu: ArrayLike) -> NDArray[np.float64]:
        """Compute the standard deviation of the vBMD, in mg/cm3 HA."""
        hu = np.asarray(hu, float)
        (slope, both), (_, intercept) = self.covariance
        return np.sqrt(np.maximum(slope * hu**2 + 2 * both * hu + intercept, 0.0) + self.residual_sd**2)

    def extrapolates(self, hu: ArrayLike) -> NDArray[np.bool_]:
        """Tell whether Hounsfield units lie beyond those that the line was made from; False for NaN."""
        hu = np.asarray(hu, float)
        return (hu < self.low_hu) | (hu > self.high_hu)


def fit_line(hu: ArrayLike, vbmd_mg_cm3: ArrayLike) -> Line:
    """Fit a line by least squares.

    Parameters
    ----------
    hu, vbmd_mg_cm3 : (n,) arrays
        Pairs, at least three, with at least two different HU.

    Examples
    --------
    >>> line = fit_line([0.0, 100.0, 200.0], [10.0, 90.0, 170.0])
    >>> round(line.slope, 3), round(line.intercept, 3)
    (0.8, 10.0)
    """
    x, y = np.asarray(hu, float), np.asarray(vbmd_mg_cm3, float)
    design = np.stack([x, np.ones_like(x)], axis=1)
    slope, intercept = np.linalg.lstsq(design, y, rcond=None)[0]
    variance = float(np.sum((y - slope * x - intercept) ** 2) / (len(x) - 2))
    covariance = variance * np.linalg.inv(design.T @ design)
    low, high = float(x.min()), float(x.max())
    return Line(float(slope), float(intercept), covariance, float(np.sqrt(variance)), low, high)
