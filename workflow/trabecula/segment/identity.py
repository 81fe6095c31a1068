"""The original ids of a shard's studies, by which label maps in an archive are named; never written or logged."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pydicom
from pydicom.errors import InvalidDicomError


@dataclass(frozen=True)
class Identity:
    """What a study is called in its archive.

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
        """Frame of Reference UID (0020,0052) of the chosen series, where its file is there and says it."""
        if self.first_file is None:
            return None
        try:
            header = pydicom.dcmread(self.first_file, specific_tags=["FrameOfReferenceUID"], stop_before_pixels=True)
        except (OSError, InvalidDicomError):
            return None
        return header.get("FrameOfReferenceUID") or None


def read_identities(linkage: Path, shard: str) -> dict[str, Identity]:
    """Identities of a shard's studies, by study, from the private table of `trabecula.linkage`."""
    table = pq.read_table(linkage, columns=["study_id", "study_uid", "slices"], filters=[("shard", "=", shard)])
    found = {}
    for row in table.to_pylist():
        first = row["slices"][0]
        file = Path(first["path"]) if not first["member"] else None
        found[row["study_id"]] = Identity(row["study_uid"], file)
    return found
