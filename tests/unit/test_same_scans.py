"""Scans that are there twice: which study and which person counts."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trabecula import tables
from trabecula.cohort.same_scans import SKETCHES, SameScans, decide
from trabecula.errors import FLAGS, REASONS

ROLES = {"dev": "development", "dev2": "development", "ext": "external", "screen": "screening"}


NOTHING = SameScans({}, frozenset(), {})


def scan(place: str, digests: str = "", **values: Any) -> dict[str, Any]:
    """Make the sketch of a study at cohort/patient/study, with a digest per letter."""
    cohort, patient, study = place.split("/")
    row = {"cohort": cohort, "patient_id": patient, "study_id": study, "status": "ok", "n_slices": 90}
    return row | {"slice_digests": sorted(digests)} | values


def decided(*scans: dict[str, Any], labelled: tuple[str, ...] = (), status: str = "used") -> SameScans:
    rows = [dict(zip(("cohort", "patient_id"), place.split("/"), strict=True), status=status) for place in labelled]
    schema = pa.schema([(name, tables.TEXT) for name in ("cohort", "patient_id", "status")])
    return decide(pa.Table.from_pylist(list(scans), SKETCHES), pa.Table.from_pylist(rows, schema), ROLES)


def reasons(same: SameScans) -> dict[str, str]:
    return {study: entry.reason for study, entry in same.set_aside.items()}


def test_scans_that_share_nothing_all_count():
    same = decided(scan("dev/a/a1", "abc"), scan("dev/a/a2", "def"), scan("ext/b/b1", "ghi"), scan("ext/c/c1"))
    assert same == NOTHING
    assert decided() == NOTHING


def test_scans_without_digests_are_not_the_same():
    blank = [scan(f"dev/{name}/{name}1") for name in "abc"]
    assert decided(*blank) == NOTHING


def test_a_failed_study_is_no_copy():
    same = decided(scan("dev/a/a1", "abc", status="failed"), scan("dev/b/b1", "abc"))
    assert same == NOTHING


def test_of_one_patients_studies_the_fuller_one_counts_and_is_flagged():
    same = decided(scan("dev/a/a1", "ab", n_slices=60), scan("dev/a/a2", "bc"), scan("dev/a/a3", "xyz"))
    assert reasons(same) == {"a1": "same_scan"} and same.flagged == {"a2"}
    assert same.set_aside["a1"].detail == "counts as study a2"
    same = decided(scan("dev/a/a1", "ab"), scan("dev/a/a2", "ab"))
    assert reasons(same) == {"a2": "same_scan"} and same.flagged == {"a1"}


@pytest.mark.parametrize(
    ("first", "second", "labelled", "counts"),
    [
        ("dev/a/a2", "screen/a/a1", (), "a2"),
        ("ext/a/a2", "screen/a/a1", ("screen/a",), "a2"),
        ("ext/a/a2", "dev/a/a1", ("ext/a",), "a1"),
        ("dev/a/a1", "dev2/a/a2", ("dev2/a",), "a2"),
    ],
)
def test_of_one_patients_studies_in_several_cohorts_the_role_goes_first_then_a_label(first, second, labelled, counts):
    """Else a scan of the training would be replaced by that of a cohort without labels."""
    scans = scan(first, "abc"), scan(second, "abc", n_slices=200 if counts in first else 50)
    assert decided(*scans, labelled=labelled).flagged == {counts}


def test_a_person_with_two_ids_counts_by_one_of_them():
    same = decided(scan("dev/a/a1", "abc"), scan("dev/b/b1", "cde"), scan("dev/b/b2", "xyz"), scan("dev/a/a2", "uvw"))
    assert reasons(same) == {"b1": "same_scan", "b2": "same_person"} and same.flagged == {"a1"}
    assert same.set_aside["b2"].detail == "is the same person as patient a"


@pytest.mark.parametrize(
    ("first", "second", "labelled", "counts"),
    [
        ("ext/a/a1", "dev/b/b1", ("ext/a",), "b1"),
        ("screen/a/a1", "ext/b/b1", ("screen/a",), "b1"),
        ("dev/a/a1", "dev2/b/b1", ("dev2/b",), "b1"),
        ("dev/a/a1", "dev2/b/b1", ("dev/a", "dev2/b"), "a1"),
        ("dev/a/a1", "dev/b/b1", ("ext/b",), "a1"),
        ("dev/b/b1", "dev/a/a1", (), "a1"),
    ],
)
def test_development_goes_first_then_a_label_then_the_name(first, second, labelled, counts):
    for order in ((first, second), (second, first)):
        same = decided(*(scan(place, "abc") for place in order), labelled=labelled)
        assert same.flagged == {counts} and set(reasons(same).values()) == {"same_scan"}


def test_a_label_that_cannot_be_used_does_not_count():
    places = scan("dev/a/a1", "abc"), scan("dev/b/b1", "abc")
    assert decided(*places, labelled=("dev/b",), status="unused").flagged == {"a1"}


def test_the_fuller_copy_goes_before_the_smaller_name():
    assert decided(scan("dev/a/a1", "ab", n_slices=50), scan("dev/b/b1", "abc", n_slices=80)).flagged == {"b1"}


def test_a_patients_role_is_that_of_any_of_their_studies():
    same = decided(scan("ext/a/a1", "abc"), scan("ext/b/b1", "abc"), scan("dev/b/b0", "xyz"))
    assert reasons(same) == {"a1": "same_scan"} and same.flagged == {"b1"}


def test_links_reach_over_three_patients():
    same = decided(scan("dev/a/a1", "abc"), scan("ext/b/b1", "cde"), scan("ext/b/b2", "xyz"), scan("ext/c/c1", "zuv"))
    assert reasons(same) == {"b1": "same_scan", "b2": "same_person", "c1": "same_person"}
    assert same.flagged == {"a1"}


def test_two_cohorts_over_one_archive_keep_the_same_study():
    twice = [scan(f"{cohort}/a/a1", "abc") for cohort in ("dev", "ext")]
    assert decided(*twice) == NOTHING
    same = decided(*twice, *(scan(f"{cohort}/b/b1", "abc") for cohort in ("dev", "ext")))
    assert reasons(same) == {"b1": "same_scan"} and same.flagged == {"a1"}


def test_patients_of_a_training_are_known_by_their_scans_and_by_their_other_ids():
    scans = [scan("ext/a/a1", "abc"), scan("ext/b/b1", "abc"), scan("ext/c/c1", "cde"), scan("ext/d/d1", "xyz")]
    sketches = pa.Table.from_pylist([*scans, scan("ext/e/e1")], SKETCHES)
    same = decided(*scans)
    assert same.counting == {"a": "a", "b": "a", "c": "a"}
    assert same.known_by_scans(sketches, [], []) == frozenset()
    assert same.known_by_scans(sketches, [], ["x", "q"]) == {"d"}
    assert same.known_by_scans(sketches, ["b"], []) == {"a"}
    assert same.known_by_scans(sketches, [], ["e"]) == {"a", "c"}
    assert same.known_by_scans(sketches, ["d"], []) == frozenset()
    assert decided().known_by_scans(SKETCHES.empty_table(), ["a"], ["a"]) == frozenset()


def test_rows_of_convert_get_reason_and_flag_and_later_rows_go():
    same = decided(scan("dev/a/a1", "abc"), scan("dev/b/b1", "abc"), scan("dev/b/b2", "x"))
    plain = {"cohort": "dev", "series_id": "se", "repairs": [], "flags": ["split"], "slice_digests": []}
    names = dict(a1="a", b1="b", b2="b", c1="c")
    rows = [
        dict.fromkeys(tables.CONVERT.names) | plain | {"patient_id": patient, "study_id": study, "status": "ok"}
        for study, patient in names.items()
    ]
    rows[2] |= {"status": "failed", "reason": "truncated"}
    table = tables.cast(rows, tables.CONVERT)
    converted = tables.cast(same.converted(table), tables.CONVERT).to_pylist()
    assert [(row["status"], row["reason"]) for row in converted] == [
        ("ok", None), ("failed", "same_scan"), ("failed", "truncated"), ("ok", None)
    ]  # fmt: skip
    assert [row["flags"] for row in converted] == [["split", "same_scan"], ["split"], ["split"], ["split"]]
    assert same.keep(table)["study_id"].to_pylist() == ["a1", "c1"]
    assert {"same_scan", "same_person"} <= REASONS.keys() and "same_scan" in FLAGS


people = st.sampled_from("abcd")
places = st.tuples(st.sampled_from(list(ROLES)), people, st.integers(1, 3), st.text("uvwxyz", max_size=3))


@given(st.lists(places, max_size=12, unique_by=lambda place: place[:3]), st.randoms())
def test_every_shared_scan_counts_for_one_patient_at_most_whatever_the_order(drawn, shuffled):
    scans = [scan(f"{cohort}/{patient}/{patient}{n}", "".join(set(text))) for cohort, patient, n, text in drawn]
    same = decided(*scans)
    by_digest: dict[str, set[str]] = {}
    for row in scans:
        for digest in row["slice_digests"]:
            by_digest.setdefault(digest, set()).add(row["study_id"])
    for studies in by_digest.values():
        left = studies - same.set_aside.keys()
        assert len(left) <= 1 and (len(studies) == 1 or left <= same.flagged)
    persons = {row["patient_id"] for row in scans if row["study_id"] not in same.set_aside}
    assert bool(persons) == bool(scans) and not same.flagged & same.set_aside.keys()
    shuffled.shuffle(scans)
    assert decided(*scans) == same
