"""What single headers, and headers together, say of person, study, series and instance."""

import re
import shutil
import string
import unicodedata
from hashlib import sha256
from pathlib import Path

import pytest
from ct_files import axial_stack, save, save_all, save_odd
from hypothesis import given
from hypothesis import strategies as st
from made_headers import header
from pydicom.uid import generate_uid
from test_headers import read_files
from test_index import add_study, places, read, run

from trabecula.dicom.headers.by_pydicom import text_of_id
from trabecula.dicom.identity import identity_of, is_uid, patient_of, stands_for_none, with_identifiers, with_own_uids
from trabecula.dicom.stacks import stacks_of, without_copies

# --- UIDs ---------------------------------------------------------------------------------------------------

HASH = sha256(b"1.2.3").hexdigest()
NO_UIDS = ["anonymized", "REMOVED", HASH, HASH[:16], "05703841015643452503209109170649", "0", "0.0", "1.1.1", ".", "1."]


@pytest.mark.parametrize(
    "text", [*NO_UIDS, "", None, "1.2.3 x", "1.2\\1.3", f"1.{'2' * 60}.345", "-1.2", "1,2,3", "١.٢"]
)
def test_a_text_that_is_no_uid(text):
    assert not is_uid(text)


@given(st.integers(0, 10**6), st.binary(max_size=9))
def test_every_generated_uid_is_one(number, entropy):
    assert is_uid(generate_uid(entropy_srcs=[entropy.hex()]))
    assert is_uid(f"1.2.840.113619.{number}") and is_uid(f"2.25.{number:039d}") and is_uid(f"1.2.840.0{number}.007")


# --- patients ------------------------------------------------------------------------------------------------

NOBODY = [
    *("", " ", None, "0", "0000", "00-00-00", "id", "ID", "PatientID", "patient_id", "Pat.-Nr.", "MRN"),
    *("anonymized", "ANONYMISED", "Anonymous", "anon", "[anonymized]", "<REMOVED>", "***removed***", "de-identified"),
    *("unknown", "UNKNOWN^PATIENT", "Unknown, Unknown", "none", "N/A", "n.a.", "NULL", "nan", "not available", "test"),
    *("unbekannt", "Unbekannter Patient", "k.A.", "keine Angabe", "gelöscht", "anonymisiert", "inconnu", "Anonymisé"),
    *("néant", "aucun", "desconocido", "ANÓNIMO", "ninguno", "no disponible", "sconosciuto", "anonimizzato", "nessuno"),
    *("desconhecido", "não disponível", "removido", "onbekend", "geanonimiseerd", "geen", "verwijderd", "John Doe"),
    *("xxx", "XXXX", "XX-XX", "----", "?", "???", "...", "_", "#", "111111", "99999999", "123456", "123-45-6789"),
    *("1234567890", "\u00a0", "\uff10\uff10", "REMOVED BY CTP", "DICOM PATIENT ID", "JohnDoe"),
]
SOMEBODY = [
    *(
        "P00",
        "INV-001",
        "1",
        "77",
        "ANON0012",
        "anon_1",
        "Anonymous 7",
        "patient a",
        "Patient-3",
        "test1",
        "TEST-B",
        "P",
    ),
    *("P", "A", "AB", "A-B", "11111", "12345", "000001", "1234568", "654321", "2345678", "0000-1", "xxx1", "X1", "ID7"),
    *("4711", "Muster^Maria", "MÜLLER-1", "患者", "HOSPITAL", "NO", "KA", "Removed 3", "unknown-2020", "123456A"),
    HASH,
]


@pytest.mark.parametrize("text", NOBODY)
def test_an_entry_that_stands_for_no_patient(text):
    assert stands_for_none(text) and patient_of(header(patient=text)) is None


@pytest.mark.parametrize("text", SOMEBODY)
def test_an_entry_that_is_an_id(text):
    assert not stands_for_none(text) and patient_of(header(patient=text)) == text


@given(
    st.sampled_from([text for text in NOBODY if text]), st.sampled_from(["{}", "[{}]", "({})", "<{}>", " {} ", "'{}'"])
)
def test_brackets_case_and_the_way_accents_are_written_do_not_count(text, around):
    for form in ("NFC", "NFD"):
        assert stands_for_none(around.format(unicodedata.normalize(form, text)).upper())


@given(st.text(string.ascii_letters, min_size=1, max_size=12), st.integers(1, 10**9))
def test_letters_with_a_number_are_an_id(letters, number):
    assert not stands_for_none(f"{letters}{number}") and not stands_for_none(f"{letters}-{number:04d}")


@given(st.integers(1, 10**10))
def test_a_number_is_an_id_unless_somebody_leant_on_a_key_or_counted(number):
    digits = str(number)
    filled = len(digits) >= 6 and (len(set(digits)) == 1 or "12345678901234567890".startswith(digits))
    assert stands_for_none(digits) == filled


@given(st.text(max_size=20))
def test_no_text_is_too_odd(text):
    assert stands_for_none(text) in (True, False)
    if re.fullmatch("0*", text):
        assert stands_for_none(text)


def test_studies_of_nobody_are_of_a_patient_each():
    one, other = header(patient="id", study_uid="1.2.1"), header(patient="id", study_uid="1.2.2", issuer="HOSPITAL")
    assert identity_of(one).patient != identity_of(other).patient
    assert identity_of(one) == identity_of(one._replace(patient=None)) == identity_of(one._replace(patient="[ID]"))
    (stack,) = stacks_of([one], max_gap_mm=10)
    assert stack.flags == ["substitute_ids"]


@pytest.mark.parametrize("name", ["id", "[anonymized]", "0", "????"])
def test_three_people_whose_id_stands_for_none_stay_three_and_have_no_label(tmp_path, name):
    for number, sex in enumerate("FMF"):
        add_study(tmp_path / "archive", number, PatientID=name, PatientSex=sex, IssuerOfPatientID="HOSPITAL")
    labels = f"patient_id,study_date,level,vbmd,unit\n{name},2020-01-12,L1,110,mg/cm3 HA\n"
    (tmp_path / "labels.csv").write_text(labels)
    where = places(tmp_path, tmp_path / "archive", tmp_path / "labels.csv")
    run(where)
    studies = read(where, "studies")
    assert [(row["status"], row["flags"]) for row in studies] == [("accepted", ["substitute_ids"])] * 3
    assert len({row["patient_id"] for row in studies}) == 3
    (label,) = read(where, "labels")
    assert (label["status"], label["reason"], label["faults"]) == ("unused", "missing_patient", ["missing_patient"])
    assert label["patient_id"] not in {row["patient_id"] for row in studies}


def test_one_study_is_one_though_its_files_say_nobody_in_several_ways(tmp_path):
    slices = axial_stack(9)
    for number, name in enumerate(["id", "[ID]", "", None, "anonymized"]):
        part = slices[number::5]
        save_all(part, tmp_path / f"archive/{number}", PatientID=name, IssuerOfPatientID="ONE" if number % 2 else "")
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    assert [row["n_slices"] for row in read(where, "series")] == [9] and len(read(where, "studies")) == 1


# --- letters that do not fit their character set ---------------------------------------------------------------

names = st.text(st.characters(min_codepoint=0xC0, max_codepoint=0xFF), min_size=1, max_size=9)
SETS = [[], ["ISO_IR 6"], ["ISO_IR 100"], ["ISO_IR 192"], ["NONSENSE"], ["", "ISO 2022 IR 87"]]


@given(names, names, st.sampled_from(SETS), st.sampled_from(["latin-1", "utf-8"]))
def test_ids_never_fall_together(one, other, declared, encoding):
    texts = [text_of_id(f"{name}-1".encode(encoding), declared) for name in (one, other)]
    assert (texts[0] == texts[1]) == (one == other)
    assert "\ufffd" not in "".join(map(str, texts))


@given(names, st.sampled_from([[], ["ISO_IR 6"], ["ISO_IR 192"], ["NONSENSE"]]))
def test_an_id_in_utf_8_is_what_a_list_of_patients_says(name, declared):
    assert text_of_id(name.encode(), declared) == name


@pytest.mark.parametrize("declared", [None, "ISO_IR 192", "ISO_IR 100", "ISO_IR 6"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_ids_in_files_never_fall_together(tmp_path, declared, encoding):
    patients = []
    for letter in "ÜÄ":
        raw = letter.encode(encoding)
        (dataset,) = axial_stack(1)
        dataset.PatientID = f"M{'_' * len(raw)}LLER"
        if declared:
            dataset.SpecificCharacterSet = declared
        path = save(dataset, tmp_path / "x")
        path.write_bytes(path.read_bytes().replace(b"_" * len(raw), raw))
        (record,) = read_files(tmp_path, "x")
        patients.append(record["patient"])
    expected = ["MÜLLER", "MÄLLER"]
    assert patients == expected or (len(set(patients)) == 2 and (declared, encoding) == ("ISO_IR 100", "utf-8"))


# --- UIDs that are none, in single files ---------------------------------------------------------------------------

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
ALL_IDS = (*UIDS, "PatientID")


def outcome(folder: Path) -> tuple[list[dict], list[dict], list[dict]]:
    """Index an archive; give its studies, series and lost files."""
    where = places(folder, folder / "archive")
    run(where)
    return read(where, "studies"), read(where, "series"), read(where, "failures")


@pytest.mark.parametrize("text", NO_UIDS)
def test_people_with_one_text_for_all_ids_stay_apart(tmp_path, text):
    for number in range(2):
        save_odd(axial_stack(), tmp_path / f"archive/{number}", **dict.fromkeys(ALL_IDS, text))
    studies, series, lost = outcome(tmp_path)
    assert [(row["status"], row["flags"]) for row in studies] == [("accepted", ["substitute_ids"])] * 2
    assert len({row["patient_id"] for row in studies}) == (2 if stands_for_none(text) else 1)
    assert [row["n_slices"] for row in series] == [6, 6] and lost == []


def test_people_in_one_folder_stay_apart_by_what_is_left_of_them(tmp_path):
    people = [{"PatientSex": "M"}, {"PatientBirthDate": "19610304"}, {"PatientAge": "041Y"}, {"StudyDate": "20210407"}]
    for number, facts in enumerate([{}, *people]):
        save_odd(axial_stack(), tmp_path / f"{number}", **dict.fromkeys(ALL_IDS, "removed") | facts)
        (tmp_path / "archive").mkdir(exist_ok=True)
        for path in (tmp_path / f"{number}").iterdir():
            path.rename(tmp_path / f"archive/{number}{path.name}")
    studies, series, _ = outcome(tmp_path)
    assert len({row["patient_id"] for row in studies}) == 5 and [row["n_slices"] for row in series] == [6] * 5


@given(st.lists(st.sampled_from([HASH, HASH[1:], "removed", "", "0.0"]), min_size=3, max_size=3))
def test_a_text_that_is_no_uid_keeps_apart_what_it_can(texts):
    plain = header(path="folder/a", study_uid=texts[0], series_uid=texts[1], instance_uid=texts[2])
    first = with_identifiers(plain)
    assert first.substitute and all(map(is_uid, (first.study_uid, first.series_uid, first.instance_uid)))
    assert with_identifiers(first) == first
    beside = with_identifiers(plain._replace(path="folder/b"))
    assert identity_of(first) == identity_of(beside) and first.instance_uid != beside.instance_uid
    other = with_identifiers(plain._replace(study_uid="another hash"))
    assert other.study_uid != first.study_uid
    assert with_identifiers(plain._replace(series_uid="another hash")).series_uid != first.series_uid


def test_good_uids_beside_a_bad_one_stay():
    for name in ("study_uid", "series_uid", "instance_uid"):
        kept = {"study_uid": "1.2.3", "series_uid": "1.1.2", "instance_uid": "1.1.2.5"}
        changed = with_identifiers(header(path="a/b")._replace(**kept | {name: "removed"}))
        assert {other: getattr(changed, other) for other in kept if other != name} == {
            other: uid for other, uid in kept.items() if other != name
        }


def test_every_zip_file_is_a_folder_of_its_own(tmp_path):
    for number in range(2):
        save_odd(axial_stack(), tmp_path / f"{number}/dicom", **dict.fromkeys(ALL_IDS, "anonymized"))
        shutil.make_archive(str(tmp_path / f"archive/person{number}"), "zip", tmp_path / f"{number}")
    where = places(tmp_path, tmp_path / "archive")
    run(where, archives=True)
    assert len({row["patient_id"] for row in read(where, "studies")}) == 2
    assert [row["n_slices"] for row in read(where, "series")] == [6, 6]


# --- UIDs that contradict each other, in several files ------------------------------------------------------------


def person(folder: str, z_mm: float = 0.0, n: int = 5, **changes) -> list:
    """Make headers of a person whose study and series have constants for UIDs."""
    uids = {"patient": "P", "study_uid": "1.2.3", "series_uid": "1.2.3.4", "instance_uid": "1.2.3.4.5"} | changes
    return [header(k, path=f"{folder}/{k}", positions_mm=[0.0, 0.0, z_mm + 2.5 * k], **uids) for k in range(n)]


def numbered(headers: list) -> list:
    return [part._replace(instance_uid=f"1.2.3.4.{k}") for k, part in enumerate(headers)]


def test_people_under_one_constant_uid_are_told_apart_by_place_and_folder():
    headers = [*person("a"), *person("b")]
    apart = with_own_uids(headers)
    assert [part.path for part in apart] == [part.path for part in headers] and all(part.substitute for part in apart)
    assert len({identity_of(part) for part in apart[:5]}) == len({identity_of(part) for part in apart[5:]}) == 1
    assert len({part.study_uid for part in apart}) == 2 and len(without_copies(apart).kept) == 10
    assert with_own_uids(apart) == apart


def test_people_under_one_numbering_of_instances_are_told_apart_by_place():
    headers = [*numbered(person("a")), *numbered(person("b", z_mm=31.7))]
    assert len({part.study_uid for part in with_own_uids(headers)}) == 2


@pytest.mark.parametrize(
    "headers",
    [
        person("a"),  # nothing tells it apart from a series whose instances alone have one UID
        [*numbered(person("a")), *numbered(person("b"))],  # copies: their pixels are compared
        [*numbered(person("a")), *numbered(person("b", z_mm=0.002))],  # positions that were rounded
        [*numbered(person("a")), *numbered(person("b", z_mm=9.0, patient="Q"))],
        [*numbered(person("a")), *numbered(person("b", z_mm=9.0, series_uid="1.2.3.5"))],
        [part._replace(frame=k, path="a/0") for k, part in enumerate(person("a"))],
        [],
    ],
)
def test_uids_that_do_not_contradict_each_other_stay(headers):
    assert with_own_uids(headers) == headers


def test_only_the_series_in_doubt_is_changed():
    sound = numbered(person("c", series_uid="1.2.3.6"))
    apart = with_own_uids([*person("a"), *sound, *person("b")])
    assert apart[5:10] == sound and not any(part.series_uid == "1.2.3.4" for part in apart)


@pytest.mark.parametrize("name", ["id", "P4711"])
def test_people_under_one_constant_uid_have_a_result_each(tmp_path, name):
    for number in range(2):
        save_odd(axial_stack(), tmp_path / f"archive/{number}", PatientID=name, **dict.fromkeys(UIDS, "1.2.826.0.1.9"))
    studies, series, lost = outcome(tmp_path)
    assert [row["status"] for row in studies] == ["accepted"] * 2 and [row["n_slices"] for row in series] == [6, 6]
    assert len({row["patient_id"] for row in studies}) == (2 if name == "id" else 1) and lost == []


def test_in_one_folder_a_constant_instance_uid_is_readable(tmp_path):
    save_odd(axial_stack(), tmp_path / "archive/a", **dict.fromkeys(UIDS, "1.2.826.0.1.9"))
    studies, series, _ = outcome(tmp_path)
    assert [row["status"] for row in studies] == ["accepted"] and [row["n_slices"] for row in series] == [6]
