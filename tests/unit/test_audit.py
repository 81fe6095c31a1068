"""The audit of what is trained on: nobody twice, nobody lost, and every reason true."""

from collections import defaultdict

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_study import empty

from trabecula import tables
from trabecula.cohort.gone import GONE
from trabecula.cohort.same_scans import SetAside
from trabecula.errors import REASONS, ConfigError
from trabecula.train import audit, splits
from trabecula.train.cases import Choice, Sources, find_cases, read_sources

CHOICE = Choice(["L1", "L2"], ["L3"], 100, 120.0)
ORDER = ["b", "a"]


def row(schema, **values) -> dict:
    return dict.fromkeys(schema.names) | values


def scan(cohort: str, patient: str, day: int | None = 0, levels: str = "L1 L2", *, complete: bool = True) -> dict:
    """A study and its vertebrae; without levels it was not measured."""
    keys = {"cohort": cohort, "patient_id": patient, "study_id": f"{cohort}-{patient}-{day}"}
    facts = {
        "days_from_first_study": day,
        "repairs": [],
        "flags": [],
        "levels_used": [],
        "novelty": [],
        "earlier_ids": [],
        "status": "accepted",
        "device_key": "d",
    }
    measured = {"complete": complete, "trabecular_hu_mean": 150.0 if complete else None, "flags": []}
    vertebrae = [keys | measured | {"level": level} for level in levels.split()]
    return {"study": row(tables.STUDIES, **keys, **facts), "vertebrae": vertebrae}


def label(cohort: str, patient: str, vbmd: float | None = 100.0, day: int | None = 0, **facts) -> dict:
    required = {"cohort": cohort, "patient_id": patient, "vbmd_mg_cm3": vbmd, "days_from_first_study": day}
    plain = {"level": "L1", "unit_given": "mg/cm3 HA", "status": "used", "faults": []}
    return row(tables.LABELS, **(required | plain | facts))


def unused(reason: str, *faults: str) -> dict:
    return {"status": "unused", "reason": reason, "faults": list(faults)}


def sources_of(scans: list[dict], labels: list[dict], set_aside: dict | None = None) -> Sources:
    """Frames as `cases.read_sources` reads them."""
    studies = tables.cast([row["study"] for row in scans], tables.STUDIES).to_pandas()
    numbered = [row | {"line": i} for i, row in enumerate(labels, start=2)]
    columns = ["cohort", "patient_id", "study_id", "level", "complete", "trabecular_hu_mean", "flags"]
    vertebrae = pd.DataFrame([row for scan in scans for row in scan["vertebrae"]], columns=columns)
    digests: dict[str, list[str]] = defaultdict(list)
    crops = pd.DataFrame({"study_id": studies["study_id"], "status": "ok", "blood_hu": 40.0})
    lines = tables.cast(numbered, tables.LABELS).to_pandas()
    return Sources(vertebrae, crops, studies, lines, set_aside or {}, digests)


def audited(scans: list[dict], labels: list[dict]) -> pd.DataFrame:
    """Give the table as it is read back."""
    sources = sources_of(scans, labels)
    cases = find_cases(sources, order=ORDER, choice=CHOICE)
    rows = audit.audit(sources, cases, order=ORDER, choice=CHOICE)
    return pd.DataFrame(tables.from_frame(rows, tables.AUDIT).to_pylist(), columns=tables.AUDIT.names, dtype=object)


def test_a_patient_whose_scan_counts_for_another_id_is_told_so():
    aside = {"b": SetAside("same_scan", ""), "c": SetAside("same_person", "")}
    scans = [scan("a", name, levels="" if name in aside else "L1") for name in "abc"]
    for row in scans:
        row["study"]["study_id"] = row["study"]["patient_id"]
    sources = sources_of(scans, [label("a", name) for name in "abc"], aside)
    sources.vertebrae["study_id"] = sources.vertebrae["patient_id"]
    cases = find_cases(sources, order=ORDER, choice=CHOICE)
    rows = audit.audit(sources, cases, order=ORDER, choice=CHOICE)
    assert dict(zip(rows["patient_id"], rows["reason"], strict=True)) == {
        "a": None,
        "b": "same_scan",
        "c": "same_person",
    }


def row_of(rows: pd.DataFrame, patient: str, cohort: str = "a") -> dict:
    matching = (rows["patient_id"] == patient) & (rows["cohort"] == cohort) & rows["line"].isna()
    (row_of_patient,) = rows[matching].to_dict("records")
    return row_of_patient


def test_a_used_patient_is_told_with_all_that_was_decided():
    rows = audited(
        [scan("a", "p", 10), scan("a", "p", 90, "L2 L3"), scan("a", "q", 0)],
        [
            label("a", "p", 100.0, 12),
            label("a", "p", 1.15 * 100 - 7.32, 12, level="L2", unit_given="mg/cm3 K2HPO4"),
            label("a", "p", 70.0, 40, level="L2"),
            label("a", "p", 70.0, 12, level="L3"),
            label("a", "q", 130.0, 0, level="L1-L2"),
        ],
    )
    p, q = row_of(rows, "p"), row_of(rows, "q")
    assert (p["study_id"], p["status"], p["reason"]) == ("a-p-10", "used", None)
    assert (p["n_labels"], p["interval_days"], p["same_day"], p["n_scans"], p["n_cohorts"]) == (2, 2, False, 2, 1)
    assert (list(p["label_levels"]), list(p["levels_used"])) == (["L1", "L2"], ["L1", "L2"])
    assert (p["unit_given"], p["converted"]) == ("mg/cm3 HA, mg/cm3 K2HPO4", True)
    assert p["vbmd_mg_cm3"] == pytest.approx((100 + 107.68) / 2)
    assert (q["same_day"], q["converted"], list(q["label_levels"])) == (True, False, ["L1-L2"])
    assert len(rows) == 2


def test_every_reason_against_a_patient_is_told():
    rows = audited(
        [
            scan("a", "unlabelled"),
            scan("a", "elsewhere"),
            scan("a", "unmeasured", levels=""),
            scan("a", "broken", complete=False),
            scan("a", "neck", levels="C3"),
            scan("a", "late"),
            scan("a", "undated", None),
            scan("a", "spoiled"),
        ],
        [
            label("a", "elsewhere", level="L4"),
            label("a", "unmeasured"),
            label("a", "broken"),
            label("a", "neck"),
            label("a", "late", day=101),
            label("a", "undated", day=None),
            label("a", "spoiled", None, **unused("bad_date", "bad_date", "bad_value")),
            label("a", "unknown", day=None, **unused("no_scan")),
        ],
    )
    patients = rows[rows["line"].isna()].set_index("patient_id")
    assert patients["reason"].to_dict() == {
        "unlabelled": "no_label",
        "elsewhere": "other_level",
        "unmeasured": "no_scan",
        "broken": "no_complete_vertebra",
        "neck": "no_complete_vertebra",
        "late": "label_too_far",
        "undated": "label_too_far",
        "spoiled": "no_label",
        "unknown": "no_scan",
    }
    assert set(patients["status"]) == {"left_out"}
    assert patients.loc["late", "interval_days"] == 101 and patients["interval_days"].notna().sum() == 1
    assert patients["vbmd_mg_cm3"].isna().all() and (patients["n_labels"] == 0).all()
    (line,) = rows[rows["line"].notna()].to_dict("records")
    assert (line["line"], line["status"], line["reason"]) == (8, "unused", "bad_date")
    assert list(line["faults"]) == ["bad_date", "bad_value"]
    assert set(rows["reason"]) <= set(REASONS)


def test_a_patient_of_two_cohorts_is_used_in_the_first_that_can():
    scans = [scan("a", "p"), scan("b", "p"), scan("a", "q"), scan("b", "q")]
    rows = audited(scans, [label("a", "p"), label("b", "p"), label("a", "q")])
    patients = rows.set_index(["cohort", "patient_id"])
    assert patients["reason"].to_dict() == {
        ("b", "p"): None,
        ("a", "p"): "other_cohort",
        ("b", "q"): "no_label",
        ("a", "q"): None,
    }
    assert (patients["n_cohorts"] == 2).all()


def test_a_patient_whose_studies_are_gone_is_listed_by_a_label_alone():
    scans = [scan("a", "p"), scan("a", "gone", levels=""), scan("a", "labelled", levels="")]
    for row in scans[1:]:
        row["study"] |= dict(zip(("status", "stage", "reason"), GONE, strict=True))
    rows = audited(scans, [label("a", "p"), label("a", "labelled", status="unused", reason="no_scan")])
    assert dict(zip(rows["patient_id"], rows["reason"], strict=True)) == {"labelled": "no_scan", "p": None}


_patients = st.sampled_from(["p", "q", "r"])
_cohorts = st.sampled_from(ORDER)
_scans = st.lists(
    st.builds(
        scan,
        _cohorts,
        _patients,
        st.sampled_from([0, 50, 400]),
        st.sampled_from(["L1 L2", "L2", "L3 L1", "L5", ""]),
        complete=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda accepted: accepted["study"]["study_id"],
)
_labels = st.lists(
    st.builds(
        lambda cohort, patient, vbmd, day, level: label(cohort, patient, vbmd, day, level=level),
        _cohorts,
        _patients,
        st.floats(50, 200),
        st.sampled_from([0, 120, 300]),
        st.sampled_from(["L1", "L2", "L1-L2", "L4"]),
    ),
    max_size=6,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(_scans, _labels)
def test_every_patient_of_a_cohort_stands_there_once_and_is_used_at_most_once(scans, labels):
    """The audit and the cases are made by different ways, and agree."""
    assume(scans)
    rows = audited(scans, labels)
    known = {(entry["study"]["cohort"], entry["study"]["patient_id"]) for entry in scans}
    known |= {(entry["cohort"], entry["patient_id"]) for entry in labels}
    assert sorted(zip(rows["cohort"], rows["patient_id"], strict=True)) == sorted(known)
    used = rows[rows["status"] == "used"]
    assert used["patient_id"].is_unique
    assert (rows["reason"].isna() == (rows["status"] == "used")).all()
    assert (used["interval_days"].abs() <= 100).all() and (used["n_labels"] >= 1).all()
    other = rows[rows["reason"] == "other_cohort"]
    assert set(other["patient_id"]) <= set(used["patient_id"])


def test_cases_that_the_audit_does_not_find_are_a_bug():
    sources = sources_of([scan("a", "p")], [label("a", "p")])
    cases = find_cases(sources, order=ORDER, choice=CHOICE)
    with pytest.raises(AssertionError, match="other patients"):
        audit.audit(sources, cases.assign(patient_id="q"), order=ORDER, choice=CHOICE)
    with pytest.raises(AssertionError, match="other QCT values"):
        audit.audit(sources, cases.assign(qct_vbmd_mg_cm3=99.0), order=ORDER, choice=CHOICE)


# --- what can't be trained on -----------------------------------------------------------------------


def check(scans: list[dict], labels: list[dict], *, folds: int) -> str:
    sources = sources_of(scans, labels)
    cases = find_cases(sources, order=ORDER, choice=CHOICE)
    with pytest.raises(ConfigError) as failure:
        audit.check_cases(cases, audit.audit(sources, cases, order=ORDER, choice=CHOICE), folds=folds)
    assert str(failure.value).endswith(".") and "\n" not in str(failure.value)
    return str(failure.value)


def test_without_a_labelled_patient_the_reasons_are_counted():
    scans = [scan("a", "p"), scan("a", "q"), scan("b", "r", levels="")]
    labels = [label("a", "p", day=300), label("b", "r"), label("a", "q", **unused("unknown_unit", "unknown_unit"))]
    message = check(scans, labels, folds=2)
    assert "no patient with a QCT label" in message and "mend the labels" in message
    for count in ("1 label_too_far", "1 no_scan", "1 no_label", "lines: 1 unknown_unit"):
        assert count in message


def test_cohorts_without_any_study_or_label_are_refused():
    assert "no patient with a QCT label" in check([], [], folds=2)


@pytest.mark.parametrize(
    ("reasons", "why"),
    [
        ([], "no study was found in their archives"),
        (["too_short"], r"their one study was refused \(1 too_short\)"),
        (["not_ct", "vanished", "not_ct"], r"all 3 studies were refused \(2 not_ct, 1 vanished\)"),
    ],
)
def test_cohorts_of_which_nothing_was_accepted_are_refused_with_the_reasons(tmp_path, reasons, why):
    rows = [
        empty(tables.STUDIES, study_id=f"st{i}", status="rejected", reason=reason) for i, reason in enumerate(reasons)
    ]
    tables.write(rows, tables.STUDIES, tmp_path / "studies.parquet")
    with pytest.raises(ConfigError, match=why):
        read_sources([], [], [], [], [str(tmp_path / "studies.parquet")], [])


@pytest.mark.parametrize(("vbmd", "cure"), [(100.0, "add patients with normal"), (130.0, "add patients with reduced")])
def test_one_class_is_refused(vbmd, cure):
    names = [f"p{i}" for i in range(8)]
    assert cure in check([scan("a", name) for name in names], [label("a", name, vbmd) for name in names], folds=2)


def test_fewer_patients_of_a_class_than_folds_are_refused():
    names = [f"p{i}" for i in range(8)]
    labels = [label("a", name, 100.0 if i < 2 else 140.0) for i, name in enumerate(names)]
    message = check([scan("a", name) for name in names], labels, folds=3)
    assert "Option train.folds: 3 folds need 3" in message and "2 with reduced and 6 with normal" in message


def frame(reduced: list[bool], devices: list[str]) -> pd.DataFrame:
    names = [f"pa{i}" for i in range(len(reduced))]
    return pd.DataFrame({"patient_id": names, "reduced": reduced, "device_key": devices})


@settings(deadline=None, max_examples=30)
@given(
    members=st.lists(st.tuples(st.booleans(), st.sampled_from("xyz")), min_size=10, max_size=60),
    later=st.integers(0, 10),
    folds=st.integers(2, 5),
    seed=st.integers(0, 9),
)
def test_what_passes_the_check_has_both_classes_in_every_fold(members, later, folds, seed):
    """Both in its test part and among those that it is trained on; also after the cohort has grown."""
    reduced, devices = [list(column) for column in zip(*members, strict=True)]
    cases = frame(reduced, devices)
    small = cases.iloc[: len(cases) - later]
    protocol = splits.Protocol(folds, 1, [0.6, 0.2, 0.2], True, 10, 0.2, seed)
    divided = None
    for part in (small, cases):
        try:
            audit.check_cases(part, pd.DataFrame({"line": []}), folds=folds)
        except ConfigError:
            continue
        try:
            divided = splits.divide(part, protocol, divided)
        except ConfigError:  # too few for a part of some split
            continue
        accepted = divided[divided["scheme"] == "cross-validation"].merge(part, on="patient_id")
        for _, split in accepted.groupby("split"):
            assert split.loc[split["part"] == "test", "reduced"].nunique() == 2
            assert split.loc[split["part"] == "train", "reduced"].nunique() == 2
