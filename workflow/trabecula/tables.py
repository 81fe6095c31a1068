"""Schemas of every table, and how tables are cast, checked, written and read.

This module owns the columns' names, types, units and meanings. The data dictionary, the
casts and the checks come from it. NULL means that a value is undefined or unknown; where
that is a finding, a reason stands beside it.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA_VERSION = 1

TEXT, BOOL = pa.string(), pa.bool_()
INT, FLOAT = pa.int32(), pa.float64()
TEXTS = pa.list_(pa.string())


def column(name: str, kind: pa.DataType, description: str, *, unit: str = "", required: bool = False) -> pa.Field:
    """One column: name, type, meaning and unit; a required column may not hold NULL."""
    return pa.field(name, kind, nullable=not required, metadata={"description": description, "unit": unit})


def schema(*columns: pa.Field, name: str) -> pa.Schema:
    """A table's schema, carrying the table's name and the schema version."""
    return pa.schema(list(columns), metadata={"table": name, "schema_version": str(SCHEMA_VERSION)})


COHORT = column("cohort", TEXT, "Name of the cohort in cohorts.tsv", required=True)
PATIENT = column("patient_id", TEXT, "Keyed pseudonym of the patient", required=True)
STUDY = column("study_id", TEXT, "Keyed pseudonym of the study", required=True)
SERIES_ID = column("series_id", TEXT, "Keyed pseudonym of the series")
LEVEL = column("level", TEXT, "Vertebral level: C1..C7, T1..T13, L1..L6", required=True)
STATUS = column("status", TEXT, "ok, or failed with a reason", required=True)
REASON = column("reason", TEXT, "Reason code when failed (see the list of reasons), else NULL")
DETAIL = column("detail", TEXT, "Figures that explain the reason; never an identity")
REPAIRED = column("repairs", TEXTS, "What was mended when the scan was converted, repair codes", required=True)
LEVEL_FLAGGED = column("level_flags", TEXTS, "What speaks against the level's name, codes", required=True)
FLAGGED = column("flags", TEXTS, "What limits the scan's figures, flag codes", required=True)
KEYS = (COHORT, PATIENT, STUDY)

_ACQUISITION = (
    column("kvp", FLOAT, "Peak tube voltage (0018,0060)", unit="kV"),
    column("kernel", TEXT, "Reconstruction kernel (0018,1210)"),
    column("manufacturer", TEXT, "Maker of the scanner (0008,0070)"),
    column("model", TEXT, "Model of the scanner (0008,1090)"),
    column("image_type", TEXT, "Image type (0008,0008), joined by backslashes"),
    column("thickness_mm", FLOAT, "Slice thickness (0018,0050)", unit="mm"),
)

# What `crop` finds in the whole scan.
SCAN_FACTS = (
    column("noise_hu", FLOAT, "Standard deviation between neighbouring voxels in soft tissue", unit="HU"),
    column("padding_share", FLOAT, "Share of the voxels that hold padding, no measurement"),
    column("air_hu", FLOAT, "Median of the air around the patient and in bowel, without padding", unit="HU"),
    column("fat_hu", FLOAT, "Median of the subcutaneous fat", unit="HU"),
    column("muscle_hu", FLOAT, "Median of the paravertebral soft tissue", unit="HU"),
    column("blood_hu", FLOAT, "Median of the aorta in front of T11 to L3", unit="HU"),
    column("rods_hu", pa.list_(FLOAT), "Even round rods under the patient, from left to right", unit="HU"),
)

# What contrast medium was given, by the blood and the header.
CONTRAST = (
    column("contrast_probability", FLOAT, "Probability that contrast medium was given; NULL where no blood is seen"),
    column("phase", TEXT, "native, portal, arterial or unknown"),
)

# Bone density from HU alone, without the network.
CALIBRATED = (
    column("vbmd_hu_mg_cm3", FLOAT, "Trabecular vBMD from HU by the calibration, without network", unit="mg/cm3 HA"),
    column("vbmd_hu_sd_mg_cm3", FLOAT, "Standard deviation of vbmd_hu_mg_cm3", unit="mg/cm3 HA"),
    column("calibration", TEXT, "Method of vbmd_hu_mg_cm3: none, device, phantom or phantomless"),
    column("calibration_reason", TEXT, "Why vbmd_hu_mg_cm3 is NULL, reason code; NULL where it is given"),
    column("calibration_extrapolates", BOOL, "HU beyond those that the calibration was made from; NULL without one"),
)

# What the vertebrae of a scan give by themselves; a patient's row holds it of the scan that was chosen.
SCAN_RESULT = (
    column("levels_used", TEXTS, "Levels that this scan's own result stands on", required=True),
    column("trabecular_hu", FLOAT, "Mean trabecular HU over these levels", unit="HU"),
    column("vbmd_mg_cm3", FLOAT, "Trabecular vBMD of this scan by the network", unit="mg/cm3 HA"),
    column("vbmd_low", FLOAT, "Lower end of the 90 % interval", unit="mg/cm3 HA"),
    column("vbmd_high", FLOAT, "Upper end of the 90 % interval", unit="mg/cm3 HA"),
    column("probability_reduced", FLOAT, "Probability of reduced density by the network, after temperature scaling"),
    column("hu_baseline_vbmd_mg_cm3", FLOAT, "vBMD by the linear HU baseline, same folds", unit="mg/cm3 HA"),
    column("vbmd_hu_mg_cm3", FLOAT, "vBMD from HU by the calibration, without network", unit="mg/cm3 HA"),
)

# --- public tables -----------------------------------------------------------------------------

SERIES = schema(
    COHORT,
    PATIENT,
    STUDY,
    column("series_id", TEXT, "Keyed pseudonym of the series", required=True),
    column("series_uid", TEXT, "The same pseudonym as a UID, for DICOM objects made from results", required=True),
    column("stack", INT, "Sub-stack within the series: orientation, matrix, kernel and acquisition", required=True),
    column("accepted", BOOL, "This is the series that the study is measured on", required=True),
    column("reason", TEXT, "Why the series was not chosen, the first of the gates; NULL when accepted"),
    column("gates", TEXTS, "Every gate that the stack fails, reason codes; empty when acceptable", required=True),
    FLAGGED,
    column("score", FLOAT, "Score, higher is better; NULL where it is no stack of CT slices"),
    column("n_slices", INT, "Slices in the stack", required=True),
    column("n_damaged", INT, "Slices of the series that are left out since their pixels are cut off", required=True),
    column("n_odd", INT, "Single slices of the series that are left out since they do not fit", required=True),
    column("spacing_mm", FLOAT, "Median distance between slices, from their positions", unit="mm"),
    column("extent_mm", FLOAT, "Distance from the first to the last slice", unit="mm"),
    column("field_of_view_mm", FLOAT, "Smaller side of the slices", unit="mm"),
    *_ACQUISITION,
    column("modality", TEXT, "Modality (0008,0060)"),
    name="series",
)

STUDIES = schema(
    *KEYS,
    SERIES_ID,
    column("shard", TEXT, "Shard that the study belongs to for ever; NULL when no series was acceptable"),
    column("age_years", FLOAT, "Age at the study", unit="years"),
    column("sex", TEXT, "F, M or O (0010,0040)"),
    column("days_from_first_study", INT, "Days since the patient's first study", unit="days"),
    column("device_key", TEXT, "Maker, model, kVp, kernel; calibrations are fitted per key"),
    *_ACQUISITION,
    column("spacing_mm", FLOAT, "Median distance between slices, from their positions", unit="mm"),
    column("contrast_agent", BOOL, "The header names a contrast medium (0018,0010), or none; NULL where it is silent"),
    *SCAN_FACTS,
    *CONTRAST,
    REPAIRED,
    FLAGGED,
    *SCAN_RESULT,
    column("status", TEXT, "measured, failed or rejected", required=True),
    column("stage", TEXT, "Stage in which the study dropped out; NULL when measured"),
    REASON,
    name="studies",
)

_VERTEBRA = (
    *KEYS,
    LEVEL,
    column("level_confidence", FLOAT, "Confidence in the level's name, 0 to 1"),
    column("level_uncertain", BOOL, "The level's name may be off by one", required=True),
    LEVEL_FLAGGED,
    column("complete", BOOL, "The vertebral body lies wholly within the scan", required=True),
    column("centroid_x_mm", FLOAT, "Centre of the vertebral body, to the patient's right is positive", unit="mm"),
    column("centroid_y_mm", FLOAT, "Centre of the vertebral body, to the front is positive", unit="mm"),
    column("centroid_z_mm", FLOAT, "Centre of the vertebral body, to the head is positive", unit="mm"),
)

_MEASUREMENT = (
    column("trabecular_hu_mean", FLOAT, "Mean over the trabecular region", unit="HU"),
    column("trabecular_hu_median", FLOAT, "Median over the trabecular region", unit="HU"),
    column("trabecular_hu_sd", FLOAT, "Standard deviation over the trabecular region", unit="HU"),
    column("trabecular_hu_p05", FLOAT, "5th percentile over the trabecular region", unit="HU"),
    column("trabecular_hu_p25", FLOAT, "25th percentile over the trabecular region", unit="HU"),
    column("trabecular_hu_p75", FLOAT, "75th percentile over the trabecular region", unit="HU"),
    column("trabecular_hu_p95", FLOAT, "95th percentile over the trabecular region", unit="HU"),
    column("trabecular_volume_mm3", FLOAT, "Volume of the trabecular region", unit="mm3"),
    column("body_volume_mm3", FLOAT, "Volume of the vertebral body", unit="mm3"),
    column("ellipse_hu_mean", FLOAT, "Mean over the ellipse that radiologists draw, 3 mm at mid-height", unit="HU"),
    column("ellipse_hu_sd", FLOAT, "Standard deviation over the ellipse", unit="HU"),
    column("ellipse_area_mm2", FLOAT, "Area of the ellipse", unit="mm2"),
    column("height_anterior_mm", FLOAT, "Height of the body along its own axis, near the front wall", unit="mm"),
    column("height_middle_mm", FLOAT, "Height of the body along its own axis, in the middle", unit="mm"),
    column("height_posterior_mm", FLOAT, "Height of the body along its own axis, near the back wall", unit="mm"),
    column("height_ratio_anterior", FLOAT, "Anterior over posterior height (wedge)"),
    column("height_ratio_middle", FLOAT, "Middle over posterior height (biconcave)"),
    column("height_ratio_neighbours", FLOAT, "Height over the median of up to four neighbours' (crush)"),
    column("genant_grade", INT, "Grade of the largest loss of height by Genant's limits, 0 to 3; no diagnosis"),
    column("rim_overhang_mm", FLOAT, "How far the rims stand out beyond the waist, front and sides", unit="mm"),
    column("tilt_sagittal_deg", FLOAT, "Lean of the body's own axis to the front", unit="degrees"),
    column("tilt_coronal_deg", FLOAT, "Lean of the body's own axis to the patient's right", unit="degrees"),
    column("rotation_deg", FLOAT, "Turn of the vertebra's front to the patient's right", unit="degrees"),
    column("flags", TEXTS, "Findings that limit the measurement, reason codes", required=True),
)

VERTEBRAE = schema(
    *_VERTEBRA,
    *_MEASUREMENT,
    *CALIBRATED,
    column("segmenter", TEXT, "Backend and version that outlined it"),
    column("level_found", TEXT, "Level as segmented; another than level where a reviewer renamed it", required=True),
    column("verdict", TEXT, "accept, reject or relabel by a reviewer; NULL where none looked at it"),
    name="vertebrae",
)

PREDICTIONS = schema(
    *KEYS,
    LEVEL,
    column("model_id", TEXT, "Model bundle: name and first digits of the weights' SHA-256", required=True),
    column("task", TEXT, "classification, regression, joint_classification or joint_regression", required=True),
    column("fold", INT, "Fold whose network predicted", required=True),
    column("value", FLOAT, "Probability of reduced density, or vBMD in mg/cm3 HA", required=True),
    column("in_training", BOOL, "The patient was in the model's training; the fold here never saw them", required=True),
    name="predictions",
)

PATIENTS = schema(
    COHORT,
    PATIENT,
    column("study_id", TEXT, "Study that the result stands on; NULL when none was measured"),
    column("model_id", TEXT, "Model bundle: name and first digits of the weights' SHA-256"),
    column("role", TEXT, "development, external or screening", required=True),
    column("in_training", BOOL, "The patient was in the model's training: predictions are cross-validated"),
    column("age_years", FLOAT, "Age at the study", unit="years"),
    column("sex", TEXT, "F, M or O"),
    column("device_key", TEXT, "Maker, model, kVp, kernel"),
    column("vbmd_mg_cm3", FLOAT, "Trabecular vBMD by the network, mean over levels", unit="mg/cm3 HA"),
    column("vbmd_low", FLOAT, "Lower end of the 90 % interval", unit="mg/cm3 HA"),
    column("vbmd_high", FLOAT, "Upper end of the 90 % interval", unit="mg/cm3 HA"),
    column("interval_group", TEXT, "Patients whose errors gave the interval: contrast and voltage, or all patients"),
    column(
        "fold_spread_mg_cm3",
        FLOAT,
        "Standard deviation between the folds' vBMD; NULL for patients of the training, whom one fold predicts",
        unit="mg/cm3 HA",
    ),
    column("probability_reduced", FLOAT, "Probability of reduced density by the network, after temperature scaling"),
    column("joint_vbmd_mg_cm3", FLOAT, "Trabecular vBMD by the network with two heads", unit="mg/cm3 HA"),
    column("joint_probability_reduced", FLOAT, "Probability by the network with two heads, without temperature"),
    column("grade", TEXT, "normal, low or osteoporosis by the network's vBMD"),
    column("decision", TEXT, "normal, reduced, indeterminate or not_evaluable, by the probability", required=True),
    column("decision_reason", TEXT, "Why indeterminate or not_evaluable, reason code; NULL when decided"),
    column("novelty", TEXTS, "How scan and result differ from those of the training, novelty codes", required=True),
    column("levels_used", TEXTS, "Levels that the result stands on", required=True),
    column("level_uncertain", BOOL, "One of the levels used may be off by one"),
    column("level_confidence", FLOAT, "Lowest confidence in the name of a level used, 0 to 1"),
    column("flags", TEXTS, "Flags of the scan and of the vertebrae used, each once", required=True),
    column("quality", TEXT, "good; limited (a flag, an uncertain level or a novelty); NULL when not measured"),
    column("reviewed", BOOL, "A reviewer's verdict counts for a vertebra of the study", required=True),
    column("trabecular_hu", FLOAT, "Mean trabecular HU over the levels used", unit="HU"),
    *CALIBRATED,
    column("hu_baseline_vbmd_mg_cm3", FLOAT, "vBMD by the linear HU baseline, same folds", unit="mg/cm3 HA"),
    column("qct_vbmd_mg_cm3", FLOAT, "vBMD by quantitative CT, where labelled", unit="mg/cm3 HA"),
    column("qct_reduced", BOOL, "QCT vBMD lies below the cut of reduced density"),
    column("days_from_scan", INT, "Days from the scan to the QCT measurement", unit="days"),
    column("synthetic", BOOL, "The patient is simulated", required=True),
    name="patients",
)

LABELS = schema(
    COHORT,
    column("line", INT, "Line of the hospital's file, from 1", required=True),
    PATIENT,
    column("level", TEXT, "Level or levels that the value is the mean of, such as L1 or L1-L2"),
    column("vbmd_mg_cm3", FLOAT, "vBMD by quantitative CT, converted to HA", unit="mg/cm3 HA"),
    column("days_from_first_study", INT, "Days from the patient's first study to the label", unit="days"),
    column("days_from_scan", INT, "Days from the measured scan to the label", unit="days"),
    column("unit_given", TEXT, "Unit in the hospital's file; NULL when not understood"),
    column("status", TEXT, "used or unused", required=True),
    REASON,
    column("faults", TEXTS, "All that is wrong with the line itself, reason codes", required=True),
    name="labels",
)

FAILURES = schema(
    COHORT,
    column("patient_id", TEXT, "Keyed pseudonym of the patient; NULL when unknown"),
    column("study_id", TEXT, "Keyed pseudonym of the study; NULL when unknown"),
    SERIES_ID,
    column("stage", TEXT, "Stage in which it dropped out", required=True),
    column("reason", TEXT, "Reason code", required=True),
    DETAIL,
    column("n_files", INT, "Files that this row stands for, when it stands for files"),
    name="failures",
)

FLOW = schema(
    COHORT,
    column("position", INT, "Order of the steps", required=True),
    column("unit", TEXT, "What is counted: series, studies or patients", required=True),
    column("step", TEXT, "found, chosen, converted, segmented, measured or labelled", required=True),
    column("reason", TEXT, "NULL: those that reached the step; else why others fell out on the way to it"),
    column("n", INT, "Number of series, studies or patients", required=True),
    name="flow",
)

VERDICTS = schema(
    column("line", INT, "Line of the reviewers' file, from 1", required=True),
    column("cohort", TEXT, "Cohort of the study; NULL when no cohort has it"),
    column("patient_id", TEXT, "Keyed pseudonym of the patient; NULL when unknown"),
    column("study_id", TEXT, "Keyed pseudonym of the study; NULL when none is given"),
    column("level", TEXT, "Level as segmented"),
    column("verdict", TEXT, "accept, reject or relabel; NULL when not understood"),
    column("new_level", TEXT, "Level that the vertebra is given; NULL unless it is renamed"),
    column("status", TEXT, "used or unused", required=True),
    REASON,
    name="verdicts",
)

CALIBRATIONS = schema(
    column("device_key", TEXT, "Maker, model, kVp, kernel", required=True),
    column("phase", TEXT, "Contrast phase: native, portal, arterial or unknown", required=True),
    column("n", INT, "Labelled patients of development cohorts", required=True),
    column("slope", FLOAT, "vBMD per HU; NULL without a line", unit="mg/cm3 HA per HU"),
    column("intercept", FLOAT, "vBMD at 0 HU", unit="mg/cm3 HA"),
    column("slope_sd", FLOAT, "Standard error of the slope", unit="mg/cm3 HA per HU"),
    column("intercept_sd", FLOAT, "Standard error of the intercept", unit="mg/cm3 HA"),
    column("residual_sd", FLOAT, "Standard deviation around the line", unit="mg/cm3 HA"),
    column("low_hu", FLOAT, "Lowest HU that the line stands on", unit="HU"),
    column("high_hu", FLOAT, "Highest HU that the line stands on", unit="HU"),
    REASON,
    name="calibrations",
)

RUNS = schema(
    column("run_id", TEXT, "Digest of configuration, code and model", required=True),
    column("started", pa.timestamp("s", tz="UTC"), "When aggregation started", required=True),
    column("finished", pa.timestamp("s", tz="UTC"), "When aggregation finished", required=True),
    column("version", TEXT, "Version of Trabecula", required=True),
    column("commit", TEXT, "Commit of the checkout; NULL outside a repository"),
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

# --- tables between stages, one file per shard ---------------------------------------------------

CONVERT = schema(
    *KEYS,
    column("series_id", TEXT, "Keyed pseudonym of the series", required=True),
    STATUS,
    REASON,
    DETAIL,
    column("shape", pa.list_(INT), "Voxels along each axis of the NIfTI"),
    column("spacing_mm", pa.list_(FLOAT), "Distance between voxels along each axis", unit="mm"),
    column("n_slices", INT, "Slices that were read"),
    REPAIRED,
    FLAGGED,
    column("largest_gap_mm", FLOAT, "Largest distance between neighbouring slices that were read", unit="mm"),
    column("tilt_degrees", FLOAT, "Lean of the stack away from its slices' normal", unit="degrees"),
    column("hu_p01", FLOAT, "1st percentile of a sample of the voxels", unit="HU"),
    column("hu_p99", FLOAT, "99th percentile of a sample of the voxels", unit="HU"),
    name="convert",
)

SEGMENT = schema(
    *KEYS,
    STATUS,
    REASON,
    DETAIL,
    column("segmenter", TEXT, "Backend and version that outlined the vertebrae", required=True),
    column("level", TEXT, "One row per level found; NULL in the one row of a failed study"),
    column("level_confidence", FLOAT, "Confidence in the level's name, 0 to 1"),
    column("level_uncertain", BOOL, "The level's name may be off by one"),
    LEVEL_FLAGGED,
    name="segment",
)

CROP = schema(
    *KEYS,
    STATUS,
    REASON,
    DETAIL,
    column("n_vertebrae", INT, "Vertebrae cut out", required=True),
    *SCAN_FACTS,
    column("picture", pa.binary(), "Sagittal and coronal overlay, WebP"),
    name="crop",
)

MEASURE = schema(
    *KEYS,
    LEVEL,
    *_MEASUREMENT,
    column(
        "picture", pa.binary(), "Axial and sagittal section with the regions outlined, WebP; NULL when not measured"
    ),
    name="measure",
)

INFER = PREDICTIONS.with_metadata({"table": "infer", "schema_version": str(SCHEMA_VERSION)})


_SPLIT = (
    column("scheme", TEXT, "cross-validation, random, or device (leave one device out)", required=True),
    column("split", TEXT, "Name of the split: fold0.., random0.., device0..", required=True),
)
_HELD_OUT = column("held_out", TEXT, "Scanner that is left out (maker, model); NULL in other schemes")
_PART = column("part", TEXT, "train; validation (chooses the epoch); or test", required=True)

SPLITS = schema(*_SPLIT, _HELD_OUT, PATIENT, _PART, name="splits")

TRAINING = schema(
    *_SPLIT,
    column("task", TEXT, "classification, regression or joint", required=True),
    column("epoch", INT, "Passes over the training part so far", required=True),
    column("learning_rate", FLOAT, "Learning rate at the end of the epoch", required=True),
    column("training_loss", FLOAT, "Mean loss over the training part, augmented", required=True),
    column("validation_loss", FLOAT, "Mean loss over the validation part", required=True),
    column("kept", BOOL, "The weights after this epoch were kept", required=True),
    name="training",
)

# A network's predictions of all development patients, before they are put together.
FITTED = schema(
    COHORT,
    PATIENT,
    STUDY,
    LEVEL,
    column("task", TEXT, "As in the table predictions", required=True),
    column("value", FLOAT, "Probability of reduced density, or vBMD in mg/cm3 HA", required=True),
    name="fitted",
)

CASES = schema(
    *KEYS,
    column("levels", TEXTS, "Levels that the patient's regions are cut at", required=True),
    column("trabecular_hu", FLOAT, "Mean trabecular HU over these levels", unit="HU", required=True),
    column("qct_vbmd_mg_cm3", FLOAT, "vBMD by quantitative CT", unit="mg/cm3 HA", required=True),
    column("reduced", BOOL, "It lies below the cut of reduced density", required=True),
    column("age_years", FLOAT, "Age at the study", unit="years"),
    column("sex", TEXT, "F, M or O (0010,0040)"),
    column("device_key", TEXT, "Maker, model, kVp, kernel"),
    column("kvp", FLOAT, "Peak tube voltage (0018,0060)", unit="kV"),
    column("phase", TEXT, "Contrast phase: native, portal, arterial or unknown"),
    column("thickness_mm", FLOAT, "Slice thickness (0018,0050)", unit="mm"),
    column("spacing_mm", FLOAT, "Median distance between slices", unit="mm"),
    name="cases",
)

AUDIT = schema(
    COHORT,
    PATIENT,
    column("line", INT, "Line of the hospital's file, for one that can't be used; NULL in the row of a patient"),
    column("study_id", TEXT, "Keyed pseudonym of the study nearest to a label; NULL where there is none"),
    column("status", TEXT, "used or left_out, for a patient; unused, for a line of the labels", required=True),
    column("reason", TEXT, "Why not used, reason code; NULL when used"),
    column("faults", TEXTS, "All that is wrong with the line itself, reason codes", required=True),
    column("n_labels", INT, "Lines of the labels whose mean is the patient's vBMD; 0 where none is joined to a scan"),
    column("label_levels", TEXTS, "Levels of these lines, such as L1 or L1-L2", required=True),
    column("levels_used", TEXTS, "Levels that the patient's regions are cut at", required=True),
    column("interval_days", INT, "Days from the study to the label; NULL where one has no date", unit="days"),
    column("same_day", BOOL, "Label and study are of one day; else the label comes from another examination"),
    column("unit_given", TEXT, "Units of the lines in the hospital's file, with commas between different ones"),
    column("converted", BOOL, "A line was converted from K2HPO4 to HA"),
    column("n_scans", INT, "Scans of the patient in this cohort that were measured"),
    column("n_cohorts", INT, "Development cohorts that know the patient"),
    column("vbmd_mg_cm3", FLOAT, "vBMD by quantitative CT, converted to HA", unit="mg/cm3 HA"),
    name="audit",
)

PROTOCOL = schema(
    *_SPLIT,
    _HELD_OUT,
    _PART,
    COHORT,
    PATIENT,
    column("device_key", TEXT, "Maker, model, kVp, kernel"),
    column("kvp", FLOAT, "Peak tube voltage (0018,0060)", unit="kV"),
    column("phase", TEXT, "Contrast phase: native, portal, arterial or unknown"),
    column("trabecular_hu", FLOAT, "Mean trabecular HU over the levels used", unit="HU", required=True),
    column("predictor", TEXT, "network, joint, or one of the baselines", required=True),
    column("vbmd_mg_cm3", FLOAT, "vBMD by the predictor; NULL where it gives none", unit="mg/cm3 HA"),
    column("score", FLOAT, "Higher means more likely reduced; NULL where the predictor lacks a fact"),
    column("reduced", BOOL, "The predictor's decision; NULL where it has none"),
    column("qct_vbmd_mg_cm3", FLOAT, "vBMD by quantitative CT", unit="mg/cm3 HA", required=True),
    column("qct_reduced", BOOL, "It lies below the cut of reduced density", required=True),
    name="protocol",
)


def crop_schema(size: int, spacing_mm: float) -> pa.Schema:
    """Schema of the vertebrae that `crop` writes (Arrow IPC): CT and labels as fixed-shape tensors.

    Axes are patient-aligned RAS+ (right, front, head); the cube's centre is the body's centroid.
    """
    cube = [size, size, size]
    return pa.schema(
        [
            *_VERTEBRA,
            column("segmenter", TEXT, "Backend and version that outlined it"),
            column("ct", pa.fixed_shape_tensor(pa.int16(), cube), "CT around the body", unit="HU", required=True),
            column("label", pa.fixed_shape_tensor(pa.uint8(), cube), "Canonical label codes", required=True),
        ],
        metadata={"table": "vertebra_crops", "schema_version": str(SCHEMA_VERSION), "spacing_mm": str(spacing_mm)},
    )


# --- cast, write, read -----------------------------------------------------------------------------


def cast(rows: pa.Table | Iterable[Mapping[str, Any]], to: pa.Schema) -> pa.Table:
    """Bring rows to a schema exactly: same columns, same order, same types.

    Raises
    ------
    ValueError
        If columns are missing or unknown, or a required column holds NULL.
    pyarrow.ArrowInvalid
        If a value does not fit its column's type.
    """
    table: Any = rows if isinstance(rows, pa.Table) else _from_rows(rows, to)
    given = set(table.column_names)
    name = (to.metadata or {}).get(b"table", b"?").decode()
    if given != set(to.names):
        raise ValueError(f"table {name}: columns differ from the schema: {sorted(given ^ set(to.names))}")
    for field in to:
        if not field.nullable and table[field.name].null_count:
            raise ValueError(f"table {name}: column {field.name} holds NULL")
    return table.select(to.names).cast(to)


def _from_rows(rows: Iterable[Mapping[str, Any]], to: pa.Schema) -> pa.Table:
    """Rows as a table with the columns that they name, so that `cast` can tell what is missing or unknown."""
    listed = list(rows)
    given = set().union(*listed) if listed else set(to.names)
    known = [field.with_nullable(True) for field in to if field.name in given]
    unknown = [pa.field(name, pa.null()) for name in sorted(given - set(to.names))]
    values = [{name: row.get(name) for name in to.names} for row in listed]
    return pa.Table.from_pylist(values, schema=pa.schema(known + unknown))


def from_frame(rows: Any, to: pa.Schema) -> pa.Table:
    """A frame with a schema's columns as a table of that schema; NaN and None become NULL."""
    loose = pa.schema([field.with_nullable(True) for field in to])
    table = pa.Table.from_pandas(rows[to.names], schema=loose, preserve_index=False)
    return cast(table.replace_schema_metadata(None), to)


def beside(path: Path) -> Path:
    """Temporary name next to a file, made its own by the process; rename it when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}")


def write(rows: pa.Table | Iterable[Mapping[str, Any]], to: pa.Schema, path: Path | str) -> None:
    """Cast rows to a schema and write them as Parquet (zstd), beside first, then renamed."""
    path = Path(path)
    part = beside(path)
    pq.write_table(cast(rows, to), part, compression="zstd")
    part.replace(path)


def read_columns(path: Path | str, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file's own columns, all or some, whatever its folder's name says."""
    with pq.ParquetFile(path) as file:
        return file.read(columns)


def in_partition(of: pa.Schema) -> pa.Schema:
    """Schema of a file in a folder ``cohort=<name>``: the folder holds the cohort, as Hive does it.

    With the column in both places, pandas and pyarrow's datasets can't both read the folder: they give
    the folder's part different types, and refuse the one that differs from the file's.
    """
    return pa.schema([field for field in of if field.name != "cohort"], metadata=of.metadata)


def read(path: Path | str, of: pa.Schema) -> pa.Table:
    """Read a Parquet file of one of these schemas; the cohort may stand in the folder's name.

    Raises
    ------
    ValueError
        If the file is of another schema.
    """
    path = Path(path)
    table = read_columns(path)
    if "cohort" in of.names and "cohort" not in table.column_names and path.parent.name.startswith("cohort="):
        cohort = path.parent.name.removeprefix("cohort=")
        table = table.append_column("cohort", pa.array([cohort] * len(table), TEXT))
    return cast(table, of)


def read_many(paths: Iterable[Path | str], of: pa.Schema) -> pa.Table:
    """Read Parquet files of one schema into one table, in the order given."""
    return pa.concat_tables([of.empty_table(), *(read(path, of) for path in paths)])
