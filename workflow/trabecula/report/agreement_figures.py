"""Figures of the network and HU alone against QCT: ROC curves, predicted vBMD, differences."""

from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trabecula.density.thresholds import Thresholds
from trabecula.report.page_table import pick
from trabecula.report.plot import (
    COLOUR,
    GREY,
    LIGHT,
    LINE,
    MARKER,
    MOST_POINTS,
    PANEL_INCHES,
    Marks,
    density,
    lower_first,
    nothing,
    style,
    svg,
)  # fmt: skip
from trabecula.report.results import Row
from trabecula.report.wording import (
    MAIN_PREDICTORS,
    METRICS,
    MG_CM3,
    NETWORK_AND_HU,
    PREDICTOR,
    SET,
    SETS_OF_THIS_RUN,
    estimate,
    number,
)  # fmt: skip

NOBODY = "No patient can be compared with QCT."


def roc_figure(roc: pd.DataFrame, metrics: Sequence[Row], *, note: str) -> str:
    """Draw ROC curves of the networks and HU alone, a panel per set.

    Parameters
    ----------
    roc : frame
        Rows of the table roc, of the predictors shown.
    metrics : sequence of rows
        Of the table metrics.
    note : str
        Written below, such as that the data are synthetic.

    Returns
    -------
    str
        SVG.
    """
    sets = sets_of(metrics)
    if not sets:
        return nothing(NOBODY)
    with mpl.rc_context(style("roc")):
        figure = Figure(figsize=(PANEL_INCHES * len(sets), PANEL_INCHES + 0.8), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
            _roc_panel(axes, roc[roc["set"] == name], metrics, name)
        return svg(figure, note)


def _roc_panel(axes: Axes, roc: pd.DataFrame, metrics: Sequence[Row], name: str) -> None:
    axes.plot([0, 1], [0, 1], color=LIGHT, linewidth=0.8, linestyle=":")
    numbers = set()
    for predictor in MAIN_PREDICTORS:
        points = roc[roc["predictor"] == predictor]
        area = _metric(metrics, name, predictor, "auc")
        if area is None:
            continue
        axes.plot(
            points["false_positive_rate"],
            points["true_positive_rate"],
            color=COLOUR[predictor],
            linestyle=LINE[predictor],
            label=f"{PREDICTOR[predictor]}: AUC {estimate(area)}",
        )
        numbers.add(area["n"])
    axes.set(
        title=f"{SET[name]}, n = {' or '.join(f'{n:,}' for n in sorted(numbers, reverse=True))}",
        xlabel="1 − specificity",
        ylabel="Recall (sensitivity)",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        aspect="equal",
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18))
    if roc.empty:
        axes.text(0.5, 0.55, "no curve: only one class", ha="center", color=GREY)


def agreement_figure(agreement: pd.DataFrame, metrics: Sequence[Row], *, thresholds: Thresholds, note: str) -> str:
    """Draw predicted vBMD against QCT, and Bland-Altman plots; a row of panels per set.

    Parameters
    ----------
    agreement : frame
        Rows of the table agreement, of network and HU alone.
    metrics : sequence of rows
        Of the table metrics.
    thresholds : Thresholds
        Between the grades, drawn as thin lines.
    note : str
        See `roc_figure`.

    Returns
    -------
    str
        SVG; of a set with up to 500 patients each point carries its pseudonym.
    """
    sets = sets_of(metrics)
    if not sets:
        return nothing(NOBODY)
    marks: list[Marks] = []
    with mpl.rc_context(style("agreement")):
        figure = Figure(figsize=(3 * PANEL_INCHES, (PANEL_INCHES + 0.2) * len(sets)), layout="constrained")
        for panels, name in zip(figure.subplots(len(sets), 3, squeeze=False), sets, strict=True):
            rows = agreement[agreement["set"] == name]
            marks += _scatter(panels[0], rows, metrics, name, thresholds)
            for axes, predictor in zip(panels[1:], NETWORK_AND_HU, strict=True):
                marks += _bland_altman(axes, rows[rows["predictor"] == predictor], metrics, name, predictor)
            _same_heights(panels[1:])
        return svg(figure, note, marks)


def _scatter(axes: Axes, rows: pd.DataFrame, metrics: Sequence[Row], name: str, thresholds: Thresholds) -> list[Marks]:
    both = rows[["vbmd_mg_cm3", "qct_vbmd_mg_cm3"]].to_numpy()
    low, high = (both.min() - 10, both.max() + 10) if len(both) else (0, 200)
    for vbmd in lower_first(thresholds):
        axes.axvline(vbmd, color=LIGHT, linewidth=0.6)
        axes.axhline(vbmd, color=LIGHT, linewidth=0.6)
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle=":")
    marks = []
    for predictor in NETWORK_AND_HU:
        predicted = rows[rows["predictor"] == predictor]
        r = _metric(metrics, name, predictor, "pearson_r")
        label = f"{PREDICTOR[predictor]}: r {number(r['value'] if r else None, 3)}, n = {len(predicted):,}"
        x, y = predicted["qct_vbmd_mg_cm3"], predicted["vbmd_mg_cm3"]
        marks += _points(axes, predicted, x, y, predictor, label=label)
    axes.set(
        title=f"{SET[name]}: predicted and QCT",
        xlabel=f"vBMD by QCT ({MG_CM3})",
        ylabel=f"vBMD predicted ({MG_CM3})",
        xlim=(low, high),
        ylim=(low, high),
        aspect="equal",
    )
    if len(rows):
        axes.legend(loc="upper left")
    return marks


def _bland_altman(axes: Axes, rows: pd.DataFrame, metrics: Sequence[Row], name: str, predictor: str) -> list[Marks]:
    mean = (rows["vbmd_mg_cm3"] + rows["qct_vbmd_mg_cm3"]) / 2
    axes.axhline(0, color=LIGHT, linewidth=0.8, linestyle=":")
    marks = _points(axes, rows, mean, rows["vbmd_mg_cm3"] - rows["qct_vbmd_mg_cm3"], predictor, label=None)
    for metric in ("bias", "limit_low", "limit_high"):
        row = _metric(metrics, name, predictor, metric)
        if row is not None and row["value"] is not None:
            _limit(axes, row, metric)
    axes.set(
        title=f"{PREDICTOR[predictor]} minus QCT (n = {len(rows):,})",
        xlabel=f"Mean of both ({MG_CM3})",
        ylabel=f"Difference ({MG_CM3})",
    )
    return marks


def _limit(axes: Axes, row: Row, metric: str) -> None:
    """Draw a line at the figure and a band over its interval."""
    axes.axhline(row["value"], color=GREY, linewidth=0.9, linestyle="-" if metric == "bias" else "--")
    if row["low"] is not None:
        axes.axhspan(row["low"], row["high"], color=GREY, alpha=0.12, linewidth=0)
    axes.annotate(
        f"{'bias' if metric == 'bias' else 'limit'} {number(row['value'], METRICS[metric].digits)}",
        (1, row["value"]),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 2),
        textcoords="offset points",
        ha="right",
        fontsize=8,
    )


def _same_heights(panels: Sequence[Axes]) -> None:
    """Give the panels one scale of differences, about zero, so that they can be compared by eye."""
    most = max(abs(limit) for axes in panels for limit in axes.get_ylim())
    for axes in panels:
        axes.set_ylim(-most, most)


def _points(
    axes: Axes, rows: pd.DataFrame, x: pd.Series, y: pd.Series, predictor: str, *, label: str | None
) -> list[Marks]:
    """Draw few points as marks with pseudonyms, many as hexagons without."""
    axes.plot([], [], MARKER[predictor], color=COLOUR[predictor], markersize=4, label=label)
    if len(x) > MOST_POINTS:
        density(axes, x.to_numpy(), y.to_numpy(), predictor)
        return []
    # Invisible points, which make the axes reach far enough.
    axes.scatter(x, y, s=0)
    texts = [
        f"{name}: {PREDICTOR[predictor]} {number(vbmd, 0)}, QCT {number(qct, 0)}"
        for name, vbmd, qct in zip(rows["patient_id"], rows["vbmd_mg_cm3"], rows["qct_vbmd_mg_cm3"], strict=True)
    ]
    return [Marks(axes, x.tolist(), y.tolist(), texts, predictor)]


def sets_of(metrics: Sequence[Row]) -> list[str]:
    """List the sets of patients of this run that have figures."""
    present = {row["set"] for row in metrics}
    return [name for name in SETS_OF_THIS_RUN if name in present]


def _metric(metrics: Sequence[Row], name: str, predictor: str, metric: str) -> Row | None:
    return pick(metrics, set=name, predictor=predictor, metric=metric)
