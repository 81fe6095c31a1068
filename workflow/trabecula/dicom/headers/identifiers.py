"""Replace missing UIDs by ones made from folder and content, so that the same file always gets the same."""

import os
from hashlib import sha256
from typing import Any

from trabecula.dicom.headers.record import Header


def with_identifiers(header: Header) -> Header:
    """Fill in missing UIDs of an image (see `Header.substitute`); anything else stays as it is."""
    study, series, instance = header.study_uid, header.series_uid, header.instance_uid
    if study and series and instance:
        return header
    if header.reason not in (None, "truncated") or (header.modality is None and header.rows is None):
        return header
    path, member = header.path, header.member or ""
    folder = f"{os.path.dirname(path)}\0{os.path.dirname(member)}"
    study = study or _uid("study", folder, header.patient, header.study_date)
    series = series or _uid("series", study, folder, header.modality, header.description, header.kernel)
    instance = instance or _uid("instance", path, member)
    return header._replace(study_uid=study, series_uid=series, instance_uid=instance, substitute=True)


def _uid(*content: Any) -> str:
    """Make a UID from content (DICOM PS3.5 B.2: 2.25 and 128 bits as a decimal number).

    >>> _uid("study", "folder") == _uid("study", "folder") != _uid("series", "folder")
    True
    """
    return f"2.25.{int.from_bytes(sha256(repr(content).encode()).digest()[:16], 'big')}"
