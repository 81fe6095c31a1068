"""Tables of the pages: cells, lines, headings, and the figures that fill them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trabecula.report import wording
from trabecula.report.results import Row


@dataclass(frozen=True)
class Cell:
    """A cell: its text, small lines below it, and the reason where something is undefined."""

    text: str
    small: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a table: its row headings, then its figures; published figures are shaded."""

    heads: tuple[Cell, ...]
    cells: tuple[Cell, ...]
    published: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption and the headings of its columns."""

    caption: str
    columns: tuple[Cell, ...]
    lines: tuple[Line, ...]


DASH = Cell(wording.MISSING)


def figure(row: Row | None) -> Cell:
    """Make a cell of a row with value, low, high, n and reason; give a dash where there is no row."""
    if row is None:
        return DASH
    digits = wording.METRICS[row["metric"]].digits
    ends = wording.interval(row["low"], row["high"], digits)
    missing = "undefined" if row["value"] is None else "no interval"
    small = (*([ends] if ends else []), f"n = {row['n']:,}")
    return Cell(wording.number(row["value"], digits), small, f"{missing}: {row['reason']}" if row["reason"] else "")


def headings(metrics: Iterable[str]) -> tuple[Cell, ...]:
    """Make the headings of columns of figures, with their units."""
    shown = (wording.METRICS[name] for name in metrics)
    return tuple(Cell(metric.heading, (metric.unit,) if metric.unit else ()) for metric in shown)


def plain(*texts: str) -> tuple[Cell, ...]:
    """Make cells of text alone."""
    return tuple(Cell(text) for text in texts)


def pick(rows: Sequence[Row], **conditions: Any) -> Row | None:
    """Give the first row whose columns have these values, or None.

    >>> pick([{"metric": "auc", "n": 3}, {"metric": "mae", "n": 4}], metric="mae")
    {'metric': 'mae', 'n': 4}
    """
    return next((row for row in rows if all(row[name] == value for name, value in conditions.items())), None)


def values(rows: Sequence[Row], column: str) -> list[Any]:
    """List the values of a column, each once, in the order of the rows."""
    return list(dict.fromkeys(row[column] for row in rows))


def groups(rows: Sequence[Row], *columns: str) -> Iterator[tuple[tuple, list[Row]]]:
    """Group the rows that share the values of these columns, in the order of the rows.

    >>> [(key, len(group)) for key, group in groups([{"a": 2}, {"a": 1}, {"a": 2}], "a")]
    [((2,), 2), ((1,), 1)]
    """
    grouped: dict[tuple, list[Row]] = {}
    for row in rows:
        grouped.setdefault(tuple(row[column] for column in columns), []).append(row)
    yield from grouped.items()
