"""Write figures and codes in words that people read on the pages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trabecula.errors import REASONS

MISSING = "–"
MG_CM3 = "mg/cm³ HA"


@dataclass(frozen=True)
class Metric:
    """Heading, number of decimals and unit with which a figure of the table metrics is shown."""

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
    "right_side": Metric("Right side of the threshold", 2),
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
# Columns of the table that repeats the reference study, and those of the longer table of baselines.
REFERENCE_STUDY_METRICS = (*CLASSIFICATION, "mae", "rmse", "pearson_r")
ALL_METRICS = (*CLASSIFICATION, "mae", "rmse", "bias", "pearson_r")

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
# Predictors of most tables and figures, and those of the reference study's table.
NETWORK_AND_HU = ("network", "hu")
MAIN_PREDICTORS = ("network", "joint", "hu")
SET = {
    "training": "Training",
    "cross-validated": "Cross-validated",
    "random grouping": "Random grouping",
    "leave one device out": "Leave one device out",
    "external": "External",
    "development, not in training": "Development, not in training",
}
SET_MEANS = {
    "training": "patients whom the network was fitted on; these figures show how well it learned its own examples and "
    "prove nothing about new patients",
    "cross-validated": "patients of the training, each predicted only by networks that were not trained on them",
    "random grouping": "test patients of repeated random splits, each split with a network of its own",
    "leave one device out": "patients of a device, predicted by a network that was trained without this device",
    "external": "patients of cohorts that took no part in the training",
    "development, not in training": "patients of development cohorts whom this model was not trained on",
}
# Sets of patients of this run; figures of the other sets come from the model's bundle.
SETS_OF_THIS_RUN = ("cross-validated", "external", "development, not in training")
REFERENCE_STUDY_SETS = ("training", "cross-validated", "random grouping", "external", "development, not in training")
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
    "development": "patients whose QCT values may be used to train the model",
    "external": "patients who took no part in the training",
    "screening": "patients without QCT to whom the model is applied",
}
NO_DECISION = {"indeterminate": "indeterminate", "not_evaluable": "not evaluable"}


def number(value: float | None, digits: int) -> str:
    """Write a number with a proper minus sign, and a dash where it is undefined.

    >>> number(-1.25, 1), number(-0.04, 1), number(None, 1)
    ('−1.2', '0.0', '–')
    """
    return MISSING if value is None else f"{value:z.{digits}f}".replace("-", "\N{MINUS SIGN}")


def interval(low: float | None, high: float | None, digits: int) -> str:
    """Write an interval in brackets, with "to" where its lower end is negative; give no text where it is undefined.

    >>> interval(0.88, 0.97, 2), interval(-4, 1, 0)
    ('(0.88–0.97)', '(−4 to 1)')
    """
    if low is None or high is None:
        return ""
    link = " to " if low < 0 else "–"
    return f"({number(low, digits)}{link}{number(high, digits)})"


def estimate(row: Mapping[str, Any]) -> str:
    """Write a row of the table metrics with its interval, such as ``0.93 (0.88–0.97)``."""
    digits = METRICS[row["metric"]].digits
    return f"{number(row['value'], digits)} {interval(row['low'], row['high'], digits)}".strip()


def p_value(p: float | None) -> str:
    """Write a p-value to two significant digits."""
    return MISSING if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def percent(share: float) -> str:
    """Write a share as per cent, without decimals from 10 on.

    >>> percent(0.057), percent(0.57)
    ('5.7 %', '57 %')
    """
    return f"{100 * share:.{1 if share < 0.1 else 0}f} %"


def counted(n: int, noun: str) -> str:
    """Write a number and its noun.

    >>> counted(1, "patient"), counted(1200, "study")
    ('1 patient', '1,200 studies')
    """
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else noun if noun.endswith("s") else f"{noun}s"
    return f"{n:,} {noun if n == 1 else plural}"


def reason(code: str) -> str:
    """Give a reason code in words; a code without words is given as it is."""
    return REASONS.get(code, code)


def decision(code: str) -> str:
    """Give the code of a decision in words."""
    return NO_DECISION.get(code, code)
