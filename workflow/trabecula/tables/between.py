"""Tables between stages, a file per shard, and those of the training."""

import pyarrow as pa

from trabecula.tables.common import (
    COHORT,
    DETAIL,
    FLAGGED,
    KEYS,
    LEVEL,
    LEVEL_FLAGGED,
    MEASUREMENT,
    PATIENT,
    REASON,
    REPAIRED,
    SCAN_FACTS,
    STATUS,
    STUDY,
    TASKS,
    VERTEBRA_KEYS,
)
from trabecula.tables.fields import BOOL, FLOAT, INT, SCHEMA_VERSION, TEXT, TEXTS, column, schema
from trabecula.tables.public import PREDICTIONS

CONVERT = schema(
    *KEYS,
    column("series_id", TEXT, "Keyed pseudonym of the series", required=True),
    STATUS,
    REASON,
    DETAIL,
    column("shape", pa.list_(INT), "Voxels along each axis of the NIfTI", unit="1"),
    column("spacing_mm", pa.list_(FLOAT), "Distance between voxels along each axis", unit="mm"),
    column("n_slices", INT, "Slices that were read", unit="1"),
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
    column("level_confidence", FLOAT, "Confidence in the level's name, 0 to 1", unit="1"),
    column("level_uncertain", BOOL, "The level's name may be off by one"),
    LEVEL_FLAGGED,
    name="segment",
)

CROP = schema(
    *KEYS,
    STATUS,
    REASON,
    DETAIL,
    column("n_vertebrae", INT, "Vertebrae cut out", required=True, unit="1"),
    *SCAN_FACTS,
    column("picture", pa.binary(), "Sagittal and coronal overlay, WebP"),
    name="crop",
)

MEASURE = schema(
    *KEYS,
    LEVEL,
    *MEASUREMENT,
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
    column("epoch", INT, "Passes over the training part so far", required=True, unit="1"),
    column("learning_rate", FLOAT, "Learning rate at the end of the epoch", required=True, unit="1"),
    column("training_loss", FLOAT, "Mean loss over the training part, augmented", required=True, unit="1"),
    column("validation_loss", FLOAT, "Mean loss over the validation part", required=True, unit="1"),
    column("kept", BOOL, "The weights after this epoch were kept", required=True),
    name="training",
)

# A network's predictions of all development patients, before they are put together.
FITTED = schema(
    COHORT,
    PATIENT,
    STUDY,
    LEVEL,
    column("task", TEXT, "As in the table predictions", required=True, values=TASKS),
    column(
        "value", FLOAT, "Probability of reduced density, or vBMD in mg/cm3 HA", required=True, unit="1 or mg/cm3 HA"
    ),
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
    column(
        "line", INT, "Line of the hospital's file, for one that can't be used; NULL in the row of a patient", unit="1"
    ),
    column("study_id", TEXT, "Keyed pseudonym of the study nearest to a label; NULL where there is none"),
    column("status", TEXT, "used or left_out, for a patient; unused, for a line of the labels", required=True),
    column("reason", TEXT, "Why not used, reason code; NULL when used"),
    column("faults", TEXTS, "All that is wrong with the line itself, reason codes", required=True),
    column(
        "n_labels",
        INT,
        "Lines of the labels whose mean is the patient's vBMD; 0 where none is joined to a scan",
        unit="1",
    ),
    column("label_levels", TEXTS, "Levels of these lines, such as L1 or L1-L2", required=True),
    column("levels_used", TEXTS, "Levels that the patient's regions are cut at", required=True),
    column("interval_days", INT, "Days from the study to the label; NULL where one has no date", unit="days"),
    column("same_day", BOOL, "Label and study are of one day; else the label comes from another examination"),
    column("unit_given", TEXT, "Units of the lines in the hospital's file, with commas between different ones"),
    column("converted", BOOL, "A line was converted from K2HPO4 to HA"),
    column("n_scans", INT, "Scans of the patient in this cohort that were measured", unit="1"),
    column("n_cohorts", INT, "Development cohorts that know the patient", unit="1"),
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
    column("score", FLOAT, "Higher means more likely reduced; NULL where the predictor lacks a fact", unit="1"),
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
            *VERTEBRA_KEYS,
            column("segmenter", TEXT, "Backend and version that outlined it"),
            column("ct", pa.fixed_shape_tensor(pa.int16(), cube), "CT around the body", unit="HU", required=True),
            column("label", pa.fixed_shape_tensor(pa.uint8(), cube), "Canonical label codes", required=True, unit="1"),
        ],
        metadata={"table": "vertebra_crops", "schema_version": str(SCHEMA_VERSION), "spacing_mm": str(spacing_mm)},
    )
