"""People told apart by sex and date of birth; one id for several of them gives no result."""

from dataclasses import replace
from pathlib import Path

import pytest
from ct_files import axial_stack, save_all
from hypothesis import given
from hypothesis import strategies as st
from made_headers import GATES, WEIGHTS, header
from test_index import add_study, places, read, run

from trabecula.cohort.people import Person, are_different, are_several
from trabecula.cohort.registry import Names
from trabecula.index import people, rows

sexes = st.frozensets(st.sampled_from("FMO"))
days = st.frozensets(st.sampled_from(["19500101", "19500317", "19510601", "19800101"]), max_size=3)
persons = st.builds(Person, sexes, days, st.frozensets(st.integers(1930, 1990), max_size=3))


def statement(**changes) -> people.Statement:
    plain = people.Statement("P", None, "1.1", "F", "19500317", "070Y", "20200102")
    return plain._replace(**changes)


def refused(*statements: people.Statement) -> set[str]:
    return set(people.ambiguous(people.people_of(statements)))


@given(persons, persons)
def test_more_facts_never_make_one_person_of_several(first, second):
    if are_several(first):
        assert are_several(first.joined(second))


@given(persons, persons)
def test_different_people_are_several(first, second):
    assert are_different(first, second) == are_different(second, first)
    if are_different(first, second):
        assert are_several(first.joined(second)) and not are_different(first, Person())


@pytest.mark.parametrize(
    ("other", "several"),
    [
        ({"sex": "M"}, True),
        ({"sex": "O"}, False),
        ({"sex": None}, False),
        ({"sex": "m"}, True),
        ({"birth_date": "19500713"}, True),
        ({"birth_date": "1950.03.17"}, False),
        ({"birth_date": "19500101"}, False),  # the year alone
        ({"birth_date": "19510101"}, True),
        ({"birth_date": "19000101"}, False),
        ({"birth_date": "18991230"}, False),
        ({"birth_date": "20210101"}, False),  # after the study
        ({"birth_date": "anonymous"}, False),
        ({"birth_date": None, "age": "069Y"}, False),
        ({"birth_date": None, "age": "040Y"}, True),
        ({"birth_date": None, "age": "999Y"}, False),
        ({"birth_date": None, "age": "000Y"}, False),
        ({"birth_date": None, "age": "040Y", "study_date": None}, False),
        ({"age": "040Y"}, False),  # the date of birth counts before the age
    ],
)
def test_files_of_one_id_that_contradict_each_other_are_of_several_people(other, several):
    for uid in ("1.1", "1.2"):  # in one study, and in two
        assert refused(statement(), statement(study_uid=uid, **other)) == ({"P"} if several else set())
        assert not refused(statement(), statement(study_uid=uid, patient="Q", **other))
        assert not refused(statement(issuer="ONE"), statement(study_uid=uid, issuer="TWO", **other))


def test_ages_count_where_no_date_of_birth_is_known():
    old, young = (statement(study_uid=age, birth_date="", age=age) for age in ("081Y", "033Y"))
    later = statement(study_uid="1.3", birth_date="", age="085Y", study_date="20240102")
    assert refused(old, young) == {"P"} and not refused(old, later)


def test_studies_without_an_id_are_not_held_against_each_other():
    nobody = [statement(patient=None, study_uid=uid, sex=sex) for uid, sex in (("1.1", "F"), ("1.2", "M"))]
    assert not refused(*nobody)
    assert refused(*nobody, nobody[0]._replace(sex="M")) == {"unknown, study 1.1"}


def test_every_stack_of_a_refused_patient_has_the_reason():
    rules = rows.Rules("test", Names(b"k"), GATES, WEIGHTS, Path())
    scout = header(100, series_uid="1.1.2", image_type="ORIGINAL\\PRIMARY\\LOCALIZER")
    files = [*(header(k) for k in range(60)), scout]
    judged = rows.judge(files, replace(rules, ambiguous=frozenset({"P"})))
    assert [(row["accepted"], row["reason"], row["gates"]) for row in judged.series] == [
        (False, "several_people", ["several_people"]),
        (False, "several_people", ["several_people", "localizer"]),
    ]
    (study,) = judged.studies
    assert (study["status"], study["stage"], study["reason"]) == ("rejected", "index", "several_people")
    assert not judged.chosen and not any(row["slices"] for row in judged.linkage)
    assert len(rows.judge(files, rules).chosen) == 1


def test_three_people_under_one_id_have_no_result_and_their_label_is_not_used(tmp_path):
    people_of_p = [("F", "19500117"), ("M", "19850204"), ("F", "19320722")]
    for number, (sex, born) in enumerate(people_of_p):
        add_study(tmp_path / "archive", number, PatientID="P", PatientSex=sex, PatientBirthDate=born)
    add_study(tmp_path / "archive", 9, PatientID="Q", PatientSex="M", PatientBirthDate="19850204")
    lines = [f"{patient},2020-01-12,{level},110,mg/cm3 HA,x\n" for patient in "PQ" for level in ("L1", "L?")]
    (tmp_path / "labels.csv").write_text("patient_id,study_date,level,vbmd,unit,device\n" + "".join(lines))
    where = places(tmp_path, tmp_path / "archive", tmp_path / "labels.csv")
    run(where)
    studies = read(where, "studies")
    assert (
        sorted((row["status"], row["reason"]) for row in studies if row["reason"])
        == [("rejected", "several_people")] * 3
    )
    assert len({row["patient_id"] for row in studies}) == 2
    assert sum(row["accepted"] for row in read(where, "series")) == 1
    assert [row["reason"] for row in read(where, "labels")] == ["ambiguous_patient", "bad_level", None, "bad_level"]


@pytest.mark.parametrize(
    "other",
    [{"PatientID": "Q"}, {"PatientID": ""}, {"PatientID": "Q", "PatientSex": "M"}, {"IssuerOfPatientID": "EAST"}],
    ids=["another id", "no id", "another person", "another issuer"],
)
def test_halves_of_a_series_under_two_ids_are_two_studies_that_both_say_so(tmp_path, other):
    slices = axial_stack(12)
    common = {"PatientID": "P", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1"}
    save_all(slices[:6], tmp_path / "archive/a", **common, IssuerOfPatientID="WEST")
    save_all(slices[6:], tmp_path / "archive/b", **common | other)
    add_study(tmp_path / "archive", 9)
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    for table in ("studies", "series"):
        flagged = ["shared_study_uid" in row["flags"] for row in read(where, table)]
        assert sorted(flagged) == [False, True, True]
