"""Half widths of the intervals around a predicted vBMD, by kind of scan."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

COVERAGE = 0.9
# Patients that a group needs for a width of its own.
MIN_GROUP = 20
EVERYONE = "all patients"
VOLTAGES = ("up to 90 kV", "91-110 kV", "111-130 kV", "over 130 kV")


@dataclass(frozen=True)
class Width:
    """Half width of the interval around the vBMD of a group's patients.

    Attributes
    ----------
    group : str
        Contrast and voltage (see `groups`), or `EVERYONE`.
    half_width_mg_cm3 : float or None
        None where there are too few patients for the coverage.
    n : int
        Residuals that it was taken from.
    """

    group: str
    half_width_mg_cm3: float | None
    n: int


def contrast(phase: pd.Series) -> pd.Series:
    """Reduce the contrast phase to native, contrast or unknown (see `calibrate.contrast_rows`)."""
    names = {"native": "native", "portal": "contrast", "arterial": "contrast"}
    return phase.map(names).astype(object).where(phase.isin(list(names)), "unknown")


def voltage(kvp: pd.Series) -> pd.Series:
    """Give the family of the tube voltage: one of `VOLTAGES`, or unknown kV.

    >>> voltage(pd.Series([90.0, 120.0, None])).tolist()
    ['up to 90 kV', '111-130 kV', 'unknown kV']
    """
    place = np.digitize(kvp.astype(float), [90.5, 110.5, 130.5])
    families = pd.Series([VOLTAGES[i] for i in place], kvp.index, object)
    return families.where(kvp.notna(), "unknown kV")


def groups(scans: pd.DataFrame) -> pd.Series:
    """Name the group of each scan by contrast and voltage, such as "native, 111-130 kV".

    Parameters
    ----------
    scans : DataFrame
        Columns phase and kvp (kV).
    """
    return contrast(scans["phase"]) + ", " + voltage(scans["kvp"])


def learn(residuals: NDArray[np.float64], group: NDArray[np.str_]) -> tuple[Width, ...]:
    """Learn the half widths over all patients, and for every group with at least `MIN_GROUP` of them.

    Mondrian conformal regression by crepes (Boström, Proc Mach Learn Res 2022, 179:24-41): a group's own
    residuals give its width, so the coverage holds within the group.

    Parameters
    ----------
    residuals : (n,) array
        Out-of-fold prediction minus truth, in mg/cm3.
    group : (n,) array
        Group of each patient.
    """
    names, n = np.unique(group, return_counts=True)
    large = {str(name): int(k) for name, k in zip(names, n, strict=True) if k >= MIN_GROUP}
    by_group = [Width(name, _half_width(residuals[group == name]), k) for name, k in large.items()]
    return (Width(EVERYONE, _half_width(residuals), len(residuals)), *by_group)


def _half_width(residuals: NDArray[np.float64]) -> float | None:
    """Give the half width that covers `COVERAGE` of new patients; None where there are too few residuals."""
    # Slow to import, and only training needs it.
    from crepes import ConformalRegressor

    # 1 - 0.9 falls short of 0.1, so crepes would take one rank too many where (n + 1) / 10 is whole.
    confidence = float(np.nextafter(COVERAGE, 0.0))
    if (1 - confidence) * (len(residuals) + 1) < 1:
        return None
    return float(ConformalRegressor().fit(residuals).predict_int(np.zeros(1), confidence=confidence)[0, 1])
