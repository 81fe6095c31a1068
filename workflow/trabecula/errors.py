"""Exceptions, and the codes of reasons, repairs and flags with their meanings.

    Exception
    └── TrabeculaError
        ├── ConfigError     stops the run, before any job where possible; the user can correct the cause
        ├── ResultError     stops a job: a file of an earlier run is damaged
        └── StudyFailure    a series or study drops out with a reason; the rest of the cohort goes on

Everything else is a bug and crashes its job with a traceback in the rule's log.
"""

from pathlib import Path

# Stages at which something can drop out, in the order in which the data pass them.
STAGES = ("index", "convert", "segment", "crop", "measure")

# Every reason why a file, series, study, vertebra, label or patient drops out, in words for a reader of the tables.
REASONS: dict[str, str] = {
    # index: files and series
    "not_dicom": "not a DICOM file",
    "not_nifti": "called NIfTI by its name, but without a NIfTI header that can be read",
    "nifti_pair": "NIfTI in two files (.hdr and .img), of which only single files (.nii) are read",
    "sidecar": "a JSON or TSV file: no scan, but facts of NIfTI files beside and below it are taken from it",
    "bad_sidecar": "a JSON or TSV file that can't be read, so that facts of NIfTI files may be missing",
    "label_map": "a label map, mask or other derivative of a scan, by its name, header or values",
    "empty": "a file without content",
    "not_regular": "a device, pipe or socket instead of a file",
    "link_outside": "a link that leads out of the archive or nowhere",
    "closed_folder": "a folder that can't be opened; make it readable if it belongs to the archive",
    "system_folder": "a folder of the storage system, such as snapshots or a recycle bin, which is not searched",
    "archive": "a zip or tar archive; with index.archives: true its files are read",
    "other_archive": "an archive inside another one, or of 7-Zip, RAR or the like, whose files are not read; unpack it",
    "placeholder": "a placeholder of Git LFS or git-annex, whose content was not fetched",
    "dicomdir": "table of contents of a DICOM medium, without an image",
    "duplicate_file": "a file that repeats an instance of the series",
    "not_ct": "modality or storage class is not CT",
    "several_people": "the files of this patient's id contradict each other in sex or date of birth, so it may "
    "stand for several people",
    "missing_uid": "study, series or instance UID is missing, and nothing could replace it",
    "localizer": "localizer (scout) image",
    "secondary_capture": "secondary capture, dose page or screen shot",
    "projection": "projection or rendering instead of slices",
    "other_values": "values are not Hounsfield units of the body, but a map, a difference or a part of it",
    "not_axial": "slices that are not near axial",
    "too_few_slices": "too few slices for a volume",
    "too_short": "covers too little of the body's length",
    "too_thick": "slices lie too far apart",
    "head_or_extremity": "examination of the head or an extremity",
    "not_chosen": "acceptable, but another series of the study scored higher",
    "no_acceptable_series": "no series of the study was acceptable",
    "vanished": "the files are no longer in the archive",
    "changed": "a file was changed after the index was made",
    # convert
    "unreadable": "a file can't be read",
    "too_large": "more voxels than a scan can have",
    "truncated": "the file ends before its pixel data do by the header, or within its header",
    "undecodable": "the compressed pixel data can't be decoded",
    "lossy": "lossily compressed pixel data: Hounsfield units can't be trusted",
    "no_rescale": "rescale slope or intercept is missing: no Hounsfield units",
    "no_geometry": "position, orientation or pixel spacing is missing",
    "two_geometries": "the two statements of where the voxels lie (qform and sform) contradict each other",
    "skewed_axes": "rows and columns of the slices are not perpendicular",
    "several_volumes": "several volumes in one file, such as phases or times, of which none can be preferred",
    "voxel_type": "voxels that hold no Hounsfield units: colours, complex numbers or single bits",
    "eight_bit": "8-bit values, from which no Hounsfield units can be had",
    "mixed_orientation": "slices of several orientations",
    "mixed_matrix": "slices of several sizes",
    "mixed_scans": "slices of two scans lie between each other: every second one is alike",
    "duplicate_position": "several different slices at one position",
    "missing_slices": "slices are missing inside the volume, more than can be interpolated",
    "irregular_spacing": "slice positions are irregular",
    "implausible_hu": "values are not Hounsfield units of a patient",
    "other_pixels": "files of one instance UID hold different pixels, so nobody can tell which are right",
    "same_scan": "the same pixels are there in another study, which counts",
    "same_person": "the patient shares a scan with another patient id, which counts for both",
    # segment, crop, measure
    "no_vertebra": "no vertebra was found",
    "mask_missing": "no label map for this study among the given masks",
    "mask_unreadable": "the given label map can't be read",
    "mask_mismatch": "the given label map does not fit the scan",
    "out_of_memory": "the scan is too large for the job's memory, even when it is computed in parts",
    "incomplete": "the vertebral body is cut by the edge of the scan",
    "empty_roi": "nothing is left of the trabecular region after erosion",
    "beyond_cube": "the vertebral body reaches beyond its cube, so its volume is unknown",
    "metal": "metal or cement in the vertebral body",
    "cement": "the metal looks like bone cement: less bright, and confined to the vertebral body",
    "front_by_shape": "a pedicle is missing, so the front was taken from the body's shape and the patient's axes",
    "osteophytes": "the rims of the vertebral body stand out far beyond its waist",
    "height_loss": "the body is low by Genant's limits, by a loss of height or by its shape; no diagnosis of fracture",
    "rejected_by_reviewer": "a reviewer found that the outline can't be used",
    # calibrate
    "not_measured": "no trabecular HU to calibrate",
    "no_calibration": "no calibration was configured (calibrate.method)",
    "no_reference_tissue": "the scan does not show air and two of fat, muscle and blood without contrast medium",
    "odd_tissues": "the patient's own tissues do not fit together at any X-ray energy",
    "other_spectrum": "images of one X-ray energy or a blend of two, not of a tube's voltage",
    "no_phantom": "the scan shows no rods that fit the densities of the calibration phantom",
    "too_few_labels": "too few labelled patients of this device, voltage, kernel and contrast phase for a line",
    # aggregate
    "no_complete_vertebra": "no complete vertebral body of a usable level",
    "level_uncertain": "the names of the levels are uncertain in this field of view",
    "no_prediction": "no model prediction for this patient",
    "unknown_fact": "a fact that the predictor needs (HU, age, sex, tube voltage) is unknown for this patient",
    "near_cut": "the probability is too near one half to keep wrong decisions to one in ten of a class",
    "hu_out_of_range": "trabecular HU lies far outside the range of the model's training",
    "differs_from_hu": "network and HU line differ by more than in 99 of 100 training patients",
    "fold_spread": "the networks of the folds differ from each other by more than their usual error",
    "too_few_patients": "too few patients for the figure",
    "one_class": "all patients are of one class",
    "no_label": "no QCT label for this patient",
    "ambiguous_patient": "the id may stand for several patients of the archive: two issuers gave it, or the files of "
    "this id contradict each other",
    "no_scan": "the patient has a label, but no measured scan",
    "bad_line": "a line of the labels or verdicts has more entries than the header line has names",
    "missing_patient": "the label names no patient, or has an entry such as 0 or unknown that stands for none",
    "bad_date": "the label's date is missing or not written as 2020-01-31",
    "bad_level": "the label's level is neither a vertebra nor a range of vertebrae from head to foot",
    "unknown_unit": "the label's unit is not mg/cm3 with the material, HA or K2HPO4",
    "bad_value": "the label's value is no number above 0 and up to 500 mg/cm3 HA",
    "in_training": "the patient was in the model's training, so does not count as external",
    "superseded": "another study or label of this patient was nearer in time, or a later verdict takes its place",
    "label_too_far": "every label of this patient is further in time from each dated, measured scan than allowed",
    "other_cohort": "the patient counts in another cohort of the same role",
    "other_level": "a label of a level that the patient's QCT value does not use",
    "duplicate_label": "an earlier line of the file holds the same label",
    "contradictory_label": "different values for one patient, date and level",
    # reviewers' verdicts
    "no_such_vertebra": "no study has this pseudonym, or the study has no vertebra of this level",
    "segmentation_changed": "the vertebra of this level lies at another height than the one that the reviewer judged",
    "bad_place": "the height of the judged vertebra (centroid_z_mm) is not a number of mm",
    "unknown_verdict": "the verdict is none of accept, reject and relabel",
    "unknown_level": "the level or the new level is not a vertebra",
    "level_taken": "another vertebra of the study keeps the new level, or a later line assigns it to another vertebra",
}

# Reasons that the archive's storage, a delivery under way or the machine may be to blame for: a study that failed so is
# tried again in the next run, for a missing label map once label maps have come.
PASSING = frozenset({"vanished", "unreadable", "changed", "mask_missing", "out_of_memory"})

# Repairs that made a scan a volume.
REPAIRS: dict[str, str] = {
    "gantry_tilt": "slices were moved within their planes, since the gantry was tilted",
    "missing_slices": "missing slices were interpolated between their neighbours",
    "irregular_spacing": "slices at uneven distances, or off a straight line, were interpolated to even distances",
    "duplicate_slices": "slices that repeat another slice were left out",
    "overlapping_rotations": "rotations of the scan overlap: of two slices at one place, one was left out",
    "odd_slices": "slices that do not fit the others (localizer, matrix, direction, position) were left out",
    "damaged_slices": "slices that could not be read in full were left out",
}

# Findings about a scan that limit its figures.
FLAGS: dict[str, str] = {
    "thick_slices": "slices lie further apart than is good for trabecular bone",
    "substitute_ids": "an id or UID was missing or stood for none, and is replaced by one made from folder and content",
    "shared_study_uid": "the study's UID is there under another patient id as well, so one person may be there twice",
    "lossy_once": "the header says that the pixels were once compressed with loss: their Hounsfield units may be off",
    "reformat": "the slices were made in another direction than across the body, such as sagittal ones",
    "maybe_derived": "a sign in the header, too weak alone, says that the values may be derived ones, such as a map",
    "other_spectrum": "Hounsfield units of one X-ray energy or a blend of two, unlike those of a tube's voltage",
    "elsewhere_by_text": "the header names a head or an extremity, which nothing else confirms",
    "split": "the series held several acquisitions or phases, of which this is one",
    "monochrome1": "stored as MONOCHROME1; the values were not inverted",
    "rescale_varies": "slope or intercept differ between slices",
    "encoding_varies": "stored bits, sign or photometric interpretation differ between slices",
    "implausible_hu": "values are not Hounsfield units of a patient",
    "same_scan": "the same pixels are there under another study or patient id, which is set aside",
}

# Findings that speak against the level of a vertebra.
LEVEL_FLAGS: dict[str, str] = {
    "transitional": "the spine seems not to have twelve thoracic and five lumbar vertebrae",
    "merged": "no disc was seen between the vertebra and its neighbour, or it is as high as two vertebrae",
    "split": "the piece is a part of a vertebra, or the level lies in two pieces",
    "gap": "a vertebra between this one and its neighbour is missing",
    "mixed_sides": "the level lies on one side of the spine only: two names share a vertebra",
    "out_of_order": "the level's name does not fit its neighbours' names",
    "cut_by_mask": "the given label map ends at this vertebra and the scan goes on: its body counts as cut",
    "order_in_doubt": "a doubtful vertebra lies between this one and the place from which the numbering starts",
}

# Differences of a scan or a result from the model's training.
NOVELTY: dict[str, str] = {
    "new_device": "the training had no scan of this device key (maker, model, kVp, kernel)",
    "new_voltage": "the tube voltage lies outside the range of the training",
    "geometry_out_of_range": "slice thickness or distance lies more than 1 mm outside the range of the training",
    **{code: REASONS[code] for code in ("other_spectrum", "hu_out_of_range", "differs_from_hu", "fold_spread")},
}


_DELETE = "Delete it and run again: the workflow then makes it anew."


class TrabeculaError(Exception):
    """Base of all exceptions that the package raises on purpose."""


class ConfigError(TrabeculaError):
    """The configuration can't be used; the message says in one sentence what to change."""


class ResultError(TrabeculaError):
    """A result of an earlier job is damaged.

    Parameters
    ----------
    path : Path or str
        The file.
    damage : str
        Damage, in a few words.
    cure : str
        Advice, as a sentence.
    """

    def __init__(self, path: Path | str, damage: str, cure: str = _DELETE) -> None:
        super().__init__(f"{path} is damaged ({damage}). {cure}")
        self._parts = path, damage, cure

    def __reduce__(self) -> tuple[type, tuple[Path | str, str, str]]:
        """Pickle the parts, so that the exception comes whole out of another process."""
        return type(self), self._parts


class StudyFailure(TrabeculaError):
    """A series or study can't be used.

    Parameters
    ----------
    reason : str
        A key of `REASONS`.
    detail : str
        Figures that help to understand the case; never an identity or a path.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        if reason not in REASONS:
            raise KeyError(f"{reason!r} is not a known reason")
        super().__init__(f"{reason}: {detail or REASONS[reason]}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Pickle the parts, so that the exception comes whole out of another process."""
        return type(self), (self.reason, self.detail)
