"""Reading of DICOM attributes that index and convert share."""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
# Transfer syntaxes that always lose information (DICOM PS3.5 A.4, and the retired ones of PS3.6); JPEG 2000 may, and
# says so elsewhere.
LOSSY = {f"1.2.840.10008.1.2.4.{number}" for number in (*range(50, 57), *range(59, 65), 81, *range(100, 109))}
SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom: its warnings quote values, so that identities would stand in the log."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def functional(dataset: Dataset, keyword: str, frame: int = 0) -> Any:
    """Value of an attribute: of the data set itself, else of a frame's own functional groups, else of the shared ones.

    Returns None where it is nowhere. Source: DICOM PS3.3 C.7.6.16 (multi-frame functional groups).
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
    """Like `functional`, None also where the element is damaged."""
    try:
        return functional(dataset, keyword, frame)
    except Exception:  # pydicom decodes late, and damaged elements raise anything
        return None


def numbers(dataset: Dataset, keyword: str, length: int, frame: int = 0) -> list[float] | None:
    """Numbers of an attribute (see `functional`); None where there aren't exactly so many, all of them finite."""
    found = value(dataset, keyword, frame)
    try:
        listed = [float(part) for part in (found if isinstance(found, (MultiValue, list)) else [found])]
    except (TypeError, ValueError):
        return None
    return listed if len(listed) == length and all(map(math.isfinite, listed)) else None
