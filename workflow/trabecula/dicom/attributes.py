"""Find DICOM attributes in a data set: at its top level, or in the functional groups of a frame."""

import math
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
POSITION = "ImagePositionPatient"
# Attributes of a frame, and the functional group that holds each (DICOM PS3.3 C.7.6.16 and C.8.15.3).
_GROUPS = {
    POSITION: "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
    "KVP": "CTXRayDetailsSequence",
    "FrameType": "CTImageFrameTypeSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
}
# Attributes that mean something only beside another one.
_BESIDE = {"RescaleIntercept": "RescaleSlope", "RescaleType": "RescaleSlope"}


class Attributes:
    """Attributes of a data set and of its frames.

    Where there is an item of functional groups for each frame, what they say of a frame goes before what stands at the
    top level: some programs leave values there that are those of another frame, or of none.

    Parameters
    ----------
    dataset : Dataset
        Data set, read at least up to its pixel data.

    Examples
    --------
    >>> dataset = Dataset()
    >>> dataset.PixelSpacing = ["0.7", "0.7"]
    >>> attributes = Attributes(dataset)
    >>> attributes.numbers("PixelSpacing", 2), attributes.numbers("PixelSpacing", 3)
    ([0.7, 0.7], None)
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._frames = list(self._top(PER_FRAME) or [])
        self._shared = next(iter(self._top(SHARED) or []), Dataset())
        self.n_described = len(self._frames)
        self._is_grouped: dict[str, bool] = {}
        self._are_all_described = self.n_described == int((self.numbers("NumberOfFrames", 1) or [1])[0])

    def value(self, keyword: str, frame: int = 0) -> Any:
        """Give an attribute's value for a frame; None where it is nowhere, and where the element is damaged."""
        try:
            if keyword not in _GROUPS or not self._are_all_described:
                top = self._top(keyword)
                return self._grouped(keyword, frame) if top is None else top
            content = self._grouped(keyword, frame)
            return self._top_of_frames(keyword) if content is None else content
        except Exception:  # pydicom decodes late, and damaged elements raise anything
            return None

    def numbers(self, keyword: str, length: int, frame: int = 0) -> list[float] | None:
        """Give the numbers of an attribute; None unless there are `length` of them, all finite."""
        content = self.value(keyword, frame)
        try:
            decimals = [float(part) for part in (content if isinstance(content, (MultiValue, list)) else [content])]
        except (TypeError, ValueError):
            return None
        return decimals if len(decimals) == length and all(map(math.isfinite, decimals)) else None

    def _top(self, keyword: str) -> Any:
        return self.dataset.get(keyword)

    def _top_of_frames(self, keyword: str) -> Any:
        """Give a value at the top level that stands for all frames; None where some frames have one of their own."""
        if keyword == POSITION and self.n_described > 1:
            return None
        keywords = (keyword, _BESIDE.get(keyword, keyword))
        return None if any(map(self._is_in_groups, keywords)) else self._top(keyword)

    def _is_in_groups(self, keyword: str) -> bool:
        if keyword not in self._is_grouped:
            items = (self._shared, *self._frames)
            self._is_grouped[keyword] = any(_in_item(item, keyword) is not None for item in items)
        return self._is_grouped[keyword]

    def _grouped(self, keyword: str, frame: int) -> Any:
        """Give an attribute's value in the functional groups of a frame, else in the shared ones."""
        for item in (*self._frames[frame : frame + 1], self._shared):
            content = _in_item(item, keyword)
            if content is not None:
                return content
        return None


def _in_item(item: Dataset, keyword: str) -> Any:
    """Give an attribute's value in the group to which it belongs, else in any other one."""
    home = item.get(_GROUPS.get(keyword, ""))
    others = (element.value for element in item if element.VR == "SQ")
    for group in (home, *others):
        if group and keyword in group[0]:
            return group[0].get(keyword)
    return None
