"""Counts of studies and people, of one cohort or of several: each counts once, however many cohorts it stands in."""

from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from trabecula.cohort import same_scans
from trabecula.cohort.gone import in_archive

_STUDY_COLUMNS = ["cohort", "patient_id", "study_id", "shard", "status", "stage", "reason", "flags"]


@dataclass(frozen=True)
class Counts:
    """Numbers of different studies and people.

    Attributes
    ----------
    studies, patients : int
        In the archive.
    measured : int
        Studies that were measured.
    results : int
        Patients with a result.
    labelled : int
        Patients with a result and a QCT value in one cohort.
    gone, known : int
        Studies that are no longer in any archive, and all studies that were ever accepted.
    patients_in_several, studies_in_several : int
        Patients and studies that stand in several cohorts.
    repeated_studies, repeated_patients : int
        Studies of a scan that is there in another study, and patient ids of people who are there under another id; they
        are not among the studies and patients.
    """

    studies: int
    patients: int
    measured: int
    results: int
    labelled: int
    gone: int
    known: int
    patients_in_several: int
    studies_in_several: int
    repeated_studies: int
    repeated_patients: int


def people(studies: pa.Table, patients: pd.DataFrame) -> pd.DataFrame:
    """Leave out the rows of patient ids whose person counts under another id.

    Parameters
    ----------
    studies : table
        Of the schema STUDIES.
    patients : frame
        Of `results.patient_rows`.
    """
    rows = studies.select(_STUDY_COLUMNS).to_pandas()
    return patients[~patients["patient_id"].isin(_repeated_patients(rows[in_archive(rows)]))]


def count(studies: pa.Table, patients: pd.DataFrame) -> Counts:
    """Count the studies and people of all cohorts of these tables, each once.

    Pseudonyms are the same in all cohorts of a site, so that a person is known again.

    Parameters
    ----------
    studies : table
        Of the schema STUDIES.
    patients : frame
        Of `results.patient_rows`.
    """
    rows = studies.select(_STUDY_COLUMNS).to_pandas()
    present = rows[in_archive(rows)]
    gone = set(rows["study_id"]) - set(present["study_id"])
    copies = set(present.loc[present["reason"] == "same_scan", "study_id"])
    others = _repeated_patients(present)
    present = present[~present["study_id"].isin(copies)]
    counting = present[~present["patient_id"].isin(others)]
    accepted = rows["shard"].notna() | (rows["status"] != "rejected")
    has_result = patients["vbmd_mg_cm3"].notna()
    return Counts(
        studies=present["study_id"].nunique(),
        patients=counting["patient_id"].nunique(),
        measured=present.loc[present["status"] == "measured", "study_id"].nunique(),
        results=patients.loc[has_result, "patient_id"].nunique(),
        labelled=patients.loc[has_result & patients["qct_vbmd_mg_cm3"].notna(), "patient_id"].nunique(),
        gone=len(gone),
        known=rows.loc[accepted | rows["study_id"].isin(gone), "study_id"].nunique(),
        patients_in_several=_in_several(counting, "patient_id"),
        studies_in_several=_in_several(present, "study_id"),
        repeated_studies=len(copies),
        repeated_patients=len(others),
    )


def _repeated_patients(rows: pd.DataFrame) -> set[str]:
    """Give the patients who count under another id: a scan of theirs is set aside, and none counts.

    The scan that counts instead may be the same patient's in a cohort that is not among these rows; then the patient's
    other scans count.
    """
    flagged = [same_scans.FLAG in flags for flags in rows["flags"]]
    counting = {*rows.loc[flagged, "patient_id"], *rows.loc[rows["status"] == "measured", "patient_id"]}
    return set(rows.loc[rows["reason"].isin(same_scans.REASONS), "patient_id"]) - counting


def _in_several(rows: pd.DataFrame, name: str) -> int:
    """Count the values of a column that stand in several cohorts."""
    return int(rows[["cohort", name]].drop_duplicates()[name].value_counts().gt(1).sum())
