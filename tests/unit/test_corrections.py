"""An archive whose ids are corrected from one index to the next: tables, labels and lists keep their patients."""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from test_index import add_study, places, read, run

from trabecula import index
from trabecula.cohort import shards

MARKS = ("patient_id", "study_id", "series_id")
ONE_LABEL = "patient_id,study_date,level,vbmd,unit,device\n{},2020-01-12,L1,110,mg/cm3 HA,x\n"


@pytest.fixture
def where(tmp_path: Path) -> index.Cohort:
    """A cohort of two patients, indexed once; the second has a label."""
    add_study(tmp_path / "archive", 1)
    add_study(tmp_path / "archive", 2)
    (tmp_path / "labels.csv").write_text(ONE_LABEL.format("HOSPITAL-2"))
    cohort = places(tmp_path, tmp_path / "archive", tmp_path / "labels.csv")
    run(cohort)
    return cohort


def marks(cohort: index.Cohort) -> set[tuple[str, ...]]:
    """Pseudonyms of all studies."""
    return {tuple(row[mark] for mark in MARKS) for row in read(cohort, "studies")}


def correct(cohort: index.Cohort, number: int, **attributes: str) -> None:
    """Write a study anew with other attributes."""
    shutil.rmtree(cohort.archive / f"study{number}")
    add_study(cohort.archive, number, **attributes)


def of_new_cohort(cohort: index.Cohort, name: str = "other", **changes: object) -> index.Cohort:
    """Give a cohort beside another one, with the same private folder."""
    return replace(cohort, name=name, public=cohort.public.with_name(name), **changes)


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ({}, {"PatientID": "HOSPITAL-2X"}),
        ({}, {"IssuerOfPatientID": "WEST"}),
        ({"IssuerOfPatientID": "WEST"}, {"IssuerOfPatientID": ""}),
        ({"PatientID": ""}, {"PatientID": "HOSPITAL-2"}),
        ({}, {"PatientID": "HOSPITAL-2X", "PatientBirthDate": "19510102", "PatientSex": "M"}),
    ],
    ids=["corrected", "issuer comes", "issuer goes", "filled in", "person corrected"],
)
def test_a_correction_changes_no_pseudonym_and_leaves_no_ghost(where, first, later):
    correct(where, 2, **first)
    run(where)
    before = marks(where)
    correct(where, 2, **later)
    run(where)
    assert marks(where) == before
    assert [row["reason"] for row in read(where, "studies")] == [None, None]
    assert not any(row["earlier_ids"] for row in read(where, "studies"))
    assert {row["study_id"] for row in read(where, "studies")} == set(
        shards.read_ledger(where.public / "index/ledger.tsv")
    )


def test_a_label_follows_the_corrected_id_and_its_old_id_is_nobody(where, tmp_path):
    (patient,) = {row["patient_id"] for row in read(where, "labels")}
    correct(where, 2, PatientID="HOSPITAL-2X")
    run(where)
    (label,) = read(where, "labels")
    assert (label["reason"], label["patient_id"] == patient) == ("no_scan", False)
    (tmp_path / "labels.csv").write_text(ONE_LABEL.format("HOSPITAL-2X"))
    run(where)
    (label,) = read(where, "labels")
    assert (label["status"], label["patient_id"]) == ("used", patient)


def test_a_misfiled_study_changes_its_patient_and_says_which_it_had(where):
    old = {row["study_id"]: row["patient_id"] for row in read(where, "studies")}
    add_study(where.archive, 3, PatientID="HOSPITAL-1")
    run(where)
    (third,) = {row["study_id"] for row in read(where, "studies")} - old.keys()
    first, second = (name for name, _ in sorted(old.items(), key=lambda item: item[1] != patient_of(where, third)))
    correct(where, 3, PatientID="HOSPITAL-2")
    run(where)
    studies = {row["study_id"]: row for row in read(where, "studies")}
    assert studies.keys() == {*old, third} and studies[third]["patient_id"] == old[second]
    assert studies[third]["earlier_ids"] == studies[second]["earlier_ids"] == [old[first]]
    assert studies[first]["earlier_ids"] == []
    listed = [study for path in (where.public / "shards").iterdir() for study in shards.read_manifest(path)]
    current = {
        study.study_id: study.patient_id for study in listed if study.patient_id == patient_of(where, study.study_id)
    }
    assert current == {name: row["patient_id"] for name, row in studies.items()}


def patient_of(cohort: index.Cohort, study_id: str) -> str:
    (patient,) = {row["patient_id"] for row in read(cohort, "studies") if row["study_id"] == study_id}
    return patient


def test_a_correction_in_two_steps_leaves_no_ghost_either(where):
    old = {row["patient_id"] for row in read(where, "studies")}
    shutil.copytree(where.archive / "study2", where.archive / "study2-corrected")
    add_study(where.archive, 2, PatientID="HOSPITAL-2X")
    (where.archive / "study2").rename(where.archive / "corrected")
    (where.archive / "study2-corrected").rename(where.archive / "study2")
    run(where)
    assert len({row["patient_id"] for row in read(where, "studies")}) == 3
    shutil.rmtree(where.archive / "study2")
    run(where)
    studies = read(where, "studies")
    assert [row["reason"] for row in studies] == [None, None]
    (new,) = [row for row in studies if row["patient_id"] not in old]
    assert new["earlier_ids"] and set(new["earlier_ids"]) < old


def test_results_that_are_made_anew_have_the_same_pseudonyms_after_a_correction(where):
    before = marks(where)
    correct(where, 2, PatientID="HOSPITAL-2X")
    shutil.rmtree(where.public)
    run(where)
    assert marks(where) == before


def test_another_cohort_knows_the_corrected_patient(where):
    before = marks(where)
    correct(where, 2, PatientID="HOSPITAL-2X")
    run(where)
    other = of_new_cohort(where)
    run(other)
    assert marks(other) == before


def test_cohorts_of_one_archive_agree_in_whichever_order_they_are_indexed(where):
    other = of_new_cohort(where)
    run(other)
    before = marks(where)
    correct(where, 1, PatientID="HOSPITAL-2")
    correct(where, 2, PatientID="HOSPITAL-1")
    for cohort in (other, where):
        run(cohort)
        assert marks(cohort) == before


def test_a_synthetic_cohort_and_a_hospital_do_not_know_each_others_patients(where):
    synthetic = of_new_cohort(where, synthetic=True)
    run(synthetic)
    assert not {mark for row in marks(synthetic) for mark in row} & {mark for row in marks(where) for mark in row}
    assert not any(row["earlier_ids"] for row in read(synthetic, "studies"))


def test_the_file_of_identities_is_its_owners_and_says_what_was_given(where):
    path = where.private / "test/identities.parquet"
    assert path.stat().st_mode & 0o777 == 0o600
    rows = pq.read_table(path).to_pylist()
    assert {row["patient"] for row in rows} == {"HOSPITAL-1", "HOSPITAL-2"} == {row["patient_root"] for row in rows}
    run(where)
    assert pq.read_table(path).to_pylist() == rows
