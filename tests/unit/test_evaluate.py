"""Statistics against independent oracles, and properties of the tables of evaluate."""

import warnings

import numpy as np
import pytest
import small_study
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, roc_auc_score

from trabecula import evaluate, tables
from trabecula.density.thresholds import Thresholds
from trabecula.evaluate.agreement import agreement, f1, mae_difference
from trabecula.evaluate.comparison import sentence
from trabecula.evaluate.discrimination import auc, auc_difference, delong, proportions, wilson
from trabecula.evaluate.estimate import Estimate
from trabecula.evaluate.registry import REGISTRY
from trabecula.model.baselines import Baseline

OPTIONS = {"resamples": 2000, "seed": 1}


def defined(estimate: Estimate) -> tuple[float, float, float]:
    """Give lower end, value and upper end of an estimate that must be defined."""
    assert estimate.low is not None
    assert estimate.value is not None
    assert estimate.high is not None
    return estimate.low, estimate.value, estimate.high


def patient(number, **values):
    """Make a row of PATIENTS: by default a labelled, cross-validated patient."""
    qct = values.pop("qct", 90.0 + 5 * number)
    row = dict.fromkeys(tables.PATIENTS.names) | {
        "cohort": "a",
        "patient_id": f"pa{number:02d}",
        "study_id": f"st{number:02d}",
        "role": "development",
        "in_training": True,
        "vbmd_mg_cm3": qct if qct is None else qct + (-1) ** number * 4.0,
        "probability_reduced": 0.5 if qct is None else 1 / (1 + np.exp((qct - 120) / 10)),
        "trabecular_hu": qct if qct is None else qct + (-1) ** number * 9.0,
        "decision": "normal",
        "novelty": [],
        "levels_used": ["L1", "L2"],
        "flags": [],
        "reviewed": False,
        "qct_vbmd_mg_cm3": qct,
        "qct_reduced": None if qct is None else qct < 120,
        "synthetic": True,
    }
    return row | values


# One HU is one mg/cm3 by the line that did not see fold 0, in which all patients of the training are.
LINES = (Baseline("hu", 0, {"intercept": 0.0, "hu": 1.0}, 9),)
THRESHOLDS = Thresholds(reduced_below_mg_cm3=120.0, osteoporosis_below_mg_cm3=80.0)


def judged(*rows, bootstrap=200, known_by_scan=()):
    folds = {row["patient_id"]: 0 for row in rows if row["in_training"] and row["patient_id"] not in known_by_scan}
    evidence = small_study.evidence(list(rows), [], lines=LINES, folds=folds)
    return evaluate.statistics(evidence, THRESHOLDS, **small_study.OPTIONS, bootstrap=bootstrap, seed=1)


def naive_delong(truth, scores):
    """Apply the definition: every pair of a reduced and a normal patient, and its placement values."""
    placed = []
    for score in scores:
        wins = np.array([[(x > y) + (x == y) / 2 for y in score[~truth]] for x in score[truth]])
        placed.append((wins.mean(axis=1), wins.mean(axis=0)))
    areas = [above.mean() for above, _ in placed]
    covariance = [
        [np.cov(a[0], b[0])[0, 1] / truth.sum() + np.cov(a[1], b[1])[0, 1] / (~truth).sum() for b in placed]
        for a in placed
    ]
    return np.array(areas), np.array(covariance)


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 40), st.integers(0, 2**32 - 1), st.booleans())
def test_delong_equals_its_definition_and_scikit_learn(n, seed, ties):
    rng = np.random.default_rng(seed)
    truth = rng.permutation(n) < rng.integers(2, n - 1)
    scores = rng.normal(size=(3, n)) + truth
    scores = scores.round() if ties else scores
    areas, covariance = delong(truth, scores)
    expected_areas, expected_covariance = naive_delong(truth, scores)
    np.testing.assert_allclose(areas, expected_areas)
    np.testing.assert_allclose(covariance, expected_covariance, atol=1e-14)
    np.testing.assert_allclose(areas, [roc_auc_score(truth, score) for score in scores])


def test_delong_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = np.arange(80) < 40
    true_area = stats.norm.cdf(1 / np.sqrt(2))
    areas = [auc(truth, rng.normal(size=80) + truth) for _ in range(500)]
    covered = np.mean([low <= true_area <= high for low, _, high in map(defined, areas)])
    assert 0.92 < covered < 0.98


def test_paired_test_rejects_by_chance_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = np.arange(60) < 30
    common = rng.normal(size=(400, 60)) + truth
    p_values = [
        auc_difference(truth, score + rng.normal(size=60), score + rng.normal(size=60)).p_value for score in common
    ]
    assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.08


def test_difference_is_antisymmetric():
    rng = np.random.default_rng(3)
    truth, (a, b) = np.arange(50) < 20, rng.normal(size=(2, 50))
    there, back = auc_difference(truth, a, b), auc_difference(truth, b, a)
    assert None not in (there.difference, back.difference, there.low, back.high)
    assert (there.difference, there.low) == pytest.approx((-(back.difference or 0), -(back.high or 0)))
    assert there.p_value == pytest.approx(back.p_value)


def test_undefined_areas_have_a_reason():
    score = np.arange(6.0)
    for truth in (np.ones(6, bool), np.zeros(6, bool), np.arange(6) < 1, np.array([], bool)):
        estimate = auc(truth, score[: len(truth)])
        assert (estimate.value, estimate.low, estimate.high) == (None, None, None)
        assert estimate.reason
        assert auc_difference(truth, score[: len(truth)], score[: len(truth)]).p_value is None
    perfect = auc(score > 2, score)
    assert (perfect.value, perfect.low, perfect.high) == (1.0, None, None)
    assert perfect.reason
    assert auc_difference(score > 2, score, 2 * score).difference == 0.0


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy(successes):
    k, n = successes
    share, expected = wilson(k, n), stats.binomtest(k, n).proportion_ci(method="wilson")
    assert (share.low, share.high) == pytest.approx((expected.low, expected.high))


def test_proportions_stand_on_their_denominators():
    truth = np.array([1, 1, 1, 0, 0, 0, 0], bool)
    decided = np.array([1, 1, 0, 1, 0, 0, 0], bool)
    shares = proportions(truth, decided)
    assert {name: (e.value, e.n) for name, e in shares.items()} == {
        "recall": (2 / 3, 3),
        "precision": (2 / 3, 3),
        "specificity": (3 / 4, 4),
        "npv": (3 / 4, 4),
        "accuracy": (5 / 7, 7),
    }
    nobody = proportions(truth, np.zeros(7, bool))["precision"]
    assert nobody.value is None
    assert nobody.reason


def sample(n=40, seed=5):
    rng = np.random.default_rng(seed)
    qct = rng.normal(120, 30, n)
    return qct + rng.gamma(2, 6, n) - 10, qct


def naive_icc(ratings):
    """Compute ICC(A,1) from the mean squares of rows, columns and error, (n, k) ratings."""
    n, k = ratings.shape
    grand, rows, columns = ratings.mean(), ratings.mean(axis=1), ratings.mean(axis=0)
    of_rows = k * ((rows - grand) ** 2).sum() / (n - 1)
    of_columns = n * ((columns - grand) ** 2).sum() / (k - 1)
    rest = ((ratings - rows[:, None] - columns + grand) ** 2).sum() / ((n - 1) * (k - 1))
    return (of_rows - rest) / (of_rows + (k - 1) * rest + k / n * (of_columns - rest))


def test_agreement_equals_plain_formulas():
    predicted, qct = sample()
    values = {name: estimate.value for name, estimate in agreement(predicted, qct, **OPTIONS).items()}
    error = predicted - qct
    assert values == pytest.approx(
        {
            "mae": np.abs(error).mean(),
            "rmse": np.sqrt((error**2).mean()),
            "bias": error.mean(),
            "limit_low": error.mean() - 1.96 * error.std(ddof=1),
            "limit_high": error.mean() + 1.96 * error.std(ddof=1),
            "pearson_r": stats.pearsonr(predicted, qct)[0],
            "spearman_rho": stats.spearmanr(predicted, qct)[0],
            "ccc": 2 * np.cov(predicted, qct, ddof=0)[0, 1] / (predicted.var() + qct.var() + error.mean() ** 2),
            "icc_a1": naive_icc(np.stack([predicted, qct], axis=1)),
        }
    )


def test_bca_intervals_equal_scipys():
    """Compare to within the noise of 20,000 resamples, measured in widths of the interval."""
    predicted, qct = sample()

    def pearson(x, y, axis=-1):
        x, y = x - x.mean(axis, keepdims=True), y - y.mean(axis, keepdims=True)
        return (x * y).sum(axis) / np.sqrt((x * x).sum(axis) * (y * y).sum(axis))

    oracles = {
        "mae": lambda p, q, axis=-1: np.abs(p - q).mean(axis),
        "rmse": lambda p, q, axis=-1: np.sqrt(((p - q) ** 2).mean(axis)),
        "pearson_r": pearson,
    }
    estimates = agreement(predicted, qct, resamples=20_000, seed=1)
    for name, figure in oracles.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            expected = stats.bootstrap(
                (predicted, qct), figure, paired=True, n_resamples=20_000, method="BCa", rng=np.random.default_rng(2)
            ).confidence_interval
        width = expected.high - expected.low
        assert estimates[name].low == pytest.approx(expected.low, abs=0.06 * width)
        assert estimates[name].high == pytest.approx(expected.high, abs=0.06 * width)


def test_bootstrap_is_seeded_and_its_interval_holds_the_value():
    predicted, qct = sample()
    assert agreement(predicted, qct, **OPTIONS) == agreement(predicted, qct, **OPTIONS)
    for estimate in agreement(predicted, qct, **OPTIONS).values():
        low, value, high = defined(estimate)
        assert low < value < high


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=3, max_size=30))
def test_f1_equals_scikit_learn_and_is_undefined_without_reduced_patients(pairs):
    truth, decided = np.array(pairs, bool).T
    estimate = f1(truth, decided, resamples=200, seed=1)
    if truth.any() or decided.any():
        assert estimate.value == pytest.approx(f1_score(truth, decided))
        assert estimate.low is None or 0 <= defined(estimate)[0] <= defined(estimate)[2] <= 1
    else:
        assert estimate.value is None
        assert estimate.reason


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_patients_give_no_interval(n):
    predicted, qct = sample(3)
    for name, estimate in agreement(predicted[:n], qct[:n], **OPTIONS).items():
        assert estimate.low is None
        assert estimate.reason
        assert (estimate.value is None) == (n == 0 or name in ("pearson_r", "spearman_rho", "ccc", "icc_a1"))


def test_constant_predictions_have_no_correlation():
    _, qct = sample()
    estimates = agreement(np.full(len(qct), 100.0), qct, **OPTIONS)
    assert estimates["pearson_r"].value is None
    assert estimates["mae"].value is not None


def test_mae_difference_is_the_difference_of_maes():
    predicted, qct = sample()
    difference = mae_difference(predicted, predicted + 3, qct, **OPTIONS)
    assert difference.value == pytest.approx(np.abs(predicted - qct).mean() - np.abs(predicted + 3 - qct).mean())


@pytest.mark.parametrize(
    ("metric", "interval", "word"),
    [
        ("auc", (0.1, 0.3), "is better"),
        ("auc", (-0.3, -0.1), "is worse"),
        ("auc", (-0.1, 0.3), "is not better"),
        ("mae", (-3.0, -1.0), "is better"),
        ("mae", (1.0, 3.0), "is worse"),
    ],
)
def test_the_sentence_says_what_the_interval_says(metric, interval, word):
    low, high = interval
    text = sentence(metric, Estimate((low + high) / 2, low, high, 9, ""), "HU alone")
    assert f"{word} than HU alone" in text


def test_the_sentence_says_when_nothing_can_be_said():
    assert "can't be compared" in sentence("auc", Estimate(None, None, None, 0, "", "fewer"), "HU alone")
    assert "not shown" in sentence("mae", Estimate(0.0, None, None, 9, "", "no variation"), "HU alone")


def test_tables_fit_their_schemas_and_sets_are_apart():
    rows = [patient(i) for i in range(12)]
    rows += [patient(i, role="external", in_training=False, cohort="b", qct=80.0 + 9 * i) for i in range(9)]
    rows += [patient(100 + i, in_training=False, cohort="c") for i in range(8)]
    rows += [patient(i, role="screening", in_training=False, cohort="d") for i in range(5)]
    results = judged(*rows)
    for name, rows in results.items():
        tables.cast(rows, evaluate.STATISTICS[name])
    n = {
        (row["set"], row["n"]) for row in results["metrics"] if row["metric"] == "mae" and row["predictor"] == "network"
    }
    assert n == {("cross-validated", 12), ("external", 9), ("development, not in training", 8)}
    assert results["left_out"] == []
    for row in results["metrics"]:
        assert (row["value"] is None or row["low"] is None) == (row["reason"] is not None)


@pytest.mark.parametrize("facts", [{}, {"role": "external", "in_training": False}], ids=["development", "external"])
def test_a_patient_of_two_cohorts_counts_once(facts):
    """They count in the first that has a label and a prediction; in the other they are left out with a reason."""
    rows = [patient(i, **facts) for i in range(12)]
    repeated = [patient(i, cohort="a", qct=None, **facts) for i in range(3)]
    repeated += [patient(i, cohort="z", **facts) for i in range(3, 6)]
    results = judged(*rows, *repeated)
    alone = judged(*rows)
    figures = [
        [{**row, "cohort": None} for row in results["metrics"] + results["coverage"] if row["cohort"] == cohort]
        for results, cohort in ((results, None), (alone, "a"))
    ]
    assert figures[0] == figures[1]
    assert {row["n"] for row in results["metrics"] if (row["cohort"], row["metric"]) == ("a", "mae")} == {12}
    out = {
        (row["reason"], row["n"])
        for row in results["left_out"]
        if (row["predictor"], row["cohort"]) == ("network", None)
    }
    assert out == {("other_cohort", 6)}


def test_external_patients_of_the_training_count_nowhere():
    """They are neither in the figures nor in coverage and abstentions."""
    rows = [patient(i) for i in range(12)]
    rows += [patient(100 + i, role="external", in_training=False, cohort="b") for i in range(8)]
    leaked = [
        patient(i, role="external", cohort="b", decision="indeterminate", decision_reason="near_cut") for i in range(4)
    ]
    results, alone = judged(*rows, *leaked), judged(*rows)
    for name in ("metrics", "coverage", "abstentions", "decisions"):
        assert results[name] == alone[name], name


def test_the_tables_do_not_depend_on_the_order_of_patients():
    rows = [patient(i) for i in range(9)]
    assert judged(*rows) == judged(*reversed(rows))


def test_patients_left_out_are_counted_with_their_reason():
    rows = [patient(i) for i in range(8)]
    rows += [
        patient(20, qct=None),
        patient(21, vbmd_mg_cm3=None, probability_reduced=None, decision="not_evaluable", decision_reason="metal"),
        patient(22, trabecular_hu=None),
        patient(
            23,
            study_id=None,
            qct=None,
            probability_reduced=None,
            decision="not_evaluable",
            decision_reason="missing_slices",
        ),
    ]
    results = judged(*rows)
    shown = ("network", "hu")
    out = {(r["predictor"], r["task"], r["reason"]): r["n"] for r in results["left_out"] if r["predictor"] in shown}
    assert out == {
        **{
            (predictor, task, "missing_slices"): 1
            for predictor in ("network", "hu")
            for task in ("classification", "regression")
        },
        ("network", "classification", "metal"): 1,
        ("network", "classification", "no_label"): 1,
        ("network", "regression", "metal"): 1,
        ("network", "regression", "no_label"): 1,
        ("hu", "classification", "no_label"): 1,
        ("hu", "classification", "unknown_fact"): 1,
        ("hu", "regression", "no_label"): 1,
        ("hu", "regression", "unknown_fact"): 1,
    }
    assert {row["set"] for row in results["metrics"]} == {"cross-validated"}
    assert all(row["n"] == 8 for row in results["comparison"])


@pytest.mark.parametrize("role", ["external", "development"])
def test_a_patient_of_the_training_under_another_id_does_not_count(role):
    rows = [patient(i, role=role, in_training=i == 0) for i in range(6)]
    results = judged(*rows, known_by_scan=["pa00"])
    assert {(r["reason"], r["n"]) for r in results["left_out"] if r["task"] == "classification"} == {("in_training", 1)}
    assert "pa00" not in {r["patient_id"] for r in results["agreement"]}
    assert {r["set"] for r in results["left_out"]} <= {"external", "development, not in training"}


def test_an_external_patient_from_the_training_does_not_count():
    rows = [patient(i, role="external", in_training=i == 0) for i in range(6)]
    results = judged(*rows)
    assert {(r["reason"], r["n"]) for r in results["left_out"] if r["task"] == "classification"} == {("in_training", 1)}
    assert "pa00" not in {r["patient_id"] for r in results["agreement"]}


def test_one_class_only_is_null_with_a_reason():
    results = judged(*(patient(i, qct=60.0 + i) for i in range(10)))
    value = {(r["predictor"], r["metric"]): (r["value"], r["reason"]) for r in results["metrics"]}
    for predictor in ("network", "hu"):
        assert value[predictor, "auc"][0] is None
        assert value[predictor, "auc"][1]
        assert value[predictor, "specificity"][0] is None
        assert value[predictor, "mae"][0] is not None
    assert results["roc"] == []


def test_every_table_has_a_statistic_that_fills_it():
    assert list(dict.fromkeys(statistic.table for statistic in REGISTRY)) == list(evaluate.STATISTICS)


def test_no_patients_give_empty_tables():
    assert all(rows == [] for rows in judged().values())
