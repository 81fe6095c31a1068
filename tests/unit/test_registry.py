"""Pseudonyms that were given stay with the person, whatever becomes of ids, issuers and studies."""

import fcntl
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trabecula.cohort import identities, private
from trabecula.cohort.people import Person
from trabecula.cohort.pseudonym import fingerprint, pseudonym
from trabecula.cohort.registry import Known, Names, StudyOf, earlier_roots, resolve
from trabecula.dicom.identity import Identity
from trabecula.errors import ResultError

KEY = b"k" * 32
WOMAN = Person(frozenset("F"), frozenset({"19500317"}))
MAN = Person(frozenset("M"), frozenset({"19850204"}))


@dataclass
class Hospital:
    """Cohorts as they are indexed one after the other, in memory."""

    known: dict[str, list[Known]] = field(default_factory=dict)
    elsewhere: list[list[Known]] = field(default_factory=list)
    present: dict[StudyOf, Person] = field(default_factory=dict)
    rows: list[Known] = field(default_factory=list)

    def index(self, archive: Mapping[str, str], cohort: str = "west", who: Person | None = None) -> "Hospital":
        """Index an archive: the studies of each patient, in a text such as 'a b'."""
        pairs = [(patient, study) for patient, studies in archive.items() for study in studies.split()]
        return self.index_people(dict.fromkeys(pairs, who or Person()), cohort)

    def index_pairs(self, archive: Iterable[StudyOf], cohort: str = "west") -> "Hospital":
        return self.index_people(dict.fromkeys(archive, Person()), cohort)

    def index_people(self, present: Mapping[StudyOf, Person], cohort: str = "west") -> "Hospital":
        self.present = dict(present)
        self.elsewhere = [rows for name, rows in sorted(self.known.items()) if name != cohort]
        self.rows = resolve(self.present, self.known.get(cohort, []), self.elsewhere)
        self.known[cohort] = self.rows
        return self

    @property
    def root(self) -> dict[str, str]:
        """Root of each present patient."""
        return {row.patient: row.patient_root for row in self._current()}

    def _current(self) -> list[Known]:
        return [row for row in self.rows if row.is_current and (row.patient, row.study_uid) in self.present]

    @property
    def study_root(self) -> dict[StudyOf, str]:
        """Root of each present study."""
        return {(row.patient, row.study_uid): row.study_root for row in self._current()}

    @property
    def earlier(self) -> dict[str, set[str]]:
        """Other roots of each present patient that has any."""
        return earlier_roots(self.rows, self.elsewhere, self.present)


# --- any history ------------------------------------------------------------------------------------------------------

pairs = st.tuples(st.sampled_from(["P", "Q", "R", "P\\ONE", "P\\TWO", "P (2)"]), st.sampled_from("abcdef"))
archives = st.frozensets(pairs, max_size=8)
histories = st.lists(st.tuples(st.sampled_from(["west", "east"]), archives), min_size=1, max_size=6)
unique_archives = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("PQRSTU"), min_size=1)


def follow(history: Iterable[tuple[str, Iterable[StudyOf]]]) -> Iterable[tuple[str, Hospital]]:
    hospital = Hospital()
    for cohort, archive in history:
        yield cohort, hospital.index_pairs(archive, cohort)


@given(histories)
def test_no_two_patients_and_no_two_studies_of_a_cohort_ever_share_a_pseudonym(history):
    for _, hospital in follow(history):
        assert len(set(hospital.root.values())) == len(hospital.root)
        studies = {(root, study) for (_, study), root in hospital.study_root.items()}
        assert len(studies) == len(hospital.present)
        current = [(row.patient, row.study_uid) for row in hospital.rows if row.is_current]
        assert len(set(current)) == len(current) and set(current) >= set(hospital.present)


@given(histories)
def test_an_archive_that_did_not_change_keeps_all_its_pseudonyms(history):
    for cohort, hospital in follow(history):
        before = hospital.root, hospital.study_root, hospital.earlier
        hospital.index_pairs(list(hospital.present), cohort)
        assert (hospital.root, hospital.study_root, hospital.earlier) == before


@given(histories, archives)
def test_patients_and_studies_that_stay_keep_their_pseudonyms_when_the_archive_grows(history, growth):
    for cohort, hospital in follow(history):
        roots, study_roots, present = hospital.root, hospital.study_root, list(hospital.present)
        hospital.index_pairs({*present, *growth}, cohort)
        assert {patient: hospital.root[patient] for patient in roots} == roots
        assert {study: hospital.study_root[study] for study in study_roots} == study_roots
        hospital.index_pairs(present, cohort)


@given(histories, st.randoms())
def test_the_order_of_what_is_known_and_present_does_not_matter(history, random):
    for cohort, hospital in follow(history):
        known, elsewhere = list(hospital.known[cohort]), [list(rows) for rows in hospital.elsewhere]
        present = list(hospital.present.items())
        for rows in (known, *elsewhere, present):
            random.shuffle(rows)
        again = resolve(dict(present), known, elsewhere)
        assert again == resolve(hospital.present, hospital.known[cohort], hospital.elsewhere)


@given(histories)
def test_a_patient_is_known_by_every_pseudonym_that_a_study_ever_had(history):
    given_roots: dict[tuple[str, str], set[str]] = {}
    for cohort, hospital in follow(history):
        patients_of: dict[str, set[str]] = {}
        for patient, study in hospital.present:
            patients_of.setdefault(study, set()).add(patient)
        for study, patients in patients_of.items():
            if len(patients) == 1:
                (patient,) = patients
                assert given_roots.get((cohort, study), set()) <= {
                    hospital.root[patient],
                    *hospital.earlier.get(patient, ()),
                }
        for (patient, study), _ in hospital.present.items():
            given_roots.setdefault((cohort, study), set()).add(hospital.root[patient])


@given(unique_archives, st.permutations("PQRSTUVWXYZ"))
def test_new_ids_for_all_patients_change_no_pseudonym(studies, ids):
    """Ids corrected, exchanged and moved on by one place, all at once."""
    new_id = dict(zip("PQRSTU", ids, strict=False))
    hospital = Hospital().index_pairs([(patient, study) for study, patient in studies.items()])
    roots, study_roots = hospital.root, hospital.study_root
    hospital.index_pairs([(new_id[patient], study) for study, patient in studies.items()])
    assert hospital.root == {new_id[patient]: root for patient, root in roots.items()}
    assert hospital.study_root == {(new_id[patient], study): root for (patient, study), root in study_roots.items()}


@given(unique_archives)
def test_an_issuer_that_arrives_changes_no_pseudonym_and_later_studies_find_their_patient(studies):
    plain = [(patient, study) for study, patient in studies.items()]
    hospital = Hospital().index_pairs(plain)
    roots = {f"{patient}\\WEST": root for patient, root in hospital.root.items()}
    issued = [(f"{patient}\\WEST", study) for patient, study in plain]
    assert hospital.index_pairs([*issued, *((patient, f"{patient}-later") for patient in roots)]).root == roots


# --- cases by name ----------------------------------------------------------------------------------------------------


def test_a_first_index_takes_the_ids_themselves():
    hospital = Hospital().index({"P": "a b", "Q": "c", "Q\\ONE": "d", "unknown, study e": "e"})
    assert all(patient == root for patient, root in hospital.root.items())
    assert all(patient == root for (patient, _), root in hospital.study_root.items())
    assert not hospital.earlier


def test_the_id_without_issuer_is_an_earlier_one_of_the_only_issuer():
    hospital = Hospital().index({"P": "a"}, who=WOMAN).index({"P\\ONE": "b"}, "east", who=WOMAN)
    assert hospital.root == {"P\\ONE": "P\\ONE"} and hospital.earlier == {"P\\ONE": {"P"}}
    hospital.index({"P\\ONE": "c"}, "south", who=MAN)
    assert not hospital.earlier
    hospital.index({"P\\ONE": "d"}, "north")  # without sex and date of birth, it may be either
    assert {hospital.root["P\\ONE"], *hospital.earlier["P\\ONE"]} == {"P\\ONE", "P\\ONE (2)"}


def test_an_issuer_comes_while_the_earlier_studies_go():
    hospital = Hospital().index({"P": "a"}).index({"P\\ONE": "b"})
    assert hospital.root == {"P\\ONE": "P"}
    other = Hospital().index_people({("P", "a"): WOMAN}).index_people({("P\\ONE", "b"): MAN})
    assert other.root == {"P\\ONE": "P\\ONE"}


def test_two_issuers_at_once_part_the_patient():
    hospital = Hospital().index({"P": "a b c"}).index({"P\\ONE": "a b", "P\\TWO": "c"})
    assert hospital.root == {"P\\ONE": "P", "P\\TWO": "P\\TWO"}
    assert hospital.study_root == {("P\\ONE", "a"): "P", ("P\\ONE", "b"): "P", ("P\\TWO", "c"): "P"}
    assert hospital.earlier["P\\TWO"] == {"P"}


def test_a_second_issuer_leaves_no_study_with_the_first_that_may_not_be_theirs():
    hospital = Hospital().index({"P": "a"}).index({"P\\ONE": "a b"}).index({"P": "a", "P\\ONE": "b", "P\\TWO": "c"})
    assert hospital.root == {"P": "P (2)", "P\\ONE": "P", "P\\TWO": "P\\TWO"}
    assert hospital.study_root["P", "a"] == "P" and hospital.earlier["P"] == {"P"}


def test_a_misfiled_study_moves_to_its_patient_and_keeps_its_own_pseudonym():
    hospital = Hospital().index({"P": "a b", "Q": "c"}).index({"P": "a", "Q": "b c"})
    assert hospital.root == {"P": "P", "Q": "Q"}
    assert hospital.study_root["Q", "b"] == "P" and hospital.earlier == {"Q": {"P"}}


def test_a_misfiled_study_moves_to_a_new_patient_though_sex_and_birth_are_corrected_too():
    hospital = Hospital().index({"P": "a b"}, who=WOMAN)
    hospital.index_people({("P", "a"): WOMAN, ("Q", "b"): MAN})
    assert hospital.root == {"P": "P", "Q": "Q"} and hospital.earlier == {"Q": {"P"}}


def test_one_patient_with_two_ids_becomes_one():
    hospital = Hospital().index({"P": "a", "Q": "b c"}).index({"R": "a b c"})
    assert hospital.root == {"R": "Q"} and hospital.earlier == {"R": {"P"}}
    assert hospital.index({"R": "a b c", "P": "d"}).root == {"R": "Q", "P": "P (2)"}


def test_an_id_that_was_handed_over_is_never_its_former_patient_again():
    hospital = Hospital().index({"P": "a"}).index({"Q": "a"}).index({"Q": "a", "P": "b"})
    assert hospital.root == {"Q": "P", "P": "P (2)"}
    assert hospital.index({"Q": "a", "P": "b c"}).root == {"Q": "P", "P": "P (2)"}


def test_an_old_copy_that_comes_back_is_another_study():
    hospital = Hospital().index({"P": "a"}).index({"Q": "a"}).index({"Q": "a", "P": "a"})
    assert hospital.root == {"Q": "P", "P": "P (2)"} and hospital.study_root["Q", "a"] == "P"
    assert hospital.study_root["P", "a"] not in ("P", "Q")


def test_an_id_that_is_given_to_another_person_is_another_patient():
    hospital = Hospital().index_people({("P", "a"): WOMAN})
    assert hospital.index_people({("P", "b"): MAN}).root == {"P": "P (2)"} and not hospital.earlier
    assert hospital.index_people({("P", "b"): MAN, ("Q", "a"): WOMAN}).root == {"P": "P (2)", "Q": "P"}


def test_a_patient_whose_studies_were_all_replaced_is_the_same():
    assert Hospital().index({"P": "a"}, who=WOMAN).index({"P": "b"}, who=WOMAN).root == {"P": "P"}
    hospital = Hospital().index({"P": "a", "Q": "b"}).index({"R": "a", "Q": "b"}).index({"Q": "b"})
    assert hospital.index({"Q": "b", "R": "c"}).root["R"] == "P"


def test_exchanged_ids_go_back_to_their_scans():
    hospital = Hospital().index({"P": "a", "Q": "b"}).index({"P": "b", "Q": "a"})
    assert hospital.root == {"P": "Q", "Q": "P"} and not hospital.earlier
    assert hospital.index({"P": "a", "Q": "b"}).root == {"P": "P", "Q": "Q"}


def test_an_anonymous_study_whose_id_is_filled_in_keeps_its_pseudonym():
    hospital = Hospital().index({"unknown, study a": "a"}).index({"P": "a b"})
    assert hospital.root == {"P": "unknown, study a"}
    known = Hospital().index({"unknown, study a": "a", "P": "b"}).index({"P": "a b"})
    assert known.root == {"P": "P"} and known.earlier == {"P": {"unknown, study a"}}


def test_a_study_under_its_old_and_its_new_id_is_known_by_both_until_the_old_copy_goes():
    hospital = Hospital().index({"P": "a"}).index({"P": "a", "Q": "a"})
    assert hospital.root == {"P": "P", "Q": "Q"} and hospital.earlier == {"P": {"Q"}, "Q": {"P"}}
    hospital.index({"Q": "a"})
    assert hospital.root == {"Q": "Q"} and hospital.earlier == {"Q": {"P"}}
    names = Names(KEY, hospital.rows)
    assert names.former_studies == {pseudonym("study", "P\\a", KEY)}


@pytest.mark.parametrize(("who", "is_former"), [(MAN, False), (WOMAN, True), (Person(), True)])
def test_a_study_that_goes_is_a_former_one_unless_its_uid_is_now_another_persons(who, is_former):
    hospital = Hospital().index_people({("P", "a"): WOMAN, ("Q", "a"): who})
    gone = hospital.study_root["P", "a"]
    for _ in range(2):  # it stays so
        hospital.index_people({("Q", "a"): who})
        former = Names(KEY, hospital.rows).former_studies
        assert former == ({pseudonym("study", f"{gone}\\a", KEY)} if is_former else set())


def test_a_uid_that_many_patients_share_makes_nobody_known_by_another():
    hospital = Hospital().index({"P": "a", "Q": "a", "R": "a"})
    assert not hospital.earlier
    assert not hospital.index({"S": "a"}, "east").earlier.get("S", set()) - {"P", "Q", "R"}
    two = Hospital().index_people({("P", "a"): WOMAN, ("Q", "a"): MAN})
    assert not two.earlier


# --- several cohorts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("west", "east"), ("east", "west")])
def test_cohorts_over_one_archive_agree_on_a_correction(order):
    hospital = Hospital().index({"P": "a", "Q": "b"}).index({"P": "a", "Q": "b"}, "east")
    for cohort in order:
        assert hospital.index({"P": "b", "R": "a"}, cohort).root == {"P": "Q", "R": "P"}
        assert set(hospital.study_root.values()) == {"P", "Q"}


def test_a_new_cohort_over_the_corrected_archive_knows_the_patient():
    hospital = Hospital().index({"P": "a"}).index({"Q": "a"}, "east")
    assert hospital.root == {"Q": "P"} and hospital.study_root == {("Q", "a"): "P"}
    assert hospital.index({"Q": "a"}).root == {"Q": "P"}


def test_an_id_is_corrected_to_that_of_a_patient_of_another_cohort():
    hospital = Hospital().index({"Q": "x"}, "east", who=WOMAN).index({"P": "a"}, who=WOMAN)
    hospital.index({"Q": "a"}, who=WOMAN)
    assert hospital.root == {"Q": "Q"} and hospital.study_root == {("Q", "a"): "P"}
    assert hospital.earlier == {"Q": {"P"}}
    assert (
        hospital.index({"Q": "x"}, "east", who=WOMAN).earlier == {}
    )  # what is known there is told by the other cohort


def test_one_id_of_two_people_in_two_cohorts_is_two_patients():
    hospital = Hospital().index({"P": "a"}, who=WOMAN).index({"P": "b"}, "east", who=MAN)
    assert hospital.root == {"P": "P (2)"} and not hospital.earlier
    assert hospital.index({"P": "c"}, "south", who=WOMAN).root == {"P": "P"}


def test_one_id_and_one_study_uid_of_two_people_in_two_cohorts_are_two_studies():
    hospital = Hospital().index({"P": "a"}, who=WOMAN).index({"P": "a"}, "east", who=MAN)
    assert hospital.root == {"P": "P (2)"} and hospital.study_root == {("P", "a"): "P (2)"}
    assert hospital.index({"P": "a"}, "south", who=WOMAN).study_root == {("P", "a"): "P"}


# --- names and files --------------------------------------------------------------------------------------------------


def test_names_are_made_from_roots():
    hospital = Hospital().index({"P": "a"}).index({"Q": "a", "R": "b"})
    names = Names(KEY, hospital.rows, {"Q": {"X", "Y"}})
    assert names.of_series(Identity("Q", "a", "a.1")) == Names(KEY).of_series(Identity("P", "a", "a.1"))
    assert names.series_uid(Identity("Q", "a", "a.1")) == Names(KEY).series_uid(Identity("P", "a", "a.1"))
    assert names.of_series(Identity("R", "b", "b.1")) == Names(KEY).of_series(Identity("R", "b", "b.1"))
    assert names.earlier_ids("Q") == sorted(pseudonym("patient", root, KEY) for root in "XY")
    assert names.earlier_ids("R") == []


def test_a_label_of_an_id_that_was_handed_over_has_nobodys_pseudonym():
    names = Names(KEY, Hospital().index({"P": "a"}).index({"Q": "a"}).rows)
    taken = names.of_series(Identity("Q", "a", "a.1")).patient_id
    assert names.patient_id("P") != taken == pseudonym("patient", "P", KEY)
    assert names.patient_id("S") == pseudonym("patient", "S", KEY)
    assert names.patient_id("Q") == taken  # Q's studies may be gone next time


def test_what_was_given_is_read_from_the_private_folder_of_all_cohorts(tmp_path):
    def settle(cohort: str, archive: dict[str, str], key: bytes = KEY) -> str:
        present = {(patient, study): WOMAN for patient, study in archive.items()}
        names = identities.settle(tmp_path, cohort, present, key)
        ((patient, study),) = archive.items()
        return names.of_series(Identity(patient, study, "s")).patient_id

    first = settle("west", {"P": "a"})
    path = tmp_path / "west/identities.parquet"
    content = path.read_bytes()
    assert settle("west", {"P": "a"}) == first and path.read_bytes() == content
    assert settle("west", {"Q": "a"}) == first == settle("east", {"Q": "a"})
    synthetic = b"s" * 32
    assert settle("demo", {"Q": "a"}, synthetic) == pseudonym("patient", "Q", synthetic)  # another key knows nobody
    assert {file.stat().st_mode & 0o777 for file in tmp_path.rglob("*") if file.is_file()} == {0o600}
    assert fingerprint(KEY).encode() in path.read_bytes()
    path.write_bytes(b"PAR1")
    for cohort in ("west", "east"):
        with pytest.raises(ResultError, match="Restore it from a backup"):
            settle(cohort, {"Q": "a"})


def test_cohorts_that_are_indexed_at_once_wait_for_each_other_also_on_nfs(tmp_path, monkeypatch):
    """On NFS, a lock for one alone needs a file that is open for writing (flock(2))."""
    locked = []

    def lock(file: BinaryIO, kind: int) -> None:
        assert fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
        locked.append(kind)

    monkeypatch.setattr(private.fcntl, "flock", lock)
    identities.settle(tmp_path, "west", {("P", "a"): WOMAN}, KEY)
    assert locked == [fcntl.LOCK_EX | fcntl.LOCK_NB]
