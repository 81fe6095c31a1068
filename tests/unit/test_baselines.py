"""Baselines: least squares as scikit-learn does it, and silence where a fact is missing."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from trabecula.model import baselines
from trabecula.model.baselines import TERMS, Baseline


def patients(n: int = 60, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    facts = pd.DataFrame(
        {
            "trabecular_hu": rng.normal(140, 40, n),
            "kvp": rng.choice([80.0, 100.0, 120.0], n),
            "phase": rng.choice(["native", "portal", "arterial", "unknown"], n),
            "age_years": rng.normal(60, 12, n),
            "sex": rng.choice(["F", "M"], n),
        }
    )
    return facts.assign(qct_vbmd_mg_cm3=0.8 * facts["trabecular_hu"] + rng.normal(0, 10, n))


@pytest.mark.parametrize("name", baselines.NAMES)
def test_lines_are_least_squares(name):
    """scikit-learn finds the same predictions from the same terms, on patients that were not fitted on."""
    seen, new = patients(), patients(20, 1)
    line = [line for line in baselines.fit(seen, fold=0) if line.name == name]
    terms = [term for term in TERMS[name] if term != "intercept"]
    oracle = LinearRegression().fit(baselines.features(seen)[terms], seen["qct_vbmd_mg_cm3"])
    expected = oracle.predict(baselines.features(new)[terms])
    np.testing.assert_allclose(baselines.predict(line, new, pd.Series(np.nan, new.index)), expected, rtol=1e-8)


@pytest.mark.parametrize("kvp", [100.0, 120.0])
def test_a_term_that_does_not_vary_is_left_out(kvp):
    """One voltage and one phase: no coefficient is made up for others, and the prediction is that of HU alone."""
    seen = patients().assign(kvp=kvp, phase="native")
    lines = {line.name: line for line in baselines.fit(seen, fold=0)}
    assert set(lines["hu_device"].terms) == {"intercept", "hu"}
    assert lines["hu_device"].terms["hu"] == pytest.approx(lines["hu"].terms["hu"])


def test_a_missing_fact_is_no_prediction():
    """Unknown age silences the lines that need it, and no other; patients without it are not fitted on."""
    rows = patients()
    rows.loc[:9, "age_years"] = np.nan
    rows.loc[5, "sex"] = "O"
    lines = baselines.fit(rows, fold=0)
    assert {line.name: line.n for line in lines} == {"hu": 60, "hu_device": 60, "age_sex": 50, "hu_age_sex": 50}
    for line in lines:
        predicted = baselines.predict([line], rows, pd.Series(np.nan, rows.index)).notna()
        assert predicted.sum() == line.n


def test_patients_of_a_fold_get_its_line_and_others_the_mean():
    lines = [Baseline("hu", fold, {"intercept": 10.0 * fold, "hu": 1.0}, 5) for fold in (0, 1, 2)]
    rows = patients(4).assign(trabecular_hu=[100.0] * 4)
    vbmd = baselines.predict(lines, rows, pd.Series([0.0, 2.0, np.nan, 1.0]))
    assert vbmd.tolist() == [100.0, 120.0, 110.0, 110.0]


def test_no_lines_predict_nothing():
    assert baselines.predict([], patients(3), pd.Series([0.0, 1.0, np.nan])).isna().all()
