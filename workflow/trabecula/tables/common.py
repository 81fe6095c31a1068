"""Columns and groups of columns that several tables share, and the closed sets of values."""

import pyarrow as pa

from trabecula.image.levels import BODY_CODES, LEVEL_OF_CODE
from trabecula.tables.fields import BOOL, FLOAT, INT, TEXT, TEXTS, column

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
    "unknown": "the blood and the header do not tell",
}
CALIBRATION_METHODS = {
    "none": "no calibration",
    "device": "line per device and phase, from labelled patients",
    "phantom": "rods of a phantom under the patient",
    "phantomless": "the patient's own tissues",
}
GRADES = {
    "normal": "above the cut of reduced density",
    "low": "between the cuts",
    "osteoporosis": "below the cut of osteoporosis",
}
DECISIONS = {
    "normal": "density is not reduced",
    "reduced": "density is reduced",
    "indeterminate": "measured, but too near the cut or too unlike the training",
    "not_evaluable": "nothing to decide on",
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
    "failed": "a stage gave it up",
    "rejected": "no series was acceptable",
    "accepted": "a series was chosen; what became of it is not known yet",
}
OUTCOMES = {"ok": "done", "failed": "given up, with a reason"}
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

COHORT = column("cohort", TEXT, "Name of the cohort in cohorts.tsv", required=True)
PATIENT = column("patient_id", TEXT, "Keyed pseudonym of the patient", required=True)
STUDY = column("study_id", TEXT, "Keyed pseudonym of the study", required=True)
SERIES_ID = column("series_id", TEXT, "Keyed pseudonym of the series", null="No single series is concerned")
LEVEL = column("level", TEXT, "Vertebral level: C1..C7, T1..T13, L1..L6", required=True, values=LEVELS)
STATUS = column("status", TEXT, "ok, or failed with a reason", required=True, values=OUTCOMES)
REASON = column(
    "reason",
    TEXT,
    "Reason code when failed (see the list of reasons), else NULL",
    values="reasons",
    null="Accepted, measured or used",
)
DETAIL = column("detail", TEXT, "Figures that explain the reason; never an identity", null="Nothing to add")
REPAIRED = column(
    "repairs", TEXTS, "What was mended when the scan was converted, repair codes", required=True, values="repairs"
)
LEVEL_FLAGGED = column(
    "level_flags", TEXTS, "What speaks against the level's name, codes", required=True, values="level_flags"
)
FLAGGED = column("flags", TEXTS, "What limits the scan's figures, flag codes", required=True, values="flags")
KEYS = (COHORT, PATIENT, STUDY)

ACQUISITION = (
    column("kvp", FLOAT, "Peak tube voltage (0018,0060)", unit="kV", null="The header does not say"),
    column("kernel", TEXT, "Reconstruction kernel (0018,1210)", null="The header does not say"),
    column("manufacturer", TEXT, "Maker of the scanner (0008,0070)", null="The header does not say"),
    column("model", TEXT, "Model of the scanner (0008,1090)", null="The header does not say"),
    column("image_type", TEXT, "Image type (0008,0008), joined by backslashes", null="The header does not say"),
    column("thickness_mm", FLOAT, "Slice thickness (0018,0050)", unit="mm", null="The header does not say"),
)

# What `crop` finds in the whole scan.
SCAN_FACTS = (
    column(
        "noise_hu",
        FLOAT,
        "Standard deviation between neighbouring voxels in soft tissue",
        unit="HU",
        null="Not found in the scan, or the scan did not get so far",
    ),
    column(
        "padding_share",
        FLOAT,
        "Share of the voxels that hold padding, no measurement",
        unit="1",
        null="Not found in the scan, or the scan did not get so far",
    ),
    column(
        "air_hu",
        FLOAT,
        "Median of the air around the patient and in bowel, without padding",
        unit="HU",
        null="Not found in the scan, or the scan did not get so far",
    ),
    column(
        "fat_hu",
        FLOAT,
        "Median of the subcutaneous fat",
        unit="HU",
        null="Not found in the scan, or the scan did not get so far",
    ),
    column(
        "muscle_hu",
        FLOAT,
        "Median of the paravertebral soft tissue",
        unit="HU",
        null="Not found in the scan, or the scan did not get so far",
    ),
    column(
        "blood_hu",
        FLOAT,
        "Median of the aorta in front of T11 to L3",
        unit="HU",
        null="Not found in the scan, or the scan did not get so far",
    ),
    column(
        "rods_hu",
        pa.list_(FLOAT),
        "Even round rods under the patient, from left to right",
        unit="HU",
        null="No phantom was looked for, or the scan did not get so far",
    ),
)

# What contrast medium was given, by the blood and the header.
CONTRAST = (
    column(
        "contrast_probability",
        FLOAT,
        "Probability that contrast medium was given; NULL where no blood is seen",
        unit="1",
        null="No blood is seen",
    ),
    column("phase", TEXT, "native, portal, arterial or unknown", values=PHASES, null="The scan was not measured"),
)

# Bone density from HU alone, without the network.
CALIBRATED = (
    column(
        "vbmd_hu_mg_cm3",
        FLOAT,
        "Trabecular vBMD from HU by the calibration, without network",
        unit="mg/cm3 HA",
        null="Undefined; calibration_reason says why",
    ),
    column(
        "vbmd_hu_sd_mg_cm3",
        FLOAT,
        "Standard deviation of vbmd_hu_mg_cm3",
        unit="mg/cm3 HA",
        null="Undefined; calibration_reason says why",
    ),
    column(
        "calibration",
        TEXT,
        "Method of vbmd_hu_mg_cm3: none, device, phantom or phantomless",
        values=CALIBRATION_METHODS,
        null="Not measured",
    ),
    column(
        "calibration_reason",
        TEXT,
        "Why vbmd_hu_mg_cm3 is NULL, reason code; NULL where it is given",
        values="reasons",
        null="vbmd_hu_mg_cm3 is given",
    ),
    column(
        "calibration_extrapolates",
        BOOL,
        "HU beyond those that the calibration was made from; NULL without one",
        null="Without calibration",
    ),
)

# What the vertebrae of a scan give by themselves; a patient's row holds it of the scan that was chosen.
SCAN_RESULT = (
    column("levels_used", TEXTS, "Levels that this scan's own result stands on", required=True, values=LEVELS),
    column("trabecular_hu", FLOAT, "Mean trabecular HU over these levels", unit="HU", null="No usable vertebra"),
    column(
        "vbmd_mg_cm3",
        FLOAT,
        "Trabecular vBMD of this scan by the network",
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
        "probability_reduced",
        FLOAT,
        "Probability of reduced density by the network, after temperature scaling",
        unit="1",
        null="No usable vertebra, or no prediction",
    ),
    column(
        "hu_baseline_vbmd_mg_cm3",
        FLOAT,
        "vBMD by the linear HU baseline, same folds",
        unit="mg/cm3 HA",
        null="No usable vertebra, or a fact that the line needs is unknown",
    ),
    column(
        "vbmd_hu_mg_cm3",
        FLOAT,
        "vBMD from HU by the calibration, without network",
        unit="mg/cm3 HA",
        null="Undefined; calibration_reason says why",
    ),
    column(
        "novelty",
        TEXTS,
        "How scan and result differ from those of the training, novelty codes; empty without a result",
        required=True,
        values="novelty",
    ),
)

_NOT_MEASURABLE = "Not measurable: the body is cut, or its region is empty; flags say which"

VERTEBRA_KEYS = (
    *KEYS,
    LEVEL,
    column(
        "level_confidence", FLOAT, "Confidence in the level's name, 0 to 1", unit="1", null="The segmenter gives none"
    ),
    column("level_uncertain", BOOL, "The level's name may be off by one", required=True),
    LEVEL_FLAGGED,
    column("complete", BOOL, "The vertebral body lies wholly within the scan", required=True),
    column(
        "centroid_x_mm",
        FLOAT,
        "Centre of the vertebral body, to the patient's right is positive",
        unit="mm",
        null="Unknown",
    ),
    column("centroid_y_mm", FLOAT, "Centre of the vertebral body, to the front is positive", unit="mm", null="Unknown"),
    column("centroid_z_mm", FLOAT, "Centre of the vertebral body, to the head is positive", unit="mm", null="Unknown"),
)

MEASUREMENT = (
    column("trabecular_hu_mean", FLOAT, "Mean over the trabecular region", unit="HU", null=_NOT_MEASURABLE),
    column("trabecular_hu_median", FLOAT, "Median over the trabecular region", unit="HU", null=_NOT_MEASURABLE),
    column("trabecular_hu_sd", FLOAT, "Standard deviation over the trabecular region", unit="HU", null=_NOT_MEASURABLE),
    column("trabecular_hu_p05", FLOAT, "5th percentile over the trabecular region", unit="HU", null=_NOT_MEASURABLE),
    column("trabecular_hu_p25", FLOAT, "25th percentile over the trabecular region", unit="HU", null=_NOT_MEASURABLE),
    column("trabecular_hu_p75", FLOAT, "75th percentile over the trabecular region", unit="HU", null=_NOT_MEASURABLE),
    column("trabecular_hu_p95", FLOAT, "95th percentile over the trabecular region", unit="HU", null=_NOT_MEASURABLE),
    column("trabecular_volume_mm3", FLOAT, "Volume of the trabecular region", unit="mm3", null=_NOT_MEASURABLE),
    column("body_volume_mm3", FLOAT, "Volume of the vertebral body", unit="mm3", null=_NOT_MEASURABLE),
    column(
        "ellipse_hu_mean",
        FLOAT,
        "Mean over the ellipse that radiologists draw, 3 mm at mid-height",
        unit="HU",
        null=_NOT_MEASURABLE,
    ),
    column("ellipse_hu_sd", FLOAT, "Standard deviation over the ellipse", unit="HU", null=_NOT_MEASURABLE),
    column("ellipse_area_mm2", FLOAT, "Area of the ellipse", unit="mm2", null=_NOT_MEASURABLE),
    column(
        "height_anterior_mm",
        FLOAT,
        "Height of the body along its own axis, near the front wall",
        unit="mm",
        null=_NOT_MEASURABLE,
    ),
    column(
        "height_middle_mm",
        FLOAT,
        "Height of the body along its own axis, in the middle",
        unit="mm",
        null=_NOT_MEASURABLE,
    ),
    column(
        "height_posterior_mm",
        FLOAT,
        "Height of the body along its own axis, near the back wall",
        unit="mm",
        null=_NOT_MEASURABLE,
    ),
    column("height_ratio_anterior", FLOAT, "Anterior over posterior height (wedge)", unit="1", null=_NOT_MEASURABLE),
    column("height_ratio_middle", FLOAT, "Middle over posterior height (biconcave)", unit="1", null=_NOT_MEASURABLE),
    column(
        "height_ratio_neighbours",
        FLOAT,
        "Height over the median of up to four neighbours' (crush)",
        unit="1",
        null="Not measurable, or without measurable neighbours",
    ),
    column(
        "genant_grade",
        INT,
        "Grade of the largest loss of height by Genant's limits, 0 to 3; no diagnosis",
        unit="1",
        null=_NOT_MEASURABLE,
    ),
    column(
        "rim_overhang_mm",
        FLOAT,
        "How far the rims stand out beyond the waist, front and sides",
        unit="mm",
        null=_NOT_MEASURABLE,
    ),
    column(
        "tilt_sagittal_deg", FLOAT, "Lean of the body's own axis to the front", unit="degrees", null=_NOT_MEASURABLE
    ),
    column(
        "tilt_coronal_deg",
        FLOAT,
        "Lean of the body's own axis to the patient's right",
        unit="degrees",
        null=_NOT_MEASURABLE,
    ),
    column(
        "rotation_deg",
        FLOAT,
        "Turn of the vertebra's front to the patient's right",
        unit="degrees",
        null=_NOT_MEASURABLE,
    ),
    column("flags", TEXTS, "Findings that limit the measurement, reason codes", required=True, values="reasons"),
)
