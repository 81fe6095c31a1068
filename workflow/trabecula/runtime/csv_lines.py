"""The hospital's file of QCT labels, and the reviewers' file of verdicts, as text.

Both are checked at every start of Snakemake, so nothing beyond the standard library is imported here. The meaning of
the entries is decided in `trabecula.cohort.labels.read` and `trabecula.cohort.verdicts`.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trabecula.errors import ConfigError

LABEL_COLUMNS = ("patient_id", "study_date", "level", "vbmd", "unit")
VERDICT_COLUMNS = ("study_id", "level", "verdict", "new_level")
# Place of the vertebra when it was judged; a file written by hand may lack it.
VERDICT_PLACE = ("centroid_z_mm",)
DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Line:
    """One line of the file.

    Attributes
    ----------
    number : int
        Number of the line in the file where it ends, as editors count: 1 for the first.
    entries : tuple of str or None
        Its entries for the requested columns, trimmed, and empty where the line is too short; None where it has more
        entries than the first line has names, so that nobody can tell to which column each belongs.
    """

    number: int
    entries: tuple[str, ...] | None


def check_columns(
    path: Path | str, *, called: str, columns: Sequence[str] = LABEL_COLUMNS, optional: Sequence[str] = ()
) -> None:
    """Check that the columns of a file can be read; else raise a ConfigError that calls the file by this name."""
    next(_lines(path, called, columns, optional))


def read_lines(
    path: Path | str, *, called: str, columns: Sequence[str] = LABEL_COLUMNS, optional: Sequence[str] = ()
) -> list[Line]:
    """Read a CSV file with commas, semicolons or tabs, in UTF-8 with or without a byte order mark.

    Parameters
    ----------
    path : Path
        The file. Its first line names the columns; lines without any entry are skipped.
    called : str
        Name of the lines in messages, such as "The labels labels.csv".
    columns : sequence of str
        Names of the columns to read.
    optional : sequence of str
        Names of more columns to read, after those; where the file lacks such a column, its entries are empty. Other
        columns are not read.

    Raises
    ------
    ConfigError
        If the file can't be read, is empty or lacks a column; the message says what to change.
    """
    lines = _lines(path, called, columns, optional)
    _, names = next(lines)
    places = [names.index(name) if name in names else None for name in (*columns, *optional)]
    return [Line(number, _entries(values, len(names), places)) for number, values in lines]


def _entries(values: list[str], n_columns: int, places: list[int | None]) -> tuple[str, ...] | None:
    """Pick the entries at these places; None where the line has more entries than there are columns."""
    if any(values[n_columns:]):
        return None
    whole = values + [""] * (n_columns - len(values))
    return tuple("" if place is None else whole[place] for place in places)


def _lines(
    path: Path | str, called: str, columns: Sequence[str], optional: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
    """Yield number and entries of each line that is not empty; the first line holds the names of all columns."""
    text = _text(Path(path), called, columns)
    first = next((line for line in text.splitlines() if any(map(str.isalnum, line))), "")
    delimiter = max(DELIMITERS, key=lambda mark: len(_names(first, mark).intersection(columns)))
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    trimmed = ([entry.strip() for entry in line] for line in lines)
    not_empty = ((lines.line_num, entries) for entries in trimmed if any(entries))
    try:
        number, names = next(not_empty, (0, []))
        _check_names(names, called, columns, optional)
        yield number, names
        yield from not_empty
    except csv.Error as error:
        raise ConfigError(
            f"{called} can't be understood at line {lines.line_num}; correct the quotation marks there or before."
        ) from error


def _text(path: Path, called: str, columns: Sequence[str]) -> str:
    """Read a text file in UTF-8 that is not empty."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{called} can't be read; give a CSV file in UTF-8.") from error
    if not text.strip():
        raise ConfigError(f"{called} are empty; name the columns {', '.join(columns)} in the first line.")
    return text


def _names(line: str, delimiter: str) -> set[str]:
    """Give the names in the first line, if this were the delimiter."""
    return {name.strip(' "') for name in line.split(delimiter)}


def _check_names(names: list[str], called: str, columns: Sequence[str], optional: Sequence[str]) -> None:
    """Check that no column is missing or there twice."""
    missing = [name for name in columns if name not in names]
    if missing:
        raise ConfigError(
            f"{called} lack the columns {', '.join(missing)}; name them in the first line, "
            "with commas, semicolons or tabs between the names."
        )
    twice = [name for name in (*columns, *optional) if names.count(name) > 1]
    if twice:
        raise ConfigError(f"{called} have two columns {twice[0]}; rename one.")
