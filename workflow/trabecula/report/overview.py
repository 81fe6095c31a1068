"""Distributions over all patients and figures by stratum, as SVG."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trabecula.report.people import age_bands
from trabecula.report.plot import COLOUR, GREY, LIGHT, LINE, PANEL_INCHES, Row, nothing, style, svg
from trabecula.report.probability import BINS, histogram
from trabecula.report.words import METRICS, MG_CM3, OWN_SETS, SET, STRATUM

# Fewer patients of an age band and sex give no curve.
MIN_BAND = 5
SEX = {"F": ("women", COLOUR["hu"], LINE["hu"]), "M": ("men", COLOUR["network"], "-")}
ROW_INCHES = 0.22


def distribution_figure(patients: pd.DataFrame, *, cuts_mg_cm3: tuple[float, float], note: str) -> str:
    """VBMD and HU of all measured patients by sex, and vBMD by age: median and middle half.

    Parameters
    ----------
    patients : frame
        Of `people.frame`.
    cuts_mg_cm3 : (float, float)
        Thin lines between the grades.
    note : str
        Written below, such as that the data are synthetic.
    """
    known = patients[patients["vbmd_mg_cm3"].notna()]
    if known.empty:
        return nothing("No patient was measured.")
    with mpl.rc_context(style("distribution")):
        figure = Figure(figsize=(3 * PANEL_INCHES, PANEL_INCHES), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        _by_sex(left, known, "vbmd_mg_cm3")
        _by_sex(middle, known, "trabecular_hu")
        _by_age(right, known)
        for cut in cuts_mg_cm3:
            left.axvline(cut, color=LIGHT, linewidth=0.8)
            right.axhline(cut, color=LIGHT, linewidth=0.8)
        left.set(title="vBMD by the network", xlabel=f"vBMD ({MG_CM3})", ylabel="Patients")
        middle.set(title="Trabecular HU", xlabel="Mean over the levels used (HU)", ylabel="Patients")
        right.set(title="vBMD by age", xlabel="Age (years)", ylabel=f"vBMD ({MG_CM3})")
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=3)
        return svg(figure, note)


def _by_sex(axes: Axes, known: pd.DataFrame, column: str) -> None:
    values = known[column].dropna()
    edges = np.linspace(values.min() - 0.5, values.max() + 0.5, BINS + 1) if len(values) else np.arange(2.0)
    parts = [(*look, known["sex"] == sex) for sex, look in SEX.items()]
    parts.append(("sex unknown or other", GREY, ":", ~known["sex"].isin(list(SEX))))
    for called, colour, line, own in parts:
        if own.any():
            label = f"{called}, n = {int(own.sum()):,}"
            histogram(axes, known.loc[own, column].dropna(), edges, color=colour, linestyle=line, label=label)


def _by_age(axes: Axes, known: pd.DataFrame) -> None:
    bands = age_bands(known["age_years"])
    for sex, (_, colour, line) in SEX.items():
        own = known.loc[known["sex"] == sex, "vbmd_mg_cm3"].groupby(bands)
        enough = own.size() >= MIN_BAND
        if enough.any():
            found = pd.DataFrame({q: own.quantile(q) for q in (0.25, 0.5, 0.75)})[enough]
            middle = found.index.to_numpy() + 5
            axes.plot(middle, found[0.5], color=colour, linestyle=line, marker=".")
            axes.fill_between(middle, found[0.25], found[0.75], color=colour, alpha=0.12, linewidth=0)


def strata_figure(strata: Sequence[Row], *, note: str) -> str:
    """AUC and MAE of the network in each cell of each stratum, with intervals; a row of panels per set.

    Parameters
    ----------
    strata : sequence of rows
        Of the table strata.
    note : str
        See `distribution_figure`.
    """
    own = [row for row in strata if row["predictor"] == "network" and row["metric"] in ("auc", "mae")]
    sets = [name for name in OWN_SETS if any(row["set"] == name and row["value"] is not None for row in own)]
    if not sets:
        return nothing("Too few patients with QCT for figures by stratum.")
    cells = {name: list(dict.fromkeys((r["stratum"], r["cell"]) for r in own if r["set"] == name)) for name in sets}
    heights = [len(cells[name]) * ROW_INCHES + 0.8 for name in sets]
    with mpl.rc_context(style("strata")):
        figure = Figure(figsize=(2.7 * PANEL_INCHES, sum(heights)), layout="constrained")
        panels = figure.subplots(len(sets), 2, squeeze=False, sharey="row", height_ratios=heights)
        for line, name in zip(panels, sets, strict=True):
            for axes, metric in zip(line, ("auc", "mae"), strict=True):
                _forest(axes, [row for row in own if (row["set"], row["metric"]) == (name, metric)], cells[name])
                unit = f" ({METRICS[metric].unit})" if METRICS[metric].unit else ""
                axes.set(title=f"{SET[name]}: {METRICS[metric].heading}{unit}")
        return svg(figure, note)


def _forest(axes: Axes, rows: Sequence[Row], cells: Sequence[tuple[str, str]]) -> None:
    for row in (row for row in rows if row["value"] is not None):
        y = cells.index((row["stratum"], row["cell"]))
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [y, y], color=COLOUR["network"], linewidth=1)
        axes.plot([row["value"]], [y], "s", color=COLOUR["network"], markersize=4)
    axes.set_yticks(range(len(cells)), [f"{STRATUM[stratum]}: {cell}" for stratum, cell in cells])
    axes.set_ylim(len(cells) - 0.4, -0.6)
    axes.grid(axis="x", color=LIGHT, linewidth=0.4)
