"""What every network and baseline says of every patient, in every split: what the study's table is made from."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from trabecula import tables
from trabecula.model import baselines
from trabecula.model.baselines import Baseline
from trabecula.model.uncertainty.decision import REDUCED_FROM
from trabecula.model.uncertainty.temperature import logit
from trabecula.train.splits import CROSS_VALIDATION, TEST

_PATIENT = ["cohort", "patient_id"]


def of_patients(fitted: pd.DataFrame) -> pd.DataFrame:
    """Put a network's predictions of vertebrae together.

    Parameters
    ----------
    fitted : DataFrame
        Columns of `tables.FITTED`.

    Returns
    -------
    DataFrame
        By cohort and patient_id, a column per task: the mean over levels of vBMD (mg/cm3), or of the logit.
    """
    odds = fitted["task"].str.endswith("classification").to_numpy()
    value = fitted["value"].to_numpy(np.float64, copy=True)
    value[odds] = logit(value[odds])
    return fitted.assign(value=value).groupby([*_PATIENT, "task"])["value"].mean().unstack("task")


def protocol(
    cases: pd.DataFrame, splits: pd.DataFrame, fitted: Mapping[str, pd.DataFrame], *, reduced_below_mg_cm3: float
) -> pd.DataFrame:
    """Rows of the table `protocol`.

    Parameters
    ----------
    cases : DataFrame
        Columns of `tables.CASES`.
    splits : DataFrame
        Columns of `tables.SPLITS`.
    fitted : mapping
        By split, the predictions of its networks: columns of `tables.FITTED`.
    reduced_below_mg_cm3 : float
        Baselines call a vBMD below this reduced.

    Returns
    -------
    DataFrame
        Columns of `tables.PROTOCOL`, in the order of splits, predictors and patients.
    """
    parts = []
    for split, group in splits.groupby("split", sort=False):
        own = cases.merge(group, on="patient_id", validate="one_to_one")
        values = own.join(of_patients(fitted[str(split)]), on=_PATIENT)
        lines = fit_split(own)
        said = [*_networks(values), *_lines(values, lines, reduced_below_mg_cm3), *_thresholds(values)]
        known = own.rename(columns={"reduced": "qct_reduced"})
        parts += [known.assign(**columns) for columns in said]
    return pd.concat(parts, ignore_index=True)[tables.PROTOCOL.names]


def fit_split(patients: pd.DataFrame, *, fold: int = 0) -> tuple[Baseline, ...]:
    """Baselines of a split: fitted on all but its test part.

    Parameters
    ----------
    patients : DataFrame
        Columns of `tables.CASES`, and part.
    fold : int
        Number that the lines carry.
    """
    return baselines.fit(patients[patients["part"] != TEST], fold=fold)


def fold_lines(cases: pd.DataFrame, splits: pd.DataFrame) -> tuple[Baseline, ...]:
    """The baselines of all folds of the cross-validation: those that the bundle carries."""
    lines = []
    for split, group in splits[splits["scheme"] == CROSS_VALIDATION].groupby("split", sort=False):
        own = cases.merge(group, on="patient_id", validate="one_to_one")
        lines += fit_split(own, fold=int(str(split).removeprefix("fold")))
    return tuple(lines)


def out_of_fold(cases: pd.DataFrame, splits: pd.DataFrame, fitted: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Each patient with what the fold that never saw him says: what `uncertainty.learn` starts from.

    Returns
    -------
    DataFrame
        The columns of `tables.CASES`, and fold, logit and regression (mg/cm3) of the networks, and hu (mg/cm3) of the
        line from HU.
    """
    tested = splits[(splits["scheme"] == CROSS_VALIDATION) & (splits["part"] == TEST)]
    parts = []
    for split, group in tested.groupby("split", sort=False):
        own = cases[cases["patient_id"].isin(group["patient_id"])]
        values = of_patients(fitted[str(split)])[["classification", "regression"]]
        fold = int(str(split).removeprefix("fold"))
        parts.append(own.join(values, on=_PATIENT).assign(fold=fold).rename(columns={"classification": "logit"}))
    found = pd.concat(parts).sort_index()
    lines = [line for line in fold_lines(cases, splits) if line.name == "hu"]
    return found.assign(hu=baselines.predict(lines, found, found["fold"].astype(float)))


Columns = dict[str, Any]


def _networks(values: pd.DataFrame) -> Iterable[Columns]:
    """The two networks together, and the one with two heads, as far as they were trained."""
    for predictor, prefix in (("network", ""), ("joint", "joint_")):
        odds, vbmd = (values.get(f"{prefix}{task}") for task in ("classification", "regression"))
        if odds is None and vbmd is None:
            continue
        score = pd.Series(np.nan, values.index) if odds is None else pd.Series(expit(odds), values.index)
        yield {
            "predictor": predictor,
            "vbmd_mg_cm3": np.nan if vbmd is None else vbmd,
            "score": score,
            "reduced": _either(score >= REDUCED_FROM, score.notna()),
        }


def _lines(values: pd.DataFrame, lines: Iterable[Baseline], cut_mg_cm3: float) -> Iterable[Columns]:
    for line in lines:
        vbmd = baselines.predict([line], values, pd.Series(np.nan, values.index))
        reduced = _either(vbmd < cut_mg_cm3, vbmd.notna())
        yield {"predictor": line.name, "vbmd_mg_cm3": vbmd, "score": -vbmd, "reduced": reduced}


def _thresholds(values: pd.DataFrame) -> Iterable[Columns]:
    hu = values["trabecular_hu"]
    for name, threshold in baselines.THRESHOLDS_HU.items():
        yield {"predictor": name, "vbmd_mg_cm3": np.nan, "score": -hu, "reduced": hu < threshold}


def _either(yes: pd.Series, known: pd.Series) -> pd.Series:
    """True or False, None where unknown."""
    return yes.astype(object).where(known, None)
