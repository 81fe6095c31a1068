"""Figures of the predicted probability: its calibration, its net benefit, and its values in each grade."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trabecula.density.thresholds import Thresholds
from trabecula.report.agreement_figures import NOBODY
from trabecula.report.plot import (
    BINS,
    COLOUR,
    GREY,
    INK,
    LIGHT,
    LINE,
    MARKER,
    PANEL_INCHES,
    histogram,
    lower_first,
    nothing,
    style,
    svg,
)  # fmt: skip
from trabecula.report.results import Row
from trabecula.report.wording import MG_CM3, NETWORK_AND_HU, PREDICTOR, SET, SETS_OF_THIS_RUN

GRADE_COLOUR = {"normal": COLOUR["network"], "low": COLOUR["joint"], "osteoporosis": COLOUR["hu"]}
GRADE_LINE = {"normal": "-", "low": (0, (1, 1)), "osteoporosis": (0, (4, 2))}


def calibration_figure(curve: Sequence[Row], *, note: str) -> str:
    """Draw the share with reduced density by QCT against the predicted probability, a panel per set.

    Points stand for tenths of the patients, and a smooth line for all of them.

    Parameters
    ----------
    curve : sequence of rows
        Of the table calibration_curve.
    note : str
        Written below, such as that the data are synthetic.
    """
    rows = [row for row in curve if row["predictor"] in NETWORK_AND_HU and row["observed"] is not None]
    sets = [name for name in SETS_OF_THIS_RUN if any(row["set"] == name for row in rows)]
    if not sets:
        return nothing("Too few patients with QCT for a calibration plot.")
    with mpl.rc_context(style("calibration")):
        figure = Figure(figsize=(PANEL_INCHES * len(sets), PANEL_INCHES + 0.5), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
            axes.plot([0, 1], [0, 1], color=LIGHT, linewidth=0.8, linestyle=":")
            for predictor in NETWORK_AND_HU:
                _calibration(
                    axes, [row for row in rows if (row["set"], row["predictor"]) == (name, predictor)], predictor
                )
            axes.set(title=SET[name], xlabel="Predicted probability of reduced density", ylabel="Share reduced by QCT",
                     xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")  # fmt: skip
            axes.legend(loc="upper left")
        return svg(figure, note)


def _calibration(axes: Axes, rows: Sequence[Row], predictor: str) -> None:
    if not rows:
        return
    colour = COLOUR[predictor]
    smooth = sorted((row["predicted"], row["observed"]) for row in rows if row["part"] == "smooth")
    axes.plot([x for x, _ in smooth], [y for _, y in smooth], color=colour, linestyle=LINE[predictor], linewidth=1.2)
    tenths = [row for row in rows if row["part"] == "tenth" and row["low"] is not None]
    for row in tenths:
        axes.plot([row["predicted"]] * 2, [row["low"], row["high"]], color=colour, linewidth=0.8, alpha=0.6)
    n = sum(row["n"] for row in rows if row["part"] == "tenth")
    axes.plot([row["predicted"] for row in tenths], [row["observed"] for row in tenths], MARKER[predictor],
              color=colour, markersize=4, label=f"{PREDICTOR[predictor]}, n = {n:,}")  # fmt: skip


def decision_figure(curve: Sequence[Row], *, note: str) -> str:
    """Draw net benefit by threshold probability, a panel per set (Vickers and Elkin, doi:10.1177/0272989X06295361).

    Parameters
    ----------
    curve : sequence of rows
        Of the table decision_curve.
    note : str
        See `calibration_figure`.
    """
    rows = [row for row in curve if row["value"] is not None]
    sets = [name for name in SETS_OF_THIS_RUN if any(row["set"] == name for row in rows)]
    if not sets:
        return nothing("Too few patients with QCT for a decision curve.")
    with mpl.rc_context(style("decision")):
        figure = Figure(figsize=(PANEL_INCHES * len(sets) + 0.4, PANEL_INCHES), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
            _decision(axes, [row for row in rows if row["set"] == name])
            axes.set(title=SET[name], xlabel="Threshold probability", ylabel="Net benefit")
            axes.legend(loc="lower left")
        return svg(figure, note)


def _decision(axes: Axes, rows: Sequence[Row]) -> None:
    drawn = {
        "network": (COLOUR["network"], "-"),
        "hu": (COLOUR["hu"], LINE["hu"]),
        "all": (GREY, ":"),
        "none": (INK, "-"),
    }
    for strategy, (colour, line) in drawn.items():
        curve = sorted((row for row in rows if row["strategy"] == strategy), key=lambda row: row["threshold"])
        x, label = [row["threshold"] for row in curve], PREDICTOR.get(strategy, f"{strategy} called reduced")
        axes.plot(x, [row["value"] for row in curve], color=colour, linestyle=line, linewidth=1.2, label=label)
        banded = [row for row in curve if row["low"] is not None]
        if strategy == "network" and banded:
            low, high = [row["low"] for row in banded], [row["high"] for row in banded]
            axes.fill_between([row["threshold"] for row in banded], low, high, color=colour, alpha=0.12, linewidth=0)
    top = max((row["value"] for row in rows), default=0.1)
    axes.set_ylim(-0.15 * top - 0.01, 1.15 * top + 0.01)


def classes_figure(patients: pd.DataFrame, *, thresholds: Thresholds, note: str) -> str:
    """Draw the network's probability and vBMD in the patients of each grade by QCT.

    Parameters
    ----------
    patients : frame
        Of `results.patient_rows`.
    thresholds : Thresholds
        Between the grades, also drawn as thin lines.
    note : str
        See `calibration_figure`.
    """
    compared = patients[patients["qct_vbmd_mg_cm3"].notna() & patients["vbmd_mg_cm3"].notna()]
    if compared.empty:
        return nothing(NOBODY)
    grade = compared["qct_vbmd_mg_cm3"].map(thresholds.grade)
    with mpl.rc_context(style("classes")):
        figure = Figure(figsize=(2.6 * PANEL_INCHES, PANEL_INCHES - 0.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        vbmd = compared["vbmd_mg_cm3"]
        edges = np.linspace(vbmd.min() - 1, vbmd.max() + 1, BINS + 1)
        for name in (name for name in GRADE_COLOUR if (grade == name).any()):
            graded, look = compared[grade == name], {"color": GRADE_COLOUR[name], "linestyle": GRADE_LINE[name]}
            label = f"{name} by QCT, n = {len(graded):,}"
            histogram(left, graded["probability_reduced"].dropna(), np.linspace(0, 1, BINS + 1), label=label, **look)
            histogram(right, graded["vbmd_mg_cm3"], edges, label=label, **look)
        for vbmd_mg_cm3 in lower_first(thresholds):
            right.axvline(vbmd_mg_cm3, color=LIGHT, linewidth=0.8)
        left.set(title="Probability of reduced density", xlabel="Probability by the network", ylabel="Patients")
        right.set(title="vBMD", xlabel=f"vBMD by the network ({MG_CM3})", ylabel="Patients")
        left.legend(loc="upper center")
        return svg(figure, note)
