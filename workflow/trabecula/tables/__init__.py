"""Schemas of every table, and how tables are cast, checked, written and read.

This package owns the columns' names, types, units, values and meanings. The data dictionary, the casts, the checks
and the comments in the database come from it. NULL means that a value is undefined or unknown; where that is a
finding, a reason stands beside it.

What stands here is what other rooms and stages use; kinds of columns and shared columns stay in `fields` and `common`.
"""

# ruff: noqa: F401

from trabecula.tables.between import (
    AUDIT,
    CASES,
    CONVERT,
    CROP,
    FITTED,
    INFER,
    MEASURE,
    PROTOCOL,
    SCANS,
    SEGMENT,
    SPLITS,
    TRAINING,
    crop_schema,
)
from trabecula.tables.common import CALIBRATED, COHORT, CONTRAST, LEVELS, PATIENT, SCAN_FACTS, SCAN_RESULT, STUDY
from trabecula.tables.fields import BOOL, CODES, FLOAT, INT, TEXT, TEXTS, is_number, metadata_of, values_of
from trabecula.tables.public import (
    BELONGS_TO,
    CALIBRATIONS,
    FAILURES,
    FLOW,
    KEYS_OF,
    LABELS,
    MEANINGS,
    PATIENTS,
    PREDICTIONS,
    PUBLIC,
    RUNS,
    SERIES,
    STUDIES,
    VERDICTS,
    VERTEBRAE,
    WHOLE,
)
from trabecula.tables.store import cast, from_frame, in_partition, read, read_columns, read_many, reading, write
