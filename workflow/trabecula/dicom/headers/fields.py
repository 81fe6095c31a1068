"""What is read from a DICOM header: an allow-list. Nothing else of a header is ever kept."""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from pydicom.datadict import dictionary_VR, tag_for_keyword

Kind = Literal["text", "number", "count", "vector"]
_TYPES = {"text": pa.string(), "number": pa.float64(), "count": pa.int32(), "vector": pa.list_(pa.float64())}


@dataclass(frozen=True)
class Field:
    """One attribute that is read.

    Attributes
    ----------
    name : str
        Name of its column.
    keyword : str
        DICOM keyword.
    kind : str
        text; number (one decimal); count (one whole number, not negative); vector of `length` decimals.
    length : int
        Numbers in a vector.
    """

    name: str
    keyword: str
    kind: Kind
    length: int = 1

    @property
    def tag(self) -> int:
        """Group and element as one number."""
        found = tag_for_keyword(self.keyword)
        assert found is not None, self.keyword
        return found

    @property
    def representations(self) -> frozenset[bytes]:
        """Value representations that the standard allows for it."""
        return frozenset(part.encode() for part in dictionary_VR(self.tag).split(" or "))


FIELDS = (
    Field("patient", "PatientID", "text"),
    Field("issuer", "IssuerOfPatientID", "text"),
    Field("study_uid", "StudyInstanceUID", "text"),
    Field("series_uid", "SeriesInstanceUID", "text"),
    Field("instance_uid", "SOPInstanceUID", "text"),
    Field("sop_class", "SOPClassUID", "text"),
    Field("modality", "Modality", "text"),
    Field("image_type", "ImageType", "text"),
    Field("study_date", "StudyDate", "text"),
    Field("acquisition_time", "AcquisitionTime", "text"),
    Field("birth_date", "PatientBirthDate", "text"),
    Field("age", "PatientAge", "text"),
    Field("sex", "PatientSex", "text"),
    Field("manufacturer", "Manufacturer", "text"),
    Field("model", "ManufacturerModelName", "text"),
    Field("kernel", "ConvolutionKernel", "text"),
    Field("body_part", "BodyPartExamined", "text"),
    Field("description", "SeriesDescription", "text"),
    Field("contrast", "ContrastBolusAgent", "text"),
    Field("photometric", "PhotometricInterpretation", "text"),
    Field("lossy", "LossyImageCompression", "text"),
    Field("rescale_type", "RescaleType", "text"),
    Field("kvp", "KVP", "number"),
    Field("thickness_mm", "SliceThickness", "number"),
    Field("slope", "RescaleSlope", "number"),
    Field("intercept", "RescaleIntercept", "number"),
    Field("rows", "Rows", "count"),
    Field("columns", "Columns", "count"),
    Field("frames", "NumberOfFrames", "count"),
    Field("bits", "BitsAllocated", "count"),
    Field("bits_stored", "BitsStored", "count"),
    Field("high_bit", "HighBit", "count"),
    Field("signed", "PixelRepresentation", "count"),
    Field("samples", "SamplesPerPixel", "count"),
    Field("acquisition", "AcquisitionNumber", "count"),
    Field("phase", "TemporalPositionIdentifier", "count"),
    Field("padding", "PixelPaddingValue", "count"),
    Field("padding_limit", "PixelPaddingRangeLimit", "count"),
    Field("pixel_spacing_mm", "PixelSpacing", "vector", 2),
    Field("orientation", "ImageOrientationPatient", "vector", 6),
    Field("positions_mm", "ImagePositionPatient", "vector", 3),
)
# What follows from the file as a whole.
COLUMNS = (
    *((field.name, _TYPES[field.kind]) for field in FIELDS),
    ("frame", pa.int32()),  # number within a multi-frame CT file, from 0; 0 also in all others
    ("transfer_syntax", pa.string()),
    ("pixel_offset", pa.int64()),
    ("pixel_bytes", pa.int64()),
    ("substitute", pa.bool_()),
    ("reason", pa.string()),
)
NAMES = tuple(name for name, _ in COLUMNS)
PLACE = {name: i for i, name in enumerate(NAMES)}
