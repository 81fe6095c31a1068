"""Figures of learning: the networks' loss by epoch, and the error by the number of local labels."""

import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trabecula import tables
from trabecula.model import bundle
from trabecula.model.bundle import Bundle
from trabecula.report.device_tables import place
from trabecula.report.page_table import groups, values
from trabecula.report.plot import COLOUR, GREY, LIGHT, nothing, style, svg
from trabecula.report.results import Row
from trabecula.report.wording import MG_CM3, PREDICTOR, SCHEME

PANEL_INCHES = (3.5, 2.4)
COLUMNS = 3
# Panels of recalibration that are drawn; the table holds all curves.
MOST_PANELS = 6
# Characters of a panel's title in one line.
TITLE = 44
DASHES = {"intercept": "-", "intercept and slope": (0, (4, 2))}


def read_training(model: Bundle) -> pa.Table:
    """Read the learning curves in a bundle; give an empty table where it has none."""
    path = model.folder / bundle.TRAINING
    return tables.read(path, tables.TRAINING) if path.is_file() else tables.TRAINING.empty_table()


def learning_figure(training: Sequence[Row], *, note: str) -> str:
    """Draw loss by epoch: a panel per scheme and task, a line per split, with the kept epochs marked.

    Parameters
    ----------
    training : sequence of rows
        Of the table training.
    note : str
        Written below, such as that the data are synthetic.

    Returns
    -------
    str
        SVG.
    """
    if not training:
        return nothing("The model's bundle holds no learning curves.")
    schemes, tasks = [name for name in SCHEME if name in values(training, "scheme")], values(training, "task")
    with mpl.rc_context(style("learning")):
        size = PANEL_INCHES[0] * len(schemes), PANEL_INCHES[1] * len(tasks) + 0.3
        figure = Figure(figsize=size, layout="constrained")
        for line, task in zip(figure.subplots(len(tasks), len(schemes), squeeze=False), tasks, strict=True):
            for axes, scheme in zip(line, schemes, strict=True):
                rows = [row for row in training if (row["scheme"], row["task"]) == (scheme, task)]
                _learning_panel(axes, rows, title=f"{task}: {SCHEME[scheme].lower()}")
        return svg(figure, note)


def _learning_panel(axes: Axes, rows: Sequence[Row], *, title: str) -> None:
    for number, (_, group) in enumerate(groups(rows, "split")):
        curve, first = sorted(group, key=lambda row: row["epoch"]), number == 0
        epochs = [row["epoch"] for row in curve]
        axes.plot(
            epochs,
            [row["training_loss"] for row in curve],
            color=LIGHT,
            linewidth=0.8,
            label="training" if first else None,
        )
        axes.plot(
            epochs,
            [row["validation_loss"] for row in curve],
            color=COLOUR["network"],
            linewidth=0.8,
            label="validation" if first else None,
        )
        kept = [row for row in curve if row["kept"]]
        axes.plot(
            [row["epoch"] for row in kept],
            [row["validation_loss"] for row in kept],
            "o",
            color=COLOUR["hu"],
            markersize=4,
            label="kept" if first else None,
        )
    axes.set(title=title, xlabel="Epoch", ylabel="Loss")
    if rows:
        axes.legend(loc="upper right")


def recalibration_figure(recalibration: Sequence[Row], *, note: str) -> str:
    """Draw MAE by the number of local labels, a panel per cohort and device.

    Parameters
    ----------
    recalibration : sequence of rows
        Of the table recalibration.
    note : str
        See `learning_figure`.

    Returns
    -------
    str
        SVG.
    """
    places = list(dict.fromkeys(place(row) for row in recalibration))[:MOST_PANELS]
    if not places:
        return nothing("No external cohort has ten labelled patients or more.")
    with mpl.rc_context(style("recalibration")):
        columns = min(COLUMNS, len(places))
        lines = -(-len(places) // columns)
        size = PANEL_INCHES[0] * columns, (PANEL_INCHES[1] + 0.3) * lines + 0.3
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).flatten()
        for axes, where in zip(panels, places, strict=False):
            _recalibration_panel(axes, [row for row in recalibration if place(row) == where], where)
        for axes in panels[len(places) :]:
            axes.set_axis_off()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        return svg(figure, note)


def _recalibration_panel(axes: Axes, rows: Sequence[Row], where: str) -> None:
    for (predictor,), group in groups(rows, "predictor"):
        (uncorrected,) = (row for row in group if row["terms"] == "none")
        for terms, dashes in DASHES.items():
            fitted = [row for row in group if row["terms"] == terms]
            points = [uncorrected, *fitted]
            axes.plot(
                [row["k"] for row in points],
                [row["mae_mg_cm3"] for row in points],
                color=COLOUR[predictor],
                linestyle=dashes,
                marker=".",
                label=f"{PREDICTOR[predictor]}: {terms}",
            )
            if terms == "intercept":
                low, high = ([row[end] for row in fitted] for end in ("low", "high"))
                axes.fill_between([row["k"] for row in fitted], low, high, color=COLOUR[predictor], alpha=0.12, lw=0)
    # Slopes of few labels can be far off; they may leave the panel.
    shown = [row for row in rows if row["terms"] != "intercept and slope"]
    top = 1.3 * max(row["high"] or row["mae_mg_cm3"] for row in shown)
    axes.axhline(0, color=GREY, linewidth=0.5)
    axes.set(xlabel="Local labels", ylabel=f"MAE ({MG_CM3})", ylim=(0, top))
    axes.set_title(textwrap.fill(where, TITLE), fontsize=8)
