"""Convert upright axial slices as archives hold them: a table of cases with their outcomes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from ct_files import UID, slice_of
from linear_stacks import (
    EXACT,
    MENDED,
    TWICE,
    VARIED,
    WHOLE,
    Box,
    at,
    beside_mm,
    change,
    check_codes,
    convert,
    cut,
    each,
    eight,
    error_hu,
    every,
    named,
    rescaled,
    scout,
    shuffled,
    stored,
    without,
)
from pydicom import uid
from pydicom.dataset import Dataset

RESAMPLED = {"gantry_tilt", "missing_slices", "irregular_spacing"}
OTHER = Box(0, 21, 8, 9)
MISSING, ODD, DOUBLE, DAMAGED = "missing_slices", "odd_slices", "duplicate_slices", "damaged_slices"


@dataclass(frozen=True)
class Case:
    """Slices, and the outcome that they must have.

    Attributes
    ----------
    name : str
        What is wrong with the slices.
    slices : function
        Makes them.
    volumes : list of Box
        What must be written and nothing else.
    repairs, flags : set of str
        Codes of each volume.
    failed : list of str
        Reasons of the failed entries; bars between reasons that are equally right, a question mark before an entry
        that need not be there.
    gap : float or None
        Largest distance between neighbouring slices; None where it does not matter.
    """

    name: str
    slices: Callable[[], list[Dataset]]
    volumes: Sequence[Box] = ()
    repairs: Iterable[str] = ()
    flags: Iterable[str] = ()
    failed: Sequence[str] = ()
    gap: float | None = None

    def __str__(self) -> str:
        return self.name


def turned(*heights: float, degrees: float, **attributes: Any) -> list[Dataset]:
    """Make slices that lean by an angle while their neighbours do not."""
    angle = np.radians(degrees)
    slices = [slice_of((-17, -20, z), (1, 0, 0, 0, np.cos(angle), np.sin(angle))) for z in heights]
    for dataset in slices:
        change(dataset, attributes)
    return slices


def four(first: float) -> list[Dataset]:
    """Make four of the eight slices."""
    return every(3, 4, first)


def denser(**attributes: Any) -> list[Dataset]:
    """Make the eight slices 9 HU denser, at the same places."""
    return every(3, 8, plus=9, **attributes)


def lost(*numbers: int) -> list[Dataset]:
    """Make the eight slices without some."""
    return without(eight(), *numbers)


def sized(height: float, *, pixel_mm: float = 1.5, **options: Any) -> Dataset:
    """Make a slice of another size in the stack."""
    return slice_of((-17, -20, height), pixel_mm=(2.0, pixel_mm), **options)


def clean(name: str, slices: Callable[[], list[Dataset]], box: Box = WHOLE) -> Case:
    return Case(name, slices, [box])


def refused(name: str, slices: Callable[[], list[Dataset]], *reasons: str) -> Case:
    return Case(name, slices, failed=reasons)


def flagged(flag: str, name: str, slices: Callable[[], list[Dataset]], *boxes: Box) -> Case:
    return Case(name, slices, boxes or [WHOLE], flags=[flag])


def filled(name: str, slices: Callable[[], list[Dataset]], gap: float, box: Box = WHOLE) -> Case:
    return Case(name, slices, [box], [MISSING], gap=gap)


def copied(name: str, slices: Callable[[], list[Dataset]]) -> Case:
    """The copies may have an entry, so that every file is accounted for, and are no repair."""
    return Case(name, slices, [WHOLE], failed=["?duplicate_file"], gap=3)


def doubled(name: str, slices: Callable[[], list[Dataset]]) -> Case:
    return Case(name, slices, [WHOLE], [DOUBLE], gap=3)


def split(name: str, slices: Callable[[], list[Dataset]], *boxes: Box) -> Case:
    return Case(name, slices, boxes, flags=["split"])


def beside(name: str, slices: Callable[[], list[Dataset]], reason: str) -> Case:
    """The odd slice takes no other's place."""
    return Case(name, lambda: [*eight(), *slices()], [WHOLE], [ODD], failed=[reason], gap=3)


def in_place(name: str, slices: Callable[[], list[Dataset]], reason: str) -> Case:
    """The odd slice stands where slice 4, at 12 mm, would be."""
    return Case(name, lambda: [*lost(4), *slices()], [WHOLE], [ODD, MISSING], failed=[reason], gap=6)


def damaged(name: str, slices: Callable[[], list[Dataset]], gap: float, box: Box = WHOLE) -> Case:
    repairs = [DAMAGED] if gap == 3 else [DAMAGED, MISSING]
    return Case(name, slices, [box], repairs, failed=["?truncated"] * 2, gap=gap)


SIZE, TURN = "too_few_slices|mixed_matrix", "too_few_slices|mixed_orientation"
CAPTURE, PET = uid.SecondaryCaptureImageStorage, uid.PositronEmissionTomographyImageStorage
SCOUT, DERIVED = ["ORIGINAL", "PRIMARY", "LOCALIZER"], ["DERIVED", "SECONDARY", "AXIAL"]
TIMES = [f"1010{second:02d}.25" for second in range(16)]
MASK = 0x0FFF
HARDLY_LARGER = [[2.0, 1.50005 + (-1) ** k * 1e-6] for k in range(8)]  # by some nanometres
USUAL = [(1, -1024)] * 8

UPRIGHT = [
    clean("nothing", eight),
    clean("files in another order", lambda: eight()[::-1]),
    clean("files in no order", lambda: shuffled(eight())),
    clean("instance numbers backwards", lambda: each(eight(), "InstanceNumber", range(8, 0, -1))),
    clean("no instance numbers", lambda: eight(InstanceNumber=None)),
    clean("the same instance number everywhere", lambda: eight(InstanceNumber=1)),
    clean("wrong slice locations", lambda: each(eight(), "SliceLocation", range(8, 0, -1))),
    clean("no thickness", lambda: eight(SliceThickness=None, SpacingBetweenSlices=None)),
    clean("tilt tag over upright slices", lambda: eight(GantryDetectorTilt=20)),
    clean("negative tilt tag over upright slices", lambda: eight(GantryDetectorTilt=-17.5)),
    clean("a Chinese name", lambda: eight(SpecificCharacterSet="GB18030", PatientName="张^三")),
    clean("numbers with exponents", lambda: eight(RescaleSlope="1.0E+00", PixelSpacing=["2.0e0", "+1.50"])),
    clean("padding after the pixels", lambda: eight(DataSetTrailingPadding=bytes(20))),
    clean("pixels that round to either side", lambda: each(eight(), "PixelSpacing", HARDLY_LARGER)),
    clean("two slices", lambda: every(3, 2), Box(0, 3, 2)),
    clean("slices 12 mm apart", lambda: every(12, 5, -48), Box(-48, 0, 5)),
    clean("slices 0.4 mm apart", lambda: every(0.4, 8), Box(0, 2.8, 8)),
    clean("first and last missing", lambda: lost(0, 7), Box(3, 18, 6)),
    refused("one slice", lambda: at(0), "too_few_slices"),
    refused("another modality", lambda: eight(Modality="MR"), "not_ct"),
    refused("PET", lambda: eight(Modality="PT", SOPClassUID=PET), "not_ct"),
    refused("screenshots", lambda: eight(SOPClassUID=CAPTURE), "secondary_capture"),
    Case("a scout series", lambda: [*eight(), *scout(SeriesInstanceUID=f"{UID}.8")], [WHOLE], failed=["localizer"]),
    Case("two series", lambda: [*eight(), *denser(SeriesInstanceUID=f"{UID}.8")], [WHOLE, OTHER]),
    Case(
        "two studies under one series UID",
        lambda: [*eight(), *denser(StudyInstanceUID=f"{UID}.2")],
        [WHOLE, OTHER],
    ),
    flagged("implausible_hu", "HU of no patient", lambda: every(3, 8, plus=1500), Box(0, 21, 8, 1500)),
    # --- missing slices
    filled("one missing", lambda: lost(3), 6),
    filled("two missing at 3 mm", lambda: lost(3, 4), 9),
    filled("two gaps", lambda: lost(2, 5), 6),
    filled("gaps of two sizes", lambda: without(every(3, 12, -12), 2, 3, 8), 9, Box(-12, 21, 12)),
    filled("second missing", lambda: lost(1), 6),
    filled("last but one missing", lambda: lost(6), 6),
    filled("second and last but one missing", lambda: lost(1, 6), 6),
    filled("one of four missing", lambda: at(0, 3, 9), 6, Box(0, 9, 4)),
    filled("a gap of 10 mm at 5 mm", lambda: without(every(5, 8), 4), 10, Box(0, 35, 8)),
    filled("a gap of 10 mm at 2.5 mm", lambda: without(every(2.5, 9), 3, 4, 5), 10, Box(0, 20, 9)),
    filled("a gap of 10 mm at 1.25 mm", lambda: without(every(1.25, 16), *range(4, 11)), 10, Box(0, 18.75, 16)),
    filled("a gap of 10 mm at 0.625 mm", lambda: without(every(0.625, 30), *range(8, 23)), 10, Box(0, 18.125, 30)),
    refused("a gap of 10.5 mm at 3.5 mm", lambda: without(every(3.5, 8), 3, 4), MISSING),
    refused("a gap of 12 mm at 3 mm", lambda: without(every(3, 9), 3, 4, 5), MISSING),
    refused("a gap of 10.4 mm at 0.8 mm", lambda: without(every(0.8, 26), *range(6, 18)), MISSING),
    refused("one missing at 6 mm", lambda: without(every(6, 6, -30), 3), MISSING),
    refused("a gap of 99 mm", lambda: [*every(3, 6, -114), *every(3, 6, 0)], MISSING),
    # --- duplicates
    copied("one file twice", lambda: named([*eight(), *at(9)], *range(8), 3)),
    copied("all files twice", lambda: named([*eight(), *eight()], *range(8), *range(8))),
    copied("all files three times", lambda: named([*eight(), *eight(), *eight()], *[*range(8)] * 3)),
    clean("one instance UID for all slices", lambda: eight(SOPInstanceUID=TWICE[0])),
    doubled("one slice under two UIDs", lambda: [*eight(), *at(9)]),
    doubled("one slice under four UIDs", lambda: [*eight(), *at(9, 9, 9)]),
    doubled("end slices under two UIDs", lambda: [*eight(), *at(0, 21)]),
    doubled("all slices under two UIDs", lambda: [*eight(), *eight()]),
    Case("a slice twice beside a gap", lambda: [*lost(4), *at(9)], [WHOLE], [DOUBLE, MISSING], gap=6),
    refused("other pixels at one place", lambda: [*eight(), *at(9, plus=9)], "duplicate_position"),
    refused("other pixels at every place", lambda: [*eight(), *denser()], "duplicate_position"),
    refused(
        "phases under one number",
        lambda: [*eight(AcquisitionNumber=1), *denser(AcquisitionNumber=1)],
        "duplicate_position",
    ),
    refused(
        "phases, one with a hole of 18 mm",
        lambda: [*every(3, 10, AcquisitionNumber=1), *without(every(3, 10, plus=9, AcquisitionNumber=2), *range(3, 8))],
        "duplicate_position|missing_slices",
    ),
    split("phases by number", lambda: [*eight(AcquisitionNumber=1), *denser(AcquisitionNumber=2)], WHOLE, OTHER),
    split(
        "phases by time",
        lambda: [*eight(AcquisitionTime="101010"), *denser(AcquisitionTime="1011")],
        WHOLE,
        OTHER,
    ),
    split("phases by image type", lambda: [*eight(), *denser(ImageType=DERIVED)], WHOLE, OTHER),
    split(
        "three phases by number",
        lambda: [part for k in (1, 2, 3) for part in every(3, 8, plus=9 * k, AcquisitionNumber=k)],
        *(Box(0, 21, 8, 9 * k) for k in (1, 2, 3)),
    ),
    split(
        "three phases by time under one number",
        lambda: [
            part
            for k in (1, 2, 3)
            for part in every(3, 8, plus=9 * k, AcquisitionNumber=1, AcquisitionTime=f"10101{k}")
        ],
        *(Box(0, 21, 8, 9 * k) for k in (1, 2, 3)),
    ),
    split(
        "phases of other lengths",
        lambda: [*eight(AcquisitionNumber=1), *every(3, 5, 3, plus=9, AcquisitionNumber=2)],
        *(WHOLE, Box(3, 15, 5, 9)),
    ),
    clean("GE numbers every slice", lambda: each(eight(), "AcquisitionNumber", range(1, 9))),
    split(
        "GE numbers every slice, two phases in time",
        lambda: each([*eight(AcquisitionTime="1010"), *denser(AcquisitionTime="1011")], "AcquisitionNumber", range(16)),
        *(WHOLE, OTHER),
    ),
    clean("a time for every slice", lambda: each(eight(), "AcquisitionTime", TIMES[:8])),
    split(
        "a time for every slice, two phases by number",
        lambda: each([*eight(AcquisitionNumber=1), *denser(AcquisitionNumber=2)], "AcquisitionTime", TIMES),
        *(WHOLE, OTHER),
    ),
    # --- stations
    split(
        "overlapping stations",
        lambda: [*every(3, 8, -21, AcquisitionNumber=1), *every(3, 8, -6, plus=9, AcquisitionNumber=2)],
        *(Box(-21, 0, 8), Box(-6, 15, 8, 9)),
    ),
    split(
        "overlapping stations that do not meet",
        lambda: [*every(3, 8, -21, AcquisitionNumber=1), *every(3, 8, -4.5, AcquisitionNumber=2)],
        *(Box(-21, 0, 8), Box(-4.5, 16.5, 8)),
    ),
    split(
        "overlapping stations that do not meet, other pixels",
        lambda: [*every(3, 8, -21, AcquisitionNumber=1), *every(3, 8, -4.5, plus=9, AcquisitionNumber=2)],
        *(Box(-21, 0, 8), Box(-4.5, 16.5, 8, 9)),
    ),
    split(
        "stations far apart",
        lambda: [*every(3, 6, -60, AcquisitionNumber=1), *every(3, 6, 0, AcquisitionNumber=2)],
        *(Box(-60, -45, 6), Box(0, 15, 6)),
    ),
    split(
        "stations of other spacing",
        lambda: [*every(3, 6, -30, AcquisitionNumber=1), *every(5, 5, -4, AcquisitionNumber=2)],
        *(Box(-30, -15, 6), Box(-4, 16, 5)),
    ),
    flagged("?split", "two kernels", lambda: [*eight(), *denser(ConvolutionKernel="BONE")], WHOLE, OTHER),
    flagged(
        "?split",
        "two kernels of other spacing",
        lambda: [*eight(), *every(1, 20, 1, plus=9, ConvolutionKernel="BONE")],
        *(WHOLE, Box(1, 20, 20, 9)),
    ),
    # --- odd slices
    beside("a localizer", scout, "localizer"),
    beside("an axial localizer", lambda: at(10, ImageType=SCOUT), "localizer"),
    beside("an odd matrix", lambda: [sized(9, shape=(18, 24))], SIZE),
    beside("an odd matrix at the end", lambda: [sized(24, shape=(18, 24))], SIZE),
    beside("odd pixels", lambda: [sized(9, pixel_mm=1.6)], SIZE),
    beside("an oblique slice", lambda: turned(10, degrees=20), TURN),
    beside("a coronal slice", lambda: [slice_of((-17, 0, 40), (1, 0, 0, 0, 0, -1))], TURN),
    in_place("an odd matrix in place", lambda: [sized(12, shape=(18, 24))], SIZE),
    in_place("a transposed matrix in place", lambda: [sized(12, shape=(24, 20))], SIZE),
    in_place("odd pixels in place", lambda: [sized(12, pixel_mm=1.6)], SIZE),
    in_place("an oblique slice in place", lambda: turned(12, degrees=-5), TURN),
    in_place("a slice without a position", lambda: at(12, ImagePositionPatient=None), "no_geometry"),
    in_place("a slice with an empty position", lambda: at(12, ImagePositionPatient=""), "no_geometry"),
    in_place("a slice without an orientation", lambda: at(12, ImageOrientationPatient=None), "no_geometry"),
    in_place("a slice without pixel spacing", lambda: at(12, PixelSpacing=None), "no_geometry"),
    Case(
        "odd pixels and an odd matrix",
        lambda: [*lost(2, 5), sized(6, pixel_mm=1.6), sized(15, shape=(18, 24))],
        *([WHOLE], [ODD, MISSING]),
        failed=[SIZE] * 2,
        gap=6,
    ),
    refused("no positions", lambda: eight(ImagePositionPatient=None), "no_geometry"),
    refused(
        "an odd matrix in a gap of 12 mm",
        lambda: [*without(every(6, 8, -42), 4), sized(-18, shape=(18, 24))],
        MISSING,
        SIZE,
    ),
    # --- stored values
    flagged("rescale_varies", "a rescale for each slice", lambda: rescaled(eight(), VARIED)),
    flagged("rescale_varies", "another intercept in one slice", lambda: rescaled(eight(), [*USUAL[1:], (1, -1000)])),
    flagged("rescale_varies", "another slope in one slice", lambda: rescaled(eight(), [(0.5, -1024), *USUAL[1:]])),
    Case(
        "signed and unsigned slices",
        lambda: [*four(0), *stored(four(12), "<u2", 16, -2000)],
        [WHOLE],
        flags=["rescale_varies", "?encoding_varies"],
    ),
    clean("a broken slope", lambda: rescaled(eight(), [(0.25, -1024.5)] * 8)),
    refused("no slope", lambda: eight(RescaleSlope=None), "no_rescale"),
    refused("no intercept", lambda: eight(RescaleIntercept=None), "no_rescale"),
    refused("no rescale", lambda: eight(RescaleSlope=None, RescaleIntercept=None), "no_rescale"),
    refused("an empty slope", lambda: eight(RescaleSlope=""), "no_rescale"),
    flagged("monochrome1", "MONOCHROME1", lambda: eight(PhotometricInterpretation="MONOCHROME1")),
    refused("lossy by the header", lambda: eight(LossyImageCompression="01"), "lossy"),
    clean("lossless by the header", lambda: eight(LossyImageCompression="00")),
    clean("12 bits unsigned", lambda: stored(eight(), "<u2", 12, -1024)),
    clean("16 bits unsigned", lambda: stored(eight(), "<u2", 16, -1024)),
    clean("16 bits unsigned, above 32767", lambda: stored(eight(), "<u2", 16, -40000)),
    clean("16 bits signed, HU as they are", lambda: stored(eight(), "<i2", 16, 0)),
    clean("12 bits signed, sign extended", lambda: stored(eight(), "<i2", 12, 0)),
    clean("12 bits signed, upper bits empty", lambda: stored(eight(), "<i2", 12, 0, lambda v: v & MASK)),
    clean("an overlay in the upper bits", lambda: stored(eight(), "<u2", 12, -1024, lambda v: v | 0x5000)),
    clean("an overlay above signed bits", lambda: stored(eight(), "<i2", 12, 0, lambda v: v & MASK | 0x3000)),
    clean("8 bits", lambda: stored(eight(), "u1", 8, -150)),
    clean("padding mark on tissue", lambda: eight(PixelPaddingValue=964)),
    clean("padding mark on air", lambda: eight(PixelPaddingValue=0)),
    clean("padding mark at 3000 HU", lambda: eight(PixelPaddingValue=4024)),
    # --- damage
    damaged("cut pixels in the middle", lambda: cut(eight(), 3), 6),
    damaged("cut pixels in two neighbours", lambda: cut(eight(), 3, 4), 9),
    damaged("cut pixels at the end", lambda: cut(eight(), 7), 3, Box(0, 18, 7)),
    damaged("cut pixels at both ends", lambda: cut(eight(), 0, 7), 3, Box(3, 18, 6)),
    damaged("no pixels in one", lambda: [*lost(4), *at(12, PixelData=None)], 6),
    refused("cut pixels over 12 mm", lambda: cut(every(3, 9), 3, 4, 5), MISSING + "|truncated", "?truncated"),
    refused("no pixels in all", lambda: eight(PixelData=None), "truncated"),
    refused("cut pixels in all", lambda: cut(eight(), *range(8)), "truncated"),
    Case(
        "cut pixels of the second of two copies",
        lambda: named(cut([*eight(), *at(9)], 8), *range(8), 3),
        *([WHOLE], ["?" + DAMAGED]),
        failed=["?truncated", "?duplicate_file"],
    ),
    Case(
        "cut pixels of the first of two copies",
        lambda: named(cut([*at(9), *eight()], 0), 3, *range(8)),
        *([WHOLE], ["?" + DAMAGED]),
        failed=["?truncated", "?duplicate_file"],
    ),
]


@pytest.mark.parametrize("case", UPRIGHT, ids=str)
def test_upright_slices_become_what_the_table_says(tmp_path, case):
    entries, volumes = convert(tmp_path, case.slices())
    check_codes([entry["reason"] for entry in entries if entry["status"] == "failed"], case.failed)
    done = [entry for entry in entries if entry["status"] == "ok"]
    assert len(done) == len(case.volumes)
    tolerance = MENDED if RESAMPLED & set(case.repairs) else EXACT
    left = list(range(len(volumes)))
    for box in case.volumes:
        errors = {k: error_hu(volumes[k], box.plus) + beside_mm(volumes[k], box) for k in left}
        k = min(errors, key=lambda k: errors[k])
        left.remove(k)
        assert volumes[k].array.size == 24 * 20 * box.n
        assert beside_mm(volumes[k], box) <= 0.01
        assert error_hu(volumes[k], box.plus) <= tolerance
        assert done[k]["tilt_degrees"] == pytest.approx(0, abs=0.05)
        check_codes(done[k]["repairs"], list(case.repairs))
        # Where slices lie so far apart, whether they count as thick is not this test's question.
        coarse = done[k]["largest_gap_mm"] > 3
        check_codes(done[k]["flags"], [*case.flags, *(["?thick_slices"] if coarse else [])])
        if case.gap is not None:
            assert done[k]["largest_gap_mm"] == pytest.approx(case.gap, abs=0.01)


@pytest.mark.parametrize(
    ("dropped", "used"),
    [((), 8), ((3,), 7), ((3, 4), 6)],
)
def test_slices_in_use_are_counted_and_not_those_made_up(tmp_path, dropped, used):
    (entry,), (ct,) = convert(tmp_path, without(every(3, 8), *dropped))
    assert entry["n_slices"] == used and entry["n_files"] == used
    assert 8 in ct.array.shape


@pytest.mark.parametrize("spacing", [0.6, 1.1, 3.0, 5.0])
def test_what_is_said_of_a_stack_does_not_hang_on_where_it_lies(tmp_path, spacing):
    """The last digit of a spacing depends on the place; nothing else may."""
    outcomes = []
    for number, first in enumerate((0.0, -30.0, -31.7)):
        (entry,), _ = convert(tmp_path / f"{number}", every(spacing, 8, first))
        outcomes.append((entry["repairs"], entry["flags"], entry["shape"]))
    assert outcomes[1:] == outcomes[:-1]
