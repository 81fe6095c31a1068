"""Say whose file it is: what a header says of patient, study, series and instance, and what stands in for it."""

import os
from collections.abc import Hashable
from hashlib import sha256
from typing import Any, NamedTuple

from trabecula.dicom.headers.record import Header


class Identity(NamedTuple):
    """Original identity of a series."""

    patient: str
    study_uid: str
    series_uid: str


def identity_of(header: Header) -> Identity:
    """Give the identity of a file's series; a study without a patient's id is taken for a patient of its own."""
    study = header.study_uid or ""
    patient = header.patient or f"unknown, study {study}"
    # Two issuers give one number to two patients (DICOM PS3.3 C.7.1.1, IssuerOfPatientID).
    return Identity(f"{patient}\\{header.issuer}" if header.issuer else patient, study, header.series_uid or "")


def lacks_uid(header: Header) -> bool:
    """Tell whether a file does not say which instance of which series of which study it is."""
    return not (header.study_uid and header.series_uid and header.instance_uid)


def instance_of(header: Header) -> Hashable:
    """Give what the copies of an instance, or of a frame of one, have in common."""
    return identity_of(header), header.instance_uid, header.frame


def place_of_instance(header: Header) -> Hashable:
    """Give what the copies of an instance have in common that lie at the same place in the patient.

    Slices of one series that were given one constant UID differ in it.
    """
    return instance_of(header), tuple(header.positions_mm or ())


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
