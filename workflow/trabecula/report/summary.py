"""The table of cohorts on the page over all cohorts, one line each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from trabecula.report import wording
from trabecula.report.page_table import DASH, Cell, figure, pick
from trabecula.report.patient_tables import share_of
from trabecula.report.results import Results, Row


@dataclass(frozen=True)
class Overview:
    """A cohort's line: counts, share with reduced density, and figures against QCT."""

    name: str
    role: str
    found: int
    measured: int
    labelled: int
    reduced: Cell
    figures: tuple[Cell, ...]
    failures: int


# Predictor and metric of the columns of figures.
COLUMNS = (("network", "auc"), ("hu", "auc"), ("network", "mae"), ("hu", "mae"))


def overviews(results: Results, patients: pd.DataFrame, metrics: Mapping[str, Sequence[Row]]) -> list[Overview]:
    """Make the line of each cohort.

    Parameters
    ----------
    results : Results
        Of all cohorts.
    patients : frame
        Of `results.patient_rows`.
    metrics : mapping
        Rows of the table metrics of each cohort, by its name.
    """
    lost = results.failures.to_pandas()["cohort"].value_counts()
    return [
        Overview(
            name=name,
            role=results.roles[name],
            figures=_figures(rows),
            failures=int(lost.get(name, 0)),
            **_counts(patients[patients["cohort"] == name]),
        )
        for name, rows in metrics.items()
    ]


def _counts(patients: pd.DataFrame) -> dict:
    measured = patients["vbmd_mg_cm3"].notna()
    reduced, graded = patients["grade"].isin(["low", "osteoporosis"]), patients["grade"].notna()
    return {
        "found": len(patients),
        "measured": int(measured.sum()),
        "labelled": int((measured & patients["qct_vbmd_mg_cm3"].notna()).sum()),
        "reduced": share_of(int(reduced.sum()), int(graded.sum())),
    }


def _figures(metrics: Sequence[Row]) -> tuple[Cell, ...]:
    """Make the cells of figures, on the first set of this run that has any."""
    sets = [name for name in wording.SETS_OF_THIS_RUN if pick(metrics, set=name) is not None]
    if not sets:
        return (DASH,) * len(COLUMNS)
    cells = (figure(pick(metrics, set=sets[0], predictor=predictor, metric=metric)) for predictor, metric in COLUMNS)
    return tuple(_with_set(cell, sets) for cell in cells)


def _with_set(cell: Cell, sets: Sequence[str]) -> Cell:
    """Name the figure's set in its cell where the cohort has patients of several sets."""
    return cell if len(sets) == 1 else replace(cell, small=(*cell.small, wording.SET[sets[0]].lower()))
