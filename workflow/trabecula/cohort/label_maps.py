"""Find the label maps that the user has for studies, and note which content was read.

They may be named by original ids, which are read from the private table and are never written or logged.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

import pyarrow.parquet as pq

from trabecula import tables
from trabecula.cohort.mask_fields import FIELDS_OF_ONE_STUDY, NIFTI_FIELDS
from trabecula.dicom.files import as_path, unpacked
from trabecula.dicom.headers.record import NIFTI
from trabecula.dicom.quiet import quiet
from trabecula.dicom.reading import read_attributes
from trabecula.errors import StudyFailure
from trabecula.nifti.names import base_of, name_of
from trabecula.runtime.content import content_digest
from trabecula.runtime.storage import patiently

# UIDs are digits and dots. Names that anonymising tools put in their place may pass, but no path out of a folder.
_UID = re.compile(r"\w[\w.-]*", re.ASCII)
# Parts of the names of files may hold anything but the separator of folders; one with a dot first may be a folder's.
_NAME = re.compile(r"[^./\0][^/\0]*")


@dataclass(frozen=True)
class ArchivedStudy:
    """Names of a study in its archive.

    Attributes
    ----------
    names : mapping
        By the field that stands for them in the pattern of label maps: the Study Instance UID (0020,000D) of a DICOM
        study; subject, session and name of a NIfTI file, as far as it has them.
    kind : str
        DICOM or NIfTI.
    first_file : Path or None
        A DICOM file of the chosen series; None where it lies in a zip or tar file.
    n_studies : int
        Studies of this patient.
    """

    names: Mapping[str, str]
    kind: str = "DICOM"
    first_file: Path | None = None
    n_studies: int = 1

    def frame_of_reference(self) -> str | None:
        """Read the Frame of Reference UID (0020,0052) of the chosen series, where its file is there and holds one."""
        if self.first_file is None:
            return None
        try:
            with quiet(), self.first_file.open("rb") as file, unpacked(file) as content:
                return read_attributes(content, ["FrameOfReferenceUID"]).get("FrameOfReferenceUID") or None
        except Exception:  # damaged headers raise anything; a UID that can't be read can't contradict the label map
            return None

    def name_for(self, field: str) -> str:
        """Give the name that stands for a field in the path of a label map.

        Raises
        ------
        StudyFailure
            mask_missing where the study has none, or one that would lead to another folder: it comes from a header or
            from the list of an archive's files, which may hold anything.

        Examples
        --------
        >>> ArchivedStudy({"study_instance_uid": "1.2.840.1"}).name_for("study_instance_uid")
        '1.2.840.1'
        """
        name = self.names.get(field)
        if name is None:
            raise StudyFailure(
                "mask_missing", f"segment.masks asks for {{{field}}}, which this {self.kind} study lacks"
            )
        if not (_NAME if field in NIFTI_FIELDS else _UID).fullmatch(name):
            raise StudyFailure("mask_missing", f"the study's {field} can be in no file's name")
        return as_path(name)


def read_archived_studies(linkage: Path, shard: str) -> dict[str, ArchivedStudy]:
    """Read the identities of a shard's studies, by study, from the private table of `trabecula.cohort.linkage`."""
    columns = ["study_id", "patient_id", "study_uid", "archive", "slices"]
    with tables.reading(linkage):
        table = pq.read_table(linkage, columns=columns, filters=[("shard", "=", shard)])
        listed = pq.read_table(linkage, columns=["patient_id"], filters=[("chosen", "=", True)])
    n_studies = Counter(listed["patient_id"].to_pylist())
    return {row["study_id"]: _archived(row, n_studies[row["patient_id"]]) for row in table.to_pylist()}


def _archived(row: Mapping[str, Any], n_studies: int) -> ArchivedStudy:
    first = row["slices"][0]
    if first["transfer_syntax"] == NIFTI:
        place = "/".join([first["path"].removeprefix(f"{row['archive']}/"), *filter(None, [first["member"]])])
        name = name_of(place)
        names = {"subject": name.patient, "session": name.session, "name": base_of(place)}
        names = {field: text for field, text in names.items() if text is not None}
        return ArchivedStudy(names, NIFTI, n_studies=n_studies)
    file = Path(as_path(first["path"])) if not first["member"] else None
    return ArchivedStudy({"study_instance_uid": row["study_uid"]}, first_file=file, n_studies=n_studies)


def mask_path(pattern: str, keys: Mapping[str, str], identity: ArchivedStudy) -> Path:
    """Fill a study's pseudonyms, or its names in the archive, into the pattern of label maps.

    Raises
    ------
    StudyFailure
        ``mask_missing`` where the study lacks a name that the pattern asks for, where one can be in no file's name, or
        where the pattern would give one label map to several studies.
    """
    fields = {field for _, field, _, _ in Formatter().parse(pattern) if field}
    if identity.n_studies > 1 and not fields & FIELDS_OF_ONE_STUDY:
        detail = f"one label map for the patient's {identity.n_studies} studies: add {{name}} to segment.masks"
        raise StudyFailure("mask_missing", detail)
    return Path(pattern.format(**keys, **{field: identity.name_for(field) for field in fields - keys.keys()}))


@dataclass(frozen=True)
class Noted:
    """State of a label map when it was read.

    Attributes
    ----------
    state : str
        Its size and time of change; while they stay, it counts as the same.
    digest : str
        Digest of its content, by which one that was only copied or touched is told from another one.
    """

    state: str
    digest: str

    def is_of(self, path: Path) -> bool:
        """Tell whether a file is there, may be read, and holds what was read."""
        state = _state(path)
        if state in (None, self.state):
            return state is not None
        try:
            return _digest(path) == self.digest
        except StudyFailure:
            return False


def note(path: Path) -> Noted | None:
    """Note the state and content of a label map; None where there is none.

    Raises
    ------
    StudyFailure
        ``unreadable`` where this account may not read it.
    """
    state = _state(path)
    return None if state is None else Noted(state, _digest(path))


def _state(path: Path) -> str | None:
    if not os.path.isfile(path):  # not Path.is_file, which fails in a closed folder
        return None
    status = os.stat(path)
    return f"{status.st_size} {status.st_mtime_ns}"


def _digest(path: Path) -> str:
    try:
        return patiently(content_digest, path)
    except PermissionError:  # of this study alone: the others go on
        raise StudyFailure("unreadable", "no permission to read the label map") from None
