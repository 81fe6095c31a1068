"""Figures as SVG text: the same data give the same bytes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trabecula.report.cells import pick
from trabecula.report.words import METRICS, MG_CM3, OWN_SETS, PREDICTOR, SET, SHOWN, estimate, number

# Okabe and Ito's palette, told apart by colour-blind readers; shape and line differ too.
COLOUR = {"network": "#0072b2", "joint": "#009e73", "hu": "#d55e00"}
MARKER = {"network": "o", "hu": "^"}
LINE = {"network": "-", "joint": (0, (1, 1)), "hu": (0, (4, 2))}
# What is drawn point by point.
PLOTTED = ("network", "hu")
GREY, LIGHT = "#555555", "#bbbbbb"
# Above this, points are counted in hexagons, so that the page stays small.
MOST_POINTS = 1500
PANEL_INCHES = 3.6

STYLE = {
    "svg.fonttype": "none",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": GREY,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
}

Row = Mapping[str, Any]


def style(salt: str) -> Any:
    """Settings of a figure; the salt makes the ids in its SVG."""
    return STYLE | {"svg.hashsalt": salt}


def roc_figure(roc: Sequence[Row], metrics: Sequence[Row], *, note: str) -> str:
    """ROC curves of the networks and HU alone, a panel per set.

    Parameters
    ----------
    roc, metrics : sequences of rows
        Of the tables roc and metrics.
    note : str
        Written in the figure's corner, such as that the data are synthetic.

    Returns
    -------
    str
        SVG.
    """
    sets = _sets(metrics)
    if not sets:
        return nothing("No patient to compare with QCT.")
    with mpl.rc_context(style("roc")):
        figure = Figure(figsize=(PANEL_INCHES * len(sets), PANEL_INCHES + 0.8), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
            _roc_panel(axes, [row for row in roc if row["set"] == name], metrics, name)
        return svg(figure, note)


def _roc_panel(axes: Axes, roc: Sequence[Row], metrics: Sequence[Row], name: str) -> None:
    axes.plot([0, 1], [0, 1], color=LIGHT, linewidth=0.8, linestyle=":")
    for predictor in SHOWN:
        points = [row for row in roc if row["predictor"] == predictor]
        area = _metric(metrics, name, predictor, "auc")
        if area is None:
            continue
        axes.plot(
            [row["false_positive_rate"] for row in points],
            [row["true_positive_rate"] for row in points],
            color=COLOUR[predictor],
            linestyle=LINE[predictor],
            label=f"{PREDICTOR[predictor]}: AUC {estimate(area)}, n = {area['n']}",
        )
    axes.set(
        title=SET[name],
        xlabel="1 − specificity",
        ylabel="Recall (sensitivity)",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        aspect="equal",
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18))
    if not roc:
        axes.text(0.5, 0.55, "no curve: only one class", ha="center", color=GREY)


def agreement_figure(
    agreement: Sequence[Row], metrics: Sequence[Row], *, cuts_mg_cm3: Sequence[float], note: str
) -> str:
    """Predicted against QCT, and Bland-Altman plots; a row of panels per set.

    Parameters
    ----------
    agreement, metrics : sequences of rows
        Of the tables agreement and metrics.
    cuts_mg_cm3 : sequence of float
        Thin lines at the cuts between grades.
    note : str
        See `roc_figure`.

    Returns
    -------
    str
        SVG.
    """
    sets = _sets(metrics)
    if not sets:
        return nothing("No patient to compare with QCT.")
    with mpl.rc_context(style("agreement")):
        figure = Figure(figsize=(3 * PANEL_INCHES, (PANEL_INCHES + 0.2) * len(sets)), layout="constrained")
        for panels, name in zip(figure.subplots(len(sets), 3, squeeze=False), sets, strict=True):
            rows = [row for row in agreement if row["set"] == name and row["predictor"] in PLOTTED]
            _scatter(panels[0], rows, metrics, name, cuts_mg_cm3)
            for axes, predictor in zip(panels[1:], PLOTTED, strict=True):
                _bland_altman(axes, rows, metrics, name, predictor)
            _same_heights(panels[1:])
        return svg(figure, note)


def _scatter(axes: Axes, rows: Sequence[Row], metrics: Sequence[Row], name: str, cuts: Sequence[float]) -> None:
    values = [row[column] for row in rows for column in ("vbmd_mg_cm3", "qct_vbmd_mg_cm3")]
    low, high = (min(values) - 10, max(values) + 10) if values else (0, 200)
    for cut in cuts:
        axes.axvline(cut, color=LIGHT, linewidth=0.6)
        axes.axhline(cut, color=LIGHT, linewidth=0.6)
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle=":")
    for predictor in PLOTTED:
        chosen = [row for row in rows if row["predictor"] == predictor]
        r = _metric(metrics, name, predictor, "pearson_r")
        said = f"r {number(r['value'] if r else None, 3)}, n = {len(chosen)}"
        x, y = [row["qct_vbmd_mg_cm3"] for row in chosen], [row["vbmd_mg_cm3"] for row in chosen]
        _points(axes, x, y, predictor, label=f"{PREDICTOR[predictor]}: {said}")
    axes.set(
        title=f"{SET[name]}: predicted and QCT",
        xlabel=f"vBMD by QCT ({MG_CM3})",
        ylabel=f"vBMD predicted ({MG_CM3})",
        xlim=(low, high),
        ylim=(low, high),
        aspect="equal",
    )
    if rows:
        axes.legend(loc="upper left")


def _bland_altman(axes: Axes, rows: Sequence[Row], metrics: Sequence[Row], name: str, predictor: str) -> None:
    chosen = [row for row in rows if row["predictor"] == predictor]
    x = [(row["vbmd_mg_cm3"] + row["qct_vbmd_mg_cm3"]) / 2 for row in chosen]
    y = [row["vbmd_mg_cm3"] - row["qct_vbmd_mg_cm3"] for row in chosen]
    axes.axhline(0, color=LIGHT, linewidth=0.8, linestyle=":")
    _points(axes, x, y, predictor, label=None)
    for metric in ("bias", "limit_low", "limit_high"):
        row = _metric(metrics, name, predictor, metric)
        if row is None or row["value"] is None:
            continue
        axes.axhline(row["value"], color=GREY, linewidth=0.9, linestyle="-" if metric == "bias" else "--")
        words = "bias" if metric == "bias" else "limit"
        axes.annotate(
            f"{words} {number(row['value'], METRICS[metric].digits)}",
            (1, row["value"]),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 2),
            textcoords="offset points",
            ha="right",
            fontsize=7.5,
            color=GREY,
        )
    axes.set(
        title=f"{PREDICTOR[predictor]} minus QCT (n = {len(chosen)})",
        xlabel=f"Mean of both ({MG_CM3})",
        ylabel=f"Difference ({MG_CM3})",
    )


def _same_heights(panels: Sequence[Axes]) -> None:
    """One scale of differences, about zero, so that the panels can be compared by eye."""
    most = max(abs(limit) for axes in panels for limit in axes.get_ylim())
    for axes in panels:
        axes.set_ylim(-most, most)


def _points(axes: Axes, x: Sequence[float], y: Sequence[float], predictor: str, *, label: str | None) -> None:
    if len(x) > MOST_POINTS:
        axes.hexbin(x, y, gridsize=40, mincnt=1, bins="log", cmap="Blues" if predictor == "network" else "Oranges")
        axes.plot([], [], MARKER[predictor], color=COLOUR[predictor], markersize=4, label=label)
        return
    filled = predictor == "network"
    axes.plot(
        x,
        y,
        MARKER[predictor],
        markersize=4,
        color=COLOUR[predictor],
        markerfacecolor=COLOUR[predictor] if filled else "none",
        alpha=0.75,
        linestyle="none",
        label=label,
    )


def _sets(metrics: Sequence[Row]) -> list[str]:
    found = {row["set"] for row in metrics}
    return [name for name in OWN_SETS if name in found]


def _metric(metrics: Sequence[Row], name: str, predictor: str, metric: str) -> Row | None:
    return pick(metrics, set=name, predictor=predictor, metric=metric)


def svg(figure: Figure, note: str) -> str:
    """SVG without date or program, so that the same data give the same bytes."""
    if note:
        figure.supxlabel(note, fontsize=8, color="#8a1c00", fontweight="bold")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return buffer.getvalue()


def nothing(why: str) -> str:
    """A picture that says why there is nothing to see."""
    with mpl.rc_context(style("nothing")):
        figure = Figure(figsize=(PANEL_INCHES, 0.5))
        figure.text(0, 0.5, why, color=GREY)
        return svg(figure, "")
