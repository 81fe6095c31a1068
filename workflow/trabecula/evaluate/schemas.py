"""Schemas of the tables that evaluate writes; apart from the others, so that a new figure reruns no other stage."""

import pyarrow as pa

from trabecula.tables.common import COHORT, PATIENT
from trabecula.tables.fields import BOOL, COUNT, FLOAT, INT, MG_CM3, NULLABLE, PURE, TEXT, Kind, column, schema

# The unit stands in the row's own column.
FIGURE = Kind(FLOAT, "see unit")
WIDTH = Kind(FLOAT, "mg/cm3")

_SETS = "training; cross-validated; random grouping; leave one device out; external; or development, not in training"
_ANY_COHORT = "Cohort of these patients; NULL: all cohorts of the set, and sets of the model's protocol"
_DEVICES = "one: the scans of a patient are of one device_key; any: of whatever devices, whose differences count too"
_QUANTITY = "vbmd_mg_cm3 or trabecular_hu (value is the mean); osteoporosis, low or reduced (value is the share)"
_DECIDED = "abstention (share without a decision); recall, precision, specificity, accuracy among the decided"
_SCORE = "Score from which a patient counts as reduced; NULL for the first point, (0, 0)"
_COVERED = "Share of the patients whose QCT value lies in their 90 % interval; NULL when undefined"
_NO_SHARE = "Why the share or its interval is undefined, in words; NULL when both are defined"
_SAME = "p-value: the figure is the same in all cells of the stratum; NULL when undefined"
_NO_TEST = "Why interaction_p is undefined, in words; NULL when it is defined"

ROLE = column("role", TEXT, "Role of the cohorts that the set comes from")
SET = (column("set", TEXT, _SETS), ROLE)
PART = (*SET, column("cohort", TEXT, _ANY_COHORT, NULLABLE))
PREDICTOR = column("predictor", TEXT, "network, joint, calibrated, or one of the baselines")
TASK = column("task", TEXT, "classification (reduced or not) or regression (vBMD)")
METRIC = column("metric", TEXT, "Name of the figure")
CELL = column("cell", TEXT, "Which of the stratum's groups")
PROBABILITY = column("threshold", PURE, "Probability from which a patient counts as reduced")
ESTIMATE = (
    column("value", FIGURE, "The figure in the row's unit; NULL when undefined", NULLABLE),
    column("low", FIGURE, "Lower end of the 95 % interval; NULL when undefined", NULLABLE),
    column("high", FIGURE, "Upper end of the 95 % interval; NULL when undefined", NULLABLE),
    column("n", COUNT, "Patients that the figure stands on: the denominator of a proportion"),
    column("unit", TEXT, "Unit of value, low and high; NULL for pure numbers", NULLABLE),
    column("method", TEXT, "How the interval was made"),
    column("reason", TEXT, "Why value or interval is undefined, in words; NULL when both are defined", NULLABLE),
)

_COLUMNS: dict[str, tuple[pa.Field, ...]] = {
    "metrics": (*PART, PREDICTOR, TASK, METRIC, *ESTIMATE),
    "roc": (
        *PART,
        PREDICTOR,
        column("threshold", PURE, _SCORE, NULLABLE),
        column("false_positive_rate", PURE, "1 - specificity at this threshold"),
        column("true_positive_rate", PURE, "Recall at this threshold"),
    ),
    "agreement": (
        *SET,
        COHORT,
        PATIENT,
        PREDICTOR,
        column("vbmd_mg_cm3", MG_CM3, "vBMD by the predictor"),
        column("qct_vbmd_mg_cm3", MG_CM3, "vBMD by quantitative CT"),
    ),
    "comparison": (
        *PART,
        column("metric", TEXT, "auc, mae or accuracy"),
        column("first", TEXT, "Predictor that is compared: network"),
        column("second", TEXT, "Predictor that it is compared with"),
        column("best_hu", BOOL, "The second has the lowest cross-validated MAE of the lines from HU"),
        column("first_value", FIGURE, "Figure of the first", NULLABLE),
        column("second_value", FIGURE, "Figure of the second on the same patients", NULLABLE),
        column("difference", FIGURE, "first_value - second_value", NULLABLE),
        column("low", FIGURE, "Lower end of the difference's 95 % interval", NULLABLE),
        column("high", FIGURE, "Upper end of the difference's 95 % interval", NULLABLE),
        column("p_value", PURE, "Two-sided p-value of the difference; NULL where the method gives none", NULLABLE),
        column("n", COUNT, "Patients with both predictions and a label"),
        column("unit", TEXT, "Unit of the figures; NULL for pure numbers", NULLABLE),
        column("method", TEXT, "How the difference was tested"),
        column("sentence", TEXT, "The outcome in one plain sentence"),
        column("reason", TEXT, "Why the difference or its interval is undefined, in words", NULLABLE),
    ),
    "left_out": (
        *PART,
        PREDICTOR,
        TASK,
        column("reason", TEXT, "Reason code"),
        column("n", COUNT, "Patients of the set that the predictor's figures leave out"),
    ),
    "decisions": (*PART, column("metric", TEXT, _DECIDED), *ESTIMATE),
    "abstentions": (
        *PART,
        column("decision", TEXT, "indeterminate or not_evaluable"),
        column("reason", TEXT, "Reason code"),
        column("n", COUNT, "Patients of the set, labelled or not"),
    ),
    "spread": (
        column("scheme", TEXT, "cross-validation, random, or device (leave one device out)"),
        column("split", TEXT, "Name of the split"),
        column("held_out", TEXT, "Device that was left out (maker, model); NULL in other schemes", NULLABLE),
        PREDICTOR,
        METRIC,
        *ESTIMATE,
    ),
    "levels": (
        *PART,
        column("level", TEXT, "Vertebral level whose own QCT value is compared with; all: every labelled vertebra"),
        PREDICTOR,
        METRIC,
        *ESTIMATE,
    ),
    "near_cuts": (
        *PART,
        PREDICTOR,
        column("cut_mg_cm3", MG_CM3, "Threshold between two grades"),
        column("within_mg_cm3", WIDTH, "Patients whose QCT value is at most this far away"),
        column("metric", TEXT, "mae, bias, or right_side (share put on the side of the threshold where QCT is)"),
        *ESTIMATE,
    ),
    "coverage": (
        *PART,
        column("stratum", TEXT, "all, device, contrast, voltage, interval_group or class"),
        CELL,
        column("covered", PURE, _COVERED, NULLABLE),
        column("low", PURE, "Lower end of its 95 % interval", NULLABLE),
        column("high", PURE, "Upper end of its 95 % interval", NULLABLE),
        column("width_mg_cm3", WIDTH, "Mean width of the 90 % intervals; NULL when undefined", NULLABLE),
        column("n", COUNT, "Patients with a label and an interval"),
        column("method", TEXT, "How the interval of the share was made"),
        column("reason", TEXT, "Why the figures are undefined, in words", NULLABLE),
    ),
    "recalibration": (
        COHORT,
        column("device_key", TEXT, "Device (maker, model, kVp, kernel); NULL for the cohort as a whole", NULLABLE),
        PREDICTOR,
        column("terms", TEXT, "What was fitted: none; intercept; or intercept and slope"),
        column("k", COUNT, "Labelled local patients that it was fitted on"),
        column("mae_mg_cm3", MG_CM3, "MAE on the other patients, mean over draws"),
        column("low", MG_CM3, "2.5th percentile over draws; NULL where nothing is drawn", NULLABLE),
        column("high", MG_CM3, "97.5th percentile over draws; NULL where nothing is drawn", NULLABLE),
        column("draws", COUNT, "Random choices of the k patients"),
        column("n", COUNT, "Labelled patients of the cohort, or of its device, that the draws are made from"),
    ),
    "calibration_curve": (
        *PART,
        PREDICTOR,
        column("part", TEXT, "tenth (of the patients, by prediction) or smooth (lowess)"),
        column("predicted", PURE, "Predicted probability of reduced density; of a tenth the mean"),
        column("observed", PURE, "Share that QCT calls reduced; NULL in a small cell", NULLABLE),
        column("low", PURE, "Lower end of its 95 % interval; NULL when undefined", NULLABLE),
        column("high", PURE, "Upper end of its 95 % interval; NULL when undefined", NULLABLE),
        column("n", COUNT, "Patients of the tenth; of the smooth curve all"),
        column("method", TEXT, "How the interval was made"),
        column("reason", TEXT, _NO_SHARE, NULLABLE),
    ),
    "decision_curve": (
        *PART,
        column("strategy", TEXT, "Who is called reduced: by a predictor (its name), all, or none"),
        PROBABILITY,
        *ESTIMATE,
    ),
    "grades": (
        *PART,
        PREDICTOR,
        column("qct_grade", TEXT, "normal, low or osteoporosis by QCT"),
        column("grade", TEXT, "normal, low or osteoporosis by the predictor's vBMD"),
        column("n", COUNT, "Patients with both grades in this cell of the table"),
    ),
    "strata": (
        *PART,
        PREDICTOR,
        column("stratum", TEXT, "device, kvp, thickness, phase, sex or age"),
        CELL,
        column("metric", TEXT, "auc, mae, bias, recall or specificity"),
        *ESTIMATE,
        column("interaction_p", PURE, _SAME, NULLABLE),
        column("interaction_method", TEXT, "Test of interaction_p"),
        column("interaction_reason", TEXT, _NO_TEST, NULLABLE),
    ),
    "predictive_values": (
        *PART,
        PREDICTOR,
        column("prevalence", PURE, "Share of reduced density among those examined, assumed"),
        column("metric", TEXT, "ppv or npv"),
        *ESTIMATE,
    ),
    "thresholds": (
        *PART,
        PREDICTOR,
        PROBABILITY,
        column("metric", TEXT, "recall, specificity, precision or npv"),
        *ESTIMATE,
    ),
    "reclassification": (
        *PART,
        PROBABILITY,
        column("qct", TEXT, "reduced or normal by QCT"),
        column("network", TEXT, "reduced or normal by the network's probability and the threshold"),
        column("hu", TEXT, "reduced or normal by the line from HU and the threshold of vBMD"),
        column("n", COUNT, "Patients, zero included"),
    ),
    "precision": (
        ROLE,
        COHORT,
        PREDICTOR,
        column("devices", TEXT, _DEVICES),
        column("metric", TEXT, "rms_sd_mg_cm3, rmscv_percent or lsc_mg_cm3"),
        *ESTIMATE,
        column("degrees_of_freedom", COUNT, "Scans less patients"),
        column("days_apart", Kind(INT, "d"), "Most days between two scans of a patient that count as repeats"),
    ),
    "distribution": (
        ROLE,
        COHORT,
        column("stratum", TEXT, "all, sex, age_sex or device"),
        CELL,
        column("quantity", TEXT, _QUANTITY),
        *ESTIMATE,
        column("sd", FIGURE, "Standard deviation; NULL for shares and small cells", NULLABLE),
        *(
            column(f"p{p:02d}", FIGURE, f"{p}th percentile; NULL for shares and small cells", NULLABLE)
            for p in (5, 25, 50, 75, 95)
        ),
    ),
}

STATISTICS: dict[str, pa.Schema] = {name: schema(name, *columns) for name, columns in _COLUMNS.items()}
