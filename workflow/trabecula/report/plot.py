"""Figures as SVG text: the same data give the same bytes, in colours that follow the page's."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

INK, GREY, LIGHT, ALARM = "#1c2126", "#5b6670", "#b5bdc4", "#8a1c00"
# Okabe and Ito's palette, told apart by colour-blind readers; shape and line differ too.
COLOUR = {"network": "#0072b2", "joint": "#009e73", "hu": "#d55e00"}
LINE = {"network": "-", "joint": (0, (1, 1)), "hu": (0, (4, 2))}
MARKER = {"network": "o", "hu": "^"}
# Variables of the page's style; where there is none, as in a file by itself, the colour stands.
VARIABLE = {
    INK: "--ink", GREY: "--soft", LIGHT: "--line-strong", ALARM: "--alarm",
    COLOUR["network"]: "--network", COLOUR["joint"]: "--joint", COLOUR["hu"]: "--hu",
}  # fmt: skip
# Above this, points are counted in hexagons, so that the page stays small and nobody stands out.
MOST_POINTS = 500
PANEL_INCHES = 3.6

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

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Marks:
    """Points of a panel that say who they are: positions in data units, a text each."""

    axes: Axes
    x: Sequence[float]
    y: Sequence[float]
    texts: Sequence[str]
    predictor: str


def style(salt: str) -> Any:
    """Settings of a figure; the salt makes the ids in its SVG."""
    return STYLE | {"svg.hashsalt": salt}


def svg(figure: Figure, note: str, marks: Sequence[Marks] = ()) -> str:
    """SVG without date or program, so that the same data give the same bytes.

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
    # The marks' places are read from the layout as it stands now.
    figure.set_layout_engine("none")
    drawn = "".join(_group(of, figure.bbox.height) for of in marks if len(of.x))
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue().replace("</svg>", f"{drawn}</svg>")
    return themed(text)


def _group(of: Marks, height: float) -> str:
    places = of.axes.transData.transform(np.column_stack([of.x, of.y]))
    shape = _circle if of.predictor == "network" else _triangle
    inside = "".join(shape(x, height - y, escape(text)) for (x, y), text in zip(places, of.texts, strict=True))
    colour, filled = COLOUR[of.predictor], of.predictor == "network"
    paint = f"fill: {colour}; fill-opacity: 0.7" if filled else f"fill: {colour}; fill-opacity: 0.12; stroke: {colour}"
    label = f'tabindex="0" role="group" aria-label="{len(of.x)} points; arrow keys go from one to the next"'
    return f'<g class="marks" {label} style="{paint}">{inside}</g>\n'


def _circle(x: float, y: float, text: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"><title>{text}</title></circle>'


def _triangle(x: float, y: float, text: str) -> str:
    return f'<path d="M{x:.1f} {y - 3:.1f}l2.8 5h-5.6z"><title>{text}</title></path>'


def themed(text: str) -> str:
    """Colours as variables of the page, each with itself as what stands where there is no page."""
    for colour, name in VARIABLE.items():
        text = text.replace(f": {colour}", f": var({name}, {colour})")
    return text


def density(axes: Axes, x: Sequence[float], y: Sequence[float], predictor: str) -> None:
    """Points counted in hexagons, the fuller the more opaque."""
    drawn = axes.hexbin(x, y, gridsize=36, mincnt=1, linewidths=0)
    counts = np.log1p(np.asarray(drawn.get_array(), float))
    colours = np.tile(to_rgba(COLOUR[predictor]), (len(counts), 1))
    # Few steps, so that the SVG stays small.
    colours[:, 3] = np.round(0.12 + 0.8 * counts / counts.max(), 1)
    drawn.set_array(None)
    drawn.set_facecolor([tuple(colour) for colour in colours.tolist()])


def nothing(why: str) -> str:
    """A picture that says why there is nothing to see."""
    with mpl.rc_context(style("nothing")):
        figure = Figure(figsize=(2 * PANEL_INCHES, 0.5))
        figure.text(0, 0.5, why, color=GREY)
        return svg(figure, "")
