"""The study's tables: sets of the protocol, baselines, levels, thresholds, coverage, decisions, recalibration."""

import numpy as np
import pandas as pd
import pytest
import small_study
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from trabecula import evaluate, tables
from trabecula.density.thresholds import Thresholds
from trabecula.errors import REASONS
from trabecula.evaluate import protocol, sets
from trabecula.evaluate.agreement import mae_difference
from trabecula.evaluate.comparison import best_hu_line
from trabecula.evaluate.recalibration import BOTH, INTERCEPT, curve, enough
from trabecula.model import baselines

pytestmark = pytest.mark.slow

THRESHOLDS = Thresholds(reduced_below_mg_cm3=120.0, osteoporosis_below_mg_cm3=80.0)


def cohort_rows(seed=4):
    rng = np.random.default_rng(seed)
    studies = [small_study.study(cohort, i) for cohort, (_, n) in small_study.COHORTS.items() for i in range(n)]
    roles = {cohort: role for cohort, (role, _) in small_study.COHORTS.items()}
    return studies, [small_study.patient(study, roles[study["cohort"]], rng) for study in studies]


def level_rows(patients):
    """Make vertebrae, predictions and labels at L1, L2 and L3; the label of L3 is of another level than the truth."""
    vertebrae, predictions, labels = [], [], []
    for number, patient in enumerate(patients):
        for i, level in enumerate(("L1", "L2", "L3")):
            keys = {name: patient[name] for name in ("cohort", "patient_id", "study_id")}
            fold = small_study.fold_of(patient["patient_id"]) if patient["in_training"] else number % 5
            vertebrae.append(small_study.vertebra(patient, level, trabecular_hu_mean=patient["trabecular_hu"] + i))
            for task in ("regression", "classification"):
                value = patient["vbmd_mg_cm3"] + 10 * i if task == "regression" else 0.5
                row = keys | {"level": level, "model_id": "m", "task": task, "fold": fold, "value": value}
                predictions.append(row | {"in_training": patient["in_training"]})
            reason = "other_level" if level == "L3" else None
            labels.append(
                small_study.empty(tables.LABELS, status="unused" if reason else "used", reason=reason, days_from_scan=0)
                | {"cohort": patient["cohort"], "patient_id": patient["patient_id"], "level": level}
                | {"vbmd_mg_cm3": patient["qct_vbmd_mg_cm3"] + 10 * i, "days_from_first_study": 0}
            )
    return {"vertebrae": vertebrae, "predictions": predictions, "labels": labels}


@pytest.fixture(scope="module")
def evidence():
    studies, patients = cohort_rows()
    rows = level_rows(patients)
    rows["labels"] += [rows["labels"][0] | {"level": "L1-L2", "vbmd_mg_cm3": 10.0}]
    rows["labels"] += [rows["labels"][0] | {"vbmd_mg_cm3": 400.0, "days_from_scan": 90, "reason": "other_level"}]
    lines = small_study.lines(patients, studies)
    return small_study.evidence(
        patients, studies, lines=lines, protocol=small_study.protocol(patients, studies), **rows
    )


@pytest.fixture(scope="module")
def results(evidence):
    return evaluate.statistics(evidence, THRESHOLDS, **small_study.OPTIONS, bootstrap=200, seed=1)


def only_row(rows, **values):
    """Give the one row that has these values."""
    (row,) = (row for row in rows if all(row[name] == value for name, value in values.items()))
    return row


def test_every_table_fits_its_schema_and_has_rows(results):
    assert set(results) == set(evaluate.STATISTICS)
    for name, schema in evaluate.STATISTICS.items():
        assert tables.cast(results[name], schema).num_rows or name == "left_out", name
        for row in results[name]:
            assert not any(isinstance(value, float) and np.isnan(value) for value in row.values())


def test_sets_come_in_order_and_all_predictors_speak(results):
    seen = list(dict.fromkeys(row["set"] for row in results["metrics"]))
    assert seen == [name for name in evaluate.SETS if name != "development, not in training"]
    for name in ("cross-validated", "external"):
        assert {row["predictor"] for row in results["metrics"] if row["set"] == name} == set(sets.PREDICTORS)
    of_protocol = {row["predictor"] for row in results["metrics"] if row["set"] == "training"}
    assert of_protocol == set(small_study.PREDICTORS)


def test_a_patient_in_several_splits_counts_once_with_the_first(evidence, results):
    rows = evidence.protocol.to_pandas()
    rows = rows[(rows["scheme"] == "random") & (rows["part"] == "test") & (rows["predictor"] == "network")]
    assert rows["patient_id"].duplicated().any()
    first = {}
    for _, row in rows.sort_values("split").iterrows():
        first.setdefault(row["patient_id"], row["vbmd_mg_cm3"])
    got = {r["patient_id"]: r["vbmd_mg_cm3"] for r in results["agreement"]
           if (r["set"], r["predictor"]) == ("random grouping", "network")}  # fmt: skip
    assert got == first


def test_splits_are_counted_not_spelt():
    names = [f"fold{i}" for i in range(12)]
    assert sorted(sorted(names), key=protocol._place) == names


def test_a_bundle_without_protocol_gives_no_sets_of_it(evidence):
    bare = small_study.evidence(
        evidence.patients.to_pylist(), evidence.studies.to_pylist(), lines=evidence.lines, folds=evidence.folds
    )
    results = evaluate.statistics(bare, THRESHOLDS, **small_study.OPTIONS, bootstrap=100, seed=1)
    assert {row["set"] for row in results["metrics"]} == {"cross-validated", "external"}
    assert results["spread"] == []
    assert results["levels"] == []


def test_read_protocol_of_a_bundle_without_one_is_empty(tmp_path, evidence):
    class Bundle:
        folder = tmp_path

    assert protocol.read_protocol(Bundle()).num_rows == 0  # pyright: ignore[reportArgumentType]
    tables.write(evidence.protocol, tables.PROTOCOL, tmp_path / "protocol.parquet")
    assert protocol.read_protocol(Bundle()).equals(evidence.protocol)  # pyright: ignore[reportArgumentType]


def test_lines_of_the_fold_that_did_not_see_the_patient_predict(evidence, results):
    """Compare with the lines' own coefficients, patient by patient; new patients get the mean over the lines."""
    people = {row["patient_id"]: row for row in evidence.patients.to_pylist()}
    hu = {line.fold: line for line in evidence.lines if line.name == "hu"}
    for row in results["agreement"]:
        if row["predictor"] == "hu" and row["set"] in ("cross-validated", "external"):
            patient = people[row["patient_id"]]
            folds = [small_study.fold_of(row["patient_id"])] if patient["in_training"] else list(hu)
            values = [hu[k].terms["intercept"] + hu[k].terms["hu"] * patient["trabecular_hu"] for k in folds]
            assert row["vbmd_mg_cm3"] == pytest.approx(np.mean(values))


def test_thresholds_decide_by_hu_and_measure_nothing(evidence, results):
    rows = [row for row in evidence.patients.to_pylist() if row["role"] == "external"]
    truth = np.array([row["qct_reduced"] for row in rows])
    hu = np.array([row["trabecular_hu"] for row in rows])
    for name, threshold in baselines.THRESHOLDS_HU.items():
        figures = {r["metric"]: r for r in results["metrics"] if (r["set"], r["predictor"]) == ("external", name)}
        assert figures["accuracy"]["value"] == pytest.approx(np.mean((hu < threshold) == truth))
        assert figures["auc"]["value"] == pytest.approx(roc_auc_score(truth, -hu))
        assert "mae" not in figures
        assert not [r for r in results["left_out"] if r["predictor"] == name]


def test_the_network_is_compared_with_everything_on_the_same_patients(results):
    rows = [row for row in results["comparison"] if row["set"] == "external"]
    seconds = [name for name in sets.PREDICTORS if name != "network"]
    assert [row["second"] for row in rows if row["metric"] == "auc"] == seconds
    assert [row["second"] for row in rows if row["metric"] == "mae"] == [n for n in seconds if n in sets.MEASURING]
    metrics = {(r["predictor"], r["metric"]): r["value"] for r in results["metrics"] if r["set"] == "external"}
    for row in rows:
        assert row["first_value"] == pytest.approx(metrics["network", row["metric"]])
        assert row["second_value"] == pytest.approx(metrics[row["second"], row["metric"]])
        assert row["difference"] == pytest.approx(row["first_value"] - row["second_value"])
    assert "training" not in {row["set"] for row in results["comparison"]}


def test_the_best_line_from_hu_is_chosen_on_the_cross_validated_patients(results):
    rows = [row for row in results["metrics"] if (row["set"], row["metric"]) == ("cross-validated", "mae")]
    maes = {row["predictor"]: row["value"] for row in rows if row["predictor"] in ("hu", "hu_device", "hu_age_sex")}
    best = min(maes, key=lambda name: maes[name])
    assert {row["second"] for row in results["comparison"] if row["best_hu"]} == {best}


def test_without_a_run_of_its_own_the_protocol_chooses_the_best_line(evidence):
    group = protocol.cross_validated(evidence.protocol)
    assert group is not None
    assert len(group.patients) == small_study.COHORTS["clinic_a"][1]
    assert best_hu_line(group) in ("hu", "hu_device", "hu_age_sex")
    assert protocol.cross_validated(tables.PROTOCOL.empty_table()) is None


def test_the_paired_bootstrap_equals_one_by_hand():
    """Percentile and BCa ends lie close where the differences are near normal; the noise is that of the resamples."""
    rng = np.random.default_rng(7)
    qct = rng.normal(120, 30, 60)
    first, second = qct + rng.normal(0, 8, 60), qct + rng.normal(0, 12, 60)
    got = mae_difference(first, second, qct, resamples=5000, seed=1)
    drawn = []
    for _ in range(5000):
        i = rng.integers(0, 60, 60)
        drawn.append(np.abs(first[i] - qct[i]).mean() - np.abs(second[i] - qct[i]).mean())
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (got.low, got.high) == (
        pytest.approx(low, abs=0.1 * (high - low)),
        pytest.approx(high, abs=0.1 * (high - low)),
    )


def test_the_spread_has_each_split_by_itself(evidence, results):
    rows = evidence.protocol.to_pandas()
    for row in results["spread"]:
        members = rows[(rows["scheme"] == row["scheme"]) & (rows["split"] == row["split"]) & (rows["part"] == "test")]
        members = members[members["predictor"] == row["predictor"]]
        assert row["n"] == len(members)
        if row["metric"] == "mae":
            assert row["value"] == pytest.approx((members["vbmd_mg_cm3"] - members["qct_vbmd_mg_cm3"]).abs().mean())
        assert (row["held_out"] is not None) == (row["scheme"] == "device")
    assert {row["held_out"] for row in results["spread"]} == {None, *small_study.DEVICES["clinic_a"]}


def test_levels_are_compared_with_their_own_label(evidence, results):
    """Predictions and labels rise alike from level to level, so the network's errors are those of the patient."""
    mae = only_row(results["metrics"], set="external", predictor="network", metric="mae")["value"]
    rows = [row for row in results["levels"] if row["set"] == "external" and row["predictor"] == "network"]
    assert {row["level"] for row in rows} == {"L1", "L2", "L3", "all"}
    assert [row["value"] for row in rows if row["metric"] == "mae"] == pytest.approx([mae] * 4)
    assert {row["n"] for row in rows} == {24}
    hu = only_row(results["levels"], set="cross-validated", predictor="hu", metric="bias", level="L2")
    people = [row for row in evidence.patients.to_pylist() if row["in_training"]]
    lines = {line.fold: line.terms for line in evidence.lines if line.name == "hu"}
    errors = [
        lines[k]["intercept"] + lines[k]["hu"] * (p["trabecular_hu"] + 1) - p["qct_vbmd_mg_cm3"] - 10
        for p in people
        for k in [small_study.fold_of(p["patient_id"])]
    ]
    assert hu["value"] == pytest.approx(np.mean(errors))


def test_errors_near_the_thresholds_are_those_of_the_patients_there(evidence, results):
    rows = [row for row in evidence.patients.to_pylist() if row["in_training"]]
    for threshold in (80.0, 120.0):
        members = [row for row in rows if abs(row["qct_vbmd_mg_cm3"] - threshold) <= 10]
        errors = [row["vbmd_mg_cm3"] - row["qct_vbmd_mg_cm3"] for row in members]
        right = [(row["vbmd_mg_cm3"] < threshold) == (row["qct_vbmd_mg_cm3"] < threshold) for row in members]
        which = {"set": "cross-validated", "predictor": "network", "cut_mg_cm3": threshold}
        if len(members) < 5:
            assert only_row(results["near_cuts"], **which, metric="mae")["reason"] == "fewer than five patients"
            continue
        assert only_row(results["near_cuts"], **which, metric="mae")["value"] == pytest.approx(np.mean(np.abs(errors)))
        assert only_row(results["near_cuts"], **which, metric="bias")["value"] == pytest.approx(np.mean(errors))
        share = only_row(results["near_cuts"], **which, metric="right_side")
        assert (share["value"], share["n"]) == (pytest.approx(np.mean(right)), len(members))


def test_coverage_counts_and_small_cells_are_null(evidence, results):
    rows = [row for row in evidence.patients.to_pylist() if row["role"] == "external"]
    inside = [row["vbmd_low"] <= row["qct_vbmd_mg_cm3"] <= row["vbmd_high"] for row in rows]
    everyone = only_row(results["coverage"], set="external", stratum="all")
    assert (everyone["covered"], everyone["n"]) == (pytest.approx(np.mean(inside)), 24)
    assert everyone["width_mg_cm3"] == pytest.approx(28)
    for stratum in ("all", "device", "contrast", "voltage", "interval_group", "class"):
        assert (
            sum(row["n"] for row in results["coverage"] if (row["set"], row["stratum"]) == ("external", stratum)) == 24
        )
    for row in results["coverage"]:
        assert (row["covered"] is None) == (row["n"] < 5) == (row["reason"] == "fewer than five patients")


def test_a_cell_of_four_patients_is_null(evidence):
    rows = evidence.patients.to_pylist()[:4]
    bare = small_study.evidence(rows, evidence.studies.to_pylist(), lines=evidence.lines)
    results = evaluate.statistics(bare, THRESHOLDS, **small_study.OPTIONS, bootstrap=100, seed=1)["coverage"]
    assert results
    assert all(row["covered"] is None and row["width_mg_cm3"] is None and row["reason"] for row in results)


def test_decisions_stand_on_the_decided_only(evidence, results):
    rows = [row for row in evidence.patients.to_pylist() if row["in_training"]]
    decided = [row for row in rows if row["decision"] in ("normal", "reduced")]
    called = [row for row in decided if row["decision"] == "reduced"]
    got = {row["metric"]: row for row in results["decisions"] if row["set"] == "cross-validated"}
    assert got["abstention"]["value"] == pytest.approx(1 - len(decided) / len(rows))
    assert 0 < got["abstention"]["value"] < 1
    assert got["precision"]["value"] == pytest.approx(np.mean([row["qct_reduced"] for row in called]))
    assert got["accuracy"]["n"] == len(decided)
    why = [row for row in results["abstentions"] if row["set"] == "cross-validated"]
    assert [(row["decision"], row["reason"], row["n"]) for row in why] == [
        ("indeterminate", "near_cut", len(rows) - len(decided))
    ]


@settings(max_examples=15, deadline=None)
@given(st.integers(10, 40), st.integers(0, 2**32 - 1), st.booleans())
def test_recalibration_equals_a_loop_over_draws(n, seed, line):
    rng = np.random.default_rng(seed)
    qct = rng.normal(120, 30, n)
    predicted = 0.8 * qct + rng.normal(10, 9, n)
    terms = BOTH if line else INTERCEPT
    rows = {row["k"]: row for row in curve(predicted, qct, draws=20, seed=3) if row["terms"] == terms}
    assert list(rows) == [k for k in (3, 5, 10, 15, 20, 30, 50) if k <= n - 10]
    orders = np.random.default_rng(3).permuted(np.tile(np.arange(n), (20, 1)), axis=1)
    for k, row in rows.items():
        errors = []
        for order in orders:
            used, rest = order[:k], order[k:]
            if line:
                model = LinearRegression().fit(predicted[used, None], qct[used])
                fitted = model.predict(predicted[rest, None])
            else:
                fitted = predicted[rest] + (qct[used] - predicted[used]).mean()
            errors.append(np.abs(fitted - qct[rest]).mean())
        assert row["mae_mg_cm3"] == pytest.approx(np.mean(errors))
        assert (row["low"], row["high"]) == (
            pytest.approx(np.quantile(errors, 0.025)),
            pytest.approx(np.quantile(errors, 0.975)),
        )


def test_recalibration_mends_an_offset_and_nothing_is_drawn_for_none():
    qct = np.linspace(60, 180, 60)
    rows = pd.DataFrame(curve(qct + 15.0, qct, draws=30, seed=1))
    assert rows.loc[rows["k"] == 0, "mae_mg_cm3"].item() == pytest.approx(15)
    assert rows.loc[rows["k"] == 0, ["low", "high"]].isna().all(axis=None)
    assert rows.loc[rows["k"] > 0, "mae_mg_cm3"].max() == pytest.approx(0, abs=1e-9)
    assert enough(rows) == 3
    assert enough(rows.iloc[:0]) is None


def test_patients_with_the_same_prediction_give_no_slope():
    qct = np.linspace(60, 180, 20)
    rows = list(curve(np.full(20, 100.0), qct, draws=10, seed=1))
    with_slope, without = ([r["mae_mg_cm3"] for r in rows if r["terms"] == t] for t in (BOTH, INTERCEPT))
    assert with_slope == pytest.approx(without)


def test_recalibration_is_by_cohort_and_by_device(results):
    parts = {(row["cohort"], row["device_key"]): row["n"] for row in results["recalibration"]}
    assert parts == {("clinic_b", None): 24, **{("clinic_b", device): 12 for device in small_study.DEVICES["clinic_b"]}}
    for row in results["recalibration"]:
        assert row["k"] <= row["n"] - 10


def test_reasons_of_the_tables_are_known(results):
    for name in ("left_out", "abstentions"):
        assert {row["reason"] for row in results[name]} <= set(REASONS)


def test_a_set_of_several_cohorts_is_judged_by_cohort_and_as_a_whole(evidence):
    patients, studies = evidence.patients.to_pylist(), evidence.studies.to_pylist()
    for row in [*patients, *studies]:
        if row["cohort"] == "clinic_b" and int(row["patient_id"][3:]) % 2:
            row["cohort"] = "clinic_c"
    split = small_study.evidence(patients, studies, lines=evidence.lines)
    results = evaluate.statistics(split, THRESHOLDS, **small_study.OPTIONS, bootstrap=100, seed=1)
    where = ("external", "network", "mae")
    rows = [row for row in results["metrics"] if (row["set"], row["predictor"], row["metric"]) == where]
    assert {row["cohort"]: row["n"] for row in rows} == {"clinic_b": 12, "clinic_c": 12, None: 24}
    people = [(row["patient_id"], row["predictor"]) for row in results["agreement"] if row["set"] == "external"]
    assert len(people) == len(set(people))
    assert {row["cohort"] for row in results["distribution"]} == {"clinic_a", "clinic_b", "clinic_c"}


def test_every_patient_is_in_one_cell_of_grades_and_of_reclassification(results):
    parts = {
        name: [row for row in results[name] if row["set"] == "external"] for name in ("grades", "reclassification")
    }
    assert sum(row["n"] for row in parts["grades"] if row["predictor"] == "network") == 24
    cells = [row["n"] for row in parts["reclassification"] if row["threshold"] == 0.5]
    assert (len(cells), sum(cells)) == (8, 24)


def test_a_cohort_without_labels_has_its_distribution(evidence):
    rows = [
        row | {"role": "screening", "in_training": False, "qct_vbmd_mg_cm3": None, "qct_reduced": None}
        for row in evidence.patients.to_pylist()
        if row["cohort"] == "clinic_b"
    ]
    bare = small_study.evidence(rows, evidence.studies.to_pylist(), lines=evidence.lines)
    results = evaluate.statistics(bare, THRESHOLDS, **small_study.OPTIONS, bootstrap=100, seed=1)
    assert {name for name, table in results.items() if table} == {"precision", "distribution"}
    share = only_row(results["distribution"], stratum="all", quantity="reduced")
    assert share["value"] == pytest.approx(np.mean([row["grade"] != "normal" for row in rows]))


def test_only_vertebrae_of_labelled_patients_are_read(tmp_path, evidence):
    files = {}
    for name in ("patients", "studies", "vertebrae", "predictions", "labels"):
        rows = [row for row in getattr(evidence, name).to_pylist() if row["cohort"] == "clinic_b"]
        files[name] = [tmp_path / name / "cohort=clinic_b" / f"{name}.parquet"]
        files[name][0].parent.mkdir(parents=True)
        tables.write(rows[:3] if name == "labels" else rows, tables.PUBLIC[name], files[name][0])
    read = evaluate.read_tables(files)
    labelled = set(read["labels"]["patient_id"].to_pylist())
    assert len(labelled) == 1
    for name in ("vertebrae", "predictions"):
        assert set(read[name]["patient_id"].to_pylist()) == labelled
        assert read[name].schema.equals(tables.PUBLIC[name])
