"""Find the label maps that the user has for studies, and note which content was read.

They may be named by original ids, which are read from the private table and are never written or logged.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from trabecula import tables
from trabecula.dicom.encoding import read_header
from trabecula.dicom.files import as_path
from trabecula.dicom.quiet import quiet
from trabecula.errors import StudyFailure
from trabecula.runtime.content import content_digest
from trabecula.runtime.storage import patiently

# UIDs are digits and dots. Names that anonymising tools put in their place may pass, but no path out of a folder.
_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


@dataclass(frozen=True)
class ArchivedStudy:
    """Names of a study in its archive.

    Attributes
    ----------
    study_instance_uid : str
        Study Instance UID (0020,000D).
    first_file : Path or None
        A file of the chosen series; None where it lies in a zip or tar file.
    """

    study_instance_uid: str
    first_file: Path | None

    def frame_of_reference(self) -> str | None:
        """Read the Frame of Reference UID (0020,0052) of the chosen series, where its file is there and holds one."""
        if self.first_file is None:
            return None
        try:
            with quiet(), self.first_file.open("rb") as file:
                header, _ = read_header(file, ["FrameOfReferenceUID"])
                return header.get("FrameOfReferenceUID") or None
        except Exception:  # damaged headers raise anything; a UID that can't be read can't contradict the label map
            return None

    def in_file_name(self) -> str:
        """Give the study's UID for a file's name.

        Raises
        ------
        StudyFailure
            mask_missing where the UID would lead to another folder: it comes from a header, which may hold anything.

        Examples
        --------
        >>> ArchivedStudy("1.2.840.1", None).in_file_name()
        '1.2.840.1'
        """
        if not _NAME.fullmatch(self.study_instance_uid):
            raise StudyFailure("mask_missing", "the study's UID can be in no file's name")
        return self.study_instance_uid


def read_archived_studies(linkage: Path, shard: str) -> dict[str, ArchivedStudy]:
    """Read the identities of a shard's studies, by study, from the private table of `trabecula.cohort.linkage`."""
    with tables.reading(linkage):
        table = pq.read_table(linkage, columns=["study_id", "study_uid", "slices"], filters=[("shard", "=", shard)])
    identities = {}
    for row in table.to_pylist():
        first = row["slices"][0]
        file = Path(as_path(first["path"])) if not first["member"] else None
        identities[row["study_id"]] = ArchivedStudy(row["study_uid"], file)
    return identities


def mask_path(pattern: str, keys: Mapping[str, str], identity: ArchivedStudy) -> Path:
    """Fill a study's pseudonyms, or the UID of its archive, into the pattern of label maps.

    Raises
    ------
    StudyFailure
        ``mask_missing`` where the UID can be in no file's name.
    """
    # A UID that can be in no file's name matters only to a pattern that asks for it.
    asks_for_uid = "{study_instance_uid" in pattern
    uid = {"study_instance_uid": identity.in_file_name()} if asks_for_uid else {}
    return Path(pattern.format(**keys, **uid))


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
