"""Each vertebra against the QCT value of its own level; all of them together, with the patient as cluster."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from trabecula.cohort.patients import usable
from trabecula.evaluate.agreement import agreement, clustered_agreement
from trabecula.evaluate.discrimination import clustered_auc
from trabecula.evaluate.estimate import in_cell
from trabecula.evaluate.metrics import figure
from trabecula.evaluate.sets import HU, NETWORK, Group
from trabecula.image.levels import ORDER
from trabecula.model import baselines
from trabecula.model.baselines import Baseline

METRICS = ("mae", "rmse", "bias", "pearson_r")
PROBABILITY = "probability"
EVERY = "all"
KEYS = ["cohort", "study_id", "level"]


def level_values(labels: pa.Table, patients: pa.Table, vertebrae: pa.Table, predictions: pa.Table) -> pd.DataFrame:
    """Vertebrae that can be measured and have a QCT value of their own, with what is predicted of them.

    Only the scan that the patient's result stands on counts, and only labels of the day that its QCT value is from.

    Parameters
    ----------
    labels, patients, vertebrae, predictions : tables
        Of the schemas of these names.

    Returns
    -------
    DataFrame
        Columns cohort, patient_id, study_id, level, qct_mg_cm3, trabecular_hu, network (mg/cm3 HA) and probability
        (of reduced density, without temperature); the network's are means over folds, NaN where there are none.
    """
    of_patient = patients.select(["cohort", "patient_id", "study_id", "days_from_scan"]).to_pandas().dropna()
    given = labels.to_pandas()
    counts = (given["status"] == "used") | (given["reason"] == "other_level")
    given = given[counts & given["level"].isin(ORDER) & given["vbmd_mg_cm3"].notna()]
    given = given.merge(of_patient, on=["cohort", "patient_id", "days_from_scan"])
    given = given.groupby([*KEYS, "patient_id"])["vbmd_mg_cm3"].mean().rename("qct_mg_cm3").reset_index()
    bones = usable(vertebrae.to_pandas())[[*KEYS, "trabecular_hu_mean"]]
    rows = given.merge(bones.rename(columns={"trabecular_hu_mean": "trabecular_hu"}), on=KEYS)
    said = predictions.select([*KEYS, "task", "value"]).to_pandas()
    for task, name in {"regression": NETWORK, "classification": PROBABILITY}.items():
        mean = said[said["task"] == task].groupby(KEYS)["value"].mean().rename(name).reset_index()
        rows = rows.merge(mean, on=KEYS, how="left")
    return rows


def levels(
    group: Group,
    values: pd.DataFrame,
    *,
    lines: Sequence[Baseline],
    reduced_below_mg_cm3: float,
    resamples: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Rows of the table levels: figures by level, a patient counting once in each; and of all vertebrae, clustered.

    Parameters
    ----------
    group : Group
        A set of patients of the run's cohorts; those whose predictions do not count (see `sets.groups`) are left out.
    values : DataFrame
        See `level_values`.
    lines : sequence of Baseline
        The model's baselines; HU alone is put to the level's own HU, though it was fitted on means over levels.
    reduced_below_mg_cm3 : float
        A vertebra with a lower QCT value (HA) has reduced density.
    resamples, seed : int
        Bootstrap of the patients.
    """
    own = group.patients[group.measured(NETWORK)][["cohort", "study_id", "fold", "kvp", "phase", "age_years", "sex"]]
    rows = values.merge(own, on=["cohort", "study_id"]).reset_index(drop=True)
    rows[HU] = baselines.predict([line for line in lines if line.name == HU], rows, rows["fold"]).astype(float)
    for level in sorted(rows["level"].unique(), key=ORDER.index):
        for predictor in (NETWORK, HU):
            known = rows[(rows["level"] == level) & rows[predictor].notna()]
            found = agreement(
                known[predictor].to_numpy(float), known["qct_mg_cm3"].to_numpy(float), resamples=resamples, seed=seed
            )
            for metric in METRICS:
                yield {"level": level, "predictor": predictor, **figure(metric, in_cell(found[metric]))}
    if len(rows):
        yield from _every(rows, reduced_below_mg_cm3, resamples=resamples, seed=seed)


def _every(rows: pd.DataFrame, cut_mg_cm3: float, *, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    for predictor in (NETWORK, HU):
        known = rows[rows[predictor].notna()]
        patient, _ = pd.factorize(known["patient_id"])
        predicted, qct = known[predictor].to_numpy(float), known["qct_mg_cm3"].to_numpy(float)
        found = clustered_agreement(predicted, qct, patient, resamples=resamples, seed=seed)
        score = {NETWORK: known[PROBABILITY].to_numpy(float), HU: -predicted}[predictor]
        scored = np.isfinite(score)
        again, _ = pd.factorize(known["patient_id"][scored])
        found["auc"] = clustered_auc(qct[scored] < cut_mg_cm3, score[scored], again)
        for metric, estimate in found.items():
            yield {"level": EVERY, "predictor": predictor, **figure(metric, in_cell(estimate))}
