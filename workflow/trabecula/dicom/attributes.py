"""Read DICOM attributes; index and convert share this."""

import math
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"


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
