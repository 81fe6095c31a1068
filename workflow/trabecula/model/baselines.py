"""Baselines to compare the networks with: straight lines from HU, age and sex to vBMD, and published thresholds of HU.

The lines are fitted by least squares on the patients that a network of the same split may see, so that the comparison
is fair. Thresholds: 135 HU balances sensitivity and specificity for osteoporosis by DXA, 110 HU is specific and 160 HU
sensitive (Pickhardt et al., Ann Intern Med 2013;158:588, doi:10.7326/0003-4819-158-8-201304160-00003).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

# Terms of each line. Since `hu_device` corrects for tube voltage and contrast phase, it also applies to a new device.
TERMS: dict[str, tuple[str, ...]] = {
    "hu": ("intercept", "hu"),
    "hu_device": ("intercept", "hu", "kvp", "hu_kvp", "portal", "arterial"),
    "age_sex": ("intercept", "age", "female"),
    "hu_age_sex": ("intercept", "hu", "age", "female"),
}
NAMES = tuple(TERMS)
# Fold of a patient whom every line and every network may have seen.
NO_FOLD = -1
THRESHOLDS_HU: dict[str, float] = {"threshold_110": 110.0, "threshold_135": 135.0, "threshold_160": 160.0}
# Columns that the terms are computed from.
FACTS = ("trabecular_hu", "kvp", "phase", "age_years", "sex")


@dataclass(frozen=True)
class Baseline:
    """A straight line of one name and fold: vBMD (mg/cm3 HA) is the sum of coefficient times term.

    Attributes
    ----------
    name : str
        One of `NAMES`.
    fold : int
        The fold whose patients the line did not see.
    terms : mapping
        Coefficient by term (see `features`); a term that did not vary among the patients is left out.
    n : int
        Patients that the line was fitted on.
    """

    name: str
    fold: int
    terms: Mapping[str, float]
    n: int


def features(patients: pd.DataFrame) -> pd.DataFrame:
    """Compute every term.

    Parameters
    ----------
    patients : DataFrame
        Columns `FACTS`: mean trabecular HU, tube voltage (kV), contrast phase, age (years) and sex.

    Returns
    -------
    DataFrame
        Columns intercept, hu, kvp (in 20 kV from 120), hu_kvp, portal and arterial (1 or 0; an unknown phase counts as
        native), age (in decades from 60 years), female; NaN where the fact is unknown.

    >>> patient = {"trabecular_hu": [150], "kvp": [100], "phase": ["portal"], "age_years": [75], "sex": ["F"]}
    >>> features(pd.DataFrame(patient)).iloc[0].to_dict()  # doctest: +NORMALIZE_WHITESPACE
    {'intercept': 1.0, 'hu': 150.0, 'kvp': -1.0, 'hu_kvp': -150.0, 'portal': 1.0, 'arterial': 0.0, 'age': 1.5,
     'female': 1.0}
    """
    hu, kvp, age = (patients[name].astype(float) for name in ("trabecular_hu", "kvp", "age_years"))
    sex = patients["sex"].map({"F": 1.0, "M": 0.0}).astype(float)
    return pd.DataFrame(
        {
            "intercept": 1.0,
            "hu": hu,
            "kvp": (kvp - 120.0) / 20.0,
            "hu_kvp": hu * (kvp - 120.0) / 20.0,
            "portal": (patients["phase"] == "portal").astype(float),
            "arterial": (patients["phase"] == "arterial").astype(float),
            "age": (age - 60.0) / 10.0,
            "female": sex,
        },
        index=patients.index,
    )


def fit(patients: pd.DataFrame, *, fold: int) -> tuple[Baseline, ...]:
    """Fit every line on labelled patients.

    Parameters
    ----------
    patients : DataFrame
        The patients outside the fold: columns `FACTS` and qct_vbmd_mg_cm3 (mg/cm3 HA).
    fold : int
        The fold's number, which the lines carry.

    Returns
    -------
    tuple of Baseline
        One line per name; left out where no patient has all facts of the line.
    """
    values, truth = features(patients), patients["qct_vbmd_mg_cm3"].astype(float)
    lines = []
    for name, terms in TERMS.items():
        rows = values[list(terms)].dropna()
        if len(rows):
            used = [term for term in terms if term == "intercept" or rows[term].nunique() > 1]
            # At one voltage, the product repeats HU, and least squares would share the slope out between the two.
            used = [term for term in used if term != "hu_kvp" or "kvp" in used]
            coefficients = np.linalg.lstsq(rows[used].to_numpy(), truth[rows.index].to_numpy(), rcond=None)[0]
            lines.append(Baseline(name, fold, dict(zip(used, map(float, coefficients), strict=True)), len(rows)))
    return tuple(lines)


def predict(lines: Sequence[Baseline], patients: pd.DataFrame, fold: pd.Series) -> pd.Series:
    """Predict vBMD.

    Parameters
    ----------
    lines : sequence of Baseline
        Lines of one name, one per fold.
    patients : DataFrame
        Columns `FACTS`.
    fold : Series
        The fold that did not see each patient; NaN for patients outside the training, who get the mean over the lines;
        `NO_FOLD` for patients whom every line may have seen.

    Returns
    -------
    Series
        mg/cm3 HA; NaN where a fact that a line needs is unknown, or every line may have seen the patient.

    >>> line = Baseline("hu", 0, {"intercept": 20.0, "hu": 0.8}, 100)
    >>> patient = {"trabecular_hu": [150], "kvp": [100], "phase": ["portal"], "age_years": [75], "sex": ["F"]}
    >>> predict([line], pd.DataFrame(patient), pd.Series([np.nan])).tolist()
    [140.0]
    """
    terms = features(patients)
    by_fold = {line.fold: _predict_line(line, terms) for line in lines}
    if not by_fold:
        return pd.Series(np.nan, patients.index)
    vbmd = pd.concat(list(by_fold.values()), axis="columns").mean(axis="columns", skipna=False)
    for line_fold, vbmd_by_line in by_fold.items():
        vbmd = vbmd.mask(fold == line_fold, vbmd_by_line)
    return vbmd.mask(fold == NO_FOLD)


def _predict_line(line: Baseline, terms: pd.DataFrame) -> pd.Series:
    """Predict vBMD by one line; NaN where a fact is unknown."""
    # All terms of the name count, so that a patient without one of its facts has no value by any fold's line.
    unknown = terms[list(TERMS[line.name])].isna().any(axis="columns")
    total = sum((weight * terms[term] for term, weight in line.terms.items()), pd.Series(0.0, terms.index))
    return total.mask(unknown)
