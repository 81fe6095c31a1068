"""Distribution of density in every cohort, labelled or not: means, percentiles, and the share of each grade."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from trabecula.evaluate.cells import age_band, text
from trabecula.evaluate.discrimination import wilson
from trabecula.evaluate.estimate import EMPTY, MIN_CELL, TAIL, Estimate, in_cell
from trabecula.evaluate.sets import UNIT

STUDENT = "Student's t"
PERCENTILES = (5, 25, 50, 75, 95)
QUANTITIES = {"vbmd_mg_cm3": UNIT, "trabecular_hu": "HU"}
# Grades that each share counts; the third is both.
SHARES = {"osteoporosis": ("osteoporosis",), "low": ("low",), "reduced": ("low", "osteoporosis")}
FACTS = ("cohort", "role", "age_years", "sex", "device_key", "grade", *QUANTITIES)


def distribution(patients: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """List the rows of the table distribution.

    Parameters
    ----------
    patients : DataFrame
        Columns `FACTS`, a row per patient and cohort. Grades are those of the network's vBMD.
    """
    for (cohort, role), members in patients.groupby(["cohort", "role"]):  # pyright: ignore[reportGeneralTypeIssues]
        for stratum, cells in _strata(members).items():
            for cell, rows in members.groupby(cells):
                keys = {"cohort": cohort, "role": role, "stratum": stratum, "cell": cell}
                yield from ({**keys, **row} for row in _cell(rows))


def _cell(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """List the rows of a cell's patients: each quantity's mean, and the share of each grade."""
    for quantity, unit in QUANTITIES.items():
        yield {"quantity": quantity, "unit": unit, **summary(rows[quantity].dropna().to_numpy(float))}
    grade = rows["grade"].dropna()
    for quantity, grades in SHARES.items():
        share = in_cell(wilson(int(grade.isin(grades).sum()), len(grade)))
        yield {"quantity": quantity, "unit": None, **vars(share), **_no_percentiles()}


def _strata(patients: pd.DataFrame) -> dict[str, pd.Series]:
    """Name each patient's cell by stratum."""
    sex, age = text(patients["sex"]), age_band(patients["age_years"])
    return {
        "all": pd.Series("all patients", patients.index, object),
        "sex": sex,
        "age_sex": sex + ", " + age,
        "device": text(patients["device_key"]),
    }


def _no_percentiles() -> dict[str, None]:
    """Give NULL for the standard deviation and every percentile."""
    return dict.fromkeys(("sd", *(f"p{percent:02d}" for percent in PERCENTILES)))


def summary(values: np.ndarray) -> dict[str, Any]:
    """Compute mean with its interval, standard deviation and percentiles of (n,) values; NULL for fewer than five.

    >>> row = summary(np.array([100.0, 110, 120, 130, 140]))
    >>> row["value"], row["p05"], row["p75"]
    (120.0, 102.0, 130.0)
    """
    n = len(values)
    if n < MIN_CELL:
        unknown = Estimate(None, None, None, n, STUDENT, EMPTY)
        return {**vars(in_cell(unknown)), **_no_percentiles()}
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    half = float(t.ppf(1 - TAIL, n - 1)) * sd / n**0.5
    quantiles = np.percentile(values, PERCENTILES)
    return {
        **vars(Estimate(mean, mean - half, mean + half, n, STUDENT)),
        "sd": sd,
        **{f"p{percent:02d}": float(value) for percent, value in zip(PERCENTILES, quantiles, strict=True)},
    }
