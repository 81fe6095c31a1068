"""Coverage of the 90 % intervals: how often they hold the QCT value, and how wide they are, by stratum."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from trabecula.evaluate.cells import text
from trabecula.evaluate.discrimination import WILSON, wilson
from trabecula.evaluate.estimate import MIN_CELL, TOO_SMALL
from trabecula.evaluate.sets import Group
from trabecula.model.uncertainty.intervals import contrast, voltage


def coverage(group: Group) -> Iterator[dict[str, Any]]:
    """List the rows of the table coverage.

    Parameters
    ----------
    group : Group
        A set of patients of the run's cohorts.
    """
    has_interval = group.patients[["vbmd_low", "vbmd_high"]].notna().all(axis=1)
    patients = group.patients[group.patients["labelled"] & has_interval]
    low, high = patients["vbmd_low"].astype(float), patients["vbmd_high"].astype(float)
    inside, width = patients["qct_mg_cm3"].between(low, high), high - low
    for stratum, cells in _strata(patients).items():
        for cell in sorted(cells.unique()):
            members = cells == cell
            yield {"stratum": stratum, "cell": cell, **_cell(inside[members], width[members])}


def _strata(patients: pd.DataFrame) -> dict[str, pd.Series]:
    """Name each patient's cell by stratum."""
    reduced = patients["qct_reduced"].astype(bool)
    return {
        "all": pd.Series("all patients", patients.index, object),
        "device": text(patients["device_key"]),
        "contrast": contrast(patients["phase"]),
        "voltage": voltage(patients["kvp"]),
        "interval_group": text(patients["interval_group"]),
        "class": reduced.map({True: "reduced by QCT", False: "normal by QCT"}).astype(object),
    }


def _cell(inside: pd.Series, width: pd.Series) -> dict[str, Any]:
    """Give the figures of a cell: share of the patients inside their interval, and mean width."""
    n = len(inside)
    if n < MIN_CELL:
        unknown = dict.fromkeys(("covered", "low", "high", "width_mg_cm3"))
        return {**unknown, "n": n, "method": WILSON, "reason": TOO_SMALL}
    share = wilson(int(inside.sum()), n)
    return {
        "covered": share.value,
        "low": share.low,
        "high": share.high,
        "width_mg_cm3": float(width.mean()),
        "n": n,
        "method": WILSON,
        "reason": share.reason,
    }
