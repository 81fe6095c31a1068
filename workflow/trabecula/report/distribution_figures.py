"""Figures of the distributions over all patients, and of the network's accuracy by stratum."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trabecula.density.thresholds import Thresholds
from trabecula.report.patient_tables import age_bands
from trabecula.report.plot import (
    BINS,
    COLOUR,
    GREY,
    LIGHT,
    LINE,
    PANEL_INCHES,
    histogram,
    lower_first,
    nothing,
    style,
    svg,
)  # fmt: skip
from trabecula.report.results import Row
from trabecula.report.wording import METRICS, MG_CM3, SET, SETS_OF_THIS_RUN, STRATUM

# Fewer patients of one age band and sex are not drawn.
MIN_BAND = 5
SEX = {"F": ("women", COLOUR["hu"], LINE["hu"]), "M": ("men", COLOUR["network"], "-")}
ROW_INCHES = 0.22


def distribution_figure(patients: pd.DataFrame, *, thresholds: Thresholds, note: str) -> str:
    """Draw vBMD and HU of all measured patients by sex, and vBMD by age: median and quartiles.

    Parameters
    ----------
    patients : frame
        Of `results.patient_rows`.
    thresholds : Thresholds
        Between the grades, drawn as thin lines.
    note : str
        Written below, such as that the data are synthetic.
    """
    measured = patients[patients["vbmd_mg_cm3"].notna()]
    if measured.empty:
        return nothing("No patient was measured.")
    with mpl.rc_context(style("distribution")):
        figure = Figure(figsize=(3 * PANEL_INCHES, PANEL_INCHES), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        _by_sex(left, measured, "vbmd_mg_cm3")
        _by_sex(middle, measured, "trabecular_hu")
        _by_age(right, measured)
        for vbmd_mg_cm3 in lower_first(thresholds):
            left.axvline(vbmd_mg_cm3, color=LIGHT, linewidth=0.8)
            right.axhline(vbmd_mg_cm3, color=LIGHT, linewidth=0.8)
        left.set(title="vBMD by the network", xlabel=f"vBMD ({MG_CM3})", ylabel="Patients")
        middle.set(title="Trabecular HU", xlabel="Mean over the levels used (HU)", ylabel="Patients")
        right.set(title="vBMD by age", xlabel="Age (years)", ylabel=f"vBMD ({MG_CM3})")
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=3)
        return svg(figure, note)


def _by_sex(axes: Axes, patients: pd.DataFrame, column: str) -> None:
    values = patients[column].dropna()
    edges = np.linspace(values.min() - 0.5, values.max() + 0.5, BINS + 1) if len(values) else np.arange(2.0)
    parts = [(*look, patients["sex"] == sex) for sex, look in SEX.items()]
    parts.append(("sex unknown or other", GREY, ":", ~patients["sex"].isin(list(SEX))))
    for name, colour, line, member in parts:
        if member.any():
            label = f"{name}, n = {int(member.sum()):,}"
            histogram(axes, patients.loc[member, column].dropna(), edges, color=colour, linestyle=line, label=label)


def _by_age(axes: Axes, patients: pd.DataFrame) -> None:
    bands = age_bands(patients["age_years"])
    for sex, (_, colour, line) in SEX.items():
        by_band = patients.loc[patients["sex"] == sex, "vbmd_mg_cm3"].groupby(bands)
        enough = by_band.size() >= MIN_BAND
        if enough.any():
            quartiles = pd.DataFrame({q: by_band.quantile(q) for q in (0.25, 0.5, 0.75)})[enough]
            middle = quartiles.index.to_numpy() + 5
            axes.plot(middle, quartiles[0.5], color=colour, linestyle=line, marker=".")
            axes.fill_between(middle, quartiles[0.25], quartiles[0.75], color=colour, alpha=0.12, linewidth=0)


def strata_figure(strata: Sequence[Row], *, note: str) -> str:
    """Draw AUC and MAE of the network in each group of each stratum, with intervals; a row of panels per set.

    Parameters
    ----------
    strata : sequence of rows
        Of the table strata.
    note : str
        See `distribution_figure`.
    """
    rows = [row for row in strata if row["predictor"] == "network" and row["metric"] in ("auc", "mae")]
    drawn = {row["set"] for row in rows if row["value"] is not None}
    sets = [name for name in SETS_OF_THIS_RUN if name in drawn]
    if not sets:
        return nothing("Too few patients with QCT for figures by stratum.")
    cells = {name: _cells(rows, name) for name in sets}
    heights = [len(cells[name]) * ROW_INCHES + 0.8 for name in sets]
    with mpl.rc_context(style("strata")):
        figure = Figure(figsize=(2.7 * PANEL_INCHES, sum(heights)), layout="constrained")
        panels = figure.subplots(len(sets), 2, squeeze=False, sharey="row", height_ratios=heights)
        for line, name in zip(panels, sets, strict=True):
            for axes, metric in zip(line, ("auc", "mae"), strict=True):
                _forest(axes, [row for row in rows if (row["set"], row["metric"]) == (name, metric)], cells[name])
                unit = f" ({METRICS[metric].unit})" if METRICS[metric].unit else ""
                axes.set(title=f"{SET[name]}: {METRICS[metric].heading}{unit}")
        return svg(figure, note)


def _cells(rows: Sequence[Row], name: str) -> list[tuple[str, str]]:
    """List stratum and group of a set's rows, each once."""
    return list(dict.fromkeys((row["stratum"], row["cell"]) for row in rows if row["set"] == name))


def _forest(axes: Axes, rows: Sequence[Row], cells: Sequence[tuple[str, str]]) -> None:
    for row in (row for row in rows if row["value"] is not None):
        y = cells.index((row["stratum"], row["cell"]))
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [y, y], color=COLOUR["network"], linewidth=1)
        axes.plot([row["value"]], [y], "s", color=COLOUR["network"], markersize=4)
    axes.set_yticks(range(len(cells)), [f"{STRATUM[stratum]}: {cell}" for stratum, cell in cells])
    axes.set_ylim(len(cells) - 0.4, -0.6)
    axes.grid(axis="x", color=LIGHT, linewidth=0.4)
