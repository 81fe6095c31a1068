"""Schemas of the tables that evaluate writes; apart from the others, so that a new figure reruns no other stage."""

import pyarrow as pa

from trabecula.tables import BOOL, COHORT, FLOAT, INT, PATIENT, TEXT, column, schema

SET = column(
    "set",
    TEXT,
    "training; cross-validated; random grouping; leave one device out; external; or development, not in training",
    required=True,
)
ROLE = column("role", TEXT, "Role of the cohorts that the set comes from", required=True)
OF = column("cohort", TEXT, "Cohort of these patients; NULL: all cohorts of the set, and sets of the model's protocol")
PREDICTOR = column("predictor", TEXT, "network, joint, calibrated, or one of the baselines", required=True)
TASK = column("task", TEXT, "classification (reduced or not) or regression (vBMD)", required=True)
METRIC = column("metric", TEXT, "Name of the figure", required=True)
N = column("n", INT, "Patients that the figure stands on: the denominator of a proportion", required=True, unit="1")

_ESTIMATE = (
    column("value", FLOAT, "The figure in the row's unit; NULL when undefined", unit="see unit"),
    column("low", FLOAT, "Lower end of the 95 % interval; NULL when undefined", unit="see unit"),
    column("high", FLOAT, "Upper end of the 95 % interval; NULL when undefined", unit="see unit"),
    N,
    column("unit", TEXT, "Unit of value, low and high; NULL for pure numbers"),
    column("method", TEXT, "How the interval was made", required=True),
    column("reason", TEXT, "Why value or interval is undefined, in words; NULL when both are defined"),
)

METRICS = schema(SET, ROLE, OF, PREDICTOR, TASK, METRIC, *_ESTIMATE, name="metrics")

ROC = schema(
    SET,
    ROLE,
    OF,
    PREDICTOR,
    column(
        "threshold", FLOAT, "Score from which a patient counts as reduced; NULL for the first point, (0, 0)", unit="1"
    ),
    column("false_positive_rate", FLOAT, "1 - specificity at this threshold", required=True, unit="1"),
    column("true_positive_rate", FLOAT, "Recall at this threshold", required=True, unit="1"),
    name="roc",
)

AGREEMENT = schema(
    SET,
    ROLE,
    COHORT,
    PATIENT,
    PREDICTOR,
    column("vbmd_mg_cm3", FLOAT, "vBMD by the predictor", unit="mg/cm3 HA", required=True),
    column("qct_vbmd_mg_cm3", FLOAT, "vBMD by quantitative CT", unit="mg/cm3 HA", required=True),
    name="agreement",
)

COMPARISON = schema(
    SET,
    ROLE,
    OF,
    column("metric", TEXT, "auc, mae or accuracy", required=True),
    column("first", TEXT, "Predictor that is compared: network", required=True),
    column("second", TEXT, "Predictor that it is compared with", required=True),
    column("best_hu", BOOL, "The second has the lowest cross-validated MAE of the lines from HU", required=True),
    column("first_value", FLOAT, "Figure of the first", unit="see unit"),
    column("second_value", FLOAT, "Figure of the second on the same patients", unit="see unit"),
    column("difference", FLOAT, "first_value - second_value", unit="see unit"),
    column("low", FLOAT, "Lower end of the difference's 95 % interval", unit="see unit"),
    column("high", FLOAT, "Upper end of the difference's 95 % interval", unit="see unit"),
    column("p_value", FLOAT, "Two-sided p-value of the difference; NULL where the method gives none", unit="1"),
    column("n", INT, "Patients with both predictions and a label", required=True, unit="1"),
    column("unit", TEXT, "Unit of the figures; NULL for pure numbers"),
    column("method", TEXT, "How the difference was tested", required=True),
    column("sentence", TEXT, "The outcome in one plain sentence", required=True),
    column("reason", TEXT, "Why the difference or its interval is undefined, in words"),
    name="comparison",
)

LEFT_OUT = schema(
    SET,
    ROLE,
    OF,
    PREDICTOR,
    TASK,
    column("reason", TEXT, "Reason code", required=True),
    column("n", INT, "Patients of the set that the predictor's figures leave out", required=True, unit="1"),
    name="left_out",
)

DECISIONS = schema(
    SET,
    ROLE,
    OF,
    column(
        "metric",
        TEXT,
        "abstention (share without a decision); recall, precision, specificity, accuracy among the decided",
        required=True,
    ),
    *_ESTIMATE,
    name="decisions",
)

ABSTENTIONS = schema(
    SET,
    ROLE,
    OF,
    column("decision", TEXT, "indeterminate or not_evaluable", required=True),
    column("reason", TEXT, "Reason code", required=True),
    column("n", INT, "Patients of the set, labelled or not", required=True, unit="1"),
    name="abstentions",
)

SPREAD = schema(
    column("scheme", TEXT, "cross-validation, random, or device (leave one device out)", required=True),
    column("split", TEXT, "Name of the split", required=True),
    column("held_out", TEXT, "Device that was left out (maker, model); NULL in other schemes"),
    PREDICTOR,
    METRIC,
    *_ESTIMATE,
    name="spread",
)

LEVELS = schema(
    SET,
    ROLE,
    OF,
    column(
        "level",
        TEXT,
        "Vertebral level whose own QCT value is compared with; all: every labelled vertebra",
        required=True,
    ),
    PREDICTOR,
    METRIC,
    *_ESTIMATE,
    name="levels",
)

NEAR_CUTS = schema(
    SET,
    ROLE,
    OF,
    PREDICTOR,
    column("cut_mg_cm3", FLOAT, "Cut between two grades", unit="mg/cm3 HA", required=True),
    column("within_mg_cm3", FLOAT, "Patients whose QCT value is at most this far away", unit="mg/cm3", required=True),
    column("metric", TEXT, "mae, bias, or right_side (share put on the side of the cut where QCT is)", required=True),
    *_ESTIMATE,
    name="near_cuts",
)

COVERAGE = schema(
    SET,
    ROLE,
    OF,
    column("stratum", TEXT, "all, device, contrast, voltage, interval_group or class", required=True),
    column("cell", TEXT, "Which of the stratum's groups", required=True),
    column(
        "covered",
        FLOAT,
        "Share of the patients whose QCT value lies in their 90 % interval; NULL when undefined",
        unit="1",
    ),
    column("low", FLOAT, "Lower end of its 95 % interval", unit="1"),
    column("high", FLOAT, "Upper end of its 95 % interval", unit="1"),
    column("width_mg_cm3", FLOAT, "Mean width of the 90 % intervals; NULL when undefined", unit="mg/cm3"),
    column("n", INT, "Patients with a label and an interval", required=True, unit="1"),
    column("method", TEXT, "How the interval of the share was made", required=True),
    column("reason", TEXT, "Why the figures are undefined, in words"),
    name="coverage",
)

RECALIBRATION = schema(
    COHORT,
    column("device_key", TEXT, "Device (maker, model, kVp, kernel); NULL for the cohort as a whole"),
    PREDICTOR,
    column("terms", TEXT, "What was fitted: none; intercept; or intercept and slope", required=True),
    column("k", INT, "Labelled local patients that it was fitted on", required=True, unit="1"),
    column("mae_mg_cm3", FLOAT, "MAE on the other patients, mean over draws", unit="mg/cm3 HA", required=True),
    column("low", FLOAT, "2.5th percentile over draws; NULL where nothing is drawn", unit="mg/cm3 HA"),
    column("high", FLOAT, "97.5th percentile over draws; NULL where nothing is drawn", unit="mg/cm3 HA"),
    column("draws", INT, "Random choices of the k patients", required=True, unit="1"),
    column(
        "n",
        INT,
        "Labelled patients of the cohort, or of its device, that the draws are made from",
        required=True,
        unit="1",
    ),
    name="recalibration",
)

CELL = column("cell", TEXT, "Which of the stratum's groups", required=True)
PROBABILITY = column("threshold", FLOAT, "Probability from which a patient counts as reduced", unit="1", required=True)

CALIBRATION_CURVE = schema(
    SET,
    ROLE,
    OF,
    PREDICTOR,
    column("part", TEXT, "tenth (of the patients, by prediction) or smooth (lowess)", required=True),
    column(
        "predicted", FLOAT, "Predicted probability of reduced density; of a tenth the mean", unit="1", required=True
    ),
    column("observed", FLOAT, "Share that QCT calls reduced; NULL in a small cell", unit="1"),
    column("low", FLOAT, "Lower end of its 95 % interval; NULL when undefined", unit="1"),
    column("high", FLOAT, "Upper end of its 95 % interval; NULL when undefined", unit="1"),
    column("n", INT, "Patients of the tenth; of the smooth curve all", unit="1", required=True),
    column("method", TEXT, "How the interval was made", required=True),
    column("reason", TEXT, "Why the share or its interval is undefined, in words; NULL when both are defined"),
    name="calibration_curve",
)

DECISION_CURVE = schema(
    SET,
    ROLE,
    OF,
    column("strategy", TEXT, "Who is called reduced: by a predictor (its name), all, or none", required=True),
    PROBABILITY,
    *_ESTIMATE,
    name="decision_curve",
)

GRADES = schema(
    SET,
    ROLE,
    OF,
    PREDICTOR,
    column("qct_grade", TEXT, "normal, low or osteoporosis by QCT", required=True),
    column("grade", TEXT, "normal, low or osteoporosis by the predictor's vBMD", required=True),
    column("n", INT, "Patients with both grades in this cell of the table", unit="1", required=True),
    name="grades",
)

STRATA = schema(
    SET,
    ROLE,
    OF,
    PREDICTOR,
    column("stratum", TEXT, "device, kvp, thickness, phase, sex or age", required=True),
    CELL,
    column("metric", TEXT, "auc, mae, bias, recall or specificity", required=True),
    *_ESTIMATE,
    column(
        "interaction_p",
        FLOAT,
        "p-value: the figure is the same in all cells of the stratum; NULL when undefined",
        unit="1",
    ),
    column("interaction_method", TEXT, "Test of interaction_p", required=True),
    column("interaction_reason", TEXT, "Why interaction_p is undefined, in words; NULL when it is defined"),
    name="strata",
)

PREDICTIVE_VALUES = schema(
    SET,
    ROLE,
    OF,
    PREDICTOR,
    column("prevalence", FLOAT, "Share of reduced density among those examined, assumed", unit="1", required=True),
    column("metric", TEXT, "ppv or npv", required=True),
    *_ESTIMATE,
    name="predictive_values",
)

THRESHOLDS = schema(
    SET,
    ROLE,
    OF,
    PREDICTOR,
    PROBABILITY,
    column("metric", TEXT, "recall, specificity, precision or npv", required=True),
    *_ESTIMATE,
    name="thresholds",
)

RECLASSIFICATION = schema(
    SET,
    ROLE,
    OF,
    PROBABILITY,
    column("qct", TEXT, "reduced or normal by QCT", required=True),
    column("network", TEXT, "reduced or normal by the network's probability and the threshold", required=True),
    column("hu", TEXT, "reduced or normal by the line from HU and the cut of vBMD", required=True),
    column("n", INT, "Patients, zero included", unit="1", required=True),
    name="reclassification",
)

PRECISION = schema(
    ROLE,
    COHORT,
    PREDICTOR,
    column(
        "devices",
        TEXT,
        "one: the scans of a patient are of one device_key; any: of whatever devices, whose differences count too",
        required=True,
    ),
    column("metric", TEXT, "rms_sd_mg_cm3, rmscv_percent or lsc_mg_cm3", required=True),
    *_ESTIMATE,
    column("degrees_of_freedom", INT, "Scans less patients", unit="1", required=True),
    column(
        "days_apart", INT, "Most days between two scans of a patient that count as repeats", unit="d", required=True
    ),
    name="precision",
)

DISTRIBUTION = schema(
    ROLE,
    COHORT,
    column("stratum", TEXT, "all, sex, age_sex or device", required=True),
    CELL,
    column(
        "quantity",
        TEXT,
        "vbmd_mg_cm3 or trabecular_hu (value is the mean); osteoporosis, low or reduced (value is the share)",
        required=True,
    ),
    *_ESTIMATE,
    column("sd", FLOAT, "Standard deviation; NULL for shares and small cells", unit="see unit"),
    *(
        column(f"p{percent:02d}", FLOAT, f"{percent}th percentile; NULL for shares and small cells", unit="see unit")
        for percent in (5, 25, 50, 75, 95)
    ),
    name="distribution",
)

STATISTICS: dict[str, pa.Schema] = {
    "metrics": METRICS,
    "roc": ROC,
    "agreement": AGREEMENT,
    "comparison": COMPARISON,
    "left_out": LEFT_OUT,
    "decisions": DECISIONS,
    "abstentions": ABSTENTIONS,
    "spread": SPREAD,
    "levels": LEVELS,
    "near_cuts": NEAR_CUTS,
    "coverage": COVERAGE,
    "recalibration": RECALIBRATION,
    "calibration_curve": CALIBRATION_CURVE,
    "decision_curve": DECISION_CURVE,
    "grades": GRADES,
    "strata": STRATA,
    "predictive_values": PREDICTIVE_VALUES,
    "thresholds": THRESHOLDS,
    "reclassification": RECLASSIFICATION,
    "precision": PRECISION,
    "distribution": DISTRIBUTION,
}
