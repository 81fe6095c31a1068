"""Tables of the page, ready to print."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trabecula.report import words

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """Text of a cell, small lines below it, and why something is undefined."""

    text: str
    small: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a table: what it is about, then its figures; published figures are shaded."""

    heads: tuple[Cell, ...]
    cells: tuple[Cell, ...]
    published: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption and the headings of its columns."""

    caption: str
    columns: tuple[Cell, ...]
    lines: tuple[Line, ...]


DASH = Cell(words.MISSING)


def figure(row: Row | None) -> Cell:
    """A row with value, low, high, n and reason as a cell; a dash where there is no row."""
    if row is None:
        return DASH
    digits = words.METRICS[row["metric"]].digits
    ends = words.interval(row["low"], row["high"], digits)
    missing = "undefined" if row["value"] is None else "no interval"
    small = (*([ends] if ends else []), f"n = {row['n']:,}")
    return Cell(words.number(row["value"], digits), small, f"{missing}: {row['reason']}" if row["reason"] else "")


def headings(metrics: Iterable[str]) -> tuple[Cell, ...]:
    """Headings of columns of figures, with their unit."""
    chosen = (words.METRICS[name] for name in metrics)
    return tuple(Cell(metric.heading, (metric.unit,) if metric.unit else ()) for metric in chosen)


def plain(*texts: str) -> tuple[Cell, ...]:
    """Cells of text alone."""
    return tuple(Cell(text) for text in texts)


def pick(rows: Sequence[Row], **wanted: Any) -> Row | None:
    """The row with these values, None where there is none."""
    return next((row for row in rows if all(row[name] == value for name, value in wanted.items())), None)


def values(rows: Sequence[Row], column: str) -> list[Any]:
    """Values of a column, each once, in the order of the rows."""
    return list(dict.fromkeys(row[column] for row in rows))
