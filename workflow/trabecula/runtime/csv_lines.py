"""The hospital's file of QCT labels, and the reviewers' file of verdicts, as text.

Checked at every start of Snakemake, so nothing beyond the standard library is imported here.
What the entries mean is decided in `trabecula.cohort.labels.read` and `trabecula.cohort.verdicts`.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trabecula.errors import ConfigError

LABEL_COLUMNS = ("patient_id", "study_date", "level", "vbmd", "unit")
VERDICT_COLUMNS = ("study_id", "level", "verdict", "new_level")
# Where the vertebra lay when it was judged; a file written by hand may lack it.
VERDICT_PLACE = ("centroid_z_mm",)
DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Line:
    """One line of the file.

    Attributes
    ----------
    number : int
        Where it ends in the file, as editors count: 1 for the first.
    entries : tuple of str or None
        Its entries for the columns asked for, trimmed, empty where it ends before; None where it has more entries than
        the first line has names, so that nobody can tell which belongs where.
    """

    number: int
    entries: tuple[str, ...] | None


def check_columns(
    path: Path | str, *, called: str, columns: Sequence[str] = LABEL_COLUMNS, optional: Sequence[str] = ()
) -> None:
    """Raise a ConfigError, a sentence about the file as it is called, unless its columns can be read."""
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
        What a refusal calls the lines, such as "The labels labels.csv".
    columns : sequence of str
        Names of the columns to read.
    optional : sequence of str
        Names of more columns to read, after those; empty in all lines where the file has none of the name. Others are
        not read.

    Raises
    ------
    ConfigError
        If the file can't be read, is empty or lacks a column; one sentence that says what to change.
    """
    lines = _lines(path, called, columns, optional)
    _, names = next(lines)
    places = [names.index(name) if name in names else None for name in (*columns, *optional)]
    return [Line(number, _entries(values, len(names), places)) for number, values in lines]


def _entries(values: list[str], n_columns: int, places: list[int | None]) -> tuple[str, ...] | None:
    if any(values[n_columns:]):
        return None
    whole = values + [""] * (n_columns - len(values))
    return tuple("" if place is None else whole[place] for place in places)


def _lines(
    path: Path | str, called: str, columns: Sequence[str], optional: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and entries of all lines that have any; the first holds the names, all of the columns."""
    text = _text(Path(path), called, columns)
    first = next((line for line in text.splitlines() if any(map(str.isalnum, line))), "")
    delimiter = max(DELIMITERS, key=lambda mark: len(_names(first, mark).intersection(columns)))
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    trimmed = ([entry.strip() for entry in line] for line in lines)
    filled = ((lines.line_num, entries) for entries in trimmed if any(entries))
    try:
        number, names = next(filled, (0, []))
        _check_names(names, called, columns, optional)
        yield number, names
        yield from filled
    except csv.Error as error:
        raise ConfigError(
            f"{called} can't be understood at line {lines.line_num}; mend the quotation marks there or before."
        ) from error


def _text(path: Path, called: str, columns: Sequence[str]) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{called} can't be read; give a CSV file in UTF-8.") from error
    if not text.strip():
        raise ConfigError(f"{called} are empty; name the columns {', '.join(columns)} in the first line.")
    return text


def _names(line: str, delimiter: str) -> set[str]:
    return {name.strip(' "') for name in line.split(delimiter)}


def _check_names(names: list[str], called: str, columns: Sequence[str], optional: Sequence[str]) -> None:
    missing = [name for name in columns if name not in names]
    if missing:
        raise ConfigError(
            f"{called} lack the columns {', '.join(missing)}; name them in the first line, "
            "with commas, semicolons or tabs between the names."
        )
    twice = [name for name in (*columns, *optional) if names.count(name) > 1]
    if twice:
        raise ConfigError(f"{called} have two columns {twice[0]}; rename one.")
