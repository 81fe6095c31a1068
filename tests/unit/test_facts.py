"""Facts of patients and scans that may be public."""

import pytest
from made_headers import header

from trabecula.index import facts


@pytest.mark.parametrize(
    ("years", "told"),
    [
        (38.0, {"age": "038Y"}),
        (1.5, {"age": "018M"}),
        (69.9, {"birth_date": "19500202"}),
        (38.0, {"age": "038Y", "birth_date": "19000101"}),
        (90.0, {"age": "097Y"}),
        (None, {"age": "000Y", "birth_date": "20200102"}),
        (None, {"age": "old"}),
        *((None, {"age": age}) for age in ("999Y", "999M", "999W", "999D", "9999D", "111Y", "1332M", "000D", "150 Y")),
        *((70.0, {"age": age, "birth_date": "19500102"}) for age in ("999Y", "999D", "999999Y", "120Y", "000Y", "")),
        *((52.0, {"age": "052Y", "birth_date": day}) for day in ("18500101", "19000101", "20300101", "00010101")),
        (83.3, {"age": "1000M"}),
        (90.0, {"age": "110Y"}),
        (90.0, {"birth_date": "19120102"}),
        *((None, {"birth_date": day}) for day in ("19000101", "1900.01.01", "18991230", "18000101", "00010101")),
        *((None, {"birth_date": day}) for day in ("20200103", "99991231", "19050101", "19000000", "11111111")),
        (None, {"birth_date": "19000101", "study_date": "20030102"}),
        (None, {"birth_date": "19500102", "study_date": "19000101"}),
        (None, {"birth_date": "19500102", "study_date": "20990102"}),
        (None, {"birth_date": "19500102", "study_date": None}),
        (None, {}),
    ],
)
def test_age(years, told):
    assert facts.age_years(header(**told)) == years


@pytest.mark.parametrize("age", ["\u00b2Y", "9" * 5000 + "Y", "4_5Y", "-3Y", "Y"])
def test_an_age_that_is_none_is_unknown(age):
    assert facts.age_years(header(age=age, birth_date=None)) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('=HYPERLINK("x";"y")', 'HYPERLINK("x";"y")'),
        ("@SUM(A1)", "SUM(A1)"),
        ("  -+=1", "1"),
        ("SIE\tMENS\r\n\x00\x1b[2J\u202eX", "SIE MENS [2J X"),
        ("ORIGINAL\\PRIMARY\\AXIAL", "ORIGINAL\\PRIMARY\\AXIAL"),
        ("x" * 5000, "x" * 200),
        ("\x01", None),
        (None, None),
    ],
)
def test_texts_of_headers_are_plain_in_the_tables(text, shown):
    assert facts.plain(text) == shown
    assert facts.device_key(header(manufacturer=text)).split("|")[0] == (shown or "?")


def test_the_device_key_names_what_is_unknown():
    assert facts.device_key(header(manufacturer="GE", kernel=None)) == "GE|?|120|?"
