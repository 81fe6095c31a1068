"""The allow-list of what is read from a DICOM header. Nothing else of a header is ever kept."""

from dataclasses import dataclass
from typing import Literal

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
    tag : int
        Group and element as one number.
    vr : str
        Value representations that the standard allows for it (PS3.6), separated by "or".
    kind : str
        text; number (one decimal); count (one whole number, not negative); vector of `length` decimals.
    length : int
        Numbers in a vector.
    """

    name: str
    keyword: str
    tag: int
    vr: str
    kind: Kind
    length: int = 1

    @property
    def representations(self) -> frozenset[bytes]:
        """Give the value representations as a file writes them.

        >>> sorted(Field("padding", "PixelPaddingValue", 0x00280120, "US or SS", "count").representations)
        [b'SS', b'US']
        """
        return frozenset(part.encode() for part in self.vr.split(" or "))


# Tags and representations stand here, and a test compares them with pydicom's dictionary: that takes a quarter of a
# second to load, and most jobs need nothing else of pydicom.
FIELDS = (
    Field("patient", "PatientID", 0x00100020, "LO", "text"),
    Field("issuer", "IssuerOfPatientID", 0x00100021, "LO", "text"),
    Field("study_uid", "StudyInstanceUID", 0x0020000D, "UI", "text"),
    Field("series_uid", "SeriesInstanceUID", 0x0020000E, "UI", "text"),
    Field("instance_uid", "SOPInstanceUID", 0x00080018, "UI", "text"),
    Field("sop_class", "SOPClassUID", 0x00080016, "UI", "text"),
    Field("modality", "Modality", 0x00080060, "CS", "text"),
    Field("image_type", "ImageType", 0x00080008, "CS", "text"),
    Field("study_date", "StudyDate", 0x00080020, "DA", "text"),
    Field("series_time", "SeriesTime", 0x00080031, "TM", "text"),
    Field("acquisition_moment", "AcquisitionDateTime", 0x0008002A, "DT", "text"),
    Field("acquisition_time", "AcquisitionTime", 0x00080032, "TM", "text"),
    Field("content_time", "ContentTime", 0x00080033, "TM", "text"),
    Field("scan_options", "ScanOptions", 0x00180022, "CS", "text"),
    Field("frame_of_reference", "FrameOfReferenceUID", 0x00200052, "UI", "text"),
    Field("birth_date", "PatientBirthDate", 0x00100030, "DA", "text"),
    Field("age", "PatientAge", 0x00101010, "AS", "text"),
    Field("sex", "PatientSex", 0x00100040, "CS", "text"),
    Field("manufacturer", "Manufacturer", 0x00080070, "LO", "text"),
    Field("model", "ManufacturerModelName", 0x00081090, "LO", "text"),
    Field("kernel", "ConvolutionKernel", 0x00181210, "SH", "text"),
    Field("body_part", "BodyPartExamined", 0x00180015, "CS", "text"),
    Field("description", "SeriesDescription", 0x0008103E, "LO", "text"),
    Field("derivation", "DerivationDescription", 0x00082111, "ST", "text"),
    Field("contrast", "ContrastBolusAgent", 0x00180010, "LO", "text"),
    Field("photometric", "PhotometricInterpretation", 0x00280004, "CS", "text"),
    Field("lossy", "LossyImageCompression", 0x00282110, "CS", "text"),
    Field("lossy_ratio", "LossyImageCompressionRatio", 0x00282112, "DS", "text"),
    Field("lossy_method", "LossyImageCompressionMethod", 0x00282114, "CS", "text"),
    Field("rescale_type", "RescaleType", 0x00281054, "LO", "text"),
    Field("kvp", "KVP", 0x00180060, "DS", "number"),
    Field("thickness_mm", "SliceThickness", 0x00180050, "DS", "number"),
    Field("trigger_ms", "TriggerTime", 0x00181060, "DS", "number"),
    Field("cardiac_phase", "NominalPercentageOfCardiacPhase", 0x00209241, "FL", "number"),
    Field("slope", "RescaleSlope", 0x00281053, "DS", "number"),
    Field("intercept", "RescaleIntercept", 0x00281052, "DS", "number"),
    Field("rows", "Rows", 0x00280010, "US", "count"),
    Field("columns", "Columns", 0x00280011, "US", "count"),
    Field("frames", "NumberOfFrames", 0x00280008, "IS", "count"),
    Field("bits", "BitsAllocated", 0x00280100, "US", "count"),
    Field("bits_stored", "BitsStored", 0x00280101, "US", "count"),
    Field("high_bit", "HighBit", 0x00280102, "US", "count"),
    Field("signed", "PixelRepresentation", 0x00280103, "US", "count"),
    Field("samples", "SamplesPerPixel", 0x00280002, "US", "count"),
    Field("acquisition", "AcquisitionNumber", 0x00200012, "IS", "count"),
    Field("phase", "TemporalPositionIdentifier", 0x00200100, "IS", "count"),
    Field("padding", "PixelPaddingValue", 0x00280120, "US or SS", "count"),
    Field("padding_limit", "PixelPaddingRangeLimit", 0x00280121, "US or SS", "count"),
    Field("pixel_spacing_mm", "PixelSpacing", 0x00280030, "DS", "vector", 2),
    Field("orientation", "ImageOrientationPatient", 0x00200037, "DS", "vector", 6),
    Field("positions_mm", "ImagePositionPatient", 0x00200032, "DS", "vector", 3),
)
