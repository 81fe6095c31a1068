"""The public tables: what a reader of `results/tables` finds."""

from dataclasses import dataclass

import pyarrow as pa

from trabecula.tables.common import (
    ACQUISITION,
    AGE,
    CALIBRATED,
    COHORT,
    CONTRAST,
    COUNTED,
    DECISIONS,
    DETAIL,
    FATES,
    FLAGGED,
    GRADES,
    HEADER_SILENT,
    HU_BASELINE,
    INTERVAL,
    KEYS,
    LEVEL,
    LEVELS,
    MEASUREMENT,
    NO_COHORT,
    NO_DATED_LABEL,
    NO_DEVICE,
    NO_JOINT_NETWORK,
    NO_LINE,
    NO_PREDICTION,
    NO_STUDY,
    PATIENT,
    PHASES,
    PREDICTED,
    PROBABILITY,
    QUALITIES,
    REASON,
    REPAIRED,
    ROLES,
    SCAN_FACTS,
    SCAN_RESULT,
    SERIES_ID,
    SEXES,
    SPACING,
    STAGE_MEANINGS,
    STEPS,
    STUDY,
    TASKS,
    USES,
    VERDICTS_GIVEN,
    VERTEBRA_KEYS,
)
from trabecula.tables.fields import (
    BOOL,
    COUNT,
    DAYS,
    FLOAT,
    HU,
    MG_CM3,
    MM,
    PURE,
    TEXT,
    TEXTS,
    Kind,
    column,
    one_of,
    schema,
    some_of,
)

# What NULL means in two columns of the table patients.
NO_FOLD_SPREAD = "No result, or the patient was in the training and only one fold predicts them"
NO_CONFIDENCE = "No result, or the segmenter gives none"

MG_CM3_PER_HU = Kind(FLOAT, "mg/cm3 HA per HU")
TIME = pa.timestamp("s", tz="UTC")


@dataclass(frozen=True)
class _Public:
    """A public table: its columns, and what the catalog says of its rows."""

    schema: pa.Schema
    meaning: str
    key: tuple[str, ...]
    belongs_to: str | None
    whole: bool


_TABLES: dict[str, _Public] = {}


def _public(
    name: str,
    meaning: str,
    *columns: pa.Field,
    key: tuple[str, ...],
    belongs_to: str | None = None,
    whole: bool = False,
) -> pa.Schema:
    """Enter a table into the list of public tables, and give its schema.

    Parameters
    ----------
    name, meaning : str
        Name of the table, and what a row is.
    *columns : Field
        Columns in their order.
    key : tuple of str
        Columns that tell the table's rows apart; empty where rows may repeat.
    belongs_to : str or None
        Table that the rows belong to, by that table's key.
    whole : bool
        One file holds all cohorts; else each cohort has a folder.
    """
    _TABLES[name] = _Public(schema(name, *columns), meaning, key, belongs_to, whole)
    return _TABLES[name].schema


SERIES = _public(
    "series",
    "Every series found in the archive (every stack of slices in it), with the reason where it was not chosen",
    COHORT,
    PATIENT,
    STUDY,
    column("series_id", TEXT, "Keyed pseudonym of the series"),
    column("series_uid", TEXT, "The same pseudonym as a UID, for DICOM objects made from results"),
    column("stack", COUNT, "Sub-stack within the series: orientation, matrix, kernel and acquisition"),
    column("accepted", BOOL, "This is the series that the study is measured on"),
    column("reason", one_of("reasons"), "Why the series was not chosen: the first gate that it fails", "Accepted"),
    column("gates", some_of("reasons"), "Every gate that the stack fails, reason codes; empty if none"),
    FLAGGED,
    column("score", PURE, "Score, higher is better", "No stack of CT slices"),
    column("n_slices", COUNT, "Slices in the stack"),
    column("n_damaged", COUNT, "Slices of the series that are left out since their pixels are cut off"),
    column("n_odd", COUNT, "Single slices of the series that are left out since they do not fit"),
    SPACING,
    column("extent_mm", MM, "Distance from the first to the last slice", "Positions are missing"),
    column("field_of_view_mm", MM, "Smaller side of the slices", "Pixel spacing is missing"),
    *ACQUISITION,
    column("modality", TEXT, "Modality (0008,0060)", HEADER_SILENT),
    column("derivation", TEXTS, "Signs that the values are derived: attribute and word of a fixed list"),
    key=("cohort", "patient_id", "study_id", "series_id", "stack"),
    belongs_to="studies",
)

STUDIES = _public(
    "studies",
    "Every study that is or was in the archive, with its result or the reason why it has none",
    *KEYS,
    column("earlier_ids", TEXTS, "Other pseudonyms under which the patient or one of their studies is or was known"),
    SERIES_ID,
    column("shard", TEXT, "Shard in which the study was made last", "No series was acceptable"),
    AGE,
    column("sex", one_of(SEXES), "F, M or O (0010,0040)", HEADER_SILENT),
    column("days_from_first_study", DAYS, "Days since the patient's first study", "A date is missing"),
    column("device_key", TEXT, "Maker, model, kVp (or spectrum), kernel; calibrations are fitted per key", NO_DEVICE),
    *ACQUISITION,
    SPACING,
    column("contrast_agent", BOOL, "The header names a contrast medium (0018,0010)", HEADER_SILENT),
    *SCAN_FACTS,
    *CONTRAST,
    REPAIRED,
    FLAGGED,
    *SCAN_RESULT,
    column("status", one_of(FATES), "measured, failed or rejected"),
    column("stage", one_of(STAGE_MEANINGS), "Stage in which the study dropped out", "Measured"),
    REASON,
    key=("cohort", "patient_id", "study_id"),
)

VERTEBRAE = _public(
    "vertebrae",
    "Every vertebra cut out of a scan, with its measurements",
    *VERTEBRA_KEYS,
    *MEASUREMENT,
    *CALIBRATED,
    column("segmenter", TEXT, "Backend and version that outlined the vertebra", "Unknown"),
    column("level_found", one_of(LEVELS), "Level as segmented; a reviewer may have renamed it to level"),
    column("verdict", one_of(VERDICTS_GIVEN), "Verdict of a reviewer", "No reviewer looked at it"),
    key=("cohort", "patient_id", "study_id", "level"),
    belongs_to="studies",
)

PREDICTIONS = _public(
    "predictions",
    "Every prediction: one row per vertebra, task and fold",
    *KEYS,
    LEVEL,
    column("model_id", TEXT, "Model bundle: name and first digits of the weights' SHA-256"),
    column("task", one_of(TASKS), "classification, regression, joint_classification or joint_regression"),
    column("fold", COUNT, "Fold whose network predicted"),
    PREDICTED,
    column("in_training", BOOL, "The patient was in the model's training, but not in that of this fold"),
    key=("cohort", "patient_id", "study_id", "level", "model_id", "task", "fold"),
    belongs_to="vertebrae",
)

PATIENTS = _public(
    "patients",
    "The result: one row per patient with a study in the archive",
    COHORT,
    PATIENT,
    column("study_id", TEXT, "Study that the result is based on", NO_STUDY),
    column("model_id", TEXT, "Model bundle: name and first digits of the weights' SHA-256", NO_STUDY),
    column("role", one_of(ROLES), "development, external or screening"),
    column("in_training", BOOL, "In the model's training, by the id or by a scan", "No result"),
    AGE,
    column("sex", one_of(SEXES), "F, M or O", HEADER_SILENT),
    column("device_key", TEXT, "Maker, model, kVp, kernel", NO_DEVICE),
    column("vbmd_mg_cm3", MG_CM3, "Trabecular vBMD by the network, mean over levels", NO_PREDICTION),
    *INTERVAL,
    column("interval_group", TEXT, "Group whose errors gave the interval: contrast and voltage, or all", "No interval"),
    column("fold_spread_mg_cm3", MG_CM3, "Standard deviation of vBMD between the folds", NO_FOLD_SPREAD),
    PROBABILITY,
    column("joint_vbmd_mg_cm3", MG_CM3, "Trabecular vBMD by the network with two heads", NO_JOINT_NETWORK),
    column("joint_probability_reduced", PURE, "Probability by the network with two heads, unscaled", NO_JOINT_NETWORK),
    column("grade", one_of(GRADES), "normal, low or osteoporosis by the network's vBMD", "No vBMD"),
    column("decision", one_of(DECISIONS), "Decision by the probability of reduced density"),
    column("decision_reason", one_of("reasons"), "Why the decision is withheld, reason code", "Decided"),
    column("novelty", some_of("novelty"), "Differences of scan and result from the training, novelty codes"),
    column("levels_used", some_of(LEVELS), "Levels that the result is based on"),
    column("level_uncertain", BOOL, "One of the levels used may be off by one", "No result"),
    column("level_confidence", PURE, "Lowest confidence in the name of a level used, 0 to 1", NO_CONFIDENCE),
    column("flags", some_of("flags, reasons"), "Flags of the scan and of the vertebrae used, each once"),
    column("quality", one_of(QUALITIES), "Quality of the result", "Not measured"),
    column("reviewed", BOOL, "A reviewer's verdict counts for a vertebra of the study"),
    column("trabecular_hu", HU, "Mean trabecular HU over the levels used", "No usable vertebra"),
    *CALIBRATED,
    HU_BASELINE,
    column("qct_vbmd_mg_cm3", MG_CM3, "vBMD by quantitative CT, where labelled", "No usable label"),
    column("qct_reduced", BOOL, "QCT vBMD lies below the threshold of reduced density", "No usable label"),
    column("days_from_scan", DAYS, "Days from the scan to the QCT measurement", NO_DATED_LABEL),
    column("synthetic", BOOL, "The patient is simulated"),
    key=("cohort", "patient_id", "model_id"),
    belongs_to="studies",
)

LABELS = _public(
    "labels",
    "Every line of the hospital's QCT labels, and whether it was used",
    COHORT,
    column("line", COUNT, "Line of the hospital's file, from 1"),
    PATIENT,
    column("level", TEXT, "Level or levels that the value is the mean of, such as L1 or L1-L2", "Not understood"),
    column("vbmd_mg_cm3", MG_CM3, "vBMD by quantitative CT, converted to HA", "Not understood"),
    column("days_from_first_study", DAYS, "Days from the patient's first study to the label", "A date is missing"),
    column("days_from_scan", DAYS, "Days from the measured scan to the label", NO_DATED_LABEL),
    column("unit_given", TEXT, "Unit in the hospital's file", "Not understood"),
    column("status", one_of(USES), "used or unused"),
    REASON,
    column("faults", some_of("reasons"), "All faults of the line itself, reason codes"),
    key=("cohort", "line"),
)

FAILURES = _public(
    "failures",
    "All losses: files (n_files is given), series (series_id is given), studies (neither is given)",
    COHORT,
    column("patient_id", TEXT, "Keyed pseudonym of the patient", "Unknown"),
    column("study_id", TEXT, "Keyed pseudonym of the study", "Unknown, or the row stands for files"),
    SERIES_ID,
    column("stage", one_of(STAGE_MEANINGS), "Stage in which it dropped out"),
    column("reason", one_of("reasons"), "Reason code"),
    DETAIL,
    column("n_files", COUNT, "Number of files that this row stands for", "The row stands for no files"),
    key=(),
)

FLOW = _public(
    "flow",
    "How many series, studies and patients of the archive reached each step, and why the others did not",
    COHORT,
    column("position", COUNT, "Order of the steps"),
    column("unit", one_of(COUNTED), "Unit that is counted"),
    column("step", one_of(STEPS), "found, chosen, converted, segmented, measured or labelled"),
    column("reason", one_of("reasons"), "Why these dropped out on the way to the step", "These reached the step"),
    column("n", COUNT, "Number of series, studies or patients"),
    key=("cohort", "position", "reason"),
)

VERDICTS = _public(
    "verdicts",
    "Every line of the reviewers' verdicts, and whether it was used",
    column("line", COUNT, "Line of the reviewers' file, from 1"),
    column("cohort", TEXT, "Cohort of the study", NO_COHORT),
    column("patient_id", TEXT, "Keyed pseudonym of the patient", NO_COHORT),
    column("study_id", TEXT, "Keyed pseudonym of the study", NO_COHORT),
    column("level", one_of(LEVELS), "Level as segmented", "Not understood"),
    column("verdict", one_of(VERDICTS_GIVEN), "accept, reject or relabel", "Not understood"),
    column("new_level", one_of(LEVELS), "New level of the vertebra", "The vertebra is not renamed"),
    column("status", one_of(USES), "used or unused"),
    REASON,
    key=("line", "cohort"),
    belongs_to="studies",
    whole=True,
)

CALIBRATIONS = _public(
    "calibrations",
    "A straight line from HU to the QCT value per device and contrast phase, over development cohorts",
    column("device_key", TEXT, "Maker, model, kVp, kernel"),
    column("phase", one_of(PHASES), "Contrast phase: native, portal, arterial or unknown"),
    column("n", COUNT, "Labelled patients of development cohorts"),
    column("slope", MG_CM3_PER_HU, "vBMD per HU", NO_LINE),
    column("intercept", MG_CM3, "vBMD at 0 HU", NO_LINE),
    column("slope_sd", MG_CM3_PER_HU, "Standard error of the slope", NO_LINE),
    column("intercept_sd", MG_CM3, "Standard error of the intercept", NO_LINE),
    column("residual_sd", MG_CM3, "Standard deviation around the line", NO_LINE),
    column("low_hu", HU, "Lowest HU that the line was fitted to", NO_LINE),
    column("high_hu", HU, "Highest HU that the line was fitted to", NO_LINE),
    REASON,
    key=("device_key", "phase"),
    whole=True,
)

RUNS = _public(
    "runs",
    "Which configuration, code and model made the tables, and when",
    column("run_id", TEXT, "Digest of configuration, code and model"),
    column("started", TIME, "When aggregation started"),
    column("finished", TIME, "When aggregation finished"),
    column("version", TEXT, "Version of Trabecula"),
    column("commit", TEXT, "Commit of the checkout", "Outside a repository"),
    column("config_hash", TEXT, "SHA-256 of the resolved configuration"),
    column("code", TEXT, "Digest of each stage's code, JSON"),
    column("model_id", TEXT, "Model bundle used"),
    column("packages", TEXT, "Versions of the packages, JSON"),
    column("inputs", TEXT, "SHA-256 of the index's tables per cohort, JSON"),
    column("model_sha256", TEXT, "SHA-256 of the model's files, JSON"),
    column("kept", BOOL, "The tables of the run still lie in results/runs/{run_id}"),
    key=("run_id",),
    whole=True,
)

PUBLIC: dict[str, pa.Schema] = {name: table.schema for name, table in _TABLES.items()}
MEANINGS: dict[str, str] = {name: table.meaning for name, table in _TABLES.items()}
# Columns that tell a table's rows apart; of failures none do.
KEYS_OF: dict[str, tuple[str, ...]] = {name: table.key for name, table in _TABLES.items()}
# Table that a table's rows belong to, by that table's key.
BELONGS_TO: dict[str, str] = {name: table.belongs_to for name, table in _TABLES.items() if table.belongs_to}
# Tables with one file for all cohorts.
WHOLE = tuple(sorted(name for name, table in _TABLES.items() if table.whole))
