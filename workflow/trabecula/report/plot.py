"""Style and output of all figures: SVG that is the same for the same data, and colours that follow the page's."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from trabecula.density.thresholds import Thresholds

INK, GREY, LIGHT, ALARM = "#1c2126", "#5b6670", "#b5bdc4", "#8a1c00"
# Okabe and Ito's palette, which colour-blind readers can distinguish; shape and line differ too.
COLOUR = {"network": "#0072b2", "joint": "#009e73", "hu": "#d55e00"}
LINE = {"network": "-", "joint": (0, (1, 1)), "hu": (0, (4, 2))}
MARKER = {"network": "o", "hu": "^"}
# CSS variables of the page's style; a drawing in a file of its own falls back to the colour.
VARIABLE = {
    INK: "--ink", GREY: "--soft", LIGHT: "--line-strong", ALARM: "--alarm",
    COLOUR["network"]: "--network", COLOUR["joint"]: "--joint", COLOUR["hu"]: "--hu",
}  # fmt: skip
# Above this, points are counted in hexagons, so that the page stays small and nobody stands out.
MOST_POINTS = 500
PANEL_INCHES = 3.6
# Bins of a histogram.
BINS = 20

STYLE = {
    "svg.fonttype": "none",
    "figure.dpi": 72,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": GREY,
    "legend.fontsize": 8,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Marks:
    """Points of a panel that show a text each, with the patient's pseudonym; positions are in data units."""

    axes: Axes
    x: Sequence[float]
    y: Sequence[float]
    texts: Sequence[str]
    predictor: str


def style(salt: str) -> Any:
    """Give the settings of a figure; the salt makes the ids in its SVG."""
    return STYLE | {"svg.hashsalt": salt}


def svg(figure: Figure, note: str, marks: Sequence[Marks] = ()) -> str:
    """Write a figure as SVG without date or program, so that the same data give the same bytes.

    Parameters
    ----------
    figure : Figure
        At 72 dots per inch, as `STYLE` says.
    note : str
        Written below, such as that the data are synthetic.
    marks : sequence of Marks
        Points with texts, drawn above everything.
    """
    if note:
        figure.supxlabel(note, fontsize=8.5, color=ALARM, fontweight="bold")
    figure.draw_without_rendering()
    # Keep this layout, which the marks' positions are computed from.
    figure.set_layout_engine("none")
    drawn = "".join(_group(points, figure.bbox.height) for points in marks if len(points.x))
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue().replace("</svg>", f"{drawn}</svg>")
    return themed(text)


def _group(marks: Marks, height: float) -> str:
    """Draw the points as a group that can be visited by keyboard: filled circles for the network, else triangles."""
    places = marks.axes.transData.transform(np.column_stack([marks.x, marks.y]))
    filled, colour = marks.predictor == "network", COLOUR[marks.predictor]
    shape = _circle if filled else _triangle
    shapes = [shape(x, height - y, escape(text)) for (x, y), text in zip(places, marks.texts, strict=True)]
    paint = f"fill: {colour}; fill-opacity: 0.7" if filled else f"fill: {colour}; fill-opacity: 0.12; stroke: {colour}"
    label = f'tabindex="0" role="group" aria-label="{len(marks.x)} points; arrow keys go from one to the next"'
    return f'<g class="marks" {label} style="{paint}">{"".join(shapes)}</g>\n'


def _circle(x: float, y: float, text: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"><title>{text}</title></circle>'


def _triangle(x: float, y: float, text: str) -> str:
    return f'<path d="M{x:.1f} {y - 3:.1f}l2.8 5h-5.6z"><title>{text}</title></path>'


def themed(text: str) -> str:
    """Replace each colour by a CSS variable that falls back to the colour itself, so that the drawing also works alone.

    >>> themed("fill: #5b6670")
    'fill: var(--soft, #5b6670)'
    """
    for colour, name in VARIABLE.items():
        text = text.replace(f": {colour}", f": var({name}, {colour})")
    return text


def density(axes: Axes, x: Sequence[float], y: Sequence[float], predictor: str) -> None:
    """Draw points as hexagons, which are the more opaque the more points they hold."""
    drawn = axes.hexbin(x, y, gridsize=36, mincnt=1, linewidths=0)
    counts = np.log1p(np.asarray(drawn.get_array(), float))
    colours = np.tile(to_rgba(COLOUR[predictor]), (len(counts), 1))
    # Few steps, so that the SVG stays small.
    colours[:, 3] = np.round(0.12 + 0.8 * counts / counts.max(), 1)
    drawn.set_array(None)
    drawn.set_facecolor([tuple(colour) for colour in colours.tolist()])


def histogram(axes: Axes, values: pd.Series, edges: np.ndarray, **look: Any) -> None:
    """Draw counts as steps over a faint area."""
    counts, _ = np.histogram(values, edges)
    axes.stairs(counts, edges, linewidth=1.3, **look)
    axes.stairs(counts, edges, fill=True, alpha=0.12, color=look["color"])


def lower_first(thresholds: Thresholds) -> tuple[float, float]:
    """List the thresholds of osteoporosis and of reduced density, in mg/cm3 HA, in the order of drawing."""
    return thresholds.osteoporosis_below_mg_cm3, thresholds.reduced_below_mg_cm3


def nothing(why: str) -> str:
    """Draw a text that says why there is no figure."""
    with mpl.rc_context(style("nothing")):
        figure = Figure(figsize=(2 * PANEL_INCHES, 0.5))
        figure.text(0, 0.5, why, color=GREY)
        return svg(figure, "")
