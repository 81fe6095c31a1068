"""Labels: what is read, what is refused, and which scan a label belongs to."""

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trabecula import labels
from trabecula.errors import REASONS, ConfigError

HEADER = "patient_id,study_date,level,vbmd,unit,device"
NEAR = {"levels": ["L1", "L2"], "max_interval_days": 180}


def read(folder: Path, *lines: str, header: str = HEADER) -> pd.DataFrame:
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8-sig")
    return labels.read_labels(path)


def label_table(*rows: tuple[str, int | None, str, float]) -> pd.DataFrame:
    names = ["patient_id", "days_from_first_study", "level", "vbmd_mg_cm3"]
    table = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows], columns=names)
    return table.assign(cohort="a", days_from_scan=None, status="used", reason=None)


def study_table(*rows: tuple[str, str, int | None]) -> pd.DataFrame:
    table = pd.DataFrame(list(rows), columns=["patient_id", "study_id", "days_from_first_study"])
    return table.assign(cohort="a")


def test_k2hpo4_becomes_hydroxyapatite(tmp_path):
    found = read(tmp_path, "1,2020-01-02,L1,100,mg/cm3 K2HPO4,x", "1,2020-01-02,L2,100,mg/cm3 HA,x")
    assert found["vbmd_mg_cm3"].tolist() == pytest.approx([1.15 * 100 - 7.32, 100.0])
    assert found["unit_given"].tolist() == ["mg/cm3 K2HPO4", "mg/cm3 HA"]


def test_ids_stay_text_and_levels_become_canonical(tmp_path):
    (row,) = read(tmp_path, " 0012 ,2020-01-02, l1 - l2 ,1e2,mg/ml (HA),x").to_dict("records")
    assert (row["patient"], row["level"], row["vbmd_mg_cm3"], row["status"]) == ("0012", "L1-L2", 100.0, "used")
    assert row["reason"] is None


@pytest.mark.parametrize(
    "line",
    [
        "1,2020-01-02,L1,-3,mg/cm3 HA,x",
        "1,2020-01-02,L1,0,mg/cm3 HA,x",
        "1,2020-01-02,L1,2,mg/cm3 K2HPO4,x",
        "1,2020-01-02,L1,5000,mg/cm3 HA,x",
        "1,2020-01-02,L1,NaN,mg/cm3 HA,x",
        "1,2020-01-02,L1,,mg/cm3 HA,x",
        "1,2020-01-02,L1,normal,mg/cm3 HA,x",
        '1,2020-01-02,L1,"98,5",mg/cm3 HA,x',
        "1,2020-01-02,L1,98,mg/cm3,x",
        "1,2020-01-02,L1,98,g/cm2 HA,x",
        "1,2020-01-02,L1,98,,x",
        "1,2020-01-02,Q1,98,mg/cm3 HA,x",
        "1,2020-01-02,,98,mg/cm3 HA,x",
        "1,2020-01-02,L2-L1,98,mg/cm3 HA,x",
        "1,,L1,98,mg/cm3 HA,x",
        "1,02.01.2020,L1,98,mg/cm3 HA,x",
        "1,2020-02-30,L1,98,mg/cm3 HA,x",
        ",2020-01-02,L1,98,mg/cm3 HA,x",
    ],
)
def test_a_bad_label_is_kept_with_its_reason_and_without_a_guess(tmp_path, line):
    found = read(tmp_path, line, "2,2020-01-02,L1,98,mg/cm3 HA,x")
    assert found["reason"].tolist() == ["bad_label", None]
    assert found["status"].tolist() == ["unused", "used"]
    assert not any(isinstance(value, float) for value in found[["level", "unit_given", "reason"]].to_numpy().ravel())


def test_duplicates_count_once_and_contradictions_not_at_all(tmp_path):
    found = read(
        tmp_path,
        "1,2020-01-02,L1,98,mg/cm3 HA,x",
        "1,2020-01-02,L1,98.0,mg/cm3 HA,x",
        "2,2020-01-02,L1,98,mg/cm3 HA,x",
        "2,2020-01-02,L1,99,mg/cm3 HA,x",
        "2,2020-01-03,L1,99,mg/cm3 HA,x",
    )
    assert found["reason"].tolist() == [None, "duplicate_label", "contradictory_label", "contradictory_label", None]


def test_a_missing_column_says_what_to_change_and_no_identity(tmp_path):
    with pytest.raises(ConfigError, match="lacks the columns level, unit"):
        read(tmp_path, "Doe^Jane,2020-01-02,98", header="patient_id,study_date,vbmd")


def test_an_empty_file_of_labels_is_none(tmp_path):
    assert read(tmp_path).empty


def test_a_range_names_the_levels_between():
    assert labels.levels_of("T12-L2") == ("T12", "L1", "L2")
    assert labels.levels_of("T13") == ("T13",)
    assert labels.levels_of("L1-L2-L3") == labels.levels_of("S1") == labels.levels_of("") == ()


@settings(deadline=None)
@given(st.text(max_size=12))
def test_no_text_breaks_units_or_levels(text):
    assert labels.material_of(text) in ("HA", "K2HPO4", None)
    assert set(labels.levels_of(text)) <= set(labels.ORDER)


def test_truth_is_the_joint_value_else_the_mean_of_the_levels():
    given_labels = label_table(
        ("p1", 3, "L1", 90.0), ("p1", 3, "L2", 100.0), ("p1", 3, "L1-L2", 97.0),
        ("p2", 3, "L1", 90.0), ("p2", 3, "L2", 100.0), ("p2", 3, "L3", 10.0),
        ("p3", 3, "L2", 80.0),
        ("p4", 3, "L3", 80.0),
    )  # fmt: skip
    studies = study_table(*((f"p{i}", f"s{i}", 0) for i in range(1, 6)))
    truth = labels.patient_truth(given_labels, studies, **NEAR).set_index("patient_id")
    assert truth["qct_vbmd_mg_cm3"].dropna().to_dict() == {"p1": 97.0, "p2": 95.0, "p3": 80.0}
    assert truth["days_from_scan"].dropna().to_dict() == {"p1": 3, "p2": 3, "p3": 3}
    assert truth.loc[["p4", "p5"], "reason"].tolist() == ["no_label", "no_label"]
    assert truth["reason"].isna().tolist() == [True, True, True, False, False]
    status = labels.label_rows(given_labels, studies, **NEAR)["reason"].tolist()
    assert status == ["other_level", "other_level", None, None, None, "other_level", None, "other_level"]


def test_the_scan_nearest_to_a_label_counts_within_the_interval():
    given_labels = label_table(("p1", 390, "L1", 90.0), ("p1", 10, "L1", 70.0), ("p2", 400, "L1", 80.0))
    studies = study_table(("p1", "late", 395), ("p1", "early", 0), ("p2", "first", 0), ("p2", "second", 50))
    near, far = labels.patient_truth(given_labels, studies, **NEAR).to_dict("records")
    assert (near["study_id"], near["qct_vbmd_mg_cm3"], near["days_from_scan"]) == ("late", 90.0, -5)
    assert (far["study_id"], far["reason"]) == ("first", "label_too_far")
    assert math.isnan(far["qct_vbmd_mg_cm3"])
    rows = labels.label_rows(given_labels, studies, **NEAR)
    assert rows["reason"].tolist() == [None, "superseded", "label_too_far"]
    assert rows["days_from_scan"].tolist()[:2] == [-5, 10 - 395]
    assert pd.isna(rows["days_from_scan"].iloc[2])


@settings(max_examples=20, deadline=None)
@given(days=st.lists(st.integers(-400, 400), min_size=1, max_size=4), limit=st.integers(0, 300))
def test_the_nearest_pair_is_what_trying_all_pairs_finds(days, limit):
    scans = [0, 90, 250]
    given_labels = label_table(*(("p", day, "L1", 100.0 + i) for i, day in enumerate(dict.fromkeys(days))))
    studies = study_table(*(("p", f"s{day}", day) for day in scans))
    truth = labels.patient_truth(given_labels, studies, levels=["L1"], max_interval_days=limit).iloc[0]
    nearest = min(abs(label - scan) for label in days for scan in scans)
    if nearest <= limit:
        assert abs(truth["days_from_scan"]) == nearest
        assert truth["qct_vbmd_mg_cm3"] >= 100
    else:
        assert pd.isna(truth["qct_vbmd_mg_cm3"]) and truth["reason"] == "label_too_far"


def test_without_labels_or_dates_the_first_study_stands():
    studies = study_table(("p1", "b", None), ("p1", "a", 3), ("p2", "c", None))
    truth = labels.patient_truth(label_table(("p2", None, "L1", 80.0)), studies, **NEAR)
    assert truth["study_id"].tolist() == ["a", "c"]
    assert truth["qct_vbmd_mg_cm3"].isna().all()
    assert labels.patient_truth(label_table(), study_table(), **NEAR).empty


def test_labels_without_scan_and_bad_ones_keep_their_reasons():
    given_labels = label_table(("gone", 3, "L1", 80.0), ("p1", 3, "L1", 80.0))
    given_labels.loc[1, ["status", "reason"]] = ["unused", "bad_label"]
    rows = labels.label_rows(given_labels, study_table(("p1", "a", 0)), **NEAR)
    assert rows["reason"].tolist() == ["no_scan", "bad_label"]
    assert rows["status"].tolist() == ["unused", "unused"]
    assert set(rows["reason"]) <= set(REASONS)
