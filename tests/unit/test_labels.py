"""Labels: what is read, what is refused, and which scan a label belongs to."""

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trabecula.cohort import labels
from trabecula.cohort.labels.read import FAULTS, read_labels
from trabecula.density.units import material_of
from trabecula.errors import REASONS, ConfigError
from trabecula.runtime.csv_lines import LABEL_COLUMNS, check_columns

HEADER = "patient_id,study_date,level,vbmd,unit,device"
NEAR = {"levels": ["L1", "L2"], "max_interval_days": 180}


def read(folder: Path, *lines: str, header: str = HEADER) -> pd.DataFrame:
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8-sig")
    return read_labels(path)


def label_table(*rows: tuple[str, int | None, str, float]) -> pd.DataFrame:
    names = ["patient_id", "days_from_first_study", "level", "vbmd_mg_cm3"]
    table = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows], columns=names)
    return table.assign(cohort="a", days_from_scan=None, status="used", reason=None)


def study_table(*rows: tuple[str, str, int | None]) -> pd.DataFrame:
    table = pd.DataFrame(list(rows), columns=["patient_id", "study_id", "days_from_first_study"])
    return table.assign(cohort="a")


def test_k2hpo4_becomes_hydroxyapatite(tmp_path):
    rows = read(tmp_path, "1,2020-01-02,L1,100,mg/cm3 K2HPO4,x", "1,2020-01-02,L2,100,mg/cm3 HA,x")
    assert rows["vbmd_mg_cm3"].tolist() == pytest.approx([1.15 * 100 - 7.32, 100.0])
    assert rows["unit_given"].tolist() == ["mg/cm3 K2HPO4", "mg/cm3 HA"]


def test_ids_stay_text_and_levels_become_canonical(tmp_path):
    (row,) = read(tmp_path, " 0012 ,2020-01-02, l1 - l2 ,1e2,mg/ml (HA),x").to_dict("records")
    assert (row["patient"], row["level"], row["vbmd_mg_cm3"], row["status"]) == ("0012", "L1-L2", 100.0, "used")
    assert row["reason"] is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,2020-01-02,L1,-3,mg/cm3 HA,x", "bad_value"),
        ("1,2020-01-02,L1,0,mg/cm3 HA,x", "bad_value"),
        ("1,2020-01-02,L1,2,mg/cm3 K2HPO4,x", "bad_value"),
        ("1,2020-01-02,L1,5000,mg/cm3 HA,x", "bad_value"),
        ("1,2020-01-02,L1,450,mg/cm3 K2HPO4,x", "bad_value"),
        ("1,2020-01-02,L1,inf,mg/cm3 HA,x", "bad_value"),
        ("1,2020-01-02,L1,NaN,mg/cm3 HA,x", "bad_value"),
        ("1,2020-01-02,L1,,mg/cm3 HA,x", "bad_value"),
        ("1,2020-01-02,L1,normal,mg/cm3 HA,x", "bad_value"),
        ('1,2020-01-02,L1,"98,5",mg/cm3 HA,x', "bad_value"),
        ("1,2020-01-02,L1,98,mg/cm3,x", "unknown_unit"),
        ("1,2020-01-02,L1,98,g/cm2 HA,x", "unknown_unit"),
        ("1,2020-01-02,L1,98,HU,x", "unknown_unit"),
        ("1,2020-01-02,L1,98,,x", "unknown_unit"),
        ("1,2020-01-02,L1,98", "unknown_unit"),
        ("1,2020-01-02,Q1,98,mg/cm3 HA,x", "bad_level"),
        ("1,2020-01-02,,98,mg/cm3 HA,x", "bad_level"),
        ("1,2020-01-02,L2-L1,98,mg/cm3 HA,x", "bad_level"),
        ("1,,L1,98,mg/cm3 HA,x", "bad_date"),
        ("1,02.01.2020,L1,98,mg/cm3 HA,x", "bad_date"),
        ("1,2020-02-30,L1,98,mg/cm3 HA,x", "bad_date"),
        (",2020-01-02,L1,98,mg/cm3 HA,x", "missing_patient"),
        (" ,2020-01-02,L1,98,mg/cm3 HA,x", "missing_patient"),
        ("0,2020-01-02,L1,98,mg/cm3 HA,x", "missing_patient"),
        ("[unbekannt],2020-01-02,L1,98,mg/cm3 HA,x", "missing_patient"),
        ("Doe, Jane,2020-01-02,L1,98,mg/cm3 HA,x", "bad_line"),
    ],
)
def test_a_bad_label_is_kept_with_its_reason_and_without_a_guess(tmp_path, line, reason):
    rows = read(tmp_path, line, "2,2020-01-02,L1,98,mg/cm3 HA,x")
    assert rows["reason"].tolist() == [reason, None]
    assert rows["faults"].tolist() == [[reason], []]
    assert rows["status"].tolist() == ["unused", "used"]
    assert reason in REASONS
    assert not any(isinstance(value, float) for value in rows[["level", "unit_given", "reason"]].to_numpy().ravel())


def test_all_faults_of_a_line_are_told_and_the_first_is_the_reason(tmp_path):
    rows = read(tmp_path, "1,2020-01-02,L1,98,mg/cm3 HA,x", ",x,x,x,x,x", "2,x,L1,x,mg/cm3 HA,x")
    assert rows["faults"].tolist() == [[], list(FAULTS.values()), ["bad_date", "bad_value"]]
    assert rows["reason"].tolist() == [None, "missing_patient", "bad_date"]
    assert rows["line"].tolist() == [2, 3, 4]


def test_text_that_means_nothing_is_not_passed_on(tmp_path):
    """A text in the wrong column may be a patient's name."""
    rows = read(tmp_path, "1,2020-01-02,Doe^Jane,98,Doe^Jane,x", "Doe, Jane,2020-01-02,L1,98,mg/cm3 HA,x")
    assert not rows.drop(columns="faults").isin(["Doe^Jane", "Doe", "Jane"]).any(axis=None)
    assert rows["vbmd_mg_cm3"].isna().all()


GOOD = ["p1", "2020-01-02", "L1", "98", "mg/cm3 HA"]
_wrong = st.fixed_dictionaries({column: st.booleans() for column in LABEL_COLUMNS})


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(lines=st.lists(_wrong, max_size=6))
def test_each_wrong_entry_is_told_once_in_its_line_alone(tmp_path_factory, lines):
    """Entries are spoiled or not, and exactly those are rows."""
    texts = [",".join("?" if line[column] else GOOD[i] for i, column in enumerate(LABEL_COLUMNS)) for line in lines]
    rows = read(tmp_path_factory.mktemp("labels"), *texts, header=",".join(LABEL_COLUMNS))
    expected = [[FAULTS[column] for column in FAULTS if line[column]] for line in lines]
    assert rows["faults"].tolist() == expected


def test_duplicates_count_once_and_contradictions_not_at_all(tmp_path):
    rows = read(
        tmp_path,
        "1,2020-01-02,L1,98,mg/cm3 HA,x",
        "1,2020-01-02,L1,98.0,mg/cm3 HA,x",
        "2,2020-01-02,L1,98,mg/cm3 HA,x",
        "2,2020-01-02,L1,99,mg/cm3 HA,x",
        "2,2020-01-03,L1,99,mg/cm3 HA,x",
    )
    assert rows["reason"].tolist() == [None, "duplicate_label", "contradictory_label", "contradictory_label", None]


def test_a_missing_column_says_what_to_change_and_no_identity(tmp_path):
    with pytest.raises(ConfigError, match="lack the columns level, unit; name them") as refusal:
        read(tmp_path, "Doe^Jane,2020-01-02,98", header="patient_id,study_date,vbmd")
    assert "Doe" not in str(refusal.value)


def test_an_empty_file_of_labels_is_none(tmp_path):
    rows = read(tmp_path)
    assert rows.empty and rows["study_date"].dtype.kind == "M"


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_what_spreadsheets_write_is_read(tmp_path, mark, end, encoding):
    """Other delimiters and line ends, a byte order mark, quotes, empty lines, trailing delimiters."""
    lines = [["unit", "level", "note", "vbmd", "study_date", "patient_id"], [], [""] * 6]
    lines += [["mg/cm³ HA", '"L1"', '"a, b; ""c"""', "98", "2020-01-02", "0012", "", ""]]
    path = tmp_path / "labels.csv"
    path.write_bytes(end.join(mark.join(line) for line in lines).encode(encoding))
    (row,) = read_labels(path).to_dict("records")
    assert (row["patient"], row["level"], row["vbmd_mg_cm3"], row["unit_given"]) == ("0012", "L1", 98.0, "mg/cm³ HA")
    assert (row["status"], row["line"]) == ("used", 4)


@pytest.mark.parametrize(
    ("content", "cure"),
    [
        (",".join(LABEL_COLUMNS).encode("utf-16"), "give a CSV file in UTF-8"),
        ("Größe,".encode("cp1252") + ",".join(LABEL_COLUMNS).encode(), "give a CSV file in UTF-8"),
        (b"PK\x03\x04\x14\x00\x06", "lack the columns"),
        (b"", "are empty; name the columns patient_id"),
        (b"\xef\xbb\xbf \n\n", "are empty; name the columns patient_id"),
        (b",,,,\n", "lack the columns patient_id"),
        (",".join([*LABEL_COLUMNS, "vbmd"]).encode(), "have two columns vbmd; rename one"),
    ],
)
def test_a_file_that_is_no_table_of_labels_is_refused_in_one_sentence(tmp_path, content, cure):
    """Both when Snakemake starts and when the labels are read."""
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    for look in (read_labels, lambda path: check_columns(path, called="The labels")):
        with pytest.raises(ConfigError) as refusal:
            look(path)
        assert cure in str(refusal.value) and str(refusal.value).endswith(".") and "\n" not in str(refusal.value)


def test_a_quotation_mark_that_does_not_end_is_told_with_its_line(tmp_path):
    with pytest.raises(ConfigError, match="line 3; correct the quotation marks"):
        read(tmp_path, "1,2020-01-02,L1,98,mg/cm3 HA,x", '2,2020-01-02,L1,98,mg/cm3 HA,"x')


def test_a_range_names_the_levels_between():
    assert labels.levels_of("T12-L2") == ("T12", "L1", "L2")
    assert labels.levels_of("T13") == ("T13",)
    assert labels.levels_of("L1-L2-L3") == labels.levels_of("S1") == labels.levels_of("") == ()


@settings(deadline=None)
@given(st.text(max_size=12))
def test_no_text_breaks_units_or_levels(text):
    assert material_of(text) in ("HA", "K2HPO4", None)
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
    given_labels.loc[1, ["status", "reason"]] = ["unused", "bad_level"]
    rows = labels.label_rows(given_labels, study_table(("p1", "a", 0)), **NEAR)
    assert rows["reason"].tolist() == ["no_scan", "bad_level"]
    assert rows["status"].tolist() == ["unused", "unused"]
    assert set(rows["reason"]) <= set(REASONS)
