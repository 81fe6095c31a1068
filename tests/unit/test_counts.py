"""What the pages count: every study and person once, over all cohorts; what is gone from the archive is said apart."""

import re

import pandas as pd
import pytest
import small_report
from hypothesis import given
from hypothesis import strategies as st
from small_study import LOST, empty

from trabecula import tables
from trabecula.cohort import gone
from trabecula.report import first_paragraph
from trabecula.report.counts import Counts, count

MEASURED, REFUSED = ("measured", None, None), ("rejected", "index", "too_short")
FAILED = ("failed", "convert", "vanished")
FATES = st.sampled_from([MEASURED, REFUSED, FAILED, gone.GONE])
# The fate of a study by cohort and number.
ARCHIVES = st.dictionaries(st.tuples(st.sampled_from("abc"), st.integers(0, 7)), FATES, max_size=20)


def tables_of(archives: dict[tuple[str, int], tuple]) -> tuple:
    """Make studies and patients: studies 2n and 2n + 1 are of patient n, who has a result by a measured study."""
    studies, results = [], {}
    for (cohort, number), (status, stage, reason) in archives.items():
        key = {"cohort": cohort, "patient_id": f"pa{number // 2}", "study_id": f"st{number}"}
        shard = None if (status, stage, reason) == REFUSED else "00000"
        studies.append(empty(tables.STUDIES, **key, status=status, stage=stage, reason=reason, shard=shard))
        if (status, stage, reason) != gone.GONE:
            results.setdefault((cohort, key["patient_id"]), []).append(status)
    patients = [
        {"cohort": cohort, "patient_id": patient, "vbmd_mg_cm3": 99.0 if "measured" in fates else None}
        for (cohort, patient), fates in results.items()
    ]
    columns = ["cohort", "patient_id", "vbmd_mg_cm3"]
    return tables.cast(studies, tables.STUDIES), pd.DataFrame(patients, columns=columns).assign(qct_vbmd_mg_cm3=None)


@given(ARCHIVES)
def test_every_study_and_person_counts_once_whatever_the_number_of_cohorts(archives):
    n = count(*tables_of(archives))
    present = {key: fate for key, fate in archives.items() if fate != gone.GONE}
    studies = {number for _, number in present}
    assert (n.studies, n.patients) == (len(studies), len({number // 2 for number in studies}))
    measured = {number for (_, number), fate in present.items() if fate == MEASURED}
    assert (n.measured, n.results) == (len(measured), len({number // 2 for number in measured}))
    cohorts_of = {number: {cohort for cohort, other in present if other == number} for number in studies}
    assert n.studies_in_several == sum(len(cohorts) > 1 for cohorts in cohorts_of.values())
    assert n.gone == len({number for _, number in archives} - studies)
    assert n.gone <= n.known <= len({number for _, number in archives})


@given(ARCHIVES)
def test_one_cohort_has_nobody_in_several(archives):
    one = {key: fate for key, fate in archives.items() if key[0] == "a"}
    n = count(*tables_of(one))
    assert (n.patients_in_several, n.studies_in_several) == (0, 0)
    assert not any("several cohorts" in sentence for sentence in first_paragraph.counts(n))


def counts_of(**numbers: int) -> Counts:
    return Counts(**(dict.fromkeys(Counts.__dataclass_fields__, 0) | numbers))


def test_an_empty_archive_is_said_in_one_sentence():
    assert first_paragraph.counts(counts_of()) == ["No CT study was found."]


@pytest.mark.parametrize(
    ("n_gone", "n_known", "said", "warned"),
    [(0, 9, False, False), (4, 40, True, False), (5, 40, True, True), (9, 9, True, True)],
)
def test_what_is_gone_is_said_with_numbers_and_much_of_it_is_a_warning(n_gone, n_known, said, warned):
    text = " ".join(first_paragraph.counts(counts_of(gone=n_gone, known=n_known)))
    assert (f"Of {n_known} studies that were ever accepted, {n_gone}" in text) == said
    assert ("check that the archive is complete" in text) == warned
    assert gone.too_many(n_gone, n_known) == warned


def test_the_summary_counts_a_person_of_several_cohorts_once_and_says_so(tmp_path):
    """Five of the ten patients of one cohort are in the other one too, by the same studies."""
    sizes = {"clinic_a": 10, "clinic_b": 10}
    cast, statistics = small_report.everything(tmp_path, sizes)
    same = {f"{kind}b{i:018d}": f"{kind}a{i:018d}" for kind in ("pa", "st") for i in range(5)}
    for name, schema in (("patients", tables.PATIENTS), ("studies", tables.STUDIES)):
        rows = cast[name].to_pylist()
        for row in rows:
            row |= {key: same.get(row[key], row[key]) for key in ("patient_id", "study_id")}
        cast[name] = tables.cast(rows, schema)
    page = small_report.summary((cast, statistics))
    assert "15 CT studies of 15 patients were found" in page
    assert "5 patients and 5 studies stand in several cohorts" in page


def test_studies_that_are_gone_are_no_patients_and_no_studies_of_the_page(tmp_path):
    cast, statistics = small_report.everything(tmp_path, {"clinic_b": 12})
    vanished = dict(zip(("status", "stage", "reason"), gone.GONE, strict=True)) | {"shard": "00000"}
    studies = [row | (vanished if i < 6 else {}) for i, row in enumerate(cast["studies"].to_pylist())]
    left = {row["patient_id"] for row in studies[:6]}
    patients = [row for row in cast["patients"].to_pylist() if row["patient_id"] not in left]
    cast |= {"studies": tables.cast(studies, tables.STUDIES), "patients": tables.cast(patients, tables.PATIENTS)}
    page = small_report.compose((cast, statistics), "clinic_b").page
    assert "6 CT studies of 6 patients were found" in page
    assert "studies that were ever accepted, 6 (" in page


def fate(place: str, reason: str | None = None, *flags: str) -> dict:
    cohort, patient, study = place.split("/")
    status = ("measured", None, None) if reason is None else ("failed", "convert", reason)
    outcome = dict(zip(("status", "stage", "reason"), status, strict=True))
    return empty(tables.STUDIES, cohort=cohort, patient_id=patient, study_id=study, **outcome) | {"flags": list(flags)}


def counted(*studies: dict) -> Counts:
    results = [row for row in studies if row["status"] == "measured"]
    columns = ["cohort", "patient_id", "study_id"]
    patients = pd.DataFrame([{name: row[name] for name in columns} for row in results], columns=columns)
    return count(tables.cast(studies, tables.STUDIES), patients.assign(vbmd_mg_cm3=99.0, qct_vbmd_mg_cm3=None))


def test_a_person_under_two_ids_counts_once_and_the_page_says_so():
    p = fate("a/p/p1", None, "split", "same_scan"), fate("b/p/p1", None, "same_scan"), fate("a/p/p2", "same_scan")
    q = fate("a/q/q1", "same_scan"), fate("a/q/q2", "same_person"), fate("b/q/q1", "same_scan")
    n = counted(*p, *q, fate("b/r/r1"))
    assert (n.studies, n.patients, n.measured, n.results) == (3, 2, 2, 2)
    assert (n.repeated_studies, n.repeated_patients, n.patients_in_several, n.studies_in_several) == (2, 1, 1, 1)
    text = " ".join(first_paragraph.counts(n))
    assert "3 CT studies of 2 patients were found" in text
    assert "2 further studies with the pixels of another study, and 1 further patient id" in text


def test_a_patient_whose_scan_counts_in_another_cohort_is_there_with_the_other_scans():
    n = counted(fate("b/p/p1", "same_scan"), fate("b/p/p2"), fate("b/q/q1", "same_scan"), fate("b/q/q2", "truncated"))
    assert (n.studies, n.patients, n.measured, n.results, n.repeated_patients) == (2, 1, 1, 1, 1)


def test_without_copies_nothing_is_said_of_them():
    n = counted(fate("a/p/p1"), fate("a/q/q1", "truncated"))
    assert (n.studies, n.patients, n.repeated_studies, n.repeated_patients) == (2, 2, 0, 0)
    assert "further" not in " ".join(first_paragraph.counts(n))


def test_tables_of_patients_count_a_person_under_two_ids_once(tmp_path):
    """The second person's only scan is that of the first."""
    cast, statistics = small_report.everything(tmp_path, {"clinic_c": 6})
    studies, patients = cast["studies"].to_pylist(), cast["patients"].to_pylist()
    studies[0] |= {"flags": ["same_scan"]}
    studies[1] |= {"status": "failed", "stage": "convert", "reason": "same_scan"}
    patients[1] |= LOST | {"decision_reason": "same_scan"}
    cast |= {"studies": tables.cast(studies, tables.STUDIES), "patients": tables.cast(patients, tables.PATIENTS)}
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", small_report.summary((cast, statistics))))
    assert "5 CT studies of 5 patients were found" in page
    assert page.count("clinic_c screening 5 4") == 2
