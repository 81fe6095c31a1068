"""What stands beside the networks: straight lines from HU, age and sex to vBMD, and the literature's thresholds of HU.

Everything is fitted by least squares on the patients that a network of the same split may see, so that the comparison
is fair. Thresholds: 135 HU balances sensitivity and specificity for osteoporosis by DXA, 110 HU is specific and 160 HU
sensitive (Pickhardt et al., Ann Intern Med 2013;158:588, doi:10.7326/0003-4819-158-8-201304160-00003).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

# Terms of each line. With those of tube voltage and contrast phase, `hu_device` also speaks on a device never seen.
TERMS: dict[str, tuple[str, ...]] = {
    "hu": ("intercept", "hu"),
    "hu_device": ("intercept", "hu", "kvp", "hu_kvp", "portal", "arterial"),
    "age_sex": ("intercept", "age", "female"),
    "hu_age_sex": ("intercept", "hu", "age", "female"),
}
NAMES = tuple(TERMS)
THRESHOLDS_HU: dict[str, float] = {"threshold_110": 110.0, "threshold_135": 135.0, "threshold_160": 160.0}
# Columns that the terms are made from.
FACTS = ("trabecular_hu", "kvp", "phase", "age_years", "sex")


@dataclass(frozen=True)
class Baseline:
    """A line of one name and fold: vBMD (mg/cm3 HA) = the sum of coefficient times term.

    Attributes
    ----------
    name : str
        Of `NAMES`.
    fold : int
        The fold whose patients it did not see.
    terms : mapping
        Coefficient by term (see `features`); a term that did not vary among the patients is left out.
    n : int
        Patients that it was fitted on.
    """

    name: str
    fold: int
    terms: Mapping[str, float]
    n: int


def features(patients: pd.DataFrame) -> pd.DataFrame:
    """Values of every term.

    Parameters
    ----------
    patients : DataFrame
        Columns `FACTS`: mean trabecular HU, tube voltage (kV), contrast phase, age (years) and sex.

    Returns
    -------
    DataFrame
        Columns intercept, hu, kvp (in 20 kV from 120), hu_kvp, portal and arterial (1 or 0; an unknown phase counts as
        native), age (in decades from 60 years), female; NaN where the fact is unknown.
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
        Columns `FACTS` and qct_vbmd_mg_cm3 (mg/cm3 HA): the patients outside the fold.
    fold : int
        Number that the lines carry.

    Returns
    -------
    tuple of Baseline
        One per name; left out where no patient has all of its facts.
    """
    known, truth = features(patients), patients["qct_vbmd_mg_cm3"].astype(float)
    lines = []
    for name, terms in TERMS.items():
        rows = known[list(terms)].dropna()
        if len(rows):
            used = [term for term in terms if term == "intercept" or rows[term].nunique() > 1]
            # At one voltage, the product repeats HU, and least squares would share the slope out between the two.
            used = [term for term in used if term != "hu_kvp" or "kvp" in used]
            found = np.linalg.lstsq(rows[used].to_numpy(), truth[rows.index].to_numpy(), rcond=None)[0]
            lines.append(Baseline(name, fold, dict(zip(used, map(float, found), strict=True)), len(rows)))
    return tuple(lines)


def predict(lines: Sequence[Baseline], patients: pd.DataFrame, fold: pd.Series) -> pd.Series:
    """Predict vBMD.

    Parameters
    ----------
    lines : sequence of Baseline
        Of one name, one per fold.
    patients : DataFrame
        Columns `FACTS`.
    fold : Series
        The fold that did not see each patient; NaN for patients outside the training, who get the mean over the lines.

    Returns
    -------
    Series
        mg/cm3 HA; NaN where a fact that a line needs is unknown.
    """
    known = features(patients)
    of_fold = {line.fold: _values(line, known) for line in lines}
    if not of_fold:
        return pd.Series(np.nan, patients.index)
    value = pd.concat(list(of_fold.values()), axis="columns").mean(axis="columns", skipna=False)
    for own, values in of_fold.items():
        value = value.mask(fold == own, values)
    return value


def _values(line: Baseline, known: pd.DataFrame) -> pd.Series:
    # All terms of the name count, so that a patient without one of its facts has no value by any fold's line.
    lacks = known[list(TERMS[line.name])].isna().any(axis="columns")
    total = sum((weight * known[term] for term, weight in line.terms.items()), pd.Series(0.0, known.index))
    return total.mask(lacks)
