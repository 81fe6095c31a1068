"""Decide which stacks can be measured, and choose one per study.

Every gate that a stack fails is kept, and the first is its reason. Of the acceptable stacks of a study, those that
were never compressed with loss go before others, and axial ones before reformats in other directions; then the class of
their values decides (`dicom.derived`): as the scanner measured them, derived, in doubt, of another spectrum. Thinness
never makes up for that. Among equals the stack with the highest
score is measured. Each part of the score lies between 0 and 1 and counts by its weight:

    spacing        thin slices, from positions: full at 1 mm or less, falling to 0 at 5.5 mm
    kernel         soft by its maker's naming; half where it is unknown, nothing for a sharp one
    extent         full from 400 mm on, in proportion below
    original       the image type says original, primary, axial
    field_of_view  full from 300 mm on, falling to 0 at 150 mm
    voltage        120 kV, falling to 0 at 40 kV away; half where it is unknown
    native         no contrast medium, by the header

A stack with slices at one position comes after all others. Ties go to the smaller pixels, then to more slices, then
to the smaller UID.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trabecula.dicom.derived import derivation_of
from trabecula.dicom.geometry import SAME_POSITION_MM, even_spacing_of, is_thick, normal_of, repeats_of_rotations
from trabecula.dicom.headers.record import LOSSY_ONCE
from trabecula.dicom.kinds import kind_of
from trabecula.dicom.stacks import Stack, reason_against_image
from trabecula.errors import StudyFailure
from trabecula.index.facts import tube_voltage

# Words of makers and users; how a patient lies is no part of the body.
_LYING = re.compile(r"\b(head|feet|foot) ?first\b|\barms? (up|down|over|by)\b")
_ELSEWHERE = re.compile(
    r"\b(head\w*|brain\w*|skull|crani\w*|neuro\w*|sinus\w*|orbits?|orbita|temporal|mastoid|dental|jaw|schaedel|sch.del|"
    r"(upper|lower)? ?extremit\w*|knees?|ankles?|foot|feet|hands?|wrists?|elbows?|shoulders?|arms?|legs?)\b"
)
_TRUNK = re.compile(
    r"\b(chest|thora\w*|lungs?|abd\w*|pelv\w*|spine|spinal|lumb\w*|lws|bws|columna|rachis|dorsal|trunk|torso|body|"
    r"wholebody|whole|liver|kidneys?|c/?a/?p|hips?|sacr\w*|back)\b"
)
SMALL_FIELD_MM = 320  # heads and limbs are scanned with less
_LONGER = 1.2  # so much longer than its other sides is a voxel of a reformat
TILTED = 0.05  # sine of about 3 degrees: gantries are tilted for heads
# Siemens: two digits in the kernel's name, 10 very soft to 80 very sharp. Canon and Toshiba: FC and two digits.
_SIEMENS = re.compile(r"^[BDHTUIJQ][A-Z]?(\d\d)")
_CANON = re.compile(r"^FC(\d\d)")
# Philips: a letter or two, from A (softest) on. Others say it in a word.
_SOFT = {"A", "B", "SA", "SB"}
_SHARP = {"D", "E", "F", "L", "YA", "YB", "YC", "YD", "YE", "YL"}
_SHARP_WORDS = re.compile(r"BONE|LUNG|SHARP|EDGE|ULTRA|CHST")
_SOFT_WORDS = re.compile(r"SOFT|SMOOTH|STAND|STND|ROUTINE|\bSTD\b|\bBODY\b")


@dataclass(frozen=True)
class Gates:
    """Limits within which a stack can be measured.

    Attributes
    ----------
    min_slices : int
        A stack with fewer slices is no volume, unless they are thick.
    min_extent_mm : float
        A shorter stack shows too little of the spine.
    thick_mm : float
        Slices further apart than this are flagged, and may be fewer.
    max_spacing_mm : float
        Slices further apart than this show too little of each vertebra.
    min_axial : float
        Part of the slices' normal that points along the body, as an absolute cosine.
    lossy : {"refuse", "accept"}
        Whether pixels can be measured that are stored without loss but were once compressed with loss, by the header.
    reformats : {"refuse", "accept"}
        Whether slices in other directions can be measured, where a study has no axial ones.
    max_gap_mm : float
        Uneven slices further apart than this can't be interpolated.
    """

    min_slices: int
    min_extent_mm: float
    thick_mm: float
    max_spacing_mm: float
    min_axial: float
    lossy: Literal["refuse", "accept"]
    reformats: Literal["refuse", "accept"]
    max_gap_mm: float


@dataclass(frozen=True)
class Weights:
    """Weight of each part of the score; see the module's docstring."""

    spacing: float
    kernel: float
    extent: float
    original: float
    field_of_view: float
    voltage: float
    native: float


def softness(kernel: str | None) -> float:
    """Rate a reconstruction kernel by its maker's naming: 1 soft, 0 sharp, 0.5 unknown or between.

    >>> softness("Br40d"), softness("BONEPLUS"), softness(None)
    (1.0, 0.0, 0.5)
    """
    name = (kernel or "").split("\\")[0].upper().strip()
    numbered = _CANON.match(name)
    if numbered:
        return float(int(numbered[1]) < 30)
    numbered = _SIEMENS.match(name)
    if numbered:
        return float(int(numbered[1]) < 50)
    if name in _SHARP or _SHARP_WORDS.search(name):
        return 0.0
    return 1.0 if name in _SOFT or _SOFT_WORDS.search(name) else 0.5


def score(stack: Stack, weights: Weights) -> float:
    """Give the score of a stack, as the module's docstring defines it."""
    header = stack.first
    original = (header.image_type or "").upper().startswith("ORIGINAL\\PRIMARY\\AXIAL")
    kvp = tube_voltage(header)
    voltage = 0.5 if kvp is None else max(0.0, 1 - abs(kvp - 120) / 40)
    return round(
        weights.spacing * min(1.0, max(0.0, (5.5 - (_apart_mm(stack) or 5.5)) / 4.5))
        + weights.kernel * softness(header.kernel)
        + weights.extent * min(1.0, length_mm(stack) / 400)
        + weights.original * original
        + weights.field_of_view * min(1.0, max(0.0, ((field_of_view_mm(stack) or 150) - 150) / 150))
        + weights.voltage * voltage
        + weights.native * (header.contrast is None),
        4,
    )


def field_of_view_mm(stack: Stack) -> float | None:
    """Give the smaller side of the slices, in millimetres; None where unknown."""
    header = stack.first
    if not (header.pixel_spacing_mm and header.rows and header.columns):
        return None
    between_rows, between_columns = header.pixel_spacing_mm
    return min(between_rows * header.rows, between_columns * header.columns)


def reasons_against(stack: Stack, gates: Gates) -> list[str]:
    """List why a stack can't be measured, keys of `trabecula.errors.REASONS`; nothing where it can."""
    no_image = reason_against_image(stack, accepts_lossy_once=gates.lossy == "accept")
    if no_image:
        return [no_image]
    spacing = stack.spacing_mm
    thick = spacing is not None and is_thick(_apart_mm(stack), gates.thick_mm)
    failed = {
        "head_or_extremity": evidence_of_elsewhere(stack) > 1,
        "not_axial": gates.reformats == "refuse" and is_reformat(stack, gates),
        "too_few_slices": spacing is None or (stack.n_slices < gates.min_slices and not thick),
        "too_short": length_mm(stack) < gates.min_extent_mm,
        "too_thick": spacing is not None and is_thick(_apart_mm(stack), gates.max_spacing_mm),
    }
    uneven = None if spacing is None else _uneven(stack, gates)
    return [reason for reason, holds in failed.items() if holds] + ([uneven] if uneven else [])


def flags_of(stack: Stack, gates: Gates) -> list[str]:
    """List the flags of a stack, keys of `trabecula.errors.FLAGS`."""
    flags = {
        "thick_slices": is_thick(_apart_mm(stack), gates.thick_mm),
        "lossy_once": _is_lossy_once(stack),
        "reformat": kind_of(stack.first) == "image" and _is_any_reformat(stack, gates),
        "elsewhere_by_text": evidence_of_elsewhere(stack) == 1 and _names_elsewhere(stack),
    }
    return [flag for flag, holds in flags.items() if holds] + stack.flags


def _is_lossy_once(stack: Stack) -> bool:
    return stack.first.loss == LOSSY_ONCE


def is_reformat(stack: Stack, gates: Gates) -> bool:
    """Tell whether slices lie in another direction than across the body, such as sagittal ones, whatever they say."""
    orientation = stack.first.orientation
    return orientation is not None and abs(normal_of(orientation)[2]) < gates.min_axial


def is_cut_from_reformat(stack: Stack) -> bool:
    """Tell whether a volume was made of slices in another direction, by voxels that are longest within axial slices.

    Scanners make square pixels; NIfTI files of sagittal reformats (VerSe) are cut into axial slices here.
    """
    short, long = sorted(stack.first.pixel_spacing_mm or [0.0, 0.0])
    return long > _LONGER * max(short, stack.spacing_mm or long)


def _is_any_reformat(stack: Stack, gates: Gates) -> bool:
    return is_reformat(stack, gates) or is_cut_from_reformat(stack)


def _apart_mm(stack: Stack) -> float:
    """Give the distance between slices as they were made; 0 where it is unknown."""
    return max(stack.first.pixel_spacing_mm or [0.0]) if is_cut_from_reformat(stack) else stack.spacing_mm or 0.0


def length_mm(stack: Stack) -> float:
    """Measure the part of the body that a stack covers from feet to head, in millimetres; 0 where that is unknown."""
    header, extent_mm = stack.first, stack.extent_mm
    if extent_mm is None or not (header.orientation and header.pixel_spacing_mm and header.rows and header.columns):
        return extent_mm or 0.0
    axes = (header.orientation[2], header.orientation[5], normal_of(header.orientation)[2])
    between_rows, between_columns = header.pixel_spacing_mm
    if abs(axes[2]) > np.sqrt(0.5):  # slices across the body, also where the gantry was tilted
        return extent_mm
    sizes_mm = (between_columns * header.columns, between_rows * header.rows, extent_mm)
    return float(sum(abs(axis) * size for axis, size in zip(axes, sizes_mm, strict=True)))


def evidence_of_elsewhere(stack: Stack) -> int:
    """Count the facts that speak for a head or an extremity; one alone is too weak, since texts are typed or preset.

    The texts are the body part and the description; any word for the trunk in them outweighs both. A tilted gantry
    counts too, and so does a small field of view, unless the slices were cropped.
    """
    if not _names_elsewhere(stack):
        return 0
    header = stack.first
    field_mm, square = field_of_view_mm(stack), header.rows == header.columns
    small = square and field_mm is not None and field_mm < SMALL_FIELD_MM
    texts = sum(bool(_ELSEWHERE.search(text)) for text in _texts(stack))
    return texts + small + _is_tilted(stack)


def _texts(stack: Stack) -> list[str]:
    texts = (stack.first.body_part, stack.first.description)
    return [_LYING.sub("", (text or "").lower().replace("_", " ")) for text in texts]


def _names_elsewhere(stack: Stack) -> bool:
    text = " ".join(_texts(stack))
    return bool(_ELSEWHERE.search(text)) and not _TRUNK.search(text)


def _is_tilted(stack: Stack) -> bool:
    """Tell whether the slices lean, by their directions: those of a trunk lie straight across the table."""
    orientation = stack.first.orientation
    return orientation is not None and 0.5 < abs(normal_of(orientation)[2]) < np.sqrt(1 - TILTED**2)


def _uneven(stack: Stack, gates: Gates) -> str | None:
    """Give the reason of `even_spacing_of`; slices at one position are left to convert, which sees the pixels."""
    distances = stack.distances_mm
    assert distances is not None
    different = distances[[True, *(distances[1:] - distances[:-1] >= SAME_POSITION_MM)]]
    try:
        even_spacing_of(different, max_gap_mm=gates.max_gap_mm)
    except StudyFailure as failure:
        return failure.reason
    return None


def _has_repeats(stack: Stack) -> bool:
    """Tell whether slices lie at one position: convert has to refuse them, unless their pixels are the same.

    Where rotations overlap, it keeps one of them.
    """
    distances = stack.distances_mm
    if distances is None or not (np.diff(distances) < SAME_POSITION_MM).any():
        return False
    return not repeats_of_rotations(distances).any()


def best(stacks: Iterable[Stack], gates: Gates, weights: Weights) -> Stack | None:
    """Choose the stack of a study that is measured; None where there is none to choose from."""

    def rank(stack: Stack) -> tuple[bool, bool, bool, int, float, float, int, str, int]:
        pixel_mm = (stack.first.pixel_spacing_mm or [0.0])[0]
        return (
            _has_repeats(stack),
            _is_lossy_once(stack),
            _is_any_reformat(stack, gates),
            derivation_of(stack.first).rank,
            -score(stack, weights),
            pixel_mm,
            -stack.n_slices,
            stack.identity.series_uid,
            stack.number,
        )

    return min(stacks, key=rank, default=None)
