"""The flow of series, studies and patients as a drawing: positions and texts of its boxes."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from trabecula.report.page_table import groups
from trabecula.report.results import Row
from trabecula.report.wording import counted, reason

# Pixels of the drawing.
BOX_WIDTH, LOSS_LEFT, WIDTH = 190, 214, 560
LINE, PADDING, GAP, BETWEEN_UNITS, HEADING = 15, 8, 12, 14, 30
COLUMNS = 2
# Characters of a line, and reasons per box; the table below the drawing has all reasons.
WRAP, MOST_REASONS = 52, 5

SINGULAR = {"series": "series", "studies": "study", "patients": "patient"}


@dataclass(frozen=True)
class Box:
    """A step of the flow, with the number that reached it and the losses on the way.

    Attributes
    ----------
    y, height : float
        Position within the cohort's drawing, in pixels.
    text : str
        Number that reached the step.
    lost : tuple of str
        Lines with the losses and their reasons.
    arrow_from : float or None
        Lower edge of the step before; None for the first of its kind.
    """

    y: float
    height: float
    text: str
    lost: tuple[str, ...]
    arrow_from: float | None


@dataclass(frozen=True)
class Chart:
    """The drawing of one cohort, with its place on the sheet and its height, in pixels."""

    cohort: str
    boxes: tuple[Box, ...]
    height: float
    x: float = 0
    y: float = 0


def charts(flow: Sequence[Row]) -> list[Chart]:
    """Make one drawing per cohort from the rows of the table flow, two side by side."""
    drawn = [_chart(cohort, rows) for (cohort,), rows in groups(flow, "cohort")]
    placed, top = [], 0.0
    for start in range(0, len(drawn), COLUMNS):
        line = drawn[start : start + COLUMNS]
        placed += [replace(chart, x=i * (WIDTH + 20), y=top) for i, chart in enumerate(line)]
        top += max(chart.height for chart in line)
    return placed


def sheet(drawn: Sequence[Chart]) -> tuple[float, float]:
    """Give the width and height that hold all drawings, in pixels."""
    width = max((chart.x + WIDTH for chart in drawn), default=0)
    return width, max((chart.y + chart.height for chart in drawn), default=0)


def _chart(cohort: str, rows: Sequence[Row]) -> Chart:
    boxes: list[Box] = []
    y, unit, bottom = float(HEADING), "", None
    for _, step in sorted(groups(rows, "position"), key=lambda group: group[0]):
        (reached,) = (row for row in step if row["reason"] is None)
        if reached["unit"] != unit:
            y, bottom, unit = y + (BETWEEN_UNITS if unit else 0), None, reached["unit"]
        lost = tuple(_lines([row for row in step if row["reason"] is not None]))
        height = max(34.0, len(lost) * LINE + 2 * PADDING)
        boxes.append(Box(y, height, f"{counted(reached['n'], SINGULAR[unit])} {reached['step']}", lost, bottom))
        y, bottom = y + height + GAP, y + height
    return Chart(cohort, tuple(boxes), y + 10)


def _lines(lost: Sequence[Row]) -> Iterator[str]:
    for row in lost[:MOST_REASONS]:
        first, *rest = textwrap.wrap(f"{row['n']:,} × {reason(row['reason'])}", WRAP)
        yield first
        yield from (f"    {line}" for line in rest)
    if len(lost) > MOST_REASONS:
        others = lost[MOST_REASONS:]
        yield f"{sum(row['n'] for row in others):,} × {counted(len(others), 'other reason')} (see the table)"
