"""Take from headers the facts of a patient and a scan that may be public: ages in place of dates, no free text."""

import re
from datetime import date, datetime

from trabecula.dicom.headers.record import Header

# Ages above are grouped, as HIPAA's safe harbor asks (45 CFR 164.514(b)(2)(i)(C)).
OLDEST_YEARS = 90.0
# Entries of ContrastBolusAgent that stand for no contrast medium.
_NO_CONTRAST = frozenset({"NONE", "NO", "N", "NATIVE", "NON", "WITHOUT", "NO CONTRAST", "NONCONTRAST", "OHNE", "0"})
_YEARS_PER_UNIT = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_AGE = re.compile(r"([0-9]{1,6}) *([YMWD])")
# The longest text that the tables take over from a header; names of makers, models and kernels have 64 at most.
_LONGEST = 200
# Spreadsheets take a text that begins with one of these for a formula.
_FORMULA = "=+-@"


def plain(text: str | None) -> str | None:
    r"""Make a header's text fit for the tables: printable, on one line, and no formula in any spreadsheet.

    >>> plain("=SUM(A1)\n  B30f")
    'SUM(A1) B30f'
    """
    words = "".join(sign if sign.isprintable() else " " for sign in text or "").split()
    return " ".join(words).lstrip(_FORMULA + " ")[:_LONGEST] or None


def date_of(text: str | None) -> date | None:
    """Read a DICOM date (YYYYMMDD, or the older YYYY.MM.DD); None where it is absent or no date."""
    try:
        return datetime.strptime((text or "").replace(".", ""), "%Y%m%d").date()
    except ValueError:
        return None


def age_years(header: Header) -> float | None:
    """Give the age at the study in years, at most 90; None where unknown.

    The age that the scanner wrote counts before the one from the dates. Zero counts as unknown: anonymising tools
    write it, and a study of a newborn holds no adult bone.
    """
    years = stated_years(header)
    born, studied = birth_date(header), date_of(header.study_date)
    if not years and born and studied:
        years = round((studied - born).days / 365.25, 1)
    return min(years, OLDEST_YEARS) if years and years > 0 else None


def birth_date(header: Header) -> date | None:
    """Give the date of birth (0010,0030); None where it is unknown.

    A date up to 1900 stands for none, since anonymising tools write 19000101; so does one after the study.
    """
    born, studied = date_of(header.birth_date), date_of(header.study_date)
    return born if born and born.year > 1900 and (studied is None or born <= studied) else None


def stated_years(header: Header) -> float | None:
    """Give the years of the age (0010,1010); None where it is absent or no age.

    >>> [stated_years(Header("", None, 0, 0, age=age)) for age in ("045Y", "018M", "old")]
    [45.0, 1.5, None]
    """
    stated = _AGE.fullmatch((header.age or "").strip().upper())
    return round(int(stated[1]) * _YEARS_PER_UNIT[stated[2]], 1) if stated else None


def sex(header: Header) -> str | None:
    """Give the sex: F, M or O; None where unknown."""
    return header.sex.upper() if header.sex and header.sex.upper() in ("F", "M", "O") else None


def contrast_agent(header: Header) -> bool | None:
    """Tell whether the header names a contrast medium; None where it says nothing. The text itself is not kept."""
    words = (header.contrast or "").strip().upper()
    return None if not words else words not in _NO_CONTRAST


def device_key(header: Header) -> str:
    """Join maker, model, kVp and kernel by bars, with a question mark for each that is unknown."""
    kvp = None if header.kvp is None else f"{header.kvp:g}"
    parts = (plain(header.manufacturer), plain(header.model), kvp, plain(header.kernel))
    return "|".join(part or "?" for part in parts)
