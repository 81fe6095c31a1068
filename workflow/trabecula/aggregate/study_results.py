"""One result per study: its vertebrae combined, and how sure the result is."""

import numpy as np
import pandas as pd
import pyarrow as pa

from trabecula import tables
from trabecula.aggregate.inputs import Model
from trabecula.model import baselines, uncertainty
from trabecula.model.uncertainty.temperature import logit, probability

# A study's result before it is judged: by the networks, and from its vertebrae.
NETWORK_COLUMNS = ("logit", "vbmd_mg_cm3", "fold_spread_mg_cm3", "joint_probability_reduced", "joint_vbmd_mg_cm3")
COLUMNS = (
    *("levels_used", "level_uncertain", "level_confidence", "vertebra_flags", "trabecular_hu"),
    *NETWORK_COLUMNS,
)
_KINDS = {"levels_used": tables.TEXTS, "vertebra_flags": tables.TEXTS, "level_uncertain": tables.BOOL}
# The same with their types.
FIELDS = [pa.field(name, _KINDS.get(name, tables.FLOAT)) for name in COLUMNS]
# Columns that are needed of vertebrae and predictions.
VERTEBRA_COLUMNS = [
    *("study_id", "level", "level_confidence", "level_uncertain", "complete"),
    *("trabecular_hu_mean", "flags"),
]
PREDICTION_COLUMNS = ["study_id", "level", "task", "fold", "value"]
# Facts of a scan and a patient that are needed to judge a result.
_FACTS = ["patient_id", "age_years", "sex", "device_key", "kvp", "phase", "thickness_mm", "spacing_mm"]
_TASKS = ["classification", "regression", "joint_classification", "joint_regression"]


def network_values(chosen: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Average predictions over folds, then over levels; of probabilities, the logits are averaged.

    Parameters
    ----------
    chosen : DataFrame
        Columns study_id and level of the vertebrae that count.
    predictions : DataFrame
        Columns as in the table `predictions`.

    Returns
    -------
    DataFrame
        By study_id, columns `NETWORK_COLUMNS`: logit of the classification network, vbmd_mg_cm3 (mg/cm3 HA),
        fold_spread_mg_cm3 (SD between the folds' vBMD), and the same by the joint network, without temperature.
        NaN where there is no prediction; the spread also where one fold alone predicts.
    """
    rows = predictions.merge(chosen[["study_id", "level"]], on=["study_id", "level"])
    is_probability = rows["task"].isin(["classification", "joint_classification"])
    rows["value"] = rows["value"].where(~is_probability, logit(rows["value"].to_numpy(np.float64)))
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


def combine(chosen: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Combine each study's chosen vertebrae.

    Parameters
    ----------
    chosen : DataFrame
        Columns `VERTEBRA_COLUMNS`, by study and in order of preference (see `patients.chosen_vertebrae`).
    predictions : DataFrame
        Columns `PREDICTION_COLUMNS`, as in the table `predictions`.

    Returns
    -------
    DataFrame
        By study_id, `COLUMNS`; only studies with a usable vertebra.
    """
    of_study = chosen.groupby("study_id")
    n = of_study.size()
    spans = [slice(last - k, last) for last, k in zip(n.cumsum(), n, strict=True)]
    levels, flags = chosen["level"].tolist(), chosen["flags"].tolist()
    results = pd.DataFrame(
        {
            "levels_used": pd.Series([levels[span] for span in spans], n.index, object),
            "level_uncertain": of_study["level_uncertain"].any(),
            "level_confidence": of_study["level_confidence"].min(),
            "vertebra_flags": pd.Series([sorted(set().union(*flags[span])) for span in spans], n.index, object),
            "trabecular_hu": of_study["trabecular_hu_mean"].mean(),
        }
    )
    return results.join(network_values(chosen, predictions))[list(COLUMNS)]


def judge(results: pd.DataFrame, studies: pd.DataFrame, model: Model) -> pd.DataFrame:
    """Add what the HU line says, and how sure each result is.

    Parameters
    ----------
    results : DataFrame
        See `combine`.
    studies : DataFrame
        Columns as in the table `studies`, with the scan's facts and contrast.
    model : Model
        The model that predicted.

    Returns
    -------
    DataFrame
        By study_id: `COLUMNS` without the logit, hu_baseline_vbmd_mg_cm3, and `uncertainty.JUDGED`.
    """
    facts = results.join(studies.set_index("study_id")[_FACTS])
    fold = facts["patient_id"].map(model.splits.get).astype(float)
    lines = [line for line in model.bundle.baselines if line.name == "hu"]
    facts = facts.assign(fold=fold, hu_baseline_vbmd_mg_cm3=baselines.predict(lines, facts, fold))
    results = results.drop(columns="logit").assign(hu_baseline_vbmd_mg_cm3=facts["hu_baseline_vbmd_mg_cm3"])
    return results.join(uncertainty.judge(facts, model.bundle.uncertainty))
