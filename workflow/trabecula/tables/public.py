"""The public tables: what a reader of `results/tables` finds."""

import pyarrow as pa

from trabecula.tables.common import (
    ACQUISITION,
    CALIBRATED,
    COHORT,
    CONTRAST,
    COUNTED,
    DECISIONS,
    DETAIL,
    FATES,
    FLAGGED,
    GRADES,
    KEYS,
    LEVEL,
    LEVELS,
    MEASUREMENT,
    PATIENT,
    PHASES,
    QUALITIES,
    REASON,
    REPAIRED,
    ROLES,
    SCAN_FACTS,
    SCAN_RESULT,
    SERIES_ID,
    SEXES,
    STAGE_MEANINGS,
    STEPS,
    STUDY,
    TASKS,
    USES,
    VERDICTS_GIVEN,
    VERTEBRA_KEYS,
)
from trabecula.tables.fields import BOOL, FLOAT, INT, TEXT, TEXTS, column, schema

SERIES = schema(
    COHORT,
    PATIENT,
    STUDY,
    column("series_id", TEXT, "Keyed pseudonym of the series", required=True),
    column("series_uid", TEXT, "The same pseudonym as a UID, for DICOM objects made from results", required=True),
    column(
        "stack",
        INT,
        "Sub-stack within the series: orientation, matrix, kernel and acquisition",
        required=True,
        unit="1",
    ),
    column("accepted", BOOL, "This is the series that the study is measured on", required=True),
    column(
        "reason",
        TEXT,
        "Why the series was not chosen, the first of the gates; NULL when accepted",
        values="reasons",
        null="Accepted",
    ),
    column(
        "gates",
        TEXTS,
        "Every gate that the stack fails, reason codes; empty when acceptable",
        required=True,
        values="reasons",
    ),
    FLAGGED,
    column(
        "score",
        FLOAT,
        "Score, higher is better; NULL where it is no stack of CT slices",
        unit="1",
        null="No stack of CT slices",
    ),
    column("n_slices", INT, "Slices in the stack", required=True, unit="1"),
    column(
        "n_damaged",
        INT,
        "Slices of the series that are left out since their pixels are cut off",
        required=True,
        unit="1",
    ),
    column(
        "n_odd", INT, "Single slices of the series that are left out since they do not fit", required=True, unit="1"
    ),
    column(
        "spacing_mm",
        FLOAT,
        "Median distance between slices, from their positions",
        unit="mm",
        null="A single slice, or positions are missing",
    ),
    column("extent_mm", FLOAT, "Distance from the first to the last slice", unit="mm", null="Positions are missing"),
    column("field_of_view_mm", FLOAT, "Smaller side of the slices", unit="mm", null="Pixel spacing is missing"),
    *ACQUISITION,
    column("modality", TEXT, "Modality (0008,0060)", null="The header does not say"),
    name="series",
)

STUDIES = schema(
    *KEYS,
    SERIES_ID,
    column(
        "shard",
        TEXT,
        "Shard that the study belongs to for ever; NULL when no series was acceptable",
        null="No series was acceptable",
    ),
    column(
        "age_years",
        FLOAT,
        "Age at the study",
        unit="years",
        null="The header gives neither age nor dates of birth and study",
    ),
    column("sex", TEXT, "F, M or O (0010,0040)", values=SEXES, null="The header does not say"),
    column("days_from_first_study", INT, "Days since the patient's first study", unit="days", null="A date is missing"),
    column(
        "device_key",
        TEXT,
        "Maker, model, kVp, kernel; calibrations are fitted per key",
        null="The header names neither maker nor model",
    ),
    *ACQUISITION,
    column(
        "spacing_mm",
        FLOAT,
        "Median distance between slices, from their positions",
        unit="mm",
        null="A single slice, or positions are missing",
    ),
    column(
        "contrast_agent",
        BOOL,
        "The header names a contrast medium (0018,0010), or none; NULL where it is silent",
        null="The header does not say",
    ),
    *SCAN_FACTS,
    *CONTRAST,
    REPAIRED,
    FLAGGED,
    *SCAN_RESULT,
    column("status", TEXT, "measured, failed or rejected", required=True, values=FATES),
    column(
        "stage",
        TEXT,
        "Stage in which the study dropped out; NULL when measured",
        values=STAGE_MEANINGS,
        null="Measured",
    ),
    REASON,
    name="studies",
)

VERTEBRAE = schema(
    *VERTEBRA_KEYS,
    *MEASUREMENT,
    *CALIBRATED,
    column("segmenter", TEXT, "Backend and version that outlined it", null="Unknown"),
    column(
        "level_found",
        TEXT,
        "Level as segmented; another than level where a reviewer renamed it",
        required=True,
        values=LEVELS,
    ),
    column(
        "verdict",
        TEXT,
        "accept, reject or relabel by a reviewer; NULL where none looked at it",
        values=VERDICTS_GIVEN,
        null="No reviewer looked at it",
    ),
    name="vertebrae",
)

PREDICTIONS = schema(
    *KEYS,
    LEVEL,
    column("model_id", TEXT, "Model bundle: name and first digits of the weights' SHA-256", required=True),
    column(
        "task",
        TEXT,
        "classification, regression, joint_classification or joint_regression",
        required=True,
        values=TASKS,
    ),
    column("fold", INT, "Fold whose network predicted", required=True, unit="1"),
    column(
        "value", FLOAT, "Probability of reduced density, or vBMD in mg/cm3 HA", required=True, unit="1 or mg/cm3 HA"
    ),
    column("in_training", BOOL, "The patient was in the model's training; the fold here never saw them", required=True),
    name="predictions",
)

PATIENTS = schema(
    COHORT,
    PATIENT,
    column(
        "study_id",
        TEXT,
        "Study that the result stands on; NULL when none was measured",
        null="No study of the patient was measured",
    ),
    column(
        "model_id",
        TEXT,
        "Model bundle: name and first digits of the weights' SHA-256",
        null="No study of the patient was measured",
    ),
    column("role", TEXT, "development, external or screening", required=True, values=ROLES),
    column(
        "in_training",
        BOOL,
        "The patient was in the model's training: predictions are cross-validated",
        null="No result",
    ),
    column(
        "age_years",
        FLOAT,
        "Age at the study",
        unit="years",
        null="The header gives neither age nor dates of birth and study",
    ),
    column("sex", TEXT, "F, M or O", values=SEXES, null="The header does not say"),
    column("device_key", TEXT, "Maker, model, kVp, kernel", null="The header names neither maker nor model"),
    column(
        "vbmd_mg_cm3",
        FLOAT,
        "Trabecular vBMD by the network, mean over levels",
        unit="mg/cm3 HA",
        null="No usable vertebra, or no prediction",
    ),
    column(
        "vbmd_low",
        FLOAT,
        "Lower end of the 90 % interval",
        unit="mg/cm3 HA",
        null="No usable vertebra, or no prediction",
    ),
    column(
        "vbmd_high",
        FLOAT,
        "Upper end of the 90 % interval",
        unit="mg/cm3 HA",
        null="No usable vertebra, or no prediction",
    ),
    column(
        "interval_group",
        TEXT,
        "Patients whose errors gave the interval: contrast and voltage, or all patients",
        null="No interval",
    ),
    column(
        "fold_spread_mg_cm3",
        FLOAT,
        "Standard deviation between the folds' vBMD; NULL for patients of the training, whom one fold predicts",
        unit="mg/cm3 HA",
        null="A patient of the training, whom one fold predicts; or no result",
    ),
    column(
        "probability_reduced",
        FLOAT,
        "Probability of reduced density by the network, after temperature scaling",
        unit="1",
        null="No usable vertebra, or no prediction",
    ),
    column(
        "joint_vbmd_mg_cm3",
        FLOAT,
        "Trabecular vBMD by the network with two heads",
        unit="mg/cm3 HA",
        null="No result, or the model has no such network",
    ),
    column(
        "joint_probability_reduced",
        FLOAT,
        "Probability by the network with two heads, without temperature",
        unit="1",
        null="No result, or the model has no such network",
    ),
    column("grade", TEXT, "normal, low or osteoporosis by the network's vBMD", values=GRADES, null="No vBMD"),
    column(
        "decision",
        TEXT,
        "normal, reduced, indeterminate or not_evaluable, by the probability",
        required=True,
        values=DECISIONS,
    ),
    column(
        "decision_reason",
        TEXT,
        "Why indeterminate or not_evaluable, reason code; NULL when decided",
        values="reasons",
        null="Decided",
    ),
    column(
        "novelty",
        TEXTS,
        "How scan and result differ from those of the training, novelty codes",
        required=True,
        values="novelty",
    ),
    column("levels_used", TEXTS, "Levels that the result stands on", required=True, values=LEVELS),
    column("level_uncertain", BOOL, "One of the levels used may be off by one", null="No result"),
    column(
        "level_confidence",
        FLOAT,
        "Lowest confidence in the name of a level used, 0 to 1",
        unit="1",
        null="No result, or the segmenter gives none",
    ),
    column(
        "flags", TEXTS, "Flags of the scan and of the vertebrae used, each once", required=True, values="flags, reasons"
    ),
    column(
        "quality",
        TEXT,
        "good; limited (a flag, an uncertain level or a novelty); NULL when not measured",
        values=QUALITIES,
        null="Not measured",
    ),
    column("reviewed", BOOL, "A reviewer's verdict counts for a vertebra of the study", required=True),
    column("trabecular_hu", FLOAT, "Mean trabecular HU over the levels used", unit="HU", null="No usable vertebra"),
    *CALIBRATED,
    column(
        "hu_baseline_vbmd_mg_cm3",
        FLOAT,
        "vBMD by the linear HU baseline, same folds",
        unit="mg/cm3 HA",
        null="No usable vertebra, or a fact that the line needs is unknown",
    ),
    column(
        "qct_vbmd_mg_cm3", FLOAT, "vBMD by quantitative CT, where labelled", unit="mg/cm3 HA", null="No usable label"
    ),
    column("qct_reduced", BOOL, "QCT vBMD lies below the cut of reduced density", null="No usable label"),
    column(
        "days_from_scan",
        INT,
        "Days from the scan to the QCT measurement",
        unit="days",
        null="No usable label, or without a date",
    ),
    column("synthetic", BOOL, "The patient is simulated", required=True),
    name="patients",
)

LABELS = schema(
    COHORT,
    column("line", INT, "Line of the hospital's file, from 1", required=True, unit="1"),
    PATIENT,
    column("level", TEXT, "Level or levels that the value is the mean of, such as L1 or L1-L2", null="Not understood"),
    column("vbmd_mg_cm3", FLOAT, "vBMD by quantitative CT, converted to HA", unit="mg/cm3 HA", null="Not understood"),
    column(
        "days_from_first_study",
        INT,
        "Days from the patient's first study to the label",
        unit="days",
        null="A date is missing",
    ),
    column(
        "days_from_scan",
        INT,
        "Days from the measured scan to the label",
        unit="days",
        null="No usable label, or without a date",
    ),
    column("unit_given", TEXT, "Unit in the hospital's file; NULL when not understood", null="Not understood"),
    column("status", TEXT, "used or unused", required=True, values=USES),
    REASON,
    column("faults", TEXTS, "All that is wrong with the line itself, reason codes", required=True, values="reasons"),
    name="labels",
)

FAILURES = schema(
    COHORT,
    column("patient_id", TEXT, "Keyed pseudonym of the patient; NULL when unknown", null="Unknown"),
    column(
        "study_id", TEXT, "Keyed pseudonym of the study; NULL when unknown", null="Unknown, or the row stands for files"
    ),
    SERIES_ID,
    column("stage", TEXT, "Stage in which it dropped out", required=True, values=STAGE_MEANINGS),
    column("reason", TEXT, "Reason code", required=True, values="reasons"),
    DETAIL,
    column(
        "n_files",
        INT,
        "Files that this row stands for, when it stands for files",
        unit="1",
        null="The row stands for no files",
    ),
    name="failures",
)

FLOW = schema(
    COHORT,
    column("position", INT, "Order of the steps", required=True, unit="1"),
    column("unit", TEXT, "What is counted: series, studies or patients", required=True, values=COUNTED),
    column("step", TEXT, "found, chosen, converted, segmented, measured or labelled", required=True, values=STEPS),
    column(
        "reason",
        TEXT,
        "NULL: those that reached the step; else why others fell out on the way to it",
        values="reasons",
        null="These reached the step",
    ),
    column("n", INT, "Number of series, studies or patients", required=True, unit="1"),
    name="flow",
)

VERDICTS = schema(
    column("line", INT, "Line of the reviewers' file, from 1", required=True, unit="1"),
    column("cohort", TEXT, "Cohort of the study; NULL when no cohort has it", null="No cohort has the study"),
    column("patient_id", TEXT, "Keyed pseudonym of the patient; NULL when unknown", null="No cohort has the study"),
    column("study_id", TEXT, "Keyed pseudonym of the study; NULL when none is given", null="No cohort has the study"),
    column("level", TEXT, "Level as segmented", values=LEVELS, null="Not understood"),
    column(
        "verdict",
        TEXT,
        "accept, reject or relabel; NULL when not understood",
        values=VERDICTS_GIVEN,
        null="Not understood",
    ),
    column(
        "new_level",
        TEXT,
        "Level that the vertebra is given; NULL unless it is renamed",
        values=LEVELS,
        null="The vertebra is not renamed",
    ),
    column("status", TEXT, "used or unused", required=True, values=USES),
    REASON,
    name="verdicts",
)

CALIBRATIONS = schema(
    column("device_key", TEXT, "Maker, model, kVp, kernel", required=True),
    column("phase", TEXT, "Contrast phase: native, portal, arterial or unknown", required=True, values=PHASES),
    column("n", INT, "Labelled patients of development cohorts", required=True, unit="1"),
    column("slope", FLOAT, "vBMD per HU; NULL without a line", unit="mg/cm3 HA per HU", null="Without a line"),
    column("intercept", FLOAT, "vBMD at 0 HU", unit="mg/cm3 HA", null="Without a line"),
    column("slope_sd", FLOAT, "Standard error of the slope", unit="mg/cm3 HA per HU", null="Without a line"),
    column("intercept_sd", FLOAT, "Standard error of the intercept", unit="mg/cm3 HA", null="Without a line"),
    column("residual_sd", FLOAT, "Standard deviation around the line", unit="mg/cm3 HA", null="Without a line"),
    column("low_hu", FLOAT, "Lowest HU that the line stands on", unit="HU", null="Without a line"),
    column("high_hu", FLOAT, "Highest HU that the line stands on", unit="HU", null="Without a line"),
    REASON,
    name="calibrations",
)

RUNS = schema(
    column("run_id", TEXT, "Digest of configuration, code and model", required=True),
    column("started", pa.timestamp("s", tz="UTC"), "When aggregation started", required=True),
    column("finished", pa.timestamp("s", tz="UTC"), "When aggregation finished", required=True),
    column("version", TEXT, "Version of Trabecula", required=True),
    column("commit", TEXT, "Commit of the checkout; NULL outside a repository", null="Outside a repository"),
    column("config_hash", TEXT, "SHA-256 of the resolved configuration", required=True),
    column("code", TEXT, "Digest of each stage's code, JSON", required=True),
    column("model_id", TEXT, "Model bundle used", required=True),
    column("packages", TEXT, "Versions of the packages, JSON", required=True),
    column("inputs", TEXT, "SHA-256 of the index's tables per cohort, JSON", required=True),
    column("model_sha256", TEXT, "SHA-256 of the model's files, JSON", required=True),
    column("kept", BOOL, "The tables of the run still lie in results/runs/{run_id}", required=True),
    name="runs",
)

PUBLIC: dict[str, pa.Schema] = {
    "series": SERIES,
    "studies": STUDIES,
    "vertebrae": VERTEBRAE,
    "predictions": PREDICTIONS,
    "patients": PATIENTS,
    "labels": LABELS,
    "failures": FAILURES,
    "flow": FLOW,
    "verdicts": VERDICTS,
    "calibrations": CALIBRATIONS,
    "runs": RUNS,
}

MEANINGS: dict[str, str] = {
    "series": "Every series found in the archive (every stack of slices in it), chosen or with the reason why not",
    "studies": "Every study, and what became of it",
    "vertebrae": "Every vertebra cut out of a scan, and what was measured in it",
    "predictions": "Every prediction: one row per vertebra, task and fold",
    "patients": "The result: one row per patient",
    "labels": "Every line of the hospital's QCT labels, and whether it was used",
    "failures": "All that dropped out: files (n_files given), series (series_id given), studies (neither given)",
    "flow": "How many series, studies and patients reached each step, and why the others did not",
    "verdicts": "Every line of the reviewers' verdicts, and whether it was used",
    "calibrations": "A straight line from HU to the QCT value per device and contrast phase, over development cohorts",
    "runs": "Which configuration, code and model made the tables, and when",
}

# Tables with one file for all cohorts.
WHOLE = ("calibrations", "runs", "verdicts")


# Columns that tell a table's rows apart; of failures none do.
KEYS_OF: dict[str, tuple[str, ...]] = {
    "series": ("cohort", "patient_id", "study_id", "series_id", "stack"),
    "studies": ("cohort", "patient_id", "study_id"),
    "vertebrae": ("cohort", "patient_id", "study_id", "level"),
    "predictions": ("cohort", "patient_id", "study_id", "level", "model_id", "task", "fold"),
    "patients": ("cohort", "patient_id", "model_id"),
    "labels": ("cohort", "line"),
    "failures": (),
    "flow": ("cohort", "position", "reason"),
    "verdicts": ("line", "cohort"),
    "calibrations": ("device_key", "phase"),
    "runs": ("run_id",),
}

# Table that a table's rows belong to, by that table's key.
BELONGS_TO: dict[str, str] = {
    "series": "studies",
    "vertebrae": "studies",
    "predictions": "vertebrae",
    "patients": "studies",
    "verdicts": "studies",
}
