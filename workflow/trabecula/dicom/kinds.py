"""Tell what a file shows by its header: a CT slice, a localizer, a projection, a page, or other values."""

from functools import lru_cache
from typing import Literal

from trabecula.dicom.headers.record import Header

Kind = Literal["image", "localizer", "projection", "other_values", "page"]

CT_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image Storage",
}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and the multi-frame classes below it
PAGE_TYPES = {"SCREEN SAVE", "SCREENSHOT", "PROT", "DOSE", "DOSE_INFO", "DOSE INFO", "PROTOCOL"}
PROJECTION_TYPES = {
    *("PROJECTION IMAGE", "MIP", "MINIP", "MIN_IP", "MAX_IP", "MEAN_IP", "VOLREND", "VOLUME_RENDER", "VRT"),
    *("SSD", "RAYSUM", "MAXIMUM", "MINIMUM", "SURFACE_RENDER"),
}
# Values of these are no Hounsfield units of the body (DICOM PS3.3 C.8.15.3.8 and C.8.16.2, and makers' words).
OTHER_VALUES = {
    *("SUBTRACTION", "IODINE", "IODINE_MAP", "VNC", "VNCA", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY", "PERFUSION"),
    *("MAT_SPECIFIC", "MAT_REMOVED", "MAT_FRACTIONAL", "MAT_VALUE_BASED", "MAT_MODIFIED"),
}


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
    words |= {word.split()[-1] for word in words if word}  # Siemens writes such as CT_SOM5 MIP
    if words & PAGE_TYPES or (sop_class or "").startswith(SECONDARY_CAPTURE):
        return "page"
    if not (photometric or "MONOCHROME2").startswith("MONOCHROME"):
        return "page"
    if "LOCALIZER" in words:
        return "localizer"
    if words & OTHER_VALUES:
        return "other_values"
    return "projection" if words & PROJECTION_TYPES else "image"
