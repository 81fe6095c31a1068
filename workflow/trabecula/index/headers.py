"""Read what the index needs from DICOM headers."""

import math
import os
from collections.abc import Iterable
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import ImplicitVRLittleEndian, MediaStorageDirectoryStorage

from trabecula.dicom import PER_FRAME, SHARED, UNCOMPRESSED, numbers, quiet, value

# The allow-list: nothing else is ever read from a header.
TEXTS = {
    "patient": "PatientID",
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "instance_uid": "SOPInstanceUID",
    "sop_class": "SOPClassUID",
    "modality": "Modality",
    "image_type": "ImageType",
    "study_date": "StudyDate",
    "birth_date": "PatientBirthDate",
    "age": "PatientAge",
    "sex": "PatientSex",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "kernel": "ConvolutionKernel",
    "body_part": "BodyPartExamined",
    "description": "SeriesDescription",
    "contrast": "ContrastBolusAgent",
    "photometric": "PhotometricInterpretation",
    "lossy": "LossyImageCompression",
}
NUMBERS = {
    "kvp": "KVP",
    "thickness_mm": "SliceThickness",
    "slope": "RescaleSlope",
    "intercept": "RescaleIntercept",
}
COUNTS = {
    "rows": "Rows",
    "columns": "Columns",
    "frames": "NumberOfFrames",
    "bits": "BitsAllocated",
    "samples": "SamplesPerPixel",
    "acquisition": "AcquisitionNumber",
}
VECTORS = {"pixel_spacing_mm": ("PixelSpacing", 2), "orientation": ("ImageOrientationPatient", 6)}
TAGS = [
    "SpecificCharacterSet",
    "ImagePositionPatient",
    SHARED,
    PER_FRAME,
    *TEXTS.values(),
    *NUMBERS.values(),
    *COUNTS.values(),
    *(keyword for keyword, _ in VECTORS.values()),
]

# First bytes of a data set without the 128-byte preamble: group 0002 or 0008, little-endian.
_BARE_STARTS = (b"\x02\x00", b"\x08\x00")
_MAX_FRAMES = 100_000


def read_headers(paths: Iterable[str]) -> list[dict[str, Any]]:
    """Read the headers of some files.

    Parameters
    ----------
    paths : iterable of str
        Files of any kind.

    Returns
    -------
    list of dict
        One record per file, in the same order: `reason` is None where a header could be read (see `read_header`),
        else one of ``not_dicom``, ``unreadable``, ``truncated``, ``dicomdir``.
    """
    with quiet():
        return [read_header(path) for path in paths]


def read_header(path: str) -> dict[str, Any]:
    """Read one file's header.

    Returns
    -------
    dict
        `TEXTS`, `NUMBERS`, `COUNTS` and `VECTORS` by their names here, None where absent or not valid;
        `positions_mm`: three LPS+ millimetres per frame, one after another; `transfer_syntax`; `reason`.
    """
    if not os.path.isfile(path):
        return {"reason": "unreadable"}
    try:
        with open(path, "rb") as file:
            start = file.read(132)
            if start[128:] != b"DICM" and start[:2] not in _BARE_STARTS:
                return {"reason": "not_dicom"}
            file.seek(0)
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=TAGS)
            return record_of(dataset, os.path.getsize(path) - file.tell())
    except InvalidDicomError:
        return {"reason": "not_dicom"}
    except Exception:  # damaged headers raise anything, from struct.error to RecursionError
        return {"reason": "unreadable"}


def record_of(dataset: Dataset, bytes_left: int) -> dict[str, Any]:
    """Record of a data set (see `read_header`); so many bytes of its file follow those that were read."""
    meta = getattr(dataset, "file_meta", Dataset())
    if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return {"reason": "dicomdir"}
    if not any(keyword in dataset for keyword in ("SOPClassUID", "Modality", "StudyInstanceUID", "Rows")):
        return {"reason": "unreadable"}
    record: dict[str, Any] = {name: _text(dataset, keyword) for name, keyword in TEXTS.items()}
    record |= {name: _number(dataset, keyword) for name, keyword in NUMBERS.items()}
    record |= {name: _count(dataset, keyword) for name, keyword in COUNTS.items()}
    record |= {name: numbers(dataset, keyword, length) for name, (keyword, length) in VECTORS.items()}
    record["positions_mm"] = _positions(dataset)
    record["transfer_syntax"] = str(meta.get("TransferSyntaxUID") or "") or None
    record["reason"] = "truncated" if _is_truncated(record, bytes_left) else None
    return record


def _text(dataset: Dataset, keyword: str) -> str | None:
    found = value(dataset, keyword)
    parts = found if isinstance(found, MultiValue) else [found]
    text = "\\".join(str(part) for part in parts if part is not None)
    return text.replace("\0", "").strip() or None


def _number(dataset: Dataset, keyword: str) -> float | None:
    found = numbers(dataset, keyword, 1)
    return found[0] if found else None


def _count(dataset: Dataset, keyword: str) -> int | None:
    number = _number(dataset, keyword)
    return int(number) if number is not None and 0 <= number < 2**31 else None


def _positions(dataset: Dataset) -> list[float] | None:
    """Positions of all frames one after another; None where one is missing."""
    frames = _count(dataset, "NumberOfFrames") or 1
    if frames > _MAX_FRAMES:
        return None
    positions = [numbers(dataset, "ImagePositionPatient", 3, frame) for frame in range(frames)]
    return None if None in positions else [number for position in positions for number in position or ()]


def _is_truncated(record: dict[str, Any], bytes_left: int) -> bool:
    """Whether uncompressed pixels would need more bytes than follow the header."""
    sizes = [record["rows"], record["columns"], record["bits"]]
    if None in sizes or (record["transfer_syntax"] or ImplicitVRLittleEndian) not in UNCOMPRESSED:
        return False
    return bytes_left < math.prod(sizes) * (record["samples"] or 1) * (record["frames"] or 1) // 8
