"""The allow-list of what is read from a DICOM header. Nothing else of a header is ever kept."""

from dataclasses import dataclass
from typing import Literal

from pydicom.datadict import dictionary_VR, tag_for_keyword

Kind = Literal["text", "number", "count", "vector"]


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
        """Give group and element as one number.

        >>> hex(Field("rows", "Rows", "count").tag)
        '0x280010'
        """
        tag = tag_for_keyword(self.keyword)
        assert tag is not None, self.keyword
        return tag

    @property
    def representations(self) -> frozenset[bytes]:
        """Give the value representations that the standard allows for it."""
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
