"""Figures by vertebral level: each vertebra against the QCT value of its level, and all with patients as clusters."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

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
    """List the vertebrae that can be measured and have a QCT value of their own, with their predictions.

    Only the scan that the patient's result stands on counts, and only labels of the day of the patient's QCT value.

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
    scans = patients.select(["cohort", "patient_id", "study_id", "days_from_scan"]).to_pandas().dropna()
    values = labels.to_pandas()
    counts = (values["status"] == "used") | (values["reason"] == "other_level")
    values = values[counts & values["level"].isin(ORDER) & values["vbmd_mg_cm3"].notna()]
    values = values.merge(scans, on=["cohort", "patient_id", "days_from_scan"])
    values = values.groupby([*KEYS, "patient_id"])["vbmd_mg_cm3"].mean().rename("qct_mg_cm3").reset_index()
    bones = usable(vertebrae.to_pandas())[[*KEYS, "trabecular_hu_mean"]]
    rows = values.merge(bones.rename(columns={"trabecular_hu_mean": "trabecular_hu"}), on=KEYS)
    predicted = predictions.select([*KEYS, "task", "value"]).to_pandas()
    for task, name in {"regression": NETWORK, "classification": PROBABILITY}.items():
        mean = predicted[predicted["task"] == task].groupby(KEYS)["value"].mean().rename(name).reset_index()
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
    """List the rows of the table levels: figures by level, each patient once, and of all vertebrae, clustered.

    Parameters
    ----------
    group : Group
        A set of patients of the run's cohorts; those whose predictions do not count (see `sets.groups`) are left out.
    values : DataFrame
        See `level_values`.
    lines : sequence of Baseline
        The model's baselines; HU alone predicts from the level's own HU, though it was fitted on means over levels.
    reduced_below_mg_cm3 : float
        A vertebra with a lower QCT value (HA) has reduced density.
    resamples, seed : int
        Bootstrap of the patients.
    """
    facts = ["cohort", "study_id", "fold", "kvp", "phase", "age_years", "sex"]
    rows = values.merge(group.patients.loc[group.measured(NETWORK), facts], on=["cohort", "study_id"]).reset_index(
        drop=True
    )
    rows[HU] = baselines.predict([line for line in lines if line.name == HU], rows, rows["fold"]).astype(float)
    for level in sorted(rows["level"].unique(), key=ORDER.index):
        for predictor in (NETWORK, HU):
            predicted, qct = _pairs(rows[(rows["level"] == level) & rows[predictor].notna()], predictor)
            figures = agreement(predicted, qct, resamples=resamples, seed=seed)
            for metric in METRICS:
                yield {"level": level, "predictor": predictor, **figure(metric, in_cell(figures[metric]))}
    if len(rows):
        yield from _every(rows, reduced_below_mg_cm3, resamples=resamples, seed=seed)


def _pairs(rows: pd.DataFrame, predictor: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give predicted and QCT value of every row, mg/cm3 HA."""
    return rows[predictor].to_numpy(float), rows["qct_mg_cm3"].to_numpy(float)


def _every(rows: pd.DataFrame, reduced_below_mg_cm3: float, *, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    """List the rows of all vertebrae together, with patients as clusters."""
    for predictor in (NETWORK, HU):
        measured = rows[rows[predictor].notna()]
        patient, _ = pd.factorize(measured["patient_id"])
        predicted, qct = _pairs(measured, predictor)
        figures = clustered_agreement(predicted, qct, patient, resamples=resamples, seed=seed)
        score = {NETWORK: measured[PROBABILITY].to_numpy(float), HU: -predicted}[predictor]
        scored = np.isfinite(score)
        patient, _ = pd.factorize(measured["patient_id"][scored])
        figures["auc"] = clustered_auc(qct[scored] < reduced_below_mg_cm3, score[scored], patient)
        for metric, estimate in figures.items():
            yield {"level": EVERY, "predictor": predictor, **figure(metric, in_cell(estimate))}
