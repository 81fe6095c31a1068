"""Read DICOM attributes; index and convert share this."""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
# Transfer syntaxes that always lose information (DICOM PS3.5 A.4, and the retired ones of PS3.6); JPEG 2000 may, and
# says so elsewhere.
LOSSY = {f"1.2.840.10008.1.2.4.{number}" for number in (*range(50, 57), *range(59, 65), 81, *range(100, 109))}
# Those that promise to lose nothing: uncompressed, deflated, RLE, and the lossless ones of JPEG, JPEG-LS, JPEG 2000,
# HTJ2K and JPEG XL. Of all others only the stream tells.
LOSSLESS = {str(uid) for uid in (*UNCOMPRESSED, DeflatedExplicitVRLittleEndian, RLELossless)}
LOSSLESS |= {f"1.2.840.10008.1.2.4.{number}" for number in (57, 58, 65, 66, 70, 80, 90, 110, 201, 202)}
SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom: its warnings quote values, so that identities would stand in the log."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def functional(dataset: Dataset, keyword: str, frame: int = 0) -> Any:
    """Give an attribute's value: from the data set itself, else from a frame's functional groups, else the shared ones.

    The value is None where the attribute is nowhere. Source: DICOM PS3.3 C.7.6.16 (multi-frame functional groups).
    """
    if keyword in dataset:
        return dataset.get(keyword)
    groups = [*(dataset.get(PER_FRAME) or [])[frame : frame + 1], *(dataset.get(SHARED) or [])[:1]]
    for item in groups:
        for element in item:
            if element.VR == "SQ" and element.value and keyword in element.value[0]:
                return element.value[0].get(keyword)
    return None


def value(dataset: Dataset, keyword: str, frame: int = 0) -> Any:
    """Give an attribute's value (see `functional`); None also where the element is damaged."""
    try:
        return functional(dataset, keyword, frame)
    except Exception:  # pydicom decodes late, and damaged elements raise anything
        return None


def numbers(dataset: Dataset, keyword: str, length: int, frame: int = 0) -> list[float] | None:
    """Give the numbers of an attribute (see `functional`); None unless there are `length` of them, all finite.

    >>> dataset = Dataset()
    >>> dataset.PixelSpacing = ["0.7", "0.7"]
    >>> numbers(dataset, "PixelSpacing", 2), numbers(dataset, "PixelSpacing", 3)
    ([0.7, 0.7], None)
    """
    content = value(dataset, keyword, frame)
    try:
        decimals = [float(part) for part in (content if isinstance(content, (MultiValue, list)) else [content])]
    except (TypeError, ValueError):
        return None
    return decimals if len(decimals) == length and all(map(math.isfinite, decimals)) else None
