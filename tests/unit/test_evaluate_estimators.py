"""Estimators against other libraries, plain loops and simulation; undefined ones are None with a reason."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit
from sklearn.metrics import brier_score_loss, cohen_kappa_score, roc_auc_score
from statsmodels.api import GLM, families
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_by_statsmodels
from statsmodels.stats.proportion import proportions_chisquare

from trabecula.evaluate.agreement import agreement, clustered_agreement, kappa, spearman
from trabecula.evaluate.cells import age_band, thickness, voltage
from trabecula.evaluate.discrimination import accuracy_difference, auc, clustered_auc, delong, mcnemar
from trabecula.evaluate.distribution import summary
from trabecula.evaluate.estimate import Estimate
from trabecula.evaluate.operating_points import at_prevalence, net_benefit
from trabecula.evaluate.probabilities import (
    brier,
    calibration_intercept,
    calibration_slope,
    ici,
    resampled_curves,
    tenths,
)
from trabecula.evaluate.repeats import DEVICES, precision, precision_errors, repeats
from trabecula.evaluate.sets import HU, NETWORK
from trabecula.evaluate.strata import same_area, same_mean, same_share

DRAW = {"resamples": 400, "seed": 1}


def probable(n=300, seed=1, *, slope=1.0, shift=0.0):
    """Draw outcomes, and probabilities whose log odds are off by a slope and a shift."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 1.5, n)
    return rng.random(n) < expit(odds), expit((odds - shift) / slope)


def inside(estimate: Estimate, truth: float) -> bool:
    assert estimate.low is not None and estimate.high is not None
    return estimate.low <= truth <= estimate.high


def test_icc_equals_a_two_way_analysis_of_variance():
    rng = np.random.default_rng(3)
    qct = rng.normal(120, 25, 30)
    predicted = qct + rng.normal(4, 9, 30)
    frame = pd.DataFrame({"value": np.r_[predicted, qct], "patient": [*range(30)] * 2, "method": [0] * 30 + [1] * 30})
    table = anova_lm(ols("value ~ C(patient) + C(method)", frame).fit())
    rows, columns, rest = (table["sum_sq"] / table["df"])[["C(patient)", "C(method)", "Residual"]]
    expected = (rows - rest) / (rows + rest + 2 / 30 * (columns - rest))
    assert agreement(predicted, qct, **DRAW)["icc_a1"].value == pytest.approx(expected)


def test_ccc_is_pearson_times_the_correction_of_bias():
    """Lin's own factorisation: accuracy 2 / (v + 1 / v + u^2) with scale shift v and location shift u."""
    rng = np.random.default_rng(4)
    qct = rng.normal(120, 25, 50)
    predicted = 1.1 * qct + rng.normal(-5, 9, 50)
    v, u = predicted.std() / qct.std(), (predicted.mean() - qct.mean()) / np.sqrt(predicted.std() * qct.std())
    expected = float(np.corrcoef(predicted, qct)[0, 1]) * 2 / (v + 1 / v + u**2)
    assert agreement(predicted, qct, **DRAW)["ccc"].value == pytest.approx(expected)


def test_limits_of_agreement_and_their_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside_low, widths, expected = [], [], 0.0
    for _ in range(250):
        error = rng.normal(2, 10, 80)
        limit = agreement(error, np.zeros(80), **DRAW)["limit_low"]
        inside_low.append(inside(limit, 2 - 19.6))
        widths.append((limit.high or 0) - (limit.low or 0))
        # Variance of a limit: (1/n + 1.96^2/(2(n-1))) s^2, Bland and Altman, Stat Methods Med Res 1999;8:135.
        expected = 2 * 1.96 * 10 * np.sqrt(1 / 80 + 1.96**2 / (2 * 79))
    assert 0.90 < np.mean(inside_low) < 0.98
    assert np.mean(widths) == pytest.approx(expected, rel=0.1)


def test_spearman_with_ties_equals_scipy_and_its_interval_covers():
    rng = np.random.default_rng(1)
    x = rng.normal(size=60).round(1)
    assert spearman(x, x + 1).reason == "all patients are ranked alike"
    covered = []
    true = 6 / np.pi * np.arcsin(0.7 / 2)
    for _ in range(400):
        x, y = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 60).T
        rho = spearman(x, y)
        assert rho.value == pytest.approx(stats.spearmanr(x, y)[0])
        covered.append(inside(rho, true))
    assert 0.92 < np.mean(covered) < 0.98


def test_kappa_equals_scikit_learn():
    rng = np.random.default_rng(2)
    first = rng.integers(0, 3, 90)
    second = np.clip(first + rng.integers(-1, 2, 90), 0, 2)
    assert kappa(first, second, **DRAW).value == pytest.approx(cohen_kappa_score(first, second, weights="quadratic"))
    one_grade = np.ones(9, int)
    assert kappa(one_grade, one_grade, **DRAW).value is None
    assert kappa(one_grade[:0], one_grade[:0], **DRAW).reason


def test_mcnemar_equals_statsmodels():
    rng = np.random.default_rng(3)
    first, second = rng.random((2, 60)) < [[0.9], [0.75]]
    table = [[(a & b).sum() for b in (second, ~second)] for a in (first, ~first)]
    theirs: Any = mcnemar_by_statsmodels(table, exact=True)
    assert mcnemar(first, second) == pytest.approx(theirs.pvalue)
    assert mcnemar(first, first) is None


def test_brier_equals_scikit_learn():
    truth, probability = probable()
    assert brier(truth, probability, **DRAW).value == pytest.approx(brier_score_loss(truth, probability))


def test_slope_and_intercept_equal_a_generalised_linear_model():
    truth, probability = probable(slope=0.6, shift=0.4)
    odds = logit(probability)
    model = GLM(truth.astype(float), np.stack([np.ones(300), odds], axis=1), families.Binomial()).fit()
    slope = calibration_slope(truth, probability)
    low, high = model.conf_int()[1]
    assert (slope.value, slope.low, slope.high) == pytest.approx((model.params[1], low, high), rel=1e-5)
    model = GLM(truth.astype(float), np.ones(300), families.Binomial(), offset=odds).fit()
    intercept = calibration_intercept(truth, probability)
    low, high = model.conf_int()[0]
    assert (intercept.value, intercept.low, intercept.high) == pytest.approx((model.params[0], low, high), rel=1e-5)


def test_intervals_of_slope_and_intercept_cover():
    fits = [
        (calibration_slope(*sample), calibration_intercept(*sample))
        for sample in (probable(150, i) for i in range(200))
    ]
    assert 0.90 < np.mean([inside(slope, 1.0) for slope, _ in fits]) < 0.99
    assert 0.90 < np.mean([inside(intercept, 0.0) for _, intercept in fits]) < 0.99


@pytest.mark.parametrize(
    ("truth", "probability"),
    [
        (np.arange(8) > 3, np.linspace(0.1, 0.9, 8)),  # separated
        (np.arange(8) % 2 > 0, np.full(8, 0.3)),  # constant
        (np.ones(8, bool), np.linspace(0.1, 0.9, 8)),  # one class
        (np.array([True, False]), np.array([0.7, 0.2])),
        (np.array([True]), np.array([1.0])),
        (np.array([], bool), np.array([])),
    ],
)
def test_a_slope_that_is_no_number_has_a_reason(truth, probability):
    slope = calibration_slope(truth, probability)
    assert (slope.value, slope.low, slope.high) == (None, None, None)
    assert slope.reason


def test_certain_probabilities_have_finite_calibration():
    truth, probability = probable(60)
    certain = np.where(probability > 0.8, 1.0, np.where(probability < 0.2, 0.0, probability))
    assert np.isfinite(calibration_slope(truth, certain).value or np.nan)
    assert np.isfinite(calibration_intercept(truth, certain).value or np.nan)


def test_ici_tells_calibrated_from_overconfident():
    truth, good = probable(3000)
    _, bad = probable(3000, slope=0.3)
    figures = []
    for p in (good, bad):
        _, distances = resampled_curves(truth, p, resamples=20, seed=1)
        figures.append(ici(truth, p, distances))
    assert figures[0].value is not None and figures[0].value < 0.02
    # The truth is known: the mean distance of expit(0.3 x odds) from the stated probability.
    expected = np.abs(expit(0.3 * logit(bad)) - bad).mean()
    assert figures[1].value == pytest.approx(expected, abs=0.03)
    assert ici(truth[:3], good[:3], np.empty(0)).reason


def test_tenths_hold_every_patient_once_and_five_at_least():
    truth, probability = probable(43)
    rows = list(tenths(truth, probability))
    assert sum(row["n"] for row in rows) == 43 and min(row["n"] for row in rows) >= 5
    assert sum(row["observed"] * row["n"] for row in rows) == pytest.approx(truth.sum())
    assert list(tenths(truth[:4], probability[:4])) == []


def test_net_benefit_equals_its_definition():
    truth, probability = probable(80)
    at = [0.1, 0.3, 0.8]
    benefits = net_benefit(truth, probability[:, None] >= np.array(at), at, **DRAW)
    for threshold, estimate in zip(at, benefits, strict=True):
        called = probability >= threshold
        true, false = (called & truth).sum(), (called & ~truth).sum()
        assert estimate.value == pytest.approx(true / 80 - false / 80 * threshold / (1 - threshold))
    everyone = net_benefit(truth, np.ones((80, 1), bool), [0.25], **DRAW)[0]
    assert everyone.value == pytest.approx(truth.mean() - (1 - truth.mean()) / 3)


def test_predictive_values_follow_bayes_and_cover():
    rng = np.random.default_rng(5)
    truth = np.arange(200) < 80
    right = []
    called = ~truth
    for _ in range(300):
        called = rng.random(200) < np.where(truth, 0.85, 0.1)
        values = at_prevalence(truth, called, 0.1)
        right.append(inside(values["ppv"], 0.085 / (0.085 + 0.09)) and inside(values["npv"], 0.81 / (0.81 + 0.015)))
    assert 0.85 < np.mean(right) < 0.97  # both at once: about 0.95 squared
    at_share = at_prevalence(truth, called, truth.mean())
    assert at_share["ppv"].value == pytest.approx(truth[called].mean())
    assert at_share["npv"].value == pytest.approx((~truth[~called]).mean())
    perfect = at_prevalence(truth, truth, 0.1)["ppv"]
    assert (perfect.value, perfect.low) == (1.0, None) and perfect.reason
    assert at_prevalence(truth[:5], truth[:5], 0.1)["npv"].value is None


def test_one_value_per_patient_makes_clustered_figures_plain():
    rng = np.random.default_rng(6)
    truth = np.arange(40) < 18
    score = rng.normal(size=40) + truth
    clustered, plain = clustered_auc(truth, score, np.arange(40)), auc(truth, score)
    assert (clustered.value, clustered.low, clustered.high) == pytest.approx((plain.value, plain.low, plain.high))
    qct = rng.normal(120, 20, 40)
    patients = clustered_agreement(qct + score, qct, np.arange(40), **DRAW)
    of_plain = agreement(qct + score, qct, **DRAW)
    for name, estimate in patients.items():
        other = of_plain[name]
        # Sums differ in their last digit by where arrays lie in memory.
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
            (other.value, other.low, other.high), rel=1e-9
        ), name
        assert (estimate.n, estimate.method, estimate.reason) == (other.n, other.method, other.reason), name


def test_clustered_figures_know_that_vertebrae_of_a_patient_are_alike():
    rng = np.random.default_rng(7)
    patient = np.repeat(np.arange(40), 4)
    truth, score = (
        np.repeat(np.arange(40) < 20, 4),
        np.repeat(rng.normal(size=40), 4) + np.repeat(np.arange(40) < 20, 4),
    )
    clustered, naive = clustered_auc(truth, score, patient), auc(truth, score)
    assert clustered.value == pytest.approx(roc_auc_score(truth, score))
    # Copies carry no news: the interval is that of one value per patient.
    single = auc(truth[::4], score[::4])
    assert (clustered.low, clustered.high) == pytest.approx((single.low, single.high))
    assert (naive.low or 0) > (clustered.low or 0)
    qct = np.zeros(160)
    mae = clustered_agreement(score, qct, patient, **DRAW)["mae"]
    assert (mae.value, mae.n) == (pytest.approx(np.abs(score).mean()), 40)
    assert mae == agreement(score[::4], qct[::4], **DRAW)["mae"]


def test_clustered_intervals_cover():
    rng = np.random.default_rng(8)
    patient, areas, biases = np.repeat(np.arange(50), 3), [], []
    true = stats.norm.cdf(1 / np.sqrt(2 * 1.5))
    for _ in range(300):
        shift = rng.normal(0, 0.5**0.5, 50)[patient]
        truth = rng.random(150) < 0.5
        score = shift + rng.normal(size=150) + truth
        areas.append(inside(clustered_auc(truth, score, patient), float(true)))
        bias = clustered_agreement(shift + rng.normal(size=150), np.zeros(150), patient, **DRAW)["bias"]
        biases.append(inside(bias, 0))
    assert 0.91 < np.mean(areas) < 0.98
    assert 0.90 < np.mean(biases) < 0.98


def test_clustered_figures_without_enough_are_none():
    nothing = np.empty(0)
    assert clustered_auc(nothing.astype(bool), nothing, nothing.astype(int)).reason
    assert clustered_agreement(nothing, nothing, nothing.astype(int), **DRAW)["mae"].value is None
    area = clustered_auc(np.array([True, False]), np.array([1.0, 2.0]), np.zeros(2, int))
    assert area.value is None and area.reason


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 3), (0, 4), (0, 6), (2, 9), (5, 5), (12, 3), (1, 8)])
def test_the_interval_of_a_difference_of_accuracies_agrees_with_mcnemar(only_first, only_second):
    first = np.repeat([True, False, True], [only_first, only_second, 40])
    second = np.repeat([False, True, True], [only_first, only_second, 40])
    difference = accuracy_difference(first, second)
    assert difference.value == pytest.approx(first.mean() - second.mean())
    p_value = mcnemar(first, second)
    assert (
        p_value is not None
        and difference.value is not None
        and difference.low is not None
        and difference.high is not None
    )
    assert (p_value < 0.05) == (difference.low * difference.high > 0)
    assert difference.low <= difference.value <= difference.high


def test_an_interaction_with_a_perfect_cell_is_not_told():
    perfect = auc(np.repeat([True, False], 20), np.repeat([2.0, 1.0], 20))
    rng = np.random.default_rng(4)
    others = [auc(rng.random(60) < 0.5, rng.random(60)) for _ in range(2)]
    assert same_area(others).p_value is not None
    interaction = same_area([perfect, *others])
    assert interaction.p_value is None and "perfectly" in str(interaction.reason)


def test_shares_of_small_cells_are_compared_exactly():
    few = [np.repeat([True, False], n) for n in ([4, 1], [100, 0])]
    assert same_share(few).p_value == pytest.approx(stats.fisher_exact([[4, 1], [100, 0]])[1])
    rng, p_values = np.random.default_rng(5), []
    for _ in range(60):
        p_values.append(same_share([rng.random(n) < 0.9 for n in (60, 6, 6)]).p_value)
    defined = [p for p in p_values if p is not None]
    assert np.mean([p < 0.05 for p in defined]) <= 0.1
    assert same_share([few[0], few[0], few[1]]) == same_share([few[0], few[0], few[1]])


def test_interactions_equal_other_libraries():
    rng = np.random.default_rng(9)
    a, b = rng.normal(0, 1, 20), rng.normal(0.7, 3, 30)
    theirs: Any = stats.ttest_ind(a, b, equal_var=False)
    assert same_mean([a, b]).p_value == pytest.approx(theirs.pvalue)
    right = [rng.random(30) < share for share in (0.9, 0.7, 0.6)]
    expected = proportions_chisquare([r.sum() for r in right], [30] * 3)[1]
    assert same_share(right).p_value == pytest.approx(expected)
    truth = np.arange(60) < 30
    scores = [rng.normal(size=60) + shift * truth for shift in (0.5, 1.2)]
    (first, variance), (second, other) = ((m[0], c[0, 0]) for m, c in (delong(truth, s[None]) for s in scores))
    z = (first - second) / np.sqrt(variance + other)
    assert same_area([auc(truth, s) for s in scores]).p_value == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_interactions_without_two_cells_have_a_reason():
    few, many = np.arange(3.0), np.arange(9.0)
    assert same_mean([few, many]).p_value is None and same_mean([few, many]).reason
    assert same_share([many > 99, many > 99]).p_value is None and same_share([few > 1]).reason
    assert same_area([Estimate(None, None, None, 3, "", "few")]).reason


def test_precision_of_pairs_equals_the_formula_of_differences():
    """For two scans SD^2 is d^2 / 2, so RMS-SD is the root of the mean of d^2 / 2."""
    rng = np.random.default_rng(10)
    mean, d = rng.normal(120, 20, 15), rng.normal(0, 4, 15)
    values, patient = np.r_[mean - d / 2, mean + d / 2], np.tile(np.arange(15), 2)
    errors = precision_errors(values, patient)
    sd = np.sqrt((d**2 / 2).mean())
    assert errors["rms_sd_mg_cm3"].value == pytest.approx(sd)
    assert errors["lsc_mg_cm3"].value == pytest.approx(2.77 * sd)
    assert errors["rmscv_percent"].value == pytest.approx(100 * np.sqrt((d**2 / 2 / mean**2).mean()))
    assert all(row.n == 15 for row in errors.values())


def test_the_interval_of_precision_covers():
    rng = np.random.default_rng(11)
    patient = np.repeat(np.arange(15), [2] * 10 + [3] * 5)
    true = [inside(precision_errors(100 + rng.normal(0, 3, 35), patient)["rms_sd_mg_cm3"], 3.0) for _ in range(500)]
    assert 0.92 < np.mean(true) < 0.98


def test_repeats_are_scans_within_the_window():
    rows = [
        ("a", 0),
        ("a", 20),
        ("a", 400),
        ("b", 0),
        ("b", 31),
        ("c", 0),
        ("d", 0),
        ("d", 100),
        ("d", 110),
        ("d", 125),
    ]
    frame = pd.DataFrame(rows, columns=["patient_id", "days_from_first_study"])
    frame = frame.assign(study_id=[f"s{i}" for i in range(len(frame))], vbmd_mg_cm3=100.0, device_key="x")
    for devices in DEVICES:
        scans = repeats(frame, "vbmd_mg_cm3", days=30, devices=devices)
        assert scans["study_id"].tolist() == ["s0", "s1", "s7", "s8", "s9"]
        assert repeats(frame.iloc[:0], "vbmd_mg_cm3", days=30, devices=devices).empty
    none = precision_errors(np.empty(0), np.empty(0, int))
    assert all(row.value is None and row.reason and row.n == 0 for row in none.values())


def test_repeats_on_one_device_leave_out_what_another_scanner_adds():
    """One window per patient: the fullest that has one device; an unknown device repeats nothing."""
    rows = [
        *[("a", 0, "x"), ("a", 1, "y"), ("a", 2, "x")],
        *[("b", 0, "x"), ("b", 1, "y"), ("b", 2, "y"), ("b", 3, "y"), ("b", 4, "x")],
        *[("c", 0, "x"), ("c", 1, "y")],
        *[("d", 0, None), ("d", 1, None)],
    ]
    frame = pd.DataFrame(rows, columns=["patient_id", "days_from_first_study", "device_key"])
    frame = frame.assign(study_id=[f"s{i}" for i in range(len(frame))], cohort="k", hu_baseline_vbmd_mg_cm3=np.nan)
    frame["vbmd_mg_cm3"] = 100.0 + 20.0 * (frame["device_key"] == "y") + frame["days_from_first_study"]
    frame["vbmd_hu_mg_cm3"] = np.nan
    scans = repeats(frame, "vbmd_mg_cm3", days=30, devices="one")
    assert scans["study_id"].tolist() == ["s0", "s2", "s4", "s5", "s6"]
    rows = list(precision(frame, pd.DataFrame({"cohort": ["k"], "role": ["screening"]}), days=30))
    lsc = {(row["predictor"], row["devices"]): row for row in rows if row["metric"] == "lsc_mg_cm3"}
    same_device, both = lsc[NETWORK, "one"], lsc[NETWORK, "any"]
    # Squares about the means: 2 of a's two scans, 2 of b's three, with 3 degrees of freedom.
    assert (same_device["value"], same_device["n"], same_device["degrees_of_freedom"]) == (
        pytest.approx(2.77 * (4 / 3) ** 0.5),
        2,
        3,
    )
    assert both["n"] == 4 and both["value"] > 5 * same_device["value"]
    assert lsc[HU, "one"]["value"] is None and lsc[HU, "one"]["reason"]


def test_distribution_equals_scipy_and_small_cells_are_none():
    values = np.random.default_rng(12).normal(120, 30, 40)
    row = summary(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert (row["value"], row["low"], row["high"]) == pytest.approx((values.mean(), low, high))
    assert row["p50"] == pytest.approx(np.median(values))
    small = summary(values[:4])
    assert small["value"] is None and small["sd"] is None and small["n"] == 4 and small["reason"]


def test_cells_have_names_and_edges():
    assert age_band(pd.Series([49.9, 50, 79, 80, None])).tolist() == [
        *("below 50", "50 to 59", "70 to 79", "80 and older", "unknown")
    ]
    assert thickness(pd.Series([1.5, 3.0, 5.0])).tolist() == ["up to 1.5 mm", "over 1.5 to 3.0 mm", "over 3.0 mm"]
    assert voltage(pd.Series([99.9, None])).tolist() == ["100 kV", "unknown"]
