"""Schemas of the tables that evaluate writes; apart from the others, so that a new figure reruns no other stage."""

import pyarrow as pa

from trabecula.tables.common import COHORT, PATIENT
from trabecula.tables.fields import BOOL, FLOAT, INT, MG_CM3, NULLABLE, PURE, TEXT, Kind, column, schema


def _text(name: str, description: str) -> pa.Field:
    """Describe a text that is never NULL."""
    return column(name, TEXT, description)


def _count(name: str, description: str, unit: str = "1") -> pa.Field:
    """Describe a whole number that is never NULL."""
    return column(name, Kind(INT, unit), description)


def _number(name: str, unit: str, description: str) -> pa.Field:
    """Describe a number that is never NULL."""
    return column(name, Kind(FLOAT, unit), description)


def _ratio(name: str, description: str) -> pa.Field:
    """Describe a number without a unit; it may be NULL."""
    return column(name, PURE, description, NULLABLE)


def _figure(name: str, description: str) -> pa.Field:
    """Describe a number in the unit that its row names; it may be NULL."""
    return column(name, Kind(FLOAT, "see unit"), description, NULLABLE)


_SETS = "training; cross-validated; random grouping; leave one device out; external; or development, not in training"
_ANY_COHORT = "Cohort of these patients; NULL: all cohorts of the set, and sets of the model's protocol"
_DEVICES = "one: the scans of a patient are of one device_key; any: of whatever devices, whose differences count too"
_QUANTITY = "vbmd_mg_cm3 or trabecular_hu (value is the mean); osteoporosis, low or reduced (value is the share)"
_DECIDED = "abstention (share without a decision); recall, precision, specificity, accuracy among the decided"

ROLE = _text("role", "Role of the cohorts that the set comes from")
SET = (_text("set", _SETS), ROLE)
PART = (*SET, column("cohort", TEXT, _ANY_COHORT, NULLABLE))
PREDICTOR = _text("predictor", "network, joint, calibrated, or one of the baselines")
TASK = _text("task", "classification (reduced or not) or regression (vBMD)")
METRIC = _text("metric", "Name of the figure")
CELL = _text("cell", "Which of the stratum's groups")
PROBABILITY = _number("threshold", "1", "Probability from which a patient counts as reduced")
ESTIMATE = (
    _figure("value", "The figure in the row's unit; NULL when undefined"),
    _figure("low", "Lower end of the 95 % interval; NULL when undefined"),
    _figure("high", "Upper end of the 95 % interval; NULL when undefined"),
    _count("n", "Patients that the figure stands on: the denominator of a proportion"),
    column("unit", TEXT, "Unit of value, low and high; NULL for pure numbers", NULLABLE),
    _text("method", "How the interval was made"),
    column("reason", TEXT, "Why value or interval is undefined, in words; NULL when both are defined", NULLABLE),
)

_COLUMNS: dict[str, tuple[pa.Field, ...]] = {
    "metrics": (*PART, PREDICTOR, TASK, METRIC, *ESTIMATE),
    "roc": (
        *PART,
        PREDICTOR,
        _ratio("threshold", "Score from which a patient counts as reduced; NULL for the first point, (0, 0)"),
        _number("false_positive_rate", "1", "1 - specificity at this threshold"),
        _number("true_positive_rate", "1", "Recall at this threshold"),
    ),
    "agreement": (
        *SET,
        COHORT,
        PATIENT,
        PREDICTOR,
        _number("vbmd_mg_cm3", "mg/cm3 HA", "vBMD by the predictor"),
        _number("qct_vbmd_mg_cm3", "mg/cm3 HA", "vBMD by quantitative CT"),
    ),
    "comparison": (
        *PART,
        _text("metric", "auc, mae or accuracy"),
        _text("first", "Predictor that is compared: network"),
        _text("second", "Predictor that it is compared with"),
        column("best_hu", BOOL, "The second has the lowest cross-validated MAE of the lines from HU"),
        _figure("first_value", "Figure of the first"),
        _figure("second_value", "Figure of the second on the same patients"),
        _figure("difference", "first_value - second_value"),
        _figure("low", "Lower end of the difference's 95 % interval"),
        _figure("high", "Upper end of the difference's 95 % interval"),
        _ratio("p_value", "Two-sided p-value of the difference; NULL where the method gives none"),
        _count("n", "Patients with both predictions and a label"),
        column("unit", TEXT, "Unit of the figures; NULL for pure numbers", NULLABLE),
        _text("method", "How the difference was tested"),
        _text("sentence", "The outcome in one plain sentence"),
        column("reason", TEXT, "Why the difference or its interval is undefined, in words", NULLABLE),
    ),
    "left_out": (
        *PART,
        PREDICTOR,
        TASK,
        _text("reason", "Reason code"),
        _count("n", "Patients of the set that the predictor's figures leave out"),
    ),
    "decisions": (*PART, _text("metric", _DECIDED), *ESTIMATE),
    "abstentions": (
        *PART,
        _text("decision", "indeterminate or not_evaluable"),
        _text("reason", "Reason code"),
        _count("n", "Patients of the set, labelled or not"),
    ),
    "spread": (
        _text("scheme", "cross-validation, random, or device (leave one device out)"),
        _text("split", "Name of the split"),
        column("held_out", TEXT, "Device that was left out (maker, model); NULL in other schemes", NULLABLE),
        PREDICTOR,
        METRIC,
        *ESTIMATE,
    ),
    "levels": (
        *PART,
        _text("level", "Vertebral level whose own QCT value is compared with; all: every labelled vertebra"),
        PREDICTOR,
        METRIC,
        *ESTIMATE,
    ),
    "near_cuts": (
        *PART,
        PREDICTOR,
        _number("cut_mg_cm3", "mg/cm3 HA", "Cut between two grades"),
        _number("within_mg_cm3", "mg/cm3", "Patients whose QCT value is at most this far away"),
        _text("metric", "mae, bias, or right_side (share put on the side of the cut where QCT is)"),
        *ESTIMATE,
    ),
    "coverage": (
        *PART,
        _text("stratum", "all, device, contrast, voltage, interval_group or class"),
        CELL,
        _ratio("covered", "Share of the patients whose QCT value lies in their 90 % interval; NULL when undefined"),
        _ratio("low", "Lower end of its 95 % interval"),
        _ratio("high", "Upper end of its 95 % interval"),
        column(
            "width_mg_cm3", Kind(FLOAT, "mg/cm3"), "Mean width of the 90 % intervals; NULL when undefined", NULLABLE
        ),
        _count("n", "Patients with a label and an interval"),
        _text("method", "How the interval of the share was made"),
        column("reason", TEXT, "Why the figures are undefined, in words", NULLABLE),
    ),
    "recalibration": (
        COHORT,
        column("device_key", TEXT, "Device (maker, model, kVp, kernel); NULL for the cohort as a whole", NULLABLE),
        PREDICTOR,
        _text("terms", "What was fitted: none; intercept; or intercept and slope"),
        _count("k", "Labelled local patients that it was fitted on"),
        _number("mae_mg_cm3", "mg/cm3 HA", "MAE on the other patients, mean over draws"),
        column("low", MG_CM3, "2.5th percentile over draws; NULL where nothing is drawn", NULLABLE),
        column("high", MG_CM3, "97.5th percentile over draws; NULL where nothing is drawn", NULLABLE),
        _count("draws", "Random choices of the k patients"),
        _count("n", "Labelled patients of the cohort, or of its device, that the draws are made from"),
    ),
    "calibration_curve": (
        *PART,
        PREDICTOR,
        _text("part", "tenth (of the patients, by prediction) or smooth (lowess)"),
        _number("predicted", "1", "Predicted probability of reduced density; of a tenth the mean"),
        _ratio("observed", "Share that QCT calls reduced; NULL in a small cell"),
        _ratio("low", "Lower end of its 95 % interval; NULL when undefined"),
        _ratio("high", "Upper end of its 95 % interval; NULL when undefined"),
        _count("n", "Patients of the tenth; of the smooth curve all"),
        _text("method", "How the interval was made"),
        column(
            "reason", TEXT, "Why the share or its interval is undefined, in words; NULL when both are defined", NULLABLE
        ),
    ),
    "decision_curve": (
        *PART,
        _text("strategy", "Who is called reduced: by a predictor (its name), all, or none"),
        PROBABILITY,
        *ESTIMATE,
    ),
    "grades": (
        *PART,
        PREDICTOR,
        _text("qct_grade", "normal, low or osteoporosis by QCT"),
        _text("grade", "normal, low or osteoporosis by the predictor's vBMD"),
        _count("n", "Patients with both grades in this cell of the table"),
    ),
    "strata": (
        *PART,
        PREDICTOR,
        _text("stratum", "device, kvp, thickness, phase, sex or age"),
        CELL,
        _text("metric", "auc, mae, bias, recall or specificity"),
        *ESTIMATE,
        _ratio("interaction_p", "p-value: the figure is the same in all cells of the stratum; NULL when undefined"),
        _text("interaction_method", "Test of interaction_p"),
        column(
            "interaction_reason", TEXT, "Why interaction_p is undefined, in words; NULL when it is defined", NULLABLE
        ),
    ),
    "predictive_values": (
        *PART,
        PREDICTOR,
        _number("prevalence", "1", "Share of reduced density among those examined, assumed"),
        _text("metric", "ppv or npv"),
        *ESTIMATE,
    ),
    "thresholds": (
        *PART,
        PREDICTOR,
        PROBABILITY,
        _text("metric", "recall, specificity, precision or npv"),
        *ESTIMATE,
    ),
    "reclassification": (
        *PART,
        PROBABILITY,
        _text("qct", "reduced or normal by QCT"),
        _text("network", "reduced or normal by the network's probability and the threshold"),
        _text("hu", "reduced or normal by the line from HU and the cut of vBMD"),
        _count("n", "Patients, zero included"),
    ),
    "precision": (
        ROLE,
        COHORT,
        PREDICTOR,
        _text("devices", _DEVICES),
        _text("metric", "rms_sd_mg_cm3, rmscv_percent or lsc_mg_cm3"),
        *ESTIMATE,
        _count("degrees_of_freedom", "Scans less patients"),
        _count("days_apart", "Most days between two scans of a patient that count as repeats", "d"),
    ),
    "distribution": (
        ROLE,
        COHORT,
        _text("stratum", "all, sex, age_sex or device"),
        CELL,
        _text("quantity", _QUANTITY),
        *ESTIMATE,
        _figure("sd", "Standard deviation; NULL for shares and small cells"),
        *(_figure(f"p{p:02d}", f"{p}th percentile; NULL for shares and small cells") for p in (5, 25, 50, 75, 95)),
    ),
}

STATISTICS: dict[str, pa.Schema] = {name: schema(name, *columns) for name, columns in _COLUMNS.items()}
