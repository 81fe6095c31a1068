"""Which stacks can be measured, and which one of a study is.

A stack is refused for the first reason that holds (`reason_against`). Of a study's acceptable stacks the one with the
highest score is measured:

    3.0  thin slices: full at 1 mm or less, falling to 0 at 5.5 mm, from positions
    3.0  soft kernel; half of it where the kernel is unknown, nothing for a sharp one
    2.0  extent: full from 400 mm on, in proportion below
    1.0  original axial image; a derived one scores nothing here and is no less acceptable
    1.0  tube voltage of 120 kV, falling to 0 at 40 kV away; half where it is unknown
    0.5  no contrast medium, by the header

Ties go to the smaller pixels, then to more slices, then to the smaller UID.
"""

import re
from collections.abc import Iterable

from trabecula.errors import StudyFailure
from trabecula.geometry import SAME_POSITION_MM, normal_of, spacing_of
from trabecula.index.stacks import Stack

CT_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image Storage",
}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and the multi-frame classes below it
PAGE_TYPES = {"SCREEN SAVE", "SCREENSHOT", "CT_SOM5 PROT", "DOSE", "DOSE_INFO", "DOSE INFO", "PROTOCOL"}
MIN_AXIAL = 0.85  # part of the slice normal that points along the body, as an absolute cosine

_ELSEWHERE = re.compile(
    r"\b(head|brain|skull|cranium|neuro|sinus|orbits?|orbita|temporal|mastoid|dental|jaw|extremity|extremities|"
    r"upper ?extremity|lower ?extremity|knees?|ankles?|foot|feet|hands?|wrists?|elbows?|shoulders?|arms?|legs?)\b"
)
_TRUNK = re.compile(
    r"(chest|thora|lung|abd|pelv|spine|lumb|dorsal|trunk|torso|body|whole|liver|kidney|c/?a/?p\b|hip|sacr)"
)
# Siemens: two digits in the kernel's name, 10 very soft to 80 very sharp. Canon and Toshiba: FC and two digits.
_SIEMENS = re.compile(r"^[BDHTUIJQ][A-Z]?(\d\d)")
_CANON = re.compile(r"^FC(\d\d)")
_SOFT = {"STANDARD", "SOFT", "STND", "A", "B", "SA", "SB"}  # GE, then Philips
_SHARP = {"BONE", "BONEPLUS", "LUNG", "EDGE", "ULTRA", "CHST", "D", "E", "L", "YA", "YB", "YC", "YD", "YE"}


def softness(kernel: str | None) -> float:
    """How soft a reconstruction kernel is by its maker's naming: 1 soft, 0 sharp, 0.5 unknown."""
    name = (kernel or "").split("\\")[0].upper().strip()
    numbered = _CANON.match(name)
    if numbered:
        return float(int(numbered[1]) < 30)
    numbered = _SIEMENS.match(name)
    if numbered:
        return float(int(numbered[1]) < 50)
    return 1.0 if name in _SOFT else 0.0 if name in _SHARP else 0.5


def score(stack: Stack) -> float:
    """Score of an acceptable stack, 0 to 10.5; the module's docstring tells how it comes about."""
    header = stack.first
    spacing, extent = stack.spacing_mm or 5.5, stack.extent_mm or 0.0
    original = (header.image_type or "").upper().startswith("ORIGINAL\\PRIMARY\\AXIAL")
    voltage = 0.5 if header.kvp is None else max(0.0, 1 - abs(header.kvp - 120) / 40)
    return round(
        3.0 * min(1.0, max(0.0, (5.5 - spacing) / 4.5))
        + 3.0 * softness(header.kernel)
        + 2.0 * min(1.0, extent / 400)
        + 1.0 * original
        + 1.0 * voltage
        + 0.5 * (header.contrast is None),
        4,
    )


def reason_against(stack: Stack, *, min_slices: int, min_extent_mm: float, max_spacing_mm: float) -> str | None:
    """Why a stack can't be measured, as a key of `trabecula.errors.REASONS`; None where it can.

    Parameters
    ----------
    stack : Stack
        The stack.
    min_slices : int
        Fewer slices are no volume.
    min_extent_mm : float
        A shorter stack shows too little of the spine.
    max_spacing_mm : float
        Slices further apart show too little of each vertebra.
    """
    against = _not_a_slice(stack) or _no_hounsfield(stack) or _elsewhere(stack)
    if against:
        return against
    normal = normal_of(stack.first.orientation or ())
    if abs(normal[2]) < MIN_AXIAL:
        return "not_axial"
    if stack.n_slices < min_slices or stack.spacing_mm is None:
        return "too_few_slices"
    if (stack.extent_mm or 0.0) < min_extent_mm:
        return "too_short"
    if stack.spacing_mm > max_spacing_mm:
        return "too_thick"
    return _uneven(stack)


def _not_a_slice(stack: Stack) -> str | None:
    header = stack.first
    kinds = {part.strip().upper() for part in (header.image_type or "").split("\\")}
    if (header.sop_class or "").startswith(SECONDARY_CAPTURE) or kinds & PAGE_TYPES:
        return "secondary_capture"
    if header.modality != "CT" or header.sop_class not in CT_CLASSES:
        return "not_ct"
    if "LOCALIZER" in kinds:
        return "localizer"
    if not (header.photometric or "MONOCHROME2").startswith("MONOCHROME"):
        return "secondary_capture"
    return None


def _no_hounsfield(stack: Stack) -> str | None:
    header = stack.first
    if stack.distances_mm is None or header.pixel_spacing_mm is None or not (header.rows and header.columns):
        return "no_geometry"
    if header.is_lossy:
        return "lossy"
    if any(part.slope is None or part.intercept is None for part in stack.headers):
        return "no_rescale"
    return None


def _elsewhere(stack: Stack) -> str | None:
    """Weak evidence, since these texts are typed or preset: any word for the trunk outweighs it."""
    text = f"{stack.first.body_part or ''} {stack.first.description or ''}".lower().replace("_", " ")
    return "head_or_extremity" if _ELSEWHERE.search(text) and not _TRUNK.search(text) else None


def _uneven(stack: Stack) -> str | None:
    """Reason of `trabecula.geometry.spacing_of`; slices at one position are left to convert, which sees the pixels."""
    distances = stack.distances_mm
    assert distances is not None
    different = distances[[True, *(distances[1:] - distances[:-1] >= SAME_POSITION_MM)]]
    try:
        spacing_of(different)
    except StudyFailure as failure:
        return failure.reason
    return None


def best(stacks: Iterable[Stack]) -> Stack | None:
    """The stack of a study that is measured; None where there is none to choose from."""

    def rank(stack: Stack) -> tuple[float, float, int, str, int]:
        pixel_mm = (stack.first.pixel_spacing_mm or [0.0])[0]
        return -score(stack), pixel_mm, -stack.n_slices, stack.series_uid, stack.number

    return min(stacks, key=rank, default=None)
