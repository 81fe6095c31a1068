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
    PREDICTED,
    REASON,
    REPAIRED,
    SCAN_FACTS,
    STATUS,
    STUDY,
    TASKS,
    VERTEBRA_KEYS,
)
from trabecula.tables.fields import (
    BOOL,
    COUNT,
    DAYS,
    DEGREES,
    HU,
    KV,
    MG_CM3,
    MM,
    NULLABLE,
    PURE,
    SCHEMA_VERSION,
    TEXT,
    TEXTS,
    YEARS,
    Kind,
    column,
    list_of,
    one_of,
    schema,
)
from trabecula.tables.public import PREDICTIONS

CONVERT = schema(
    "convert",
    *KEYS,
    column("series_id", TEXT, "Keyed pseudonym of the series"),
    STATUS,
    REASON,
    DETAIL,
    column("shape", list_of(COUNT), "Voxels along each axis of the NIfTI", NULLABLE),
    column("spacing_mm", list_of(MM), "Distance between voxels along each axis", NULLABLE),
    column("n_slices", COUNT, "Slices that were read", NULLABLE),
    REPAIRED,
    FLAGGED,
    column("largest_gap_mm", MM, "Largest distance between neighbouring slices that were read", NULLABLE),
    column("tilt_degrees", DEGREES, "Angle between the stack and the normal of its slices", NULLABLE),
    column("hu_p01", HU, "1st percentile of a sample of the voxels", NULLABLE),
    column("hu_p99", HU, "99th percentile of a sample of the voxels", NULLABLE),
    column("slice_digests", TEXTS, "Keyed digests of up to eight slices; scans that share one hold the same pixels"),
)

SEGMENT = schema(
    "segment",
    *KEYS,
    STATUS,
    REASON,
    DETAIL,
    column("segmenter", TEXT, "Backend and version that outlined the vertebrae"),
    column("mask_state", TEXT, "Size and time of the given label map that was read; NULL where none was", NULLABLE),
    column("mask_digest", TEXT, "Digest of its content", NULLABLE),
    column("level", TEXT, "One row per level found; NULL in the one row of a failed study", NULLABLE),
    column("level_confidence", PURE, "Confidence in the level's name, 0 to 1", NULLABLE),
    column("level_uncertain", BOOL, "The level's name may be off by one", NULLABLE),
    LEVEL_FLAGGED,
)

CROP = schema(
    "crop",
    *KEYS,
    STATUS,
    REASON,
    DETAIL,
    column("n_vertebrae", COUNT, "Vertebrae cut out"),
    *SCAN_FACTS,
    column("picture", pa.binary(), "Sagittal and coronal overlay, WebP", NULLABLE),
)

MEASURE = schema(
    "measure",
    *KEYS,
    LEVEL,
    *MEASUREMENT,
    column("picture", pa.binary(), "Thumbnail with the regions outlined, WebP; NULL when not measured", NULLABLE),
)

INFER = schema("infer", *PREDICTIONS)


_SPLIT = (
    column("scheme", TEXT, "cross-validation, random, or device (leave one device out)"),
    column("split", TEXT, "Name of the split: fold0.., random0.., device0.."),
)
_SCAN = (
    column("device_key", TEXT, "Maker, model, kVp, kernel", NULLABLE),
    column("kvp", KV, "Peak tube voltage (0018,0060)", NULLABLE),
    column("phase", TEXT, "Contrast phase: native, portal, arterial or unknown", NULLABLE),
)
_HELD_OUT = column("held_out", TEXT, "Scanner that is left out (maker, model); NULL in other schemes", NULLABLE)
_PART = column("part", TEXT, "train; validation (chooses the epoch); or test")

SPLITS = schema(
    "splits",
    *_SPLIT,
    _HELD_OUT,
    PATIENT,
    _PART,
)

TRAINING = schema(
    "training",
    *_SPLIT,
    column("task", TEXT, "classification, regression or joint"),
    column("epoch", COUNT, "Passes over the training part so far"),
    column("learning_rate", PURE, "Learning rate at the end of the epoch"),
    column("training_loss", PURE, "Mean loss over the training part, augmented"),
    column("validation_loss", PURE, "Mean loss over the validation part"),
    column("kept", BOOL, "The weights after this epoch were kept"),
)

# A network's predictions of all development patients, before they are put together.
FITTED = schema(
    "fitted",
    COHORT,
    PATIENT,
    STUDY,
    LEVEL,
    column("task", one_of(TASKS), "As in the table predictions"),
    PREDICTED,
)

CASES = schema(
    "cases",
    *KEYS,
    column("levels", TEXTS, "Levels that the patient's regions are cut at"),
    column("trabecular_hu", HU, "Mean trabecular HU over these levels"),
    column("qct_vbmd_mg_cm3", MG_CM3, "vBMD by quantitative CT"),
    column("reduced", BOOL, "vBMD by QCT lies below the threshold of reduced density"),
    column("age_years", YEARS, "Age at the study", NULLABLE),
    column("sex", TEXT, "F, M or O (0010,0040)", NULLABLE),
    *_SCAN,
    column("thickness_mm", MM, "Slice thickness (0018,0050)", NULLABLE),
    column("spacing_mm", MM, "Median distance between slices", NULLABLE),
    column("slice_digests", TEXTS, "Keyed digests of up to eight slices of the scan, as in the table convert"),
)

# The scans that a model was trained on.
SCANS = schema(
    "scans",
    column("slice_digest", TEXT, "Keyed digest of a slice, as in the table convert"),
)

AUDIT = schema(
    "audit",
    COHORT,
    PATIENT,
    column("line", COUNT, "Line of the hospital's file that can't be used; NULL in the row of a patient", NULLABLE),
    column("study_id", TEXT, "Keyed pseudonym of the study nearest to a label, if any", NULLABLE),
    column("status", TEXT, "used or left_out, for a patient; unused, for a line of the labels"),
    column("reason", TEXT, "Why not used, reason code; NULL when used", NULLABLE),
    column("faults", TEXTS, "All faults of the line itself, reason codes"),
    column("n_labels", COUNT, "Labels whose mean is the patient's vBMD; 0 where none is joined to a scan", NULLABLE),
    column("label_levels", TEXTS, "Levels of these lines, such as L1 or L1-L2"),
    column("levels_used", TEXTS, "Levels that the patient's regions are cut at"),
    column("interval_days", DAYS, "Days from the study to the label; NULL where one has no date", NULLABLE),
    column("same_day", BOOL, "Label and study are of one day", NULLABLE),
    column("unit_given", TEXT, "Units in the hospital's file, separated by commas", NULLABLE),
    column("converted", BOOL, "A line was converted from K2HPO4 to HA", NULLABLE),
    column("n_scans", COUNT, "Scans of the patient in this cohort that were measured", NULLABLE),
    column("n_cohorts", COUNT, "Development cohorts that know the patient", NULLABLE),
    column("vbmd_mg_cm3", MG_CM3, "vBMD by quantitative CT, converted to HA", NULLABLE),
)

PROTOCOL = schema(
    "protocol",
    *_SPLIT,
    _HELD_OUT,
    _PART,
    COHORT,
    PATIENT,
    *_SCAN,
    column("trabecular_hu", HU, "Mean trabecular HU over the levels used"),
    column("predictor", TEXT, "network, joint, or one of the baselines"),
    column("vbmd_mg_cm3", MG_CM3, "vBMD by the predictor; NULL where it gives none", NULLABLE),
    column("score", PURE, "Higher means more likely reduced; NULL where the predictor lacks a fact", NULLABLE),
    column("reduced", BOOL, "The predictor's decision; NULL where it has none", NULLABLE),
    column("qct_vbmd_mg_cm3", MG_CM3, "vBMD by quantitative CT"),
    column("qct_reduced", BOOL, "vBMD by QCT lies below the threshold of reduced density"),
)


def crop_schema(size: int, spacing_mm: float) -> pa.Schema:
    """Schema of the vertebrae that `crop` writes (Arrow IPC): CT and labels as fixed-shape tensors.

    Axes are patient-aligned RAS+ (right, front, head); the cube's centre is the body's centroid.
    """
    cube = [size, size, size]
    return pa.schema(
        [
            *VERTEBRA_KEYS,
            column("segmenter", TEXT, "Backend and version that outlined the vertebra", NULLABLE),
            column("ct", Kind(pa.fixed_shape_tensor(pa.int16(), cube), "HU"), "CT around the body"),
            column("label", Kind(pa.fixed_shape_tensor(pa.uint8(), cube), "1"), "Canonical label codes"),
        ],
        metadata={"table": "vertebra_crops", "schema_version": str(SCHEMA_VERSION), "spacing_mm": str(spacing_mm)},
    )
