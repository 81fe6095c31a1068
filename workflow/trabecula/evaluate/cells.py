"""The cells of each stratum that patients and their scans are divided into."""

import numpy as np
import pandas as pd

UNKNOWN = "unknown"
AGES_YEARS = (50, 60, 70, 80)
THICKNESS_MM = (1.5, 3.0)


def text(values: pd.Series) -> pd.Series:
    """Keep names as they are, and call missing ones unknown."""
    return values.astype(object).where(values.notna(), UNKNOWN).astype(str)


def age_band(years: pd.Series) -> pd.Series:
    """Name the decade of age, from below 50 to 80 and older.

    >>> age_band(pd.Series([49.0, 50.0, 80.0])).tolist()
    ['below 50', '50 to 59', '80 and older']
    """
    names = ["below 50", *(f"{low} to {low + 9}" for low in AGES_YEARS[:-1]), f"{AGES_YEARS[-1]} and older"]
    return _banded(years, AGES_YEARS, names, right=False)


def thickness(mm: pd.Series) -> pd.Series:
    """Name the band of slice thickness: up to 1.5 mm, up to 3 mm, or thicker."""
    low, high = THICKNESS_MM
    return _banded(mm, THICKNESS_MM, [f"up to {low} mm", f"over {low} to {high} mm", f"over {high} mm"], right=True)


def voltage(kv: pd.Series) -> pd.Series:
    """Name the tube voltage in whole kV."""
    values = kv.astype(float)
    return values.round().map(lambda value: UNKNOWN if np.isnan(value) else f"{value:.0f} kV").astype(str)


def _banded(values: pd.Series, edges: tuple[float, ...], names: list[str], *, right: bool) -> pd.Series:
    """Name the band of each value between the edges; `right`: a band holds its upper edge."""
    return text(pd.cut(values.astype(float), [-np.inf, *edges, np.inf], labels=names, right=right))


def strata(people: pd.DataFrame) -> dict[str, pd.Series]:
    """Name each patient's cell by stratum: device, kvp, thickness, phase, sex and age."""
    return {
        "device": text(people["device_key"]),
        "kvp": voltage(people["kvp"]),
        "thickness": thickness(people["thickness_mm"]),
        "phase": text(people["phase"]),
        "sex": text(people["sex"]),
        "age": age_band(people["age_years"]),
    }
