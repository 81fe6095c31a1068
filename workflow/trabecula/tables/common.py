"""Columns and groups of columns that several tables share, and the closed sets of values."""

from trabecula.image.levels import BODY_CODES, LEVEL_OF_CODE
from trabecula.tables.fields import (
    BOOL,
    COUNT,
    DEGREES,
    FLOAT,
    HU,
    KV,
    MG_CM3,
    MM,
    MM2,
    MM3,
    PURE,
    TEXT,
    YEARS,
    Kind,
    column,
    list_of,
    one_of,
    some_of,
)

SEXES = {"F": "female", "M": "male", "O": "other"}
ROLES = {
    "development": "networks are trained and cross-validated on it",
    "external": "independent test",
    "screening": "no labels",
}
PHASES = {
    "native": "no contrast medium",
    "portal": "portal-venous phase",
    "arterial": "arterial phase",
    "unknown": "blood and header do not show it",
}
CALIBRATION_METHODS = {
    "none": "no calibration",
    "device": "line per device and phase, from labelled patients",
    "phantom": "rods of a phantom under the patient",
    "phantomless": "the patient's own tissues",
}
GRADES = {
    "normal": "not below the threshold of reduced density",
    "low": "between the thresholds",
    "osteoporosis": "below the threshold of osteoporosis",
}
DECISIONS = {
    "normal": "density is not reduced",
    "reduced": "density is reduced",
    "indeterminate": "measured, but too near the threshold or too unlike the training",
    "not_evaluable": "there is no prediction to decide on",
}
QUALITIES = {"good": "no flag, no uncertain level, no novelty", "limited": "at least one of these"}
VERDICTS_GIVEN = {
    "accept": "outline and level are right",
    "reject": "the outline can't be used",
    "relabel": "the level is another one",
}
TASKS = {
    "classification": "probability of reduced density",
    "regression": "vBMD",
    "joint_classification": "probability by the network with two heads",
    "joint_regression": "vBMD by the network with two heads",
}
FATES = {
    "measured": "in the table vertebrae",
    "failed": "a stage could not process it",
    "rejected": "no series was acceptable",
    "accepted": "a series was chosen; what became of it is not known yet",
}
OUTCOMES = {"ok": "done", "failed": "could not be processed, with a reason"}
USES = {"used": "counts", "unused": "does not count, with a reason"}
COUNTED = {"series": "stacks of slices", "studies": "examinations", "patients": "persons"}
STEPS = {
    "found": "in the archive",
    "chosen": "accepted, or with an accepted series",
    "converted": "made into a volume",
    "segmented": "vertebrae were found",
    "measured": "a vertebra was measured",
    "labelled": "with a QCT value",
}
STAGE_MEANINGS = {
    "index": "choice of the series",
    "convert": "DICOM into a volume",
    "segment": "outlining of the vertebrae",
    "crop": "a cube per vertebra",
    "measure": "figures of the trabecular bone",
}
LEVELS = {LEVEL_OF_CODE[code]: f"vertebra {LEVEL_OF_CODE[code]}" for code in sorted(BODY_CODES)}

# What NULL means in several columns.
HEADER_SILENT = "The header does not say"
NO_BLOOD = "The scan shows no blood, or is of another spectrum than a tube's (flag other_spectrum)"
NO_VOLTAGE = "The header does not say, or the images are of one energy or a blend (flag other_spectrum)"
NO_PREDICTION = "No usable vertebra, or no prediction"
NO_LINE = "There is no line"
NOT_FOUND = "Not found in the scan, or the study dropped out earlier"
NOT_CALIBRATED = "Undefined; calibration_reason says why"
NO_BASELINE = "No usable vertebra, or a fact that the line needs is unknown"
NO_SPACING = "A single slice, or positions are missing"
NO_RODS = "No phantom was searched for, or the study dropped out earlier"
NO_NEIGHBOURS = "Not measurable, or without measurable neighbours"
NO_COHORT = "No cohort has the study"
NO_DEVICE = "The header names neither maker nor model"
NO_STUDY = "No study of the patient was measured"
NO_JOINT_NETWORK = "No result, or the model has no such network"
NO_DATED_LABEL = "No usable label, or its date is missing"
NOT_MEASURABLE = "Not measurable: the body is cut, or its region is empty; flags say which"

COHORT = column("cohort", TEXT, "Name of the cohort in cohorts.tsv")
PATIENT = column("patient_id", TEXT, "Keyed pseudonym of the patient")
STUDY = column("study_id", TEXT, "Keyed pseudonym of the study")
SERIES_ID = column("series_id", TEXT, "Keyed pseudonym of the series", "No single series is concerned")
LEVEL = column("level", one_of(LEVELS), "Vertebral level: C1..C7, T1..T13, L1..L6")
STATUS = column("status", one_of(OUTCOMES), "ok, or failed with a reason")
REASON = column("reason", one_of("reasons"), "Reason code, see the list of reasons", "Accepted, measured or used")
DETAIL = column("detail", TEXT, "Figures that explain the reason; never an identity", "Nothing to add")
REPAIRED = column("repairs", some_of("repairs"), "Repairs that made the scan a volume, repair codes")
LEVEL_FLAGGED = column("level_flags", some_of("level_flags"), "Findings against the name of the level, codes")
FLAGGED = column("flags", some_of("flags"), "Findings that limit the figures of the scan, flag codes")
KEYS = (COHORT, PATIENT, STUDY)
AGE = column("age_years", YEARS, "Age at the study", "The header gives no possible age, nor dates for one")
SPACING = column("spacing_mm", MM, "Median distance between slices, from their positions", NO_SPACING)
INTERVAL = (
    column("vbmd_low", MG_CM3, "Lower end of the 90 % interval", NO_PREDICTION),
    column("vbmd_high", MG_CM3, "Upper end of the 90 % interval", NO_PREDICTION),
)
PROBABILITY = column("probability_reduced", PURE, "Probability of reduced density, temperature-scaled", NO_PREDICTION)
HU_BASELINE = column("hu_baseline_vbmd_mg_cm3", MG_CM3, "vBMD by the straight line from HU, same folds", NO_BASELINE)
PREDICTED = column("value", Kind(FLOAT, "1 or mg/cm3 HA"), "Probability of reduced density, or vBMD in mg/cm3 HA")


ACQUISITION = (
    column("kvp", KV, "Peak tube voltage (0018,0060)", NO_VOLTAGE),
    column("kernel", TEXT, "Reconstruction kernel (0018,1210)", HEADER_SILENT),
    column("manufacturer", TEXT, "Maker of the scanner (0008,0070)", HEADER_SILENT),
    column("model", TEXT, "Model of the scanner (0008,1090)", HEADER_SILENT),
    column("image_type", TEXT, "Image type (0008,0008), joined by backslashes", HEADER_SILENT),
    column("thickness_mm", MM, "Slice thickness (0018,0050)", HEADER_SILENT),
)

# Facts that `crop` measures in the whole scan.
SCAN_FACTS = (
    column("noise_hu", HU, "Standard deviation between neighbouring voxels in soft tissue", NOT_FOUND),
    column("padding_share", PURE, "Share of the voxels that hold padding instead of a measurement", NOT_FOUND),
    column("air_hu", HU, "Median of the air around the patient and in bowel, without padding", NOT_FOUND),
    column("fat_hu", HU, "Median of the subcutaneous fat", NOT_FOUND),
    column("muscle_hu", HU, "Median of the paravertebral soft tissue", NOT_FOUND),
    column("blood_hu", HU, "Median of the aorta in front of T11 to L3", NOT_FOUND),
    column("rods_hu", list_of(HU), "Even round rods under the patient, from left to right", NO_RODS),
)

# Contrast medium, by the blood and the header.
CONTRAST = (
    column("contrast_probability", PURE, "Probability that contrast medium was given", NO_BLOOD),
    column("phase", one_of(PHASES), "native, portal, arterial or unknown", "The scan was not measured"),
)

# Bone density from HU alone, without the network.
CALIBRATED = (
    column("vbmd_hu_mg_cm3", MG_CM3, "Trabecular vBMD from HU by the calibration, without network", NOT_CALIBRATED),
    column("vbmd_hu_sd_mg_cm3", MG_CM3, "Standard deviation of vbmd_hu_mg_cm3", NOT_CALIBRATED),
    column("calibration", one_of(CALIBRATION_METHODS), "Method of vbmd_hu_mg_cm3", "Not measured"),
    column("calibration_reason", one_of("reasons"), "Why vbmd_hu_mg_cm3 is NULL, reason code", "It is given"),
    column("calibration_extrapolates", BOOL, "HU lies beyond the range of the calibration", "There is no calibration"),
)

# Result of a scan, from its own vertebrae; the row of a patient repeats that of the chosen scan.
SCAN_RESULT = (
    column("levels_used", some_of(LEVELS), "Levels that the result of this scan is based on"),
    column("trabecular_hu", HU, "Mean trabecular HU over these levels", "No usable vertebra"),
    column("vbmd_mg_cm3", MG_CM3, "Trabecular vBMD of this scan by the network", NO_PREDICTION),
    *INTERVAL,
    PROBABILITY,
    HU_BASELINE,
    column("vbmd_hu_mg_cm3", MG_CM3, "vBMD from HU by the calibration, without network", NOT_CALIBRATED),
    column("novelty", some_of("novelty"), "Differences from the training, novelty codes; empty without a result"),
)

VERTEBRA_KEYS = (
    *KEYS,
    LEVEL,
    column("level_confidence", PURE, "Confidence in the level's name, 0 to 1", "The segmenter gives none"),
    column("level_uncertain", BOOL, "The level's name may be off by one"),
    LEVEL_FLAGGED,
    column("complete", BOOL, "The vertebral body lies wholly within the scan"),
    column("centroid_x_mm", MM, "Centre of the vertebral body, to the patient's right is positive", "Unknown"),
    column("centroid_y_mm", MM, "Centre of the vertebral body, to the front is positive", "Unknown"),
    column("centroid_z_mm", MM, "Centre of the vertebral body, to the head is positive", "Unknown"),
)

MEASUREMENT = (
    column("trabecular_hu_mean", HU, "Mean over the trabecular region", NOT_MEASURABLE),
    column("trabecular_hu_median", HU, "Median over the trabecular region", NOT_MEASURABLE),
    column("trabecular_hu_sd", HU, "Standard deviation over the trabecular region", NOT_MEASURABLE),
    column("trabecular_hu_p05", HU, "5th percentile over the trabecular region", NOT_MEASURABLE),
    column("trabecular_hu_p25", HU, "25th percentile over the trabecular region", NOT_MEASURABLE),
    column("trabecular_hu_p75", HU, "75th percentile over the trabecular region", NOT_MEASURABLE),
    column("trabecular_hu_p95", HU, "95th percentile over the trabecular region", NOT_MEASURABLE),
    column("trabecular_volume_mm3", MM3, "Volume of the trabecular region", NOT_MEASURABLE),
    column("body_volume_mm3", MM3, "Volume of the vertebral body", NOT_MEASURABLE),
    column("ellipse_hu_mean", HU, "Mean over the ellipse that radiologists draw, 3 mm at mid-height", NOT_MEASURABLE),
    column("ellipse_hu_sd", HU, "Standard deviation over the ellipse", NOT_MEASURABLE),
    column("ellipse_area_mm2", MM2, "Area of the ellipse", NOT_MEASURABLE),
    column("height_anterior_mm", MM, "Height of the body along its own axis, near the front wall", NOT_MEASURABLE),
    column("height_middle_mm", MM, "Height of the body along its own axis, in the middle", NOT_MEASURABLE),
    column("height_posterior_mm", MM, "Height of the body along its own axis, near the back wall", NOT_MEASURABLE),
    column("height_ratio_anterior", PURE, "Anterior over posterior height (wedge)", NOT_MEASURABLE),
    column("height_ratio_middle", PURE, "Middle over posterior height (biconcave)", NOT_MEASURABLE),
    column("height_ratio_neighbours", PURE, "Height over the median of up to four neighbours (crush)", NO_NEIGHBOURS),
    column("genant_grade", COUNT, "Largest loss of height by Genant's limits, 0 to 3; no diagnosis", NOT_MEASURABLE),
    column("rim_overhang_mm", MM, "Overhang of the rims beyond the waist, front and sides", NOT_MEASURABLE),
    column("tilt_sagittal_deg", DEGREES, "Lean of the body's own axis to the front", NOT_MEASURABLE),
    column("tilt_coronal_deg", DEGREES, "Lean of the body's own axis to the patient's right", NOT_MEASURABLE),
    column("rotation_deg", DEGREES, "Turn of the vertebra's front to the patient's right", NOT_MEASURABLE),
    column("flags", some_of("reasons"), "Findings that limit the measurement, reason codes"),
)
