"""Figures and codes as people read them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trabecula.errors import REASONS

MISSING = "–"
MG_CM3 = "mg/cm³ HA"


@dataclass(frozen=True)
class Metric:
    """How a figure of the table metrics is shown: its heading, decimals, and whether it carries a unit."""

    heading: str
    digits: int
    unit: str = ""


METRICS: dict[str, Metric] = {
    "auc": Metric("AUC", 3),
    "f1": Metric("F1", 2),
    "recall": Metric("Recall (sensitivity)", 2),
    "precision": Metric("Precision (PPV)", 2),
    "specificity": Metric("Specificity", 2),
    "accuracy": Metric("Accuracy", 2),
    "mae": Metric("MAE", 1, MG_CM3),
    "rmse": Metric("RMSE", 1, MG_CM3),
    "bias": Metric("Bias", 1, MG_CM3),
    "limit_low": Metric("Lower limit of agreement", 1, MG_CM3),
    "limit_high": Metric("Upper limit of agreement", 1, MG_CM3),
    "pearson_r": Metric("r", 3),
    "right_side": Metric("Right side of the cut", 2),
    "abstention": Metric("Without a decision", 2),
    "npv": Metric("NPV", 2),
    "ppv": Metric("PPV", 2),
    "brier": Metric("Brier score", 3),
    "calibration_slope": Metric("Calibration slope", 2),
    "calibration_intercept": Metric("Calibration intercept", 2),
    "ici": Metric("ICI", 3),
    "ccc": Metric("Lin's CCC", 3),
    "icc_a1": Metric("ICC(A,1)", 3),
    "spearman_rho": Metric("Spearman's rho", 3),
    "kappa": Metric("Weighted kappa", 2),
    "net_benefit": Metric("Net benefit", 3),
    "rms_sd_mg_cm3": Metric("RMS SD", 1, MG_CM3),
    "rmscv_percent": Metric("RMSCV", 1, "%"),
    "lsc_mg_cm3": Metric("Least significant change", 1, MG_CM3),
    "share": Metric("Share", 2),
}
CLASSIFICATION = ("auc", "f1", "recall", "precision", "specificity", "accuracy")
# Columns of the study that is followed, and those of the longer table.
STUDY = (*CLASSIFICATION, "mae", "rmse", "pearson_r")
ALL = (*CLASSIFICATION, "mae", "rmse", "bias", "pearson_r")

PREDICTOR = {
    "network": "Network",
    "joint": "Network with two heads",
    "hu": "HU alone",
    "hu_device": "HU, voltage and phase",
    "age_sex": "Age and sex",
    "hu_age_sex": "HU, age and sex",
    "threshold_110": "HU below 110",
    "threshold_135": "HU below 135",
    "threshold_160": "HU below 160",
    "calibrated": "HU, calibrated",
}
# What stands in the study's table; the longer table has all.
SHOWN = ("network", "joint", "hu")
SET = {
    "training": "Training",
    "cross-validated": "Cross-validated",
    "random grouping": "Random grouping",
    "leave one device out": "Leave one device out",
    "external": "External",
    "development, not in training": "Development, not in training",
}
SET_MEANS = {
    "training": "patients that the judged network was fitted on: what it has learned by heart, no proof of anything",
    "cross-validated": "patients of the training, each predicted only by networks that never saw them",
    "random grouping": "the test parts of repeated random divisions, by one network each",
    "leave one device out": "patients of a device that the judged network never saw, by one network each",
    "external": "patients of cohorts that had no part in the training",
    "development, not in training": "patients of development cohorts that this model was not trained on",
}
# Sets of patients of this run; the others are told by the model's bundle.
OWN_SETS = ("cross-validated", "external", "development, not in training")
STUDY_SETS = ("training", "cross-validated", "random grouping", "external", "development, not in training")
SCHEME = {
    "cross-validation": "Cross-validation",
    "random": "Random grouping",
    "device": "Leave one device out",
}
STRATUM = {
    "all": "All",
    "kvp": "Tube voltage (kV)",
    "thickness": "Slice thickness",
    "phase": "Contrast phase",
    "sex": "Sex",
    "age": "Age",
    "age_sex": "Age and sex",
    "device": "Device",
    "contrast": "Contrast medium",
    "voltage": "Tube voltage",
    "interval_group": "Group of the interval",
    "class": "Density",
}
ROLE_MEANS = {
    "development": "patients whose QCT values the model could be trained on",
    "external": "patients who had no part in the training",
    "screening": "patients without QCT, whom the model is applied to",
}
DECISION = {"indeterminate": "indeterminate", "not_evaluable": "not evaluable"}


def number(value: float | None, digits: int) -> str:
    """A number with a proper minus sign; a dash where it is undefined."""
    return MISSING if value is None else f"{value:z.{digits}f}".replace("-", "\N{MINUS SIGN}")


def interval(low: float | None, high: float | None, digits: int) -> str:
    """An interval in brackets, "to" where an end is negative; empty where it is undefined."""
    if low is None or high is None:
        return ""
    link = " to " if low < 0 else "–"
    return f"({number(low, digits)}{link}{number(high, digits)})"


def estimate(row: Mapping[str, Any]) -> str:
    """A row of the table metrics, such as ``0.93 (0.88–0.97)``."""
    digits = METRICS[row["metric"]].digits
    return f"{number(row['value'], digits)} {interval(row['low'], row['high'], digits)}".strip()


def p_value(p: float | None) -> str:
    """A p-value to two significant digits."""
    return MISSING if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def percent(share: float) -> str:
    """A share as per cent, without decimals from 10 on."""
    return f"{100 * share:.{1 if share < 0.1 else 0}f} %"


def counted(n: int, thing: str) -> str:
    """A number and its noun, such as ``1 patient`` or ``3 studies``."""
    plural = f"{thing[:-1]}ies" if thing.endswith("y") else thing if thing.endswith("s") else f"{thing}s"
    return f"{n:,} {thing if n == 1 else plural}"


def reason(code: str) -> str:
    """A reason code in words; a code without words stands for itself."""
    return REASONS.get(code, code)
