"""Read the original ids of a shard's studies, by which label maps may be named; they are never written or logged."""

import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from trabecula.dicom.attributes import quiet, read_dicom
from trabecula.dicom.files import as_path
from trabecula.errors import StudyFailure

# UIDs are digits and dots. Names that anonymising tools put in their place may pass, but no path out of a folder.
_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Identity:
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
                header = read_dicom(file, specific_tags=["FrameOfReferenceUID"], stop_before_pixels=True)
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
        >>> Identity("1.2.840.1", None).in_file_name()
        '1.2.840.1'
        """
        if not _NAME.fullmatch(self.study_instance_uid):
            raise StudyFailure("mask_missing", "the study's UID can be in no file's name")
        return self.study_instance_uid


def read_identities(linkage: Path, shard: str) -> dict[str, Identity]:
    """Read the identities of a shard's studies, by study, from the private table of `trabecula.cohort.linkage`."""
    table = pq.read_table(linkage, columns=["study_id", "study_uid", "slices"], filters=[("shard", "=", shard)])
    identities = {}
    for row in table.to_pylist():
        first = row["slices"][0]
        file = Path(as_path(first["path"])) if not first["member"] else None
        identities[row["study_id"]] = Identity(row["study_uid"], file)
    return identities
