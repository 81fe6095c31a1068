"""The flow of series, studies and patients as a picture: where the boxes lie and what they say."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trabecula.report.words import counted, reason

# Pixels of the drawing.
BOX_WIDTH, LOSS_LEFT, WIDTH = 190, 214, 560
LINE, PADDING, GAP, BETWEEN_UNITS, HEADING = 15, 8, 12, 14, 30
COLUMNS = 2
# Characters of a line, and reasons per box; the table beside the picture has them all.
WRAP, MOST_REASONS = 52, 5

SINGULAR = {"series": "series", "studies": "study", "patients": "patient"}


@dataclass(frozen=True)
class Box:
    """A step: what reached it, what was lost on the way.

    Attributes
    ----------
    y, height : float
        Position within the cohort's drawing, in pixels.
    text : str
        What reached the step.
    lost : tuple of str
        Lines that say what was lost, and why.
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


def charts(flow: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """One drawing per cohort from the rows of the table flow, two side by side."""
    drawn = [_chart(cohort, [row for row in flow if row["cohort"] == cohort]) for cohort in _in_order(flow, "cohort")]
    placed, top = [], 0.0
    for start in range(0, len(drawn), COLUMNS):
        line = drawn[start : start + COLUMNS]
        placed += [Chart(c.cohort, c.boxes, c.height, i * (WIDTH + 20), top) for i, c in enumerate(line)]
        top += max(chart.height for chart in line)
    return placed


def sheet(drawn: Sequence[Chart]) -> tuple[float, float]:
    """Width and height that hold all drawings, in pixels."""
    return max((c.x + WIDTH for c in drawn), default=0), max((c.y + c.height for c in drawn), default=0)


def _in_order(rows: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def _chart(cohort: str, rows: Sequence[Mapping[str, Any]]) -> Chart:
    boxes: list[Box] = []
    y, unit, bottom = float(HEADING), "", None
    for position in sorted(_in_order(rows, "position")):
        step = [row for row in rows if row["position"] == position]
        (reached,) = (row for row in step if row["reason"] is None)
        if reached["unit"] != unit:
            y, bottom, unit = y + (BETWEEN_UNITS if unit else 0), None, reached["unit"]
        lost = tuple(_lines([row for row in step if row["reason"] is not None]))
        height = max(34.0, len(lost) * LINE + 2 * PADDING)
        boxes.append(Box(y, height, f"{counted(reached['n'], SINGULAR[unit])} {reached['step']}", lost, bottom))
        y, bottom = y + height + GAP, y + height
    return Chart(cohort, tuple(boxes), y + 10)


def _lines(lost: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in lost[:MOST_REASONS]:
        first, *rest = textwrap.wrap(f"{row['n']:,} × {reason(row['reason'])}", WRAP)
        yield first
        yield from (f"    {line}" for line in rest)
    if len(lost) > MOST_REASONS:
        others = lost[MOST_REASONS:]
        yield f"{sum(row['n'] for row in others):,} × {counted(len(others), 'other reason')} (see the table)"
