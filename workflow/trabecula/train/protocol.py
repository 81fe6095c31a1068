"""The predictions of every network and baseline for every patient, in every split; the study's table stands on them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from trabecula import tables
from trabecula.model import baselines
from trabecula.model.baselines import Baseline
from trabecula.model.bundle import CROSS_VALIDATION, TEST, fold_number
from trabecula.model.uncertainty.decision import REDUCED_FROM
from trabecula.model.uncertainty.temperature import logit
from trabecula.train.rois import PATIENT


def patient_means(fitted: pd.DataFrame) -> pd.DataFrame:
    """Average networks' predictions over each patient's vertebrae.

    Parameters
    ----------
    fitted : DataFrame
        Columns of `tables.FITTED`.

    Returns
    -------
    DataFrame
        By cohort and patient_id, a column per task: the mean over levels of vBMD (mg/cm3), or of the logit.
    """
    is_probability = fitted["task"].str.endswith("classification").to_numpy()
    value = fitted["value"].to_numpy(np.float64, copy=True)
    value[is_probability] = logit(value[is_probability])
    return fitted.assign(value=value).groupby([*PATIENT, "task"])["value"].mean().unstack("task")


def protocol(
    cases: pd.DataFrame, splits: pd.DataFrame, fitted: Mapping[str, pd.DataFrame], *, reduced_below_mg_cm3: float
) -> pd.DataFrame:
    """Make the rows of the table `protocol`.

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
        patients = cases.merge(group, on="patient_id", validate="one_to_one")
        values = patients.join(patient_means(fitted[str(split)]), on=PATIENT)
        lines = fit_split(patients)
        predictions = [*_networks(values), *_lines(values, lines, reduced_below_mg_cm3), *_thresholds(values)]
        facts = patients.rename(columns={"reduced": "qct_reduced"})
        parts += [facts.assign(**columns) for columns in predictions]
    return pd.concat(parts, ignore_index=True)[tables.PROTOCOL.names]


def fit_split(patients: pd.DataFrame, *, fold: int = 0) -> tuple[Baseline, ...]:
    """Fit the baselines of a split on all but its test part.

    Parameters
    ----------
    patients : DataFrame
        Columns of `tables.CASES`, and part.
    fold : int
        The fold's number, which the lines carry.
    """
    return baselines.fit(patients[patients["part"] != TEST], fold=fold)


def fold_lines(cases: pd.DataFrame, splits: pd.DataFrame) -> tuple[Baseline, ...]:
    """Fit the baselines of all folds of the cross-validation: those that the bundle carries."""
    lines = []
    for split, group in splits[splits["scheme"] == CROSS_VALIDATION].groupby("split", sort=False):
        patients = cases.merge(group, on="patient_id", validate="one_to_one")
        lines += fit_split(patients, fold=fold_number(str(split)))
    return tuple(lines)


def out_of_fold(cases: pd.DataFrame, splits: pd.DataFrame, fitted: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """List each patient with the predictions of the fold that never saw them, as `uncertainty.learn` needs them.

    Returns
    -------
    DataFrame
        The columns of `tables.CASES`, and fold, logit and regression (mg/cm3) of the networks, and hu (mg/cm3) of the
        line from HU.
    """
    tested = splits[(splits["scheme"] == CROSS_VALIDATION) & (splits["part"] == TEST)]
    parts = []
    for split, group in tested.groupby("split", sort=False):
        values = patient_means(fitted[str(split)])[["classification", "regression"]]
        values = values.rename(columns={"classification": "logit"})
        patients = cases[cases["patient_id"].isin(group["patient_id"])].join(values, on=PATIENT)
        parts.append(patients.assign(fold=fold_number(str(split))))
    held_out = pd.concat(parts).sort_index()
    lines = [line for line in fold_lines(cases, splits) if line.name == "hu"]
    return held_out.assign(hu=baselines.predict(lines, held_out, held_out["fold"].astype(float)))


Columns = dict[str, Any]


def _networks(values: pd.DataFrame) -> Iterator[Columns]:
    """Give the predictions of the two networks together, and of the joint network, as far as they were trained."""
    for predictor, prefix in (("network", ""), ("joint", "joint_")):
        logits, vbmd = (values.get(f"{prefix}{task}") for task in ("classification", "regression"))
        if logits is None and vbmd is None:
            continue
        score = pd.Series(np.nan, values.index) if logits is None else pd.Series(expit(logits), values.index)
        yield {
            "predictor": predictor,
            "vbmd_mg_cm3": np.nan if vbmd is None else vbmd,
            "score": score,
            "reduced": _where_defined(score >= REDUCED_FROM, score.notna()),
        }


def _lines(values: pd.DataFrame, lines: Iterable[Baseline], reduced_below_mg_cm3: float) -> Iterator[Columns]:
    """Give the predictions of the straight lines."""
    for line in lines:
        vbmd = baselines.predict([line], values, pd.Series(np.nan, values.index))
        reduced = _where_defined(vbmd < reduced_below_mg_cm3, vbmd.notna())
        yield {"predictor": line.name, "vbmd_mg_cm3": vbmd, "score": -vbmd, "reduced": reduced}


def _thresholds(values: pd.DataFrame) -> Iterator[Columns]:
    """Give the calls of the published thresholds of HU."""
    hu = values["trabecular_hu"]
    for name, threshold in baselines.THRESHOLDS_HU.items():
        yield {"predictor": name, "vbmd_mg_cm3": np.nan, "score": -hu, "reduced": hu < threshold}


def _where_defined(reduced: pd.Series, defined: pd.Series) -> pd.Series:
    """Keep True or False where a call is defined, and put None elsewhere."""
    return reduced.astype(object).where(defined, None)
