"""Take from headers the facts of a patient and a scan that may be public: ages in place of dates, no free text."""

import re
from datetime import date, datetime

from trabecula.dicom.derived import derivation_of
from trabecula.dicom.device_key import write_device_key
from trabecula.dicom.headers.record import Header

# Ages above are grouped, as HIPAA's safe harbor asks (45 CFR 164.514(b)(2)(i)(C)).
OLDEST_YEARS = 90.0
# Nobody whose CT is in an archive was older.
LONGEST_LIFE_YEARS = 110
# The largest numbers that fit into an age (DICOM PS3.5 6.2, AS): nobody counts so many years, months, weeks or days.
_FILLED_AGE = re.compile("999+")
_YEARS_OF_CT = range(1971, 2100)
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


def day_of_study(text: str | None) -> date | None:
    """Read the date of a study (0008,0020); None where it is no date of a CT.

    Anonymising tools write dates such as 1900-01-01; counted from there, days would tell the others' true dates.
    """
    day = date_of(text)
    return day if day and day.year in _YEARS_OF_CT else None


def age_years(header: Header) -> float | None:
    """Give the age at the study in years, at most 90; None where unknown.

    The age that the scanner wrote counts before the one from the dates, unless nobody can have it.
    """
    years = stated_years(header)
    born, studied = birth_date(header), day_of_study(header.study_date)
    if years is None and born and studied:
        years = round((studied - born).days / 365.25, 1) or None
    return None if years is None else min(years, OLDEST_YEARS)


def birth_date(header: Header) -> date | None:
    """Give the date of birth (0010,0030); None where it is unknown.

    A date up to 1900 stands for none, since anonymising tools write 19000101; so does one after the study, or more than
    110 years before it.
    """
    born, studied = date_of(header.birth_date), day_of_study(header.study_date)
    if born is None or born.year <= 1900:
        return None
    if studied and not 0 <= (studied - born).days <= LONGEST_LIFE_YEARS * 365.25:
        return None
    return born


def stated_years(header: Header) -> float | None:
    """Give the years of the age (0010,1010); None where it is absent, or an age that nobody has.

    Anonymising tools write such ages as 999Y and 000Y; and a study of a newborn holds no adult bone.

    >>> [stated_years(Header("", None, 0, 0, age=age)) for age in ("045Y", "018M", "999Y", "000D", "old")]
    [45.0, 1.5, None, None, None]
    """
    stated = _AGE.fullmatch((header.age or "").strip().upper())
    if stated is None or _FILLED_AGE.fullmatch(stated[1]):
        return None
    years = round(int(stated[1]) * _YEARS_PER_UNIT[stated[2]], 1)
    return years if 0 < years <= LONGEST_LIFE_YEARS else None


def sex(header: Header) -> str | None:
    """Give the sex: F, M or O; None where unknown."""
    return header.sex.upper() if header.sex and header.sex.upper() in ("F", "M", "O") else None


def contrast_agent(header: Header) -> bool | None:
    """Tell whether the header names a contrast medium; None where it says nothing. The text itself is not kept."""
    words = (header.contrast or "").strip().upper()
    return None if not words else words not in _NO_CONTRAST


def tube_voltage(header: Header) -> float | None:
    """Give the peak tube voltage (0018,0060) in kV; None where it is unknown.

    Images of one energy, or blended of two voltages, do not have the Hounsfield units of any tube's voltage, whatever
    their header says.
    """
    return None if derivation_of(header).spectrum else header.kvp or None


def device_key(header: Header) -> str:
    """Give maker, model, kVp and kernel in one text.

    The name of the spectrum stands in place of the kVp where the images are not those of a tube's voltage.

    >>> device_key(Header("", None, 0, 0, manufacturer="Maker", kvp=120.0, description="MonoE 40 keV"))
    'Maker|?|VMI 40 keV|?'
    """
    kvp = tube_voltage(header)
    spectrum = derivation_of(header).spectrum or (None if kvp is None else f"{kvp:g}")
    return write_device_key((plain(header.manufacturer), plain(header.model), spectrum, plain(header.kernel)))
