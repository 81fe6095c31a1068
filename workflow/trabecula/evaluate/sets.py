"""Which patients are judged together, and what each predictor says of them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from trabecula.patients import REDUCED_FROM

CROSS_VALIDATED, EXTERNAL, NOT_IN_TRAINING = "cross-validated", "external", "development, not in training"
SETS = {CROSS_VALIDATED: "development", EXTERNAL: "external", NOT_IN_TRAINING: "development"}

NETWORK, HU_BASELINE = "network", "hu_baseline"
PREDICTORS = (NETWORK, HU_BASELINE)
UNIT = "mg/cm3 HA"
PURE_NUMBERS = ("auc", "f1", "recall", "precision", "specificity", "accuracy", "pearson_r")


@dataclass(frozen=True)
class Prediction:
    """What a predictor says of a patient.

    Attributes
    ----------
    vbmd_mg_cm3 : float or None
        Predicted vBMD (HA).
    score : float or None
        Higher means more likely reduced: a probability for the network, -vBMD for the HU baseline.
    reduced : bool or None
        Its decision.
    """

    vbmd_mg_cm3: float | None
    score: float | None
    reduced: bool | None


@dataclass(frozen=True)
class Patient:
    """A patient of the evaluation.

    Attributes
    ----------
    cohort, patient_id : str
    group : str
        One of `SETS`.
    qct_mg_cm3 : float or None
        vBMD by quantitative CT (HA).
    qct_reduced : bool or None
    predictions : dict
        Per predictor.
    reason : str
        Reason code that counts where the label or a prediction is missing.
    """

    cohort: str
    patient_id: str
    group: str
    qct_mg_cm3: float | None
    qct_reduced: bool | None
    predictions: Mapping[str, Prediction]
    reason: str

    @property
    def labelled(self) -> bool:
        """QCT's value and decision are known."""
        return self.qct_mg_cm3 is not None and self.qct_reduced is not None


def patients_in_sets(patients: pa.Table, cut_mg_cm3: float) -> list[Patient]:
    """Patients of development and external cohorts, by cohort and pseudonym.

    Predictions of external patients who were in the model's training do not count. A
    development patient without a prediction belongs with its cohort: to the cross-validated
    patients where the model was trained on that cohort.

    Parameters
    ----------
    patients : table
        Of the schema PATIENTS.
    cut_mg_cm3 : float
        The HU baseline decides for reduced below this.
    """
    rows = patients.to_pylist()
    trained_on = {row["cohort"] for row in rows if row["in_training"]}
    listed = [
        _patient(row, cohort_in_training=row["cohort"] in trained_on, cut_mg_cm3=cut_mg_cm3)
        for row in rows
        if row["role"] in SETS.values()
    ]
    return sorted(listed, key=lambda patient: (patient.cohort, patient.patient_id))


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _patient(row: Mapping[str, Any], *, cohort_in_training: bool, cut_mg_cm3: float) -> Patient:
    leaked = row["role"] == "external" and bool(row["in_training"])
    in_training = row["in_training"] or (cohort_in_training and _known(row["vbmd_mg_cm3"]) is None)
    group = EXTERNAL if row["role"] == "external" else CROSS_VALIDATED if in_training else NOT_IN_TRAINING
    none = {name: Prediction(None, None, None) for name in PREDICTORS}
    return Patient(
        cohort=row["cohort"],
        patient_id=row["patient_id"],
        group=group,
        qct_mg_cm3=_known(row["qct_vbmd_mg_cm3"]),
        qct_reduced=row["qct_reduced"],
        predictions=none if leaked else _predictions(row, cut_mg_cm3),
        reason="in_training" if leaked else _reason(row),
    )


def _reason(row: Mapping[str, Any]) -> str:
    unlabelled = row["study_id"] is not None and _known(row["qct_vbmd_mg_cm3"]) is None
    return "no_label" if unlabelled else row["decision_reason"] or "no_prediction"


def _predictions(row: Mapping[str, Any], cut_mg_cm3: float) -> dict[str, Prediction]:
    probability, baseline = _known(row["probability_reduced"]), _known(row["hu_baseline_vbmd_mg_cm3"])
    reduced = None if probability is None else probability >= REDUCED_FROM
    by_hu = Prediction(None, None, None) if baseline is None else Prediction(baseline, -baseline, baseline < cut_mg_cm3)
    return {NETWORK: Prediction(_known(row["vbmd_mg_cm3"]), probability, reduced), HU_BASELINE: by_hu}


def classified(patients: Iterable[Patient], *predictors: str) -> list[Patient]:
    """Labelled patients that each of the predictors gives a score."""
    return [p for p in patients if p.labelled and all(p.predictions[name].score is not None for name in predictors)]


def measured(patients: Iterable[Patient], *predictors: str) -> list[Patient]:
    """Labelled patients that each of the predictors gives a vBMD."""
    return [
        p for p in patients if p.labelled and all(p.predictions[name].vbmd_mg_cm3 is not None for name in predictors)
    ]
