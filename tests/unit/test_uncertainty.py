"""Uncertainty: temperature, intervals, decisions and novelty against oracles, and by simulation."""

import json
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from crepes import ConformalRegressor
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression

from trabecula.errors import NOVELTY, REASONS
from trabecula.model import uncertainty
from trabecula.model.uncertainty import decision, intervals, novelty, temperature
from trabecula.model.uncertainty.quantile import exceeded_by

GROUPS = (("native", 120.0), ("portal", 120.0), ("portal", 80.0))
SDS = (4.0, 8.0, 16.0)


def cohort(n: int, *, seed: int = 0, over: float = 3.0) -> pd.DataFrame:
    """Patients of three kinds of scan, whose errors differ; the network is `over` times too sure."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, n, p=[0.6, 0.25, 0.15])
    truth = rng.normal(120.0, 30.0, n)
    error = rng.normal(0.0, np.array(SDS)[kind])
    # The probability that this truth lies below the cut, were it unknown by 15 mg/cm3.
    honest = (120.0 - truth - rng.normal(0.0, 15.0, n)) / 8.0
    return pd.DataFrame(
        {
            "patient_id": [f"p{i}" for i in range(n)],
            "fold": np.arange(n) % 5,
            "logit": honest * over,
            "regression": truth + error,
            "hu": truth + rng.normal(0.0, 10.0, n),
            "qct_vbmd_mg_cm3": truth,
            "reduced": truth < 120.0,
            "trabecular_hu": truth * 1.2 + 10.0,
            "kvp": [GROUPS[i][1] for i in kind],
            "phase": [GROUPS[i][0] for i in kind],
            "thickness_mm": rng.choice([1.0, 2.5], n),
            "spacing_mm": 1.0,
            "device_key": rng.choice(["M X 120 B", "N Y 120 C"], n),
        }
    )


def as_results(cases: pd.DataFrame, fold: float | None = None) -> pd.DataFrame:
    """Studies of these patients as `judge` wants them; without a fold, those of new patients."""
    names = {"regression": "vbmd_mg_cm3", "hu": "hu_baseline_vbmd_mg_cm3"}
    table = cases.rename(columns=names).assign(fold_spread_mg_cm3=1.0).set_index("patient_id")
    return table.assign(fold=np.nan if fold is None else table["fold"])


# --- temperature ---------------------------------------------------------------------------------


@pytest.mark.parametrize("over", [0.5, 1.0, 3.0])
def test_the_temperature_is_that_of_a_logistic_regression_without_intercept(over):
    cases = cohort(300, over=over)
    logits, reduced = cases["logit"].to_numpy(), cases["reduced"].to_numpy()
    oracle = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(logits[:, None], reduced).coef_[0, 0]
    fitted = temperature.fit(logits, reduced)
    assert fitted.value == pytest.approx(1 / oracle, rel=1e-4)
    assert (fitted.n, fitted.reason) == (300, None)


def test_scaling_recovers_the_temperature_that_made_logits_too_sure():
    rng = np.random.default_rng(1)
    honest = rng.normal(0.0, 2.0, 20_000)
    reduced = rng.random(20_000) < temperature.probability(honest, 1.0)
    assert temperature.fit(honest * 4.0, reduced).value == pytest.approx(4.0, rel=0.05)


def test_classes_parted_without_a_mistake_do_not_make_probabilities_certain():
    logits = np.linspace(-4.0, 4.0, 20)
    assert temperature.fit(logits, logits > 0).value == pytest.approx(temperature.LOWEST, rel=1e-3)
    assert temperature.fit(logits, logits < 0).value == pytest.approx(temperature.HIGHEST, rel=1e-3)


@pytest.mark.parametrize(
    ("n", "reduced", "reason"), [(9, 4, "too_few_patients"), (12, 0, "one_class"), (12, 12, "one_class"), (12, 5, None)]
)
def test_without_enough_patients_or_classes_probabilities_stay_as_they_are(n, reduced, reason):
    fitted = temperature.fit(np.linspace(-3.0, 3.0, n), np.arange(n) < reduced)
    assert fitted.reason == reason and (reason is None or (fitted.value == 1.0 and reason in REASONS))


def test_logits_are_finite_and_undone_by_probabilities():
    chance = np.array([0.0, 1e-9, 0.3, 0.5, 1.0])
    logits = temperature.logit(chance)
    assert np.isfinite(logits).all() and logits[3] == 0
    assert temperature.probability(logits, 1.0) == pytest.approx(chance, abs=2e-6)


# --- quantiles and thresholds---------------------------------------------------------------------


@pytest.mark.parametrize("share", [decision.ERROR, novelty.RARE, novelty.UNUSUAL])
def test_the_rank_is_exact_for_every_number_of_patients(share):
    for n in range(1, 1200):
        rank = math.ceil((n + 1) * (1 - Fraction(str(share))))
        assert exceeded_by(np.arange(1.0, n + 1), share=share) == (None if rank > n else rank)


def test_the_next_patient_exceeds_the_quantile_as_rarely_as_asked():
    draws = np.random.default_rng(0).normal(size=(20_000, 30))
    above = np.mean([row[-1] > (exceeded_by(row[:-1], share=0.1) or 0.0) for row in draws])
    assert 0.08 < above <= 0.105


def brute_force_thresholds(chance: np.ndarray, reduced: np.ndarray) -> tuple[float, float]:
    """Find the least abstention that keeps both errors, with the next patient counted as wrong."""
    between = [0.5, *(value for value in chance if value < 0.5)]
    lows = [t for t in between if (chance[reduced] < t).sum() + 1 <= 0.1 * (reduced.sum() + 1)]
    over = [0.5, *(np.nextafter(value, 1) for value in chance if value >= 0.5)]
    highs = [t for t in over if (chance[~reduced] >= t).sum() + 1 <= 0.1 * ((~reduced).sum() + 1)]
    return max(lows), min(highs)


@settings(max_examples=60, deadline=None)
@given(arrays(float, 40, elements=st.floats(0.01, 0.99), unique=True), st.randoms(use_true_random=False))
def test_thresholds_abstain_as_little_as_they_may(chance, random):
    reduced = np.array([True] * 18 + [False] * 22)
    random.shuffle(reduced)
    thresholds = decision.learn(chance, reduced)
    assert (thresholds.low, thresholds.high) == brute_force_thresholds(chance, reduced)


def test_good_probabilities_need_no_abstention():
    chance = np.concatenate([np.linspace(0.0, 0.3, 50), np.linspace(0.7, 1.0, 50)])
    thresholds = decision.learn(chance, np.arange(100) >= 50)
    assert (thresholds.low, thresholds.high) == (0.5, 0.5)
    decided = decision.decide(np.array([0.49, 0.5, np.nan]), thresholds)
    assert decided == ["normal", "reduced", "not_evaluable"]


def test_too_few_patients_decide_at_one_half():
    thresholds = decision.learn(np.linspace(0.0, 1.0, 16), np.arange(16) % 2 == 0)
    assert (thresholds.normal_below, thresholds.reduced_from, thresholds.low, thresholds.high) == (None, None, 0.5, 0.5)


def test_in_new_patients_wrong_calls_stay_within_a_tenth_of_each_class_whatever_the_shares():
    wrong_normal, wrong_reduced, abstained = [], [], []
    for seed in range(60):
        thresholds = decision.learn(*chances(200, share=0.4, seed=seed))
        chance, reduced = chances(2_000, share=0.1, seed=1_000 + seed)
        decided = np.array(decision.decide(chance, thresholds))
        wrong_normal.append((decided[~reduced] == "reduced").mean())
        wrong_reduced.append((decided[reduced] == "normal").mean())
        abstained.append((decided == "indeterminate").mean())
    assert 0.07 < np.mean(wrong_normal) < 0.105 and 0.07 < np.mean(wrong_reduced) < 0.105
    assert 0.1 < np.mean(abstained) < 0.6


def chances(n: int, *, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    reduced = rng.random(n) < share
    return temperature.probability(rng.normal(np.where(reduced, 0.9, -0.9), 1.0), 1.0), reduced


def test_the_temperature_moves_no_decision():
    cases = cohort(200)
    logits, reduced = cases["logit"].to_numpy(), cases["reduced"].to_numpy()
    cool, warm = (temperature.probability(logits, value) for value in (1.0, 6.0))
    assert decision.decide(cool, decision.learn(cool, reduced)) == decision.decide(warm, decision.learn(warm, reduced))


# --- intervals -----------------------------------------------------------------------------------


def test_widths_are_those_of_crepes_with_mondrian_bins():
    cases = cohort(400)
    residuals, group = (
        (cases["regression"] - cases["qct_vbmd_mg_cm3"]).to_numpy(),
        intervals.groups(cases).to_numpy(str),
    )
    widths = {width.group: width for width in intervals.learn(residuals, group)}
    oracle = ConformalRegressor().fit(residuals, bins=group)
    names = sorted(set(group))
    expected = oracle.predict_int(np.zeros(3), bins=np.array(names), confidence=0.9 - 1e-12)[:, 1]
    assert [widths[name].half_width_mg_cm3 for name in names] == expected.tolist()
    assert [widths[name].n for name in names] == [int((group == name).sum()) for name in names]
    assert widths["all patients"].n == 400


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 130))
def test_half_widths_are_the_residual_of_the_right_rank(n):
    rank = math.ceil((n + 1) * Fraction(9, 10))
    (width, *_) = intervals.learn(np.arange(1.0, n + 1) * (-1.0) ** np.arange(n), np.full(n, "a"))
    assert width.half_width_mg_cm3 == (None if rank > n else rank)


def test_each_kind_of_scan_is_covered_where_one_width_for_all_covers_only_the_mean():
    covered = {"own": np.zeros((80, 3)), "one": np.zeros((80, 3))}
    for seed in range(80):
        learnt, new = cohort(199, seed=seed), cohort(1_000, seed=5_000 + seed)
        error = (new["regression"] - new["qct_vbmd_mg_cm3"]).abs().to_numpy()
        residuals = (learnt["regression"] - learnt["qct_vbmd_mg_cm3"]).to_numpy()
        widths = intervals.learn(residuals, intervals.groups(learnt).to_numpy(str))
        half_widths = {width.group: width.half_width_mg_cm3 for width in widths}
        group = intervals.groups(new)
        for i, (phase, kvp) in enumerate(GROUPS):
            name = intervals.groups(pd.DataFrame({"phase": [phase], "kvp": [kvp]}))[0]
            errors_of_kind = error[(group == name).to_numpy()]
            covered["one"][seed, i] = (errors_of_kind <= half_widths["all patients"]).mean()
            covered["own"][seed, i] = (errors_of_kind <= half_widths.get(name, half_widths["all patients"])).mean()
    assert (np.abs(covered["own"].mean(axis=0) - 0.9) < 0.025).all(), covered["own"].mean(axis=0)
    assert covered["one"].mean(axis=0)[0] > 0.95 and covered["one"].mean(axis=0)[2] < 0.7


def test_a_small_group_takes_the_width_of_all_patients_and_says_so():
    cases = cohort(100).assign(phase="native", kvp=120.0)
    cases.loc[:18, "kvp"] = 140.0
    learnt = uncertainty.learn(cases)
    judged = uncertainty.judge(as_results(cases), learnt)
    assert judged["interval_group"].value_counts().to_dict() == {"native, 111-130 kV": 81, "all patients": 19}
    assert learnt.reference(None).width("native, over 130 kV") == learnt.reference(None).widths[0]


@pytest.mark.parametrize(
    ("phase", "kvp", "group"),
    [
        ("native", 120, "native, 111-130 kV"),
        ("portal", 110, "contrast, 91-110 kV"),
        ("arterial", 90, "contrast, up to 90 kV"),
        ("unknown", 140, "unknown, over 130 kV"),
        (None, None, "unknown, unknown kV"),
    ],
)
def test_groups_are_named_by_contrast_and_voltage(phase, kvp, group):
    scans = pd.DataFrame({"phase": [phase], "kvp": [kvp]}, dtype=object)
    assert intervals.groups(scans).tolist() == [group]


# --- all together --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnt():
    return uncertainty.learn(cohort(199))


def test_what_is_written_to_a_bundle_is_what_is_read(learnt):
    facts = json.loads(json.dumps(uncertainty.to_facts(learnt), allow_nan=False))
    assert uncertainty.from_facts(facts) == learnt
    few = uncertainty.learn(cohort(12).assign(kvp=None, phase=None, device_key=None))
    assert uncertainty.from_facts(json.loads(json.dumps(uncertainty.to_facts(few), allow_nan=False))) == few
    with pytest.raises((KeyError, TypeError)):
        uncertainty.from_facts({"references": [{"fold": 0}]})


def test_nothing_of_a_patients_own_fold_is_used_to_judge_them(learnt):
    cases = cohort(199)
    of_fold = cases["fold"] == 2
    other = cases.assign(
        regression=cases["regression"].mask(of_fold, 500.0),
        logit=cases["logit"].mask(of_fold, 0.0),
        kvp=cases["kvp"].mask(of_fold, 70),
    )
    changed = uncertainty.learn(other)
    assert changed.reference(2) == learnt.reference(2)
    assert changed.reference(1) != learnt.reference(1) and changed.reference(None) != learnt.reference(None)


def test_patients_of_a_fold_are_judged_by_the_others_and_new_ones_by_all(learnt):
    cases = cohort(199)
    inside, outside = uncertainty.judge(as_results(cases, fold=1), learnt), uncertainty.judge(as_results(cases), learnt)
    half = ((inside["vbmd_high"] - inside["vbmd_low"]) / 2).to_numpy()
    for i in (0, 57, 198):
        reference = learnt.reference(int(cases["fold"][i]))
        width = reference.width(intervals.groups(cases)[i])
        assert half[i] == pytest.approx(width.half_width_mg_cm3)
        assert inside["probability_reduced"].iloc[i] == temperature.probability(
            np.array([cases["logit"][i]]), reference.temperature.value
        )
    assert not np.allclose(half, ((outside["vbmd_high"] - outside["vbmd_low"]) / 2).to_numpy())
    assert list(inside.index) == list(cases["patient_id"])


def test_cross_fitted_intervals_cover_the_patients_that_they_were_learnt_without():
    inside = n = 0
    for seed in range(10):
        cases = cohort(199, seed=seed)
        judged = uncertainty.judge(as_results(cases, fold=1), uncertainty.learn(cases))
        truth = cases["qct_vbmd_mg_cm3"].to_numpy()
        inside += int(((judged["vbmd_low"] <= truth) & (truth <= judged["vbmd_high"])).sum())
        n += len(cases)
    low, high = binom.interval(0.999, n, 0.9)
    assert low <= inside <= high


def judge_one(learnt, **facts) -> pd.Series:
    """Judge a plain patient of whom some facts differ."""
    plain = {
        **dict(logit=4.0, vbmd_mg_cm3=100.0, hu_baseline_vbmd_mg_cm3=100.0, trabecular_hu=130.0, fold=np.nan),
        **dict(fold_spread_mg_cm3=2.0, kvp=120.0, phase="native", thickness_mm=1.0, spacing_mm=1.0),
        "device_key": "M X 120 B",
    }
    return uncertainty.judge(pd.DataFrame([plain | facts], index=["s"]), learnt).iloc[0]


@pytest.mark.parametrize(
    ("facts", "codes", "decided", "reason"),
    [
        ({}, [], "reduced", None),
        ({"logit": -9.0}, [], "normal", None),
        ({"logit": 0.0}, [], "indeterminate", "near_cut"),
        ({"logit": np.nan, "vbmd_mg_cm3": np.nan}, [], "not_evaluable", "no_prediction"),
        ({"device_key": "Z"}, ["new_device"], "reduced", None),
        (
            {"device_key": "M|X|VMI 40 keV|B", "kvp": None},
            ["new_device", "other_spectrum"],
            "indeterminate",
            "other_spectrum",
        ),
        ({"device_key": None}, [], "reduced", None),
        ({"kvp": 140.0}, ["new_voltage"], "reduced", None),
        ({"kvp": None, "phase": None, "thickness_mm": None, "spacing_mm": None}, [], "reduced", None),
        ({"thickness_mm": 3.4}, [], "reduced", None),
        ({"thickness_mm": 3.6}, ["geometry_out_of_range"], "reduced", None),
        ({"spacing_mm": 2.1}, ["geometry_out_of_range"], "reduced", None),
        ({"trabecular_hu": 400.0}, ["hu_out_of_range"], "indeterminate", "hu_out_of_range"),
        ({"fold_spread_mg_cm3": 30.0}, ["fold_spread"], "indeterminate", "fold_spread"),
        ({"fold_spread_mg_cm3": np.nan}, [], "reduced", None),
        ({"vbmd_mg_cm3": 170.0}, ["differs_from_hu"], "indeterminate", "differs_from_hu"),
        ({"vbmd_mg_cm3": 170.0, "logit": 0.0}, ["differs_from_hu"], "indeterminate", "differs_from_hu"),
        ({"vbmd_mg_cm3": 170.0, "logit": np.nan}, ["differs_from_hu"], "not_evaluable", "no_prediction"),
        (
            {"device_key": "Z", "kvp": 70.0, "trabecular_hu": -200.0},
            ["new_device", "new_voltage", "hu_out_of_range"],
            "indeterminate",
            "hu_out_of_range",
        ),
    ],
)
def test_what_lies_beyond_the_training_is_told_and_only_what_is_odd_itself_stops_a_decision(
    learnt, facts, codes, decided, reason
):
    row = judge_one(learnt, **facts)
    assert (row["novelty"], row["decision"], row["decision_reason"]) == (codes, decided, reason)
    assert set(codes) <= set(NOVELTY) and (reason is None or reason in REASONS)


def test_differences_of_one_in_a_hundred_are_believed():
    many = uncertainty.learn(cohort(199))
    differences = (cohort(199)["regression"] - cohort(199)["hu"]).abs().to_numpy()
    assert many.reference(None).experience.hu_difference_mg_cm3 == np.sort(differences)[-2]
    few = cohort(60)
    largest = np.sort((few["regression"] - few["hu"]).abs().to_numpy())[-3]
    assert uncertainty.learn(few).reference(None).experience.hu_difference_mg_cm3 == 1.5 * largest
    assert uncertainty.learn(cohort(18)).reference(None).experience.hu_difference_mg_cm3 is None


def test_no_results_give_no_judgements(learnt):
    judged = uncertainty.judge(as_results(cohort(5)).iloc[:0], learnt)
    assert list(judged.columns) == list(uncertainty.JUDGED) and not len(judged)


def test_few_patients_give_no_interval_and_decide_at_one_half():
    learnt = uncertainty.learn(cohort(8))
    row = judge_one(learnt, logit=0.01)
    assert row[["vbmd_low", "vbmd_high"]].isna().all() and row["interval_group"] is None
    assert row["decision"] == "reduced"
