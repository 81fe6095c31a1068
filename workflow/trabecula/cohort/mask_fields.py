"""Fields in the pattern of label maps that names of a study fill. Pure Python, since the driver of a run imports it."""

# Filled by the name of a NIfTI file: its subject, its session, and itself.
NIFTI_FIELDS = frozenset({"subject", "session", "name"})
# Those that tell the studies of a patient apart.
FIELDS_OF_ONE_STUDY = frozenset({"study_id", "study_instance_uid", "session", "name"})
# Those that tell patients apart: a pattern holds at least one of them.
FIELDS_OF_ONE_PATIENT = frozenset({"study_id", "study_instance_uid", "subject", "name"})
ALL_FIELDS = NIFTI_FIELDS | FIELDS_OF_ONE_STUDY | {"cohort", "patient_id"}
