"""One result per study: its vertebrae combined, and how sure the result is."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from trabecula import baselines, uncertainty
from trabecula.bundle import Bundle
from trabecula.patients import chosen_vertebrae
from trabecula.uncertainty.temperature import logit, probability

NETWORKS = ("logit", "vbmd_mg_cm3", "fold_spread_mg_cm3", "joint_probability_reduced", "joint_vbmd_mg_cm3")
COLUMNS = ("levels_used", "level_uncertain", "trabecular_hu", *NETWORKS)
# What is known of a scan and a patient, and needed to judge a result.
_FACTS = ["patient_id", "age_years", "sex", "device_key", "kvp", "phase", "thickness_mm", "spacing_mm"]


def network_values(chosen: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Mean over levels of the mean over folds; of probabilities, the logits are averaged.

    Parameters
    ----------
    chosen : DataFrame
        Columns study_id and level of the vertebrae that count.
    predictions : DataFrame
        Columns as in the table `predictions`.

    Returns
    -------
    DataFrame
        By study_id, columns `NETWORKS`: logit of the classification network, vbmd_mg_cm3 (mg/cm3 HA),
        fold_spread_mg_cm3 (SD between the folds' vBMD), and the same by the joint network, without temperature.
        NaN where there is no prediction; the spread also where one fold alone predicts.
    """
    rows = predictions.merge(chosen[["study_id", "level"]], on=["study_id", "level"])
    chance = rows["task"].isin(["classification", "joint_classification"])
    rows["value"] = rows["value"].where(~chance, logit(rows["value"].to_numpy(np.float64)))
    of_vertebra = rows.groupby(["study_id", "level", "task"])["value"].mean()
    mean = of_vertebra.groupby(["study_id", "task"]).mean().unstack("task").reindex(columns=_TASKS).astype(float)
    of_fold = rows[rows["task"] == "regression"].groupby(["study_id", "fold"])["value"].mean()
    return pd.DataFrame(
        {
            "logit": mean["classification"],
            "vbmd_mg_cm3": mean["regression"],
            "fold_spread_mg_cm3": of_fold.groupby("study_id").std().reindex(mean.index).astype(float),
            "joint_probability_reduced": probability(mean["joint_classification"].to_numpy(), 1.0),
            "joint_vbmd_mg_cm3": mean["joint_regression"],
        }
    )


_TASKS = ["classification", "regression", "joint_classification", "joint_regression"]


def combine(
    vertebrae: pd.DataFrame, predictions: pd.DataFrame, *, levels: Sequence[str], substitutes: Sequence[str]
) -> pd.DataFrame:
    """Combine each study's vertebrae.

    Parameters
    ----------
    vertebrae, predictions : DataFrame
        Columns as in the tables of these names.
    levels, substitutes : sequence of str
        See `patients.choose_levels`.

    Returns
    -------
    DataFrame
        By study_id, `COLUMNS`; only studies with a usable vertebra.
    """
    chosen = chosen_vertebrae(vertebrae, levels=levels, substitutes=substitutes)
    found = chosen.groupby("study_id").agg(
        levels_used=("level", list),
        level_uncertain=("level_uncertain", "any"),
        trabecular_hu=("trabecular_hu_mean", "mean"),
    )
    return found.join(network_values(chosen, predictions))[list(COLUMNS)]


def none() -> pd.DataFrame:
    """Results of no studies."""
    return pd.DataFrame(columns=list(COLUMNS), index=pd.Index([], name="study_id"), dtype=object)


def judged(results: pd.DataFrame, studies: pd.DataFrame, bundle: Bundle, splits: Mapping[str, int]) -> pd.DataFrame:
    """Add what the HU line says, and how sure each result is.

    Parameters
    ----------
    results : DataFrame
        See `combine`.
    studies : DataFrame
        Columns as in the table `studies`, with the scan's facts and contrast.
    bundle : Bundle
        The model that predicted.
    splits : mapping
        Patients of the model's training, and the fold that never saw them (see `bundle.read_splits`).

    Returns
    -------
    DataFrame
        By study_id: `COLUMNS` without the logit, hu_baseline_vbmd_mg_cm3, and `uncertainty.JUDGED`.
    """
    facts = results.join(studies.set_index("study_id")[_FACTS])
    fold = facts["patient_id"].map(splits.get).astype(float)
    line = [one for one in bundle.baselines if one.name == "hu"]
    facts = facts.assign(fold=fold, hu_baseline_vbmd_mg_cm3=baselines.predict(line, facts, fold))
    found = results.drop(columns="logit").assign(hu_baseline_vbmd_mg_cm3=facts["hu_baseline_vbmd_mg_cm3"])
    return found.join(uncertainty.judge(facts, bundle.uncertainty))
