"""Tell what a file shows by its header: a CT slice, a localizer, a projection, a page, or other values."""

from functools import lru_cache
from typing import Literal

from trabecula.dicom.derived import refusal, values_by_image_type
from trabecula.dicom.headers.record import Header

Kind = Literal["image", "localizer", "projection", "other_values", "page"]

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
CT_CLASSES = {
    CT_IMAGE: "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image Storage",
}
# Defined terms of Modality (DICOM PS3.3 C.7.3.1.1.1), with the retired ones, and PET, which some write for PT. Other
# words there, such as ANONYMIZED, say nothing.
_MODALITIES = """
ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL IVOCT IVUS KER
KO LEN LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE
RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC
AS CD CF CP CS DD DF DM DS EC FA FS LP MA MS OPR PET ST VF
"""
_KNOWN_MODALITIES = frozenset(_MODALITIES.split())
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and the multi-frame classes below it
PAGE_TYPES = {"SCREEN SAVE", "SCREENSHOT", "PROT", "DOSE", "DOSE_INFO", "DOSE INFO", "PROTOCOL"}


def is_ct(header: Header) -> bool:
    """Tell whether a file is a CT image, by its modality and storage class.

    Where Modality (0008,0060) or SOPClassUID (0008,0016) is missing, or no value of the standard (a tool that takes
    names out may have replaced it), the other one tells. Where they contradict each other, it is no CT.
    """
    return _is_ct(header.modality, header.sop_class, header.rows is not None)


@lru_cache(maxsize=1000)
def _is_ct(modality: str | None, sop_class: str | None, is_image: bool) -> bool:
    """Tell whether a file is a CT image. Raw data have classes of their makers' own, and no rows.

    >>> _is_ct("CT", "05703841015643452503", True), _is_ct("ANONYMIZED", "1.2.840.10008.5.1.4.1.1.2", True)
    (True, True)
    >>> _is_ct("MR", None, True), _is_ct("MR", "1.2.840.10008.5.1.4.1.1.2", True), _is_ct(None, None, True)
    (False, False, False)
    """
    word = (modality or "").strip().upper()
    by_modality = word == "CT" if word in _KNOWN_MODALITIES else None
    if sop_class in CT_CLASSES:
        return by_modality is not False
    return by_modality is True and (not sop_class or (is_image and not _is_class(sop_class)))


def _is_class(uid: str) -> bool:
    """Tell whether a UID names a storage class of the standard."""
    # Its dictionary takes a quarter of a second to load, and no plain CT needs it.
    from pydicom import config
    from pydicom.uid import UID

    return UID(uid, config.IGNORE).type == "SOP Class"


def ct_class_of(header: Header) -> str | None:
    """Give the storage class of a CT image, that of plain CT images where none is known; None for anything else."""
    if not is_ct(header):
        return None
    return header.sop_class if header.sop_class in CT_CLASSES else CT_IMAGE


def kind_of(header: Header) -> Kind:
    """Tell what a file shows, from its image type, storage class and photometric interpretation."""
    return _kind(header.image_type, header.sop_class, header.photometric)


@lru_cache(maxsize=1000)
def _kind(image_type: str | None, sop_class: str | None, photometric: str | None) -> Kind:
    r"""Tell what a file shows.

    >>> _kind("ORIGINAL\\PRIMARY\\AXIAL", None, None), _kind("DERIVED\\SECONDARY\\CT_SOM5 MIP", None, None)
    ('image', 'projection')
    """
    words = {part.strip().upper() for part in (image_type or "").split("\\")}
    words |= {word.split()[-1] for word in words if word}  # Siemens writes such as CT_SOM5 PROT
    if words & PAGE_TYPES or (sop_class or "").startswith(SECONDARY_CAPTURE):
        return "page"
    if not (photometric or "MONOCHROME2").startswith("MONOCHROME"):
        return "page"
    if "LOCALIZER" in words:
        return "localizer"
    return refusal(values_by_image_type(image_type)) or "image"
