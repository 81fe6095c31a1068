"""Splits: patients in one part each, classes and devices shared out, and a division that is kept."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trabecula import tables
from trabecula.errors import ConfigError
from trabecula.train.splits import Protocol, divide, read_earlier

pytestmark = pytest.mark.slow

PROTOCOL = Protocol(5, 3, [0.6, 0.2, 0.2], True, 10, 0.2, 1)
NOTHING_CORRECTED = pd.DataFrame({"patient_id": [], "earlier_ids": []}, dtype=object)


def patients(n: int, seed: int, first: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    names = [f"pa{i:04d}" for i in range(first, first + n)]
    device = rng.choice(["alpha", "beta", "rare"], n, p=[0.55, 0.4, 0.05])
    return pd.DataFrame({"patient_id": names, "reduced": rng.random(n) < 0.4, "device_key": device})


def with_facts(division: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    return division.merge(cases, on="patient_id")


@settings(max_examples=20, deadline=None)
@given(st.integers(60, 150), st.integers(0, 99))
def test_every_patient_has_one_part_in_every_split(n, seed):
    cases = patients(n, seed)
    division = divide(cases, PROTOCOL)
    assert not division.duplicated(["split", "patient_id"]).any()
    assert (division.groupby("split")["patient_id"].nunique() == n).all()
    tested = division.query("scheme == 'cross-validation' and part == 'test'")
    assert sorted(tested["patient_id"]) == sorted(cases["patient_id"])


@settings(max_examples=20, deadline=None)
@given(st.integers(60, 150), st.integers(0, 99))
def test_folds_hold_equal_numbers_of_each_class_and_nearly_of_each_device(n, seed):
    cases = patients(n, seed)
    tested = with_facts(divide(cases, PROTOCOL).query("scheme == 'cross-validation' and part == 'test'"), cases)
    by_class = tested.groupby(["reduced", "split"]).size().unstack("split", fill_value=0)
    assert by_class.shape[1] == 5 and (by_class.max(axis=1) - by_class.min(axis=1) <= 1).all()
    by_both = tested.groupby(["reduced", "device_key", "split"]).size().unstack("split", fill_value=0)
    assert (by_both.max(axis=1) - by_both.min(axis=1) <= 2).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(100, 200), st.integers(0, 99))
def test_random_parts_have_their_shares(n, seed):
    parts = divide(patients(n, seed), PROTOCOL).query("scheme == 'random'")
    share = parts.groupby(["split", "part"]).size().unstack("part") / n
    np.testing.assert_allclose(share[["train", "validation", "test"]], [[0.6, 0.2, 0.2]] * 3, atol=0.04)
    tested = [set(rows["patient_id"]) for _, rows in parts.query("part == 'test'").groupby("split")]
    assert tested[0] != tested[1] != tested[2]


def test_a_left_out_device_is_tested_and_never_learned_from():
    cases = patients(120, 1)
    parts = with_facts(divide(cases, PROTOCOL).query("scheme == 'device'"), cases)
    assert set(parts["held_out"]) == {"alpha", "beta"}, "a device of few patients is not left out"
    assert ((parts["part"] == "test") == (parts["device_key"] == parts["held_out"])).all()


def test_a_scanner_is_left_out_with_all_its_voltages_and_kernels():
    cases = patients(90, 1).replace({"device_key": {"rare": "beta"}})
    kv = np.where(np.arange(90) % 2, "100|soft", "120|sharp")
    parts = divide(cases.assign(device_key="Maker|" + cases["device_key"] + "|" + kv), PROTOCOL)
    assert set(parts["held_out"].dropna()) == {"Maker|alpha", "Maker|beta"}


def test_a_device_that_has_one_class_to_itself_is_not_left_out():
    """The remaining patients are of one class only."""
    cases = patients(90, 1).replace({"device_key": {"rare": "beta"}})
    apart = cases.assign(reduced=cases["device_key"] == "alpha")
    assert "device" not in set(divide(apart, PROTOCOL)["scheme"])


def test_other_fractions_are_divided_anew():
    cases = patients(90, 1)
    other = replace(PROTOCOL, random_fractions=[0.3, 0.2, 0.5])
    again = divide(cases, other, divide(cases, PROTOCOL))
    pd.testing.assert_frame_equal(again.query("scheme == 'random'"), divide(cases, other).query("scheme == 'random'"))


def test_one_device_alone_is_not_left_out():
    cases = patients(60, 1).assign(device_key="alpha")
    assert "device" not in set(divide(cases, PROTOCOL)["scheme"])


@pytest.mark.parametrize("seed", range(4))
def test_a_grown_cohort_keeps_its_earlier_patients_where_they_were(seed, tmp_path):
    """New patients go where their class has the fewest; the file that is kept is read as it was written."""
    before = patients(90, seed)
    first = divide(before, PROTOCOL)
    tables.write(tables.from_frame(first, tables.SPLITS), tables.SPLITS, tmp_path / "splits.parquet")
    cases = pd.concat([before, patients(40, seed + 9, first=90)], ignore_index=True)
    grown = divide(cases, PROTOCOL, read_earlier(tmp_path / "splits.parquet", NOTHING_CORRECTED))
    both = first.merge(grown, on=["split", "patient_id"], suffixes=("", "_grown"))
    assert len(both) == len(first) and (both["part"] == both["part_grown"]).all()
    tested = with_facts(grown.query("scheme == 'cross-validation' and part == 'test'"), cases)
    by_class = tested.groupby(["reduced", "split"]).size().unstack("split")
    assert (by_class.max(axis=1) - by_class.min(axis=1) <= 1).all()


def test_a_patient_with_a_new_pseudonym_keeps_the_part_of_an_earlier_one(tmp_path):
    before = patients(90, 1)
    first = divide(before, PROTOCOL)
    tables.write(tables.from_frame(first, tables.SPLITS), tables.SPLITS, tmp_path / "splits.parquet")
    new_name = {"pa0003": "pb0003", "pa0004": "pb0004"}
    corrected = before.assign(patient_id=before["patient_id"].replace(new_name))
    rows = [
        *((new, [old]) for old, new in new_name.items()),
        ("pa0005", ["pa0006"]),
        ("pa0006", []),
        ("pc", ["pa0006"]),
    ]
    studies = pd.DataFrame(rows, columns=["patient_id", "earlier_ids"])
    second = divide(corrected, PROTOCOL, read_earlier(tmp_path / "splits.parquet", studies))
    expected = first.assign(patient_id=first["patient_id"].replace(new_name))
    order = ["split", "patient_id"]
    pd.testing.assert_frame_equal(
        second.sort_values(order, ignore_index=True), expected.sort_values(order, ignore_index=True)
    )


def test_a_new_device_does_not_move_the_others_splits():
    """Splits of a device are known by the device, though its number changes."""
    before = patients(90, 3).replace({"device_key": {"rare": "alpha"}})
    grown = pd.concat([before, patients(20, 5, first=90).assign(device_key="aaa")], ignore_index=True)
    first = divide(before, PROTOCOL).query("scheme == 'device'")
    second = divide(grown, PROTOCOL, divide(before, PROTOCOL)).query("scheme == 'device'")
    both = first.merge(second, on=["held_out", "patient_id"], suffixes=("", "_grown"))
    assert len(both) == len(first) and (both["part"] == both["part_grown"]).all()
    assert (both["split"] != both["split_grown"]).all()


def test_another_number_of_folds_is_divided_anew():
    cases = patients(90, 1)
    again = divide(cases, replace(PROTOCOL, folds=3), divide(cases, PROTOCOL))
    fresh = divide(cases, replace(PROTOCOL, folds=3))
    pd.testing.assert_frame_equal(
        again.query("scheme == 'cross-validation'"), fresh.query("scheme == 'cross-validation'")
    )


def test_the_same_patients_in_another_order_are_divided_alike():
    cases = patients(90, 1)
    pd.testing.assert_frame_equal(divide(cases, PROTOCOL), divide(cases.sample(frac=1, random_state=3), PROTOCOL))


def test_a_part_without_patients_is_said_in_a_sentence():
    with pytest.raises(ConfigError, match="add labelled patients"):
        divide(patients(6, 1), PROTOCOL)
