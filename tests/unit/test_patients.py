"""From vertebrae to patients: levels, means, grades, decisions, and NULL where nothing is known."""

import math
from collections.abc import Sequence

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cohort import LEVELS, SUBSTITUTES, write_bundle

from trabecula.aggregate import study_results
from trabecula.aggregate.inputs import Model
from trabecula.cohort import patients
from trabecula.density.thresholds import Thresholds
from trabecula.errors import REASONS
from trabecula.model import bundle

PREFERENCE = {"levels": LEVELS, "substitutes": SUBSTITUTES}
vertebra = st.tuples(
    st.sampled_from(["T11", "T12", "L1", "L2", "L3", "L4", "L5"]), st.booleans(), st.booleans(), st.booleans()
)


def vertebra_table(*rows: tuple[str, str, float], **columns) -> pd.DataFrame:
    table = pd.DataFrame(list(rows), columns=["study_id", "level", "trabecular_hu_mean"])
    flags = pd.Series([[] for _ in rows], table.index, object)
    facts = {"patient_id": "p-" + table["study_id"], "complete": True, "level_uncertain": False, "flags": flags}
    facts |= {"level_confidence": 0.9}
    return table.assign(**facts, **columns)


def prediction_table(*rows: tuple[str, str, str, int, float]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["study_id", "level", "task", "fold", "value"]).astype({"value": float})


@pytest.fixture
def model(tmp_path):
    return bundle.read(write_bundle(tmp_path / "model", {}))


def choose_levels(available: Sequence[str], *, levels: Sequence[str], substitutes: Sequence[str]) -> list[str]:
    """Choose among available levels: the wanted ones, then substitutes in order, as many as are wanted at most."""
    preference = dict.fromkeys((*levels, *substitutes))
    return [level for level in preference if level in available][: len(levels)]


def test_substitutes_stand_in_only_for_missing_levels():
    choose = choose_levels
    assert choose(["L1", "L2", "L3"], **PREFERENCE) == ["L1", "L2"]
    assert choose(["T12", "L3", "L2"], **PREFERENCE) == ["L2", "L3"]
    assert choose(["T12", "L3", "L4"], **PREFERENCE) == ["L3", "T12"]
    assert choose(["L5"], **PREFERENCE) == []
    assert choose(["L1"], levels=["L1"], substitutes=["L1", "L2"]) == ["L1"]


@settings(max_examples=30, deadline=None)
@given(st.lists(vertebra, max_size=7, unique_by=lambda row: row[0]))
def test_the_table_of_chosen_vertebrae_is_what_choose_levels_says(spine):
    table = pd.DataFrame(spine, columns=["level", "complete", "measured", "metal"]).astype({"level": object})
    table["study_id"] = "s"
    table["trabecular_hu_mean"] = [100.0 if measured else None for measured in table["measured"]]
    table["flags"] = [["metal"] if metal else ["incomplete"] for metal in table["metal"]]
    fit = [level for level, complete, measured, metal in spine if complete and measured and not metal]
    chosen = patients.chosen_vertebrae(table, **PREFERENCE)
    assert chosen["level"].tolist() == choose_levels(fit, **PREFERENCE)


def judged_results(vertebrae, predictions, model, splits=None) -> pd.DataFrame:
    """Combine vertebrae and judge the results, of plain scans."""
    results = study_results.combine(patients.chosen_vertebrae(vertebrae, **PREFERENCE), predictions)
    plain = dict(age_years=60.0, sex="F", device_key="M X 120 B", kvp=120.0, phase="native", thickness_mm=1.0)
    studies = vertebrae[["study_id", "patient_id"]].drop_duplicates().assign(spacing_mm=1.0, **plain)
    return study_results.judge(results, studies, Model(model, splits or {}, frozenset()))


def test_values_are_means_over_levels_of_means_over_folds(model):
    vertebrae = vertebra_table(("s", "L1", 100.0), ("s", "L2", 140.0), ("s", "L3", 900.0))
    predictions = prediction_table(
        ("s", "L1", "regression", 0, 100), ("s", "L1", "regression", 1, 120), ("s", "L2", "regression", 0, 150),
        ("s", "L2", "regression", 1, 150), ("s", "L3", "regression", 0, 999), ("s", "L1", "joint_regression", 0, 90),
        ("s", "L2", "joint_regression", 0, 94),
    )  # fmt: skip
    row = judged_results(vertebrae, predictions, model).to_dict("index")["s"]
    assert row["levels_used"] == ["L1", "L2"]
    assert (row["vbmd_mg_cm3"], row["joint_vbmd_mg_cm3"]) == ((110 + 150) / 2, 92)
    assert row["trabecular_hu"] == 120
    assert (row["vbmd_low"], row["vbmd_high"]) == (100, 160)
    assert row["hu_baseline_vbmd_mg_cm3"] == (1.0 * 120 + 2.0 * 120 + 10) / 2
    # The folds' means over levels are 125 and 135.
    assert row["fold_spread_mg_cm3"] == pytest.approx(10 / math.sqrt(2))


def test_logits_are_averaged_and_the_temperature_divides_them_but_for_the_joint_network(model):
    values = {("L1", 0): 0.2, ("L1", 1): 0.9, ("L2", 0): 0.6, ("L2", 1): 1.0}
    rows = [
        ("s", level, task, fold, value)
        for (level, fold), value in values.items()
        for task in ("classification", "joint_classification")
    ]
    table = vertebra_table(("s", "L1", 100.0), ("s", "L2", 140.0))
    row = judged_results(table, prediction_table(*rows), model).to_dict("index")["s"]
    logit = sum(math.log(p / (1 - p)) for p in (0.2, 0.9, 0.6, 1 - 1e-6)) / 4
    assert row["joint_probability_reduced"] == pytest.approx(1 / (1 + math.exp(-logit)))
    assert row["probability_reduced"] == pytest.approx(1 / (1 + math.exp(-logit / 2)))
    assert math.isnan(row["vbmd_mg_cm3"]) and row["interval_group"] is None


def test_a_training_patient_gets_the_line_and_the_interval_of_the_fold_that_never_saw_them(model):
    vertebrae = vertebra_table(("s", "L1", 100.0))
    predictions = prediction_table(("s", "L1", "regression", 1, 100))
    row = judged_results(vertebrae, predictions, model, {"p-s": 1}).to_dict("index")["s"]
    assert row["hu_baseline_vbmd_mg_cm3"] == 2.0 * 100 + 10
    assert (row["vbmd_low"], row["vbmd_high"]) == (79, 121)
    assert math.isnan(row["probability_reduced"]) and math.isnan(row["fold_spread_mg_cm3"])


def test_grades_follow_the_thresholds_and_nothing_has_no_grade():
    grades = patients.grades(pd.Series([79.9, 80.0, 119.9, 120.0, None]), Thresholds())
    assert grades.tolist() == ["osteoporosis", "low", "low", "normal", None]


def study_rows(*rows: tuple[str, str, str, str | None, str | None]) -> pd.DataFrame:
    table = pd.DataFrame(list(rows), columns=["patient_id", "study_id", "status", "stage", "reason"])
    days = table.groupby("patient_id").cumcount() * 100
    flags = pd.Series([[] for _ in rows], table.index, object)
    return table.assign(cohort="a", sex="F", age_years=60.0, device_key="k", days_from_first_study=days, flags=flags)


def test_every_patient_has_a_decision_or_a_reason(model):
    studies = study_rows(
        ("p-a", "a", "measured", None, None),
        ("p-b", "b1", "rejected", "index", "localizer"),
        ("p-b", "b2", "failed", "segment", "no_vertebra"),
        ("p-c", "c", "measured", None, None),
        ("p-d", "d", "measured", None, None),
        ("p-e", "e", "measured", None, None),
    )
    vertebrae = vertebra_table(("a", "L1", 100.0), ("c", "L5", 100.0), ("d", "L1", 100.0), ("e", "L1", 100.0))
    predictions = prediction_table(
        ("a", "L1", "regression", 0, 100), ("a", "L1", "classification", 0, 0.9), ("e", "L1", "classification", 0, 0.5)
    )  # fmt: skip
    results = judged_results(vertebrae, predictions, model)
    measured = patients.candidates(studies, results)
    truth = measured[["patient_id", "study_id"]].assign(qct_vbmd_mg_cm3=None, days_from_scan=None, reason="no_label")
    rows = patients.patient_rows(studies, results, truth, Thresholds()).set_index("patient_id")
    assert rows["decision"].to_dict() == {
        "p-a": "reduced", "p-b": "not_evaluable", "p-c": "not_evaluable", "p-d": "not_evaluable",
        "p-e": "indeterminate",
    }  # fmt: skip
    assert rows["decision_reason"].to_dict() == {
        "p-a": None, "p-b": "no_vertebra", "p-c": "no_complete_vertebra", "p-d": "no_prediction", "p-e": "near_cut",
    }  # fmt: skip
    assert rows["levels_used"].tolist() == [["L1"], [], [], ["L1"], ["L1"]]
    assert rows["novelty"].tolist() == [[], [], [], [], []]
    unknown = ["study_id", "age_years", "vbmd_mg_cm3", "trabecular_hu", "qct_reduced"]
    assert rows.loc[["p-b"], unknown].isna().all(axis=None)
    assert set(rows["decision_reason"].dropna()) <= set(REASONS)


def test_a_study_with_a_usable_level_goes_before_an_earlier_one_without(model):
    studies = study_rows(("p-b", "a", "measured", None, None), ("p-b", "b", "measured", None, None))
    results = judged_results(vertebra_table(("b", "L1", 1.0)), prediction_table(), model)
    assert patients.candidates(studies, results)["study_id"].tolist() == ["b"]
    assert patients.candidates(studies, results.iloc[:0])["study_id"].tolist() == ["a", "b"]


def with_flags(n: int, flags: dict[int, list[str]]) -> pd.Series:
    return pd.Series([flags.get(i, []) for i in range(n)], dtype=object)


def test_flags_of_scan_and_vertebrae_stand_once_and_limit_the_quality(model):
    measured = [(f"p-{name}", name, "measured", None, None) for name in "abcde"]
    studies = study_rows(*measured, ("p-f", "f", "failed", "convert", "truncated"))
    vertebrae = vertebra_table(*((name, level, 100.0) for name in "abcde" for level in ("L1", "L2", "L3")))
    studies["flags"] = with_flags(len(studies), {1: ["thick_slices", "few_slices"]})
    # 8 is L3, which c doesn't stand on.
    vertebrae["flags"] = with_flags(len(vertebrae), {3: ["few_slices", "beam_hardening"], 8: ["beam_hardening"]})
    vertebrae.loc[9, "level_uncertain"] = True
    vertebrae.loc[12:, "trabecular_hu_mean"] = 999.0
    vertebrae.loc[1, "level_confidence"] = 0.3
    results = judged_results(vertebrae, prediction_table(), model)
    truth = studies[["patient_id", "study_id"]].head(5)
    truth = truth.assign(qct_vbmd_mg_cm3=None, days_from_scan=None, reason="no_label")
    rows = patients.patient_rows(studies, results, truth, Thresholds()).set_index("study_id")
    assert rows["flags"].tolist() == [[], ["beam_hardening", "few_slices", "thick_slices"], [], [], [], []]
    assert rows["quality"].tolist() == ["good", "limited", "good", "limited", "limited", None]
    assert rows["level_confidence"].tolist()[:2] == [0.3, 0.9]
