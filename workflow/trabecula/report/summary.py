"""Summary over all cohorts: a line each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import pyarrow as pa

from trabecula.report import words
from trabecula.report.cells import DASH, Cell, Row, figure, pick
from trabecula.report.people import share_of


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


def overviews(
    patients: pd.DataFrame, flow: pa.Table, failures: pa.Table, metrics: Mapping[str, Sequence[Row]]
) -> list[Overview]:
    """A line per cohort.

    Parameters
    ----------
    patients : frame
        Of `people.frame`.
    flow, failures : tables
        Of all cohorts.
    metrics : mapping
        Rows of the table metrics of each cohort, by its name.
    """
    steps = flow.to_pandas()
    found = steps[(steps["unit"] == "patients") & (steps["step"] == "found") & steps["reason"].isna()]
    lost = failures.to_pandas()["cohort"].value_counts()
    return [
        _overview(name, patients[patients["cohort"] == name], int(found.loc[found["cohort"] == name, "n"].sum()),
                  int(lost.get(name, 0)), rows)
        for name, rows in metrics.items()
    ]  # fmt: skip


def _overview(name: str, patients: pd.DataFrame, found: int, failures: int, metrics: Sequence[Row]) -> Overview:
    measured = patients["vbmd_mg_cm3"].notna()
    sets = [one for one in words.OWN_SETS if pick(metrics, set=one) is not None]
    cells = tuple(
        _named(figure(pick(metrics, set=sets[0], predictor=predictor, metric=metric)), sets) if sets else DASH
        for predictor, metric in COLUMNS
    )
    return Overview(
        name=name,
        role=patients["role"].iloc[0] if len(patients) else words.MISSING,
        found=found,
        measured=int(measured.sum()),
        labelled=int((measured & patients["qct_vbmd_mg_cm3"].notna()).sum()),
        reduced=share_of(
            int(patients["grade"].isin(["low", "osteoporosis"]).sum()), int(patients["grade"].notna().sum())
        ),
        figures=cells,
        failures=failures,
    )


def _named(cell: Cell, sets: Sequence[str]) -> Cell:
    """A figure with the set that it stands on, where the cohort has patients of several."""
    return cell if len(sets) == 1 else replace(cell, small=(*cell.small, words.SET[sets[0]].lower()))
