"""How often the 90 % intervals hold the QCT value, and how wide they are, by stratum."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from trabecula.evaluate.cells import text
from trabecula.evaluate.discrimination import WILSON, wilson
from trabecula.evaluate.estimate import MIN_CELL, TOO_SMALL
from trabecula.evaluate.sets import Group
from trabecula.model.uncertainty.intervals import contrast, voltage


def coverage(group: Group) -> Iterator[dict[str, Any]]:
    """Rows of the table coverage.

    Parameters
    ----------
    group : Group
        A set of patients of the run's cohorts.
    """
    own = group.patients[group.patients["labelled"] & group.patients[["vbmd_low", "vbmd_high"]].notna().all(axis=1)]
    low, high = own["vbmd_low"].astype(float), own["vbmd_high"].astype(float)
    inside, width = own["qct_mg_cm3"].between(low, high), high - low
    for stratum, cells in _strata(own).items():
        for cell in sorted(cells.unique()):
            here = cells == cell
            yield {"stratum": stratum, "cell": cell, **_cell(inside[here], width[here])}


def _strata(own: pd.DataFrame) -> dict[str, pd.Series]:
    """Name of each patient's cell, by stratum."""
    reduced = own["qct_reduced"].astype(bool)
    return {
        "all": pd.Series("all patients", own.index, object),
        "device": text(own["device_key"]),
        "contrast": contrast(own["phase"]),
        "voltage": voltage(own["kvp"]),
        "interval_group": text(own["interval_group"]),
        "class": reduced.map({True: "reduced by QCT", False: "normal by QCT"}).astype(object),
    }


def _cell(inside: pd.Series, width: pd.Series) -> dict[str, Any]:
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
