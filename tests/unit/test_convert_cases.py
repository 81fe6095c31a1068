"""What `convert` makes of archives as they are: a table of cases, each with slices whose HU are linear in the patient.

One number then checks voxels and affine together, on upright, tilted and mended stacks alike.
"""

import io
import json
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from ct_files import UID, compressed, ct_dataset, linear_hu, save, save_all, save_as, save_briefly, slice_of
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel import nifti1
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from scipy.spatial.transform import Rotation

from trabecula.convert.by_hand import convert_folder
from trabecula.dicom.attributes import quiet
from trabecula.image.volume import Volume, bounds_mm

Entry = dict[str, Any]

EXACT, MENDED = 0.51, 1.01  # HU: rounding of the stored value; and once more after interpolation
RESAMPLED = {"gantry_tilt", "missing_slices", "irregular_spacing"}
KEYS = {
    *("file", "status", "reason", "detail", "repairs", "flags", "largest_gap_mm", "tilt_degrees"),
    *("n_slices", "shape", "spacing_mm", "n_files"),
}


# --- the measure --------------------------------------------------------------------------------------


def convert(tmp_path: Path, datasets: Sequence[Dataset]) -> tuple[list[Entry], list[Volume]]:
    """Entries and volumes that a folder of these data sets gives."""
    save_briefly(datasets, tmp_path / "in")
    return converted(tmp_path / "in", tmp_path / "out")


def converted(folder: Path, out: Path) -> tuple[list[Entry], list[Volume]]:
    """Entries and volumes of a folder, after a look at what holds for every conversion."""
    entries = convert_folder(folder, out)
    assert json.loads((out / "convert.json").read_text()) == entries
    for entry in entries:
        assert set(entry) >= KEYS
        assert (entry["status"], entry["reason"] is None, entry["file"] is None) in {
            ("ok", True, False),
            ("failed", False, True),
        }
    written = [entry["file"] for entry in entries if entry["file"]]
    assert sorted({"convert.json", *written}) == sorted(path.name for path in out.iterdir())
    return entries, [read(out / entry["file"], entry) for entry in entries if entry["file"]]


def read(path: Path, entry: Entry) -> Volume:
    """A written volume by nibabel: int16, one upright grid in both of NIfTI's forms, as its entry says."""
    image = nifti1.load(path)
    array, affine = np.asanyarray(image.dataobj), np.asarray(image.affine)
    assert array.dtype == np.int16 and array.min() >= -1024
    (sform, sform_code), (qform, qform_code) = image.get_sform(coded=True), image.get_qform(coded=True)
    assert sform_code > 0 and qform_code > 0
    np.testing.assert_allclose(sform, qform, atol=1e-3)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / spacing
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-4)
    assert list(array.shape) == entry["shape"]
    np.testing.assert_allclose(spacing, entry["spacing_mm"], atol=1e-3)
    return Volume(array, affine)


def grid_mm(ct: Volume) -> NDArray[np.float64]:
    """(n, 3) places of all voxels."""
    return ct.to_mm(np.moveaxis(np.indices(ct.array.shape), 0, -1).reshape(-1, 3))


def error_hu(ct: Volume, plus: float = 0.0) -> float:
    """Largest difference from the field that the slices were written from."""
    return float(np.abs((linear_hu(grid_mm(ct)) + plus).clip(-1024) - ct.array.ravel()).max())


def sorted_by_height(slices: Iterable[Dataset]) -> tuple[NDArray, NDArray, NDArray]:
    """(3, 3) axes of the slices, LPS+, their (n, 3) positions and (n,) heights along the normal, lowest first."""
    listed = list(slices)
    row, column = np.reshape(np.array(listed[0].ImageOrientationPatient, float), (2, 3))
    normal = np.cross(row, column)
    positions = np.array([part.ImagePositionPatient for part in listed], float)
    order = np.argsort(positions @ normal)
    return np.array([row, column, normal]), positions[order], (positions @ normal)[order]


def check_shows(ct: Volume, slices: Sequence[Dataset], tolerance: float, *, ends: bool = True) -> None:
    """Compare a volume with the slices that it must be made of, wherever they lie.

    Between the outlines of the slices the field has to be right, beside them there is air, and half a voxel around
    their edges either will do. The volume must hold every slice, the last ones too where `ends` says so.
    """
    axes, positions, heights = sorted_by_height(slices)
    sizes = np.array([slices[0].Columns, slices[0].Rows]) - 1
    steps = np.array([slices[0].PixelSpacing[1], slices[0].PixelSpacing[0]], float)
    points = grid_mm(ct)
    lps = points * [-1, -1, 1]
    height = lps @ axes[2]
    assert heights[0] - 0.01 <= height.min() and height.max() <= heights[-1] + 0.01
    above = np.searchsorted(heights, height - 2e-3).clip(0, len(heights) - 1)
    on_a_slice = np.abs(heights[above] - height) < 2e-3
    below = np.where(on_a_slice, above, (above - 1).clip(0))
    inside, outside = np.ones(len(points), bool), np.ones(len(points), bool)
    for neighbour in (below, above):
        place = (lps - positions[neighbour]) @ axes[:2].T / steps
        inside &= np.all((place >= -1e-3) & (place <= sizes + 1e-3), axis=1)
        outside &= np.any((place < -0.51) | (place > sizes + 0.51), axis=1)
    values = ct.array.ravel()
    assert inside.sum() > 0.5 * len(slices) * (sizes + 1).prod()
    assert np.abs(linear_hu(points) - values)[inside].max() <= tolerance
    assert np.all(values[outside] == -1024)
    if not ends:
        return
    corners = [
        position + axes[0] * i * sizes[0] * steps[0] + axes[1] * j * sizes[1] * steps[1]
        for position in (positions[0], positions[-1])
        for i in (0, 1)
        for j in (0, 1)
    ]
    voxels = ct.to_voxels(np.array(corners) * [-1, -1, 1])
    assert np.all((voxels > -0.5) & (voxels < np.array(ct.array.shape) - 0.5))


# --- a table of upright axial slices --------------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """A volume of the slices of `at`: lowest and highest slice in mm, their number, and what `at` added."""

    low: float
    high: float
    n: int
    plus: float = 0.0


@dataclass(frozen=True)
class Case:
    """Slices, and what has to become of them.

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


def at(*heights: float, plus: float = 0.0, **attributes: Any) -> list[Dataset]:
    """Axial slices at heights; attributes as in `ct_dataset`, None removes one."""
    slices = [slice_of((-17, -20, z), hu=lambda p: linear_hu(p) + plus) for z in heights]
    for number, dataset in enumerate(slices):
        dataset.InstanceNumber = number + 1
        _change(dataset, attributes)
    return slices


def every(step: float, n: int, first: float = 0.0, **options: Any) -> list[Dataset]:
    """Slices at even heights."""
    return at(*(first + step * k for k in range(n)), **options)


def each(slices: list[Dataset], keyword: str, values: Iterable[Any]) -> list[Dataset]:
    """Give each slice its own value of an attribute."""
    for dataset, own in zip(slices, values, strict=True):
        _change(dataset, {keyword: own})
    return slices


def _change(dataset: Dataset, attributes: dict[str, Any]) -> None:
    for keyword, own in attributes.items():
        if own is not None:
            setattr(dataset, keyword, own)
        elif keyword in dataset:
            delattr(dataset, keyword)


def turned(*heights: float, degrees: float, **attributes: Any) -> list[Dataset]:
    """Slices that lean by an angle while their neighbours do not."""
    angle = np.radians(degrees)
    slices = [slice_of((-17, -20, z), (1, 0, 0, 0, np.cos(angle), np.sin(angle))) for z in heights]
    for dataset in slices:
        _change(dataset, attributes)
    return slices


def scout(**attributes: Any) -> list[Dataset]:
    """A coronal localizer, as scanners put it into the series that was planned on it."""
    image = slice_of((-17, 0, 40), (1, 0, 0, 0, 0, -1), shape=(30, 24))
    _change(image, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]} | attributes)
    return [image]


def rescaled(slices: list[Dataset], rescales: Iterable[tuple[float, float]]) -> list[Dataset]:
    """The same HU, stored under a slope and an intercept for each slice."""
    for dataset, (slope, intercept) in zip(slices, rescales, strict=True):
        hu = np.frombuffer(dataset.PixelData, "<i2") - 1024.0
        dataset.PixelData = np.rint((hu - intercept) / slope).astype("<i2").tobytes()
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    return slices


def cut(slices: list[Dataset], *numbers: int) -> list[Dataset]:
    """Take half of the pixels from some slices."""
    for number in numbers:
        slices[number].PixelData = slices[number].PixelData[: len(slices[number].PixelData) // 2]
    return slices


def without(slices: list[Dataset], *numbers: int) -> list[Dataset]:
    """Leave some slices out."""
    return [dataset for number, dataset in enumerate(slices) if number not in numbers]


def stored(
    slices: list[Dataset], dtype: str, bits: int, intercept: float, under: Callable[[NDArray], NDArray] | None = None
) -> list[Dataset]:
    """The same HU, stored with another type and intercept; `under` changes what stands in the file."""
    for dataset in slices:
        hu = np.frombuffer(dataset.PixelData, "<i2").astype(np.int64) - 1024
        values = hu - int(intercept)
        values = (values if under is None else under(values)).astype(dtype)
        dataset.PixelData = values.tobytes()
        dataset.RescaleIntercept = intercept
        dataset.BitsAllocated = values.dtype.itemsize * 8
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        dataset.PixelRepresentation = int(np.dtype(dtype).kind == "i")
    return slices


WHOLE, OTHER = Box(0, 21, 8), Box(0, 21, 8, 9)
TWICE = [f"{UID}.7.{k}" for k in range(8)]
MISSING, ODD, DOUBLE, DAMAGED = "missing_slices", "odd_slices", "duplicate_slices", "damaged_slices"


def shuffled(slices: list[Dataset]) -> list[Dataset]:
    """Eight slices in no order."""
    return [slices[k] for k in (5, 0, 7, 3, 1, 6, 2, 4)]


def one(**attributes: Any) -> list[Dataset]:
    """The eight slices of most cases."""
    return every(3, 8, **attributes)


def half(first: float) -> list[Dataset]:
    """Four of the eight."""
    return every(3, 4, first)


def other(**attributes: Any) -> list[Dataset]:
    """Other pixels at the same places."""
    return every(3, 8, plus=9, **attributes)


def lost(*numbers: int) -> list[Dataset]:
    """The eight slices without some."""
    return without(one(), *numbers)


def named(slices: list[Dataset], *numbers: int) -> list[Dataset]:
    """Slices with instance UIDs by number: the same number is the same instance."""
    return each(slices, "SOPInstanceUID", [TWICE[number] for number in numbers])


def sized(height: float, *, pixel_mm: float = 1.5, **options: Any) -> Dataset:
    """A slice of another size in the stack."""
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
    return Case(name, lambda: [*one(), *slices()], [WHOLE], [ODD], failed=[reason], gap=3)


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
VARIED = [(1 - 0.05 * k, -1024 + 10 * k) for k in range(8)]

UPRIGHT = [
    clean("nothing", one),
    clean("files in another order", lambda: one()[::-1]),
    clean("files in no order", lambda: shuffled(one())),
    clean("instance numbers backwards", lambda: each(one(), "InstanceNumber", range(8, 0, -1))),
    clean("no instance numbers", lambda: one(InstanceNumber=None)),
    clean("the same instance number everywhere", lambda: one(InstanceNumber=1)),
    clean("wrong slice locations", lambda: each(one(), "SliceLocation", range(8, 0, -1))),
    clean("no thickness", lambda: one(SliceThickness=None, SpacingBetweenSlices=None)),
    clean("tilt tag over upright slices", lambda: one(GantryDetectorTilt=20)),
    clean("negative tilt tag over upright slices", lambda: one(GantryDetectorTilt=-17.5)),
    clean("a Chinese name", lambda: one(SpecificCharacterSet="GB18030", PatientName="张^三")),
    clean("numbers with exponents", lambda: one(RescaleSlope="1.0E+00", PixelSpacing=["2.0e0", "+1.50"])),
    clean("padding after the pixels", lambda: one(DataSetTrailingPadding=bytes(20))),
    clean("pixels that round to either side", lambda: each(one(), "PixelSpacing", HARDLY_LARGER)),
    clean("two slices", lambda: every(3, 2), Box(0, 3, 2)),
    clean("slices 12 mm apart", lambda: every(12, 5, -48), Box(-48, 0, 5)),
    clean("slices 0.4 mm apart", lambda: every(0.4, 8), Box(0, 2.8, 8)),
    clean("first and last missing", lambda: lost(0, 7), Box(3, 18, 6)),
    refused("one slice", lambda: at(0), "too_few_slices"),
    refused("another modality", lambda: one(Modality="MR"), "not_ct"),
    refused("PET", lambda: one(Modality="PT", SOPClassUID=PET), "not_ct"),
    refused("screenshots", lambda: one(SOPClassUID=CAPTURE), "secondary_capture"),
    Case("a scout series", lambda: [*one(), *scout(SeriesInstanceUID=f"{UID}.8")], [WHOLE], failed=["localizer"]),
    Case("two series", lambda: [*one(), *other(SeriesInstanceUID=f"{UID}.8")], [WHOLE, OTHER]),
    Case("two studies under one series UID", lambda: [*one(), *other(StudyInstanceUID=f"{UID}.2")], [WHOLE, OTHER]),
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
    copied("one file twice", lambda: named([*one(), *at(9)], *range(8), 3)),
    copied("all files twice", lambda: named([*one(), *one()], *range(8), *range(8))),
    copied("all files three times", lambda: named([*one(), *one(), *one()], *[*range(8)] * 3)),
    clean("one instance UID for all slices", lambda: one(SOPInstanceUID=TWICE[0])),
    doubled("one slice under two UIDs", lambda: [*one(), *at(9)]),
    doubled("one slice under four UIDs", lambda: [*one(), *at(9, 9, 9)]),
    doubled("end slices under two UIDs", lambda: [*one(), *at(0, 21)]),
    doubled("all slices under two UIDs", lambda: [*one(), *one()]),
    Case("a slice twice beside a gap", lambda: [*lost(4), *at(9)], [WHOLE], [DOUBLE, MISSING], gap=6),
    refused("other pixels at one place", lambda: [*one(), *at(9, plus=9)], "duplicate_position"),
    refused("other pixels at every place", lambda: [*one(), *other()], "duplicate_position"),
    refused(
        "phases under one number",
        lambda: [*one(AcquisitionNumber=1), *other(AcquisitionNumber=1)],
        "duplicate_position",
    ),
    refused(
        "phases, one with a hole of 18 mm",
        lambda: [*every(3, 10, AcquisitionNumber=1), *without(every(3, 10, plus=9, AcquisitionNumber=2), *range(3, 8))],
        "duplicate_position|missing_slices",
    ),
    split("phases by number", lambda: [*one(AcquisitionNumber=1), *other(AcquisitionNumber=2)], WHOLE, OTHER),
    split("phases by time", lambda: [*one(AcquisitionTime="101010"), *other(AcquisitionTime="1011")], WHOLE, OTHER),
    split("phases by image type", lambda: [*one(), *other(ImageType=DERIVED)], WHOLE, OTHER),
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
        lambda: [*one(AcquisitionNumber=1), *every(3, 5, 3, plus=9, AcquisitionNumber=2)],
        *(WHOLE, Box(3, 15, 5, 9)),
    ),
    clean("GE numbers every slice", lambda: each(one(), "AcquisitionNumber", range(1, 9))),
    split(
        "GE numbers every slice, two phases in time",
        lambda: each([*one(AcquisitionTime="1010"), *other(AcquisitionTime="1011")], "AcquisitionNumber", range(16)),
        *(WHOLE, OTHER),
    ),
    clean("a time for every slice", lambda: each(one(), "AcquisitionTime", TIMES[:8])),
    split(
        "a time for every slice, two phases by number",
        lambda: each([*one(AcquisitionNumber=1), *other(AcquisitionNumber=2)], "AcquisitionTime", TIMES),
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
    flagged("?split", "two kernels", lambda: [*one(), *other(ConvolutionKernel="BONE")], WHOLE, OTHER),
    flagged(
        "?split",
        "two kernels of other spacing",
        lambda: [*one(), *every(1, 20, 1, plus=9, ConvolutionKernel="BONE")],
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
    refused("no positions", lambda: one(ImagePositionPatient=None), "no_geometry"),
    refused(
        "an odd matrix in a gap of 12 mm",
        lambda: [*without(every(6, 8, -42), 4), sized(-18, shape=(18, 24))],
        MISSING,
        SIZE,
    ),
    # --- stored values
    flagged("rescale_varies", "a rescale for each slice", lambda: rescaled(one(), VARIED)),
    flagged("rescale_varies", "another intercept in one slice", lambda: rescaled(one(), [*USUAL[1:], (1, -1000)])),
    flagged("rescale_varies", "another slope in one slice", lambda: rescaled(one(), [(0.5, -1024), *USUAL[1:]])),
    Case(
        "signed and unsigned slices",
        lambda: [*half(0), *stored(half(12), "<u2", 16, -2000)],
        [WHOLE],
        flags=["rescale_varies", "?encoding_varies"],
    ),
    clean("a broken slope", lambda: rescaled(one(), [(0.25, -1024.5)] * 8)),
    refused("no slope", lambda: one(RescaleSlope=None), "no_rescale"),
    refused("no intercept", lambda: one(RescaleIntercept=None), "no_rescale"),
    refused("no rescale", lambda: one(RescaleSlope=None, RescaleIntercept=None), "no_rescale"),
    refused("an empty slope", lambda: one(RescaleSlope=""), "no_rescale"),
    flagged("monochrome1", "MONOCHROME1", lambda: one(PhotometricInterpretation="MONOCHROME1")),
    refused("lossy by the header", lambda: one(LossyImageCompression="01"), "lossy"),
    clean("lossless by the header", lambda: one(LossyImageCompression="00")),
    clean("12 bits unsigned", lambda: stored(one(), "<u2", 12, -1024)),
    clean("16 bits unsigned", lambda: stored(one(), "<u2", 16, -1024)),
    clean("16 bits unsigned, above 32767", lambda: stored(one(), "<u2", 16, -40000)),
    clean("16 bits signed, HU as they are", lambda: stored(one(), "<i2", 16, 0)),
    clean("12 bits signed, sign extended", lambda: stored(one(), "<i2", 12, 0)),
    clean("12 bits signed, upper bits empty", lambda: stored(one(), "<i2", 12, 0, lambda v: v & MASK)),
    clean("an overlay in the upper bits", lambda: stored(one(), "<u2", 12, -1024, lambda v: v | 0x5000)),
    clean("an overlay above signed bits", lambda: stored(one(), "<i2", 12, 0, lambda v: v & MASK | 0x3000)),
    clean("8 bits", lambda: stored(one(), "u1", 8, -150)),
    clean("padding mark on tissue", lambda: one(PixelPaddingValue=964)),
    clean("padding mark on air", lambda: one(PixelPaddingValue=0)),
    clean("padding mark at 3000 HU", lambda: one(PixelPaddingValue=4024)),
    # --- damage
    damaged("cut pixels in the middle", lambda: cut(one(), 3), 6),
    damaged("cut pixels in two neighbours", lambda: cut(one(), 3, 4), 9),
    damaged("cut pixels at the end", lambda: cut(one(), 7), 3, Box(0, 18, 7)),
    damaged("cut pixels at both ends", lambda: cut(one(), 0, 7), 3, Box(3, 18, 6)),
    damaged("no pixels in one", lambda: [*lost(4), *at(12, PixelData=None)], 6),
    refused("cut pixels over 12 mm", lambda: cut(every(3, 9), 3, 4, 5), MISSING + "|truncated", "?truncated"),
    refused("no pixels in all", lambda: one(PixelData=None), "truncated"),
    refused("cut pixels in all", lambda: cut(one(), *range(8)), "truncated"),
    Case(
        "cut pixels of the second of two copies",
        lambda: named(cut([*one(), *at(9)], 8), *range(8), 3),
        *([WHOLE], ["?" + DAMAGED]),
        failed=["?truncated", "?duplicate_file"],
    ),
    Case(
        "cut pixels of the first of two copies",
        lambda: named(cut([*at(9), *one()], 0), 3, *range(8)),
        *([WHOLE], ["?" + DAMAGED]),
        failed=["?truncated", "?duplicate_file"],
    ),
]


@pytest.mark.parametrize("case", UPRIGHT, ids=str)
def test_upright_slices_become_what_the_table_says(tmp_path, case):
    entries, volumes = convert(tmp_path, case.slices())
    _check_codes([entry["reason"] for entry in entries if entry["status"] == "failed"], case.failed)
    done = [entry for entry in entries if entry["status"] == "ok"]
    assert len(done) == len(case.volumes)
    tolerance = MENDED if RESAMPLED & set(case.repairs) else EXACT
    left = list(range(len(volumes)))
    for box in case.volumes:
        errors = {k: error_hu(volumes[k], box.plus) + _beside_mm(volumes[k], box) for k in left}
        k = min(errors, key=lambda k: errors[k])
        left.remove(k)
        assert volumes[k].array.size == 24 * 20 * box.n
        assert _beside_mm(volumes[k], box) <= 0.01
        assert error_hu(volumes[k], box.plus) <= tolerance
        assert done[k]["tilt_degrees"] == pytest.approx(0, abs=0.05)
        _check_codes(done[k]["repairs"], list(case.repairs))
        # Where slices lie so far apart, whether they count as thick is not this test's question.
        coarse = done[k]["largest_gap_mm"] > 3
        _check_codes(done[k]["flags"], [*case.flags, *(["?thick_slices"] if coarse else [])])
        if case.gap is not None:
            assert done[k]["largest_gap_mm"] == pytest.approx(case.gap, abs=0.01)


def _beside_mm(ct: Volume, box: Box) -> float:
    """How far the corners of a volume lie off those of the slices it must show."""
    low, high = bounds_mm(ct)
    wanted = (-17.5, -18.0, box.low), (17.0, 20.0, box.high)
    return float(np.abs(np.subtract((low, high), wanted)).max())


def _check_codes(codes: Sequence[str], wanted: Sequence[str]) -> None:
    """Each code is wanted, and each wanted code that is not optional is there."""
    left = list(codes)
    for choice in sorted(wanted, key=lambda text: text.startswith("?")):
        found = next((code for code in left if code in choice.strip("?").split("|")), None)
        assert found or choice.startswith("?"), f"{choice} is not among {codes}"
        if found:
            left.remove(found)
    assert not left, f"{left} beyond {wanted}"


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
    said = []
    for number, first in enumerate((0.0, -30.0, -31.7)):
        (entry,), _ = convert(tmp_path / f"{number}", every(spacing, 8, first))
        said.append((entry["repairs"], entry["flags"], entry["shape"]))
    assert said[1:] == said[:-1]


# --- spacing that is no multiple of the usual one ----------------------------------------------------------


@pytest.mark.parametrize(
    "heights",
    [
        pytest.param((0, 3, 6.2, 9.1, 12, 15), id="mildly uneven"),
        pytest.param((0, 3, 6, 9, 13, 17, 21), id="3 then 4 mm"),
        pytest.param((0, 3, 6, 9, 14, 19, 24), id="3 then 5 mm"),
        pytest.param((-30, -23, -16, -9, -5, -1, 3, 7, 11), id="7 then 4 mm"),
        pytest.param((0, 3, 6, 9, 12, 14), id="last slice too near"),
        pytest.param((0, 2, 5, 8, 11, 14), id="first slice too near"),
        pytest.param((0, 3, 6, 9, 12, 16), id="last slice too far"),
        pytest.param((0, 4, 7, 10, 13, 16), id="first slice too far"),
        pytest.param((0, 3, 6, 10, 13, 16), id="one odd step"),
        pytest.param((0, 3, 6, 16, 19, 22), id="one step of 10 mm"),
        pytest.param((0, 2, 4, 6, 15, 17, 19), id="one step of 9 mm"),
    ],
)
@pytest.mark.parametrize("descending", [False, True])
def test_variable_spacing_is_mended_up_to_ten_millimetres(tmp_path, heights, descending):
    slices = at(*([-z for z in heights] if descending else heights))
    (entry,), (ct,) = convert(tmp_path, slices)
    assert entry["status"] == "ok" and entry["repairs"] == ["irregular_spacing"]
    assert entry["largest_gap_mm"] == pytest.approx(np.diff(heights).max(), abs=0.01)
    assert error_hu(ct) <= MENDED
    # The grid has the usual spacing and need not end on both end slices; it must reach nearly there and not beyond.
    low, high = bounds_mm(ct)
    first, last = sorted(
        (min(s.ImagePositionPatient[2] for s in slices), max(s.ImagePositionPatient[2] for s in slices))
    )
    usual = np.median(np.diff(heights))
    assert first - 0.01 <= low[2] < first + usual and last - usual < high[2] <= last + 0.01
    assert min(np.diff(heights)) - 0.01 <= ct.spacing_mm[2] <= max(np.diff(heights)) + 0.01


@pytest.mark.parametrize(
    "heights",
    [
        pytest.param((0, 3, 6, 17, 20, 23), id="11 mm inside"),
        pytest.param((0, 3, 6, 9, 20), id="11 mm at the end"),
        pytest.param((0, 10.4, 13.4, 16.4, 19.4), id="10.4 mm at the start"),
    ],
)
def test_a_larger_step_that_is_no_multiple_is_refused(tmp_path, heights):
    (entry,), _ = convert(tmp_path, at(*heights))
    assert entry["reason"] == "irregular_spacing"


@pytest.mark.parametrize("spacing", [0.625, 0.8, 1.25, 2.4])
def test_positions_with_one_decimal_are_even(tmp_path, spacing):
    (entry,), (ct,) = convert(tmp_path, at(*(round(spacing * k, 1) for k in range(12))))
    assert entry["repairs"] == []
    # Up to 0.05 mm of the position is rounding, and the field rises by 1.7 HU per millimetre.
    assert error_hu(ct) <= EXACT + 1.7 * 0.11


def test_a_gap_among_positions_with_one_decimal_is_mended(tmp_path):
    heights = [round(0.625 * k, 1) for k in range(24) if not 8 <= k < 14]
    (entry,), (ct,) = convert(tmp_path, at(*heights))
    assert entry["repairs"] in (["missing_slices"], ["irregular_spacing"])
    assert error_hu(ct) <= MENDED + 1.7 * 0.11


@pytest.mark.parametrize("beside_mm", [0.8, 5.0, -30.0])
@pytest.mark.parametrize("number", [0, 3, 7])
def test_a_slice_beside_the_others_is_not_stacked_as_it_comes(tmp_path, beside_mm, number):
    slices = one()
    slices[number] = slice_of((-17 + beside_mm, -20, 3 * number))
    entries, volumes = convert(tmp_path, slices)
    if volumes:
        (entry,) = [entry for entry in entries if entry["status"] == "ok"]
        assert entry["repairs"] and "gantry_tilt" not in entry["repairs"]
        assert error_hu(volumes[0]) <= MENDED
    else:
        assert {entry["reason"] for entry in entries} <= {"irregular_spacing", "missing_slices"}


# --- gantry tilt -------------------------------------------------------------------------------------------


def tilted(
    degrees: float, n: int = 7, step: float = 4.0, *, direction: int = 1, feet: bool = False, **options: Any
) -> list[Dataset]:
    """Slices that lean forwards or backwards and are stacked along the table, head up or (`feet`) mirrored."""
    angle = np.radians(degrees)
    row = -1.0 if feet else 1.0  # turns the normal to the feet
    orientation = (row, 0.0, 0.0, 0.0, np.cos(angle), np.sin(angle))
    return [slice_of((-17.0 * row, -20.0, direction * step * k), orientation, **options) for k in range(n)]


# At 30 degrees each slice lies one whole row beside its neighbour, where rounding can take either row.
@pytest.mark.parametrize("degrees", [-30.0, -2.0, 3.0, 18.5, 30.0])
@pytest.mark.parametrize("direction", [1, -1], ids=["ascending", "descending"])
@pytest.mark.parametrize("feet", [False, True], ids=["head first", "feet first"])
def test_a_tilted_stack_is_made_upright_in_its_place(tmp_path, degrees, direction, feet):
    slices = tilted(degrees, direction=direction, feet=feet)
    (entry,), (ct,) = convert(tmp_path, slices)
    assert entry["repairs"] == ["gantry_tilt"] and entry["flags"] in ([], ["thick_slices"])
    assert abs(entry["tilt_degrees"]) == pytest.approx(abs(degrees), abs=0.1)
    assert sorted(ct.spacing_mm) == pytest.approx(sorted([1.5, 2.0, 4.0 * np.cos(np.radians(degrees))]), abs=1e-3)
    check_shows(ct, slices, MENDED)


@pytest.mark.parametrize("tag", [18.5, -18.5, 0.0, 5.0])
@pytest.mark.parametrize("degrees", [18.5, -18.5])
def test_a_tilt_tag_changes_nothing(tmp_path, tag, degrees):
    """It may have the wrong sign, the wrong size or be absent: positions tell the tilt."""
    bare, marked = tilted(degrees), tilted(degrees)
    for dataset in marked:
        dataset.GantryDetectorTilt = tag
    _, (wanted,) = convert(tmp_path / "bare", bare)
    (entry,), (ct,) = convert(tmp_path / "marked", marked)
    assert entry["repairs"] == ["gantry_tilt"]
    np.testing.assert_array_equal(ct.array, wanted.array)
    np.testing.assert_array_equal(ct.affine, wanted.affine)


@pytest.mark.parametrize("degrees", [-20.0, 20.0])
@pytest.mark.parametrize("direction", [1, -1], ids=["ascending", "descending"])
def test_a_landmark_in_a_tilted_stack_stays_where_it_is_in_the_patient(tmp_path, degrees, direction):
    middle = np.array([-1.0, -2.5, direction * 15.0])  # RAS

    def with_landmark(points: np.ndarray) -> np.ndarray:
        return linear_hu(points) + 800 * np.exp(-((points - middle) ** 2).sum(-1) / (2 * 4.0**2))

    _, (ct,) = convert(tmp_path, tilted(degrees, 9, direction=direction, hu=with_landmark))
    points = grid_mm(ct)
    weights = (ct.array.ravel() - linear_hu(points)) * (np.linalg.norm(points - middle, axis=1) < 12)
    np.testing.assert_allclose(weights @ points / weights.sum(), middle, atol=0.2)


def test_a_stack_that_leans_sideways_is_made_upright(tmp_path):
    """No gantry turns that way, but sheared series come out of reformatting."""
    slices = [slice_of((-17.0 + 0.8 * k, -20.0 - 0.5 * k, 4.0 * k)) for k in range(7)]
    (entry,), (ct,) = convert(tmp_path, slices)
    assert entry["repairs"] == ["gantry_tilt"]
    check_shows(ct, slices, MENDED)


def test_an_oblique_upright_stack_is_not_taken_for_a_tilted_one(tmp_path):
    angle = np.radians(20.0)
    orientation = (1.0, 0.0, 0.0, 0.0, np.cos(angle), np.sin(angle))
    slices = [
        slice_of(np.array([-17.0, -20.0, 0.0]) + 4 * k * np.array([0, -np.sin(angle), np.cos(angle)]), orientation)
        for k in range(7)
    ]
    (entry,), (ct,) = convert(tmp_path, each(slices, "GantryDetectorTilt", [20.0] * 7))
    assert entry["repairs"] == [] and entry["tilt_degrees"] == pytest.approx(0, abs=0.05)
    check_shows(ct, slices, EXACT)


@pytest.mark.parametrize("degrees", [-15.0, 15.0])
@pytest.mark.parametrize("dropped", [(3,), (1,), (5,), (1, 5)])
def test_a_tilted_stack_with_a_gap_gets_both_repairs(tmp_path, degrees, dropped):
    slices = without(tilted(degrees), *dropped)
    (entry,), (ct,) = convert(tmp_path, slices)
    assert sorted(entry["repairs"]) == ["gantry_tilt", "missing_slices"]
    assert entry["largest_gap_mm"] == pytest.approx(8 * np.cos(np.radians(15)), abs=0.05)
    assert entry["n_slices"] == len(slices)
    check_shows(ct, slices, MENDED)


@pytest.mark.parametrize("degrees", [-15.0, 15.0])
def test_a_tilted_stack_of_variable_spacing_gets_both_repairs(tmp_path, degrees):
    orientation = tilted(degrees, 1)[0].ImageOrientationPatient
    slices = [slice_of((-17, -20, z), orientation) for z in (0, 4, 8, 12, 18, 24, 30)]
    (entry,), (ct,) = convert(tmp_path, slices)
    assert sorted(entry["repairs"]) == ["gantry_tilt", "irregular_spacing"]
    assert np.abs(entry["tilt_degrees"]) == pytest.approx(15, abs=0.1)
    points = grid_mm(ct)
    filled = ct.array.ravel() > -1000
    off = np.abs(linear_hu(points) - ct.array.ravel())[filled]
    assert (off <= MENDED).mean() > 0.85 and np.median(off) <= 1  # the rest lies within half a voxel of an edge


def test_a_gap_beyond_ten_millimetres_is_refused_in_a_tilted_stack_too(tmp_path):
    (entry,), _ = convert(tmp_path, without(tilted(15.0), 3, 4))
    assert entry["reason"] == "missing_slices"


def test_padding_does_not_bleed_into_a_tilted_slice(tmp_path):
    """What lies far below air counts as air before slices are mixed, else the edge of the view would darken."""
    slices = tilted(12.0)
    for dataset in slices:
        values = np.frombuffer(dataset.PixelData, "<i2").reshape(20, 24).copy()
        values[:, :6] = -2000  # HU -3024
        dataset.PixelData = values.tobytes()
    _, (ct,) = convert(tmp_path, slices)
    values = ct.array.ravel()
    column = np.rint((-grid_mm(ct)[:, 0] + 17) / 1.5)  # as acquired: the lean keeps x
    assert np.all(values[column < 6] == -1024)
    filled = (column >= 6) & (values > -1024)
    off = np.abs(linear_hu(grid_mm(ct))[filled] - values[filled])
    assert np.mean(off <= MENDED) > 0.85 and np.median(off) <= 1  # the rest lies within half a voxel of an edge


# --- orientations --------------------------------------------------------------------------------------------

ORIENTATIONS = {
    "supine": (1, 0, 0, 0, 1, 0),
    "prone": (-1, 0, 0, 0, -1, 0),
    "decubitus left": (0, -1, 0, 1, 0, 0),
    "decubitus right": (0, 1, 0, -1, 0, 0),
    "supine, mirrored rows": (-1, 0, 0, 0, 1, 0),
    "prone, mirrored rows": (1, 0, 0, 0, -1, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "oblique": tuple(Rotation.from_euler("xyz", (17, -23, 31), degrees=True).as_matrix().T[:2].ravel()),
    "oblique, mirrored": tuple(
        (Rotation.from_euler("xyz", (-12, 8, 140), degrees=True).as_matrix() * [1, -1, -1]).T[:2].ravel()
    ),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
@pytest.mark.parametrize("direction", [1, -1], ids=["along the normal", "against it"])
def test_any_orientation_is_right_by_the_affine(tmp_path, orientation, direction):
    """Feet first is a word in PatientPosition that changes no coordinate: LPS is the patient's."""
    row, column = np.reshape(np.array(orientation, float), (2, 3))
    corner = -row * 17.0 - column * 20.0
    slices = [slice_of(corner + direction * 2.5 * k * np.cross(row, column), orientation) for k in range(6)]
    (entry,), (ct,) = convert(tmp_path, each(slices, "PatientPosition", ["HFS" if direction > 0 else "FFP"] * 6))
    assert entry["repairs"] == [] and entry["tilt_degrees"] == pytest.approx(0, abs=0.05)
    assert sorted(ct.array.shape) == [6, 20, 24]
    check_shows(ct, slices, EXACT)
    assert error_hu(ct) <= EXACT


@pytest.mark.parametrize("edge", [0.005, 0.015, 0.0005, 0.00005])
def test_directions_that_round_to_either_side_are_one_stack(tmp_path, edge):
    """Slices of one scan differ in the last digits of their directions; groups must not be cut there."""
    middle = np.array([0, -edge, 1]) / np.hypot(1, edge)
    slices = [
        slice_of(np.array([-17.0, -20, 0]) + 3 * k * middle, (1, 0, 0, 0, 1, edge + (-1) ** k * 1e-5)) for k in range(8)
    ]
    (entry,), (ct,) = convert(tmp_path, slices)
    assert entry["repairs"] == [] and entry["n_slices"] == 8
    assert error_hu(ct) <= EXACT


# --- multi-frame -----------------------------------------------------------------------------------------------


def enhanced(slices: Sequence[Dataset], *, own: Sequence[str], **attributes: Any) -> Dataset:
    """Slices as the frames of one Enhanced CT; attributes named in `own` stand with each frame, others are shared."""
    macros = {
        "PlanePositionSequence": ["ImagePositionPatient"],
        "PlaneOrientationSequence": ["ImageOrientationPatient"],
        "PixelMeasuresSequence": ["PixelSpacing", "SliceThickness"],
        "PixelValueTransformationSequence": ["RescaleSlope", "RescaleIntercept"],
    }

    def group(dataset: Dataset, *, shared: bool) -> Dataset:
        found = Dataset()
        for sequence, keywords in macros.items():
            if (sequence in own) != shared and all(keyword in dataset for keyword in keywords):
                item = Dataset()
                for keyword in keywords:
                    setattr(item, keyword, dataset[keyword].value)
                setattr(found, sequence, Items([item]))
        return found

    given: dict[str, Any] = {
        "SOPClassUID": uid.EnhancedCTImageStorage,
        "NumberOfFrames": len(slices),
        "Rows": slices[0].Rows,
        "Columns": slices[0].Columns,
        "RescaleSlope": None,
        "RescaleIntercept": None,
        "SliceThickness": None,
        "SharedFunctionalGroupsSequence": Items([group(slices[0], shared=True)]),
        "PerFrameFunctionalGroupsSequence": Items([group(dataset, shared=False) for dataset in slices]),
        "PixelData": b"".join(dataset.PixelData for dataset in slices),
    }
    return ct_dataset(**given | attributes)


POSITION, RESCALE = "PlanePositionSequence", "PixelValueTransformationSequence"
ALL = [POSITION, RESCALE, "PlaneOrientationSequence", "PixelMeasuresSequence"]
LEGACY = uid.LegacyConvertedEnhancedCTImageStorage


@pytest.mark.parametrize(
    ("make", "repairs", "flags"),
    [
        pytest.param(lambda: enhanced(every(3, 8), own=[POSITION]), [], [], id="geometry and rescale shared"),
        pytest.param(lambda: enhanced(every(3, 8), own=ALL), [], [], id="all of it with each frame"),
        pytest.param(lambda: enhanced(shuffled(every(3, 8)), own=[POSITION]), [], [], id="frames shuffled"),
        pytest.param(lambda: enhanced(every(3, 8)[::-1], own=ALL), [], [], id="frames descending"),
        pytest.param(
            lambda: enhanced(shuffled(rescaled(every(3, 8), VARIED)), own=ALL),
            [],
            ["?rescale_varies"],
            id="frames shuffled, each with its rescale",
        ),
        pytest.param(
            lambda: enhanced(every(3, 8), own=[POSITION], PhotometricInterpretation="MONOCHROME1"),
            [],
            ["monochrome1"],
            id="MONOCHROME1",
        ),
        pytest.param(lambda: enhanced(every(3, 8), own=[POSITION], SOPClassUID=LEGACY), [], [], id="legacy converted"),
        pytest.param(
            lambda: enhanced(shuffled(rescaled(every(3, 8), VARIED)), own=ALL, SOPClassUID=LEGACY),
            [],
            ["?rescale_varies"],
            id="legacy converted and shuffled, each with its rescale",
        ),
        pytest.param(
            lambda: enhanced(without(every(3, 8), 4), own=[POSITION]), ["missing_slices"], [], id="a frame is missing"
        ),
        pytest.param(
            lambda: enhanced(
                stored(every(3, 8), "<u2", 12, -1024), own=[POSITION], BitsStored=12, HighBit=11, PixelRepresentation=0
            ),
            [],
            [],
            id="12 bits unsigned",
        ),
    ],
)
def test_frames_go_to_their_places(tmp_path, make, repairs, flags):
    (entry,), (ct,) = convert(tmp_path, [make()])
    assert entry["repairs"] == repairs and entry["n_files"] == 1
    _check_codes(entry["flags"], [*flags, "?thick_slices"])
    assert ct.array.size == 24 * 20 * 8 and _beside_mm(ct, WHOLE) <= 0.01
    assert error_hu(ct) <= (MENDED if repairs else EXACT)


def test_fewer_descriptions_than_frames_are_refused(tmp_path):
    file = enhanced(every(3, 8), own=ALL)
    file.PerFrameFunctionalGroupsSequence = Items(list(file.PerFrameFunctionalGroupsSequence)[:5])
    entries, volumes = convert(tmp_path, [file])
    assert entries and volumes == []


def test_cut_frames_are_refused_or_missing(tmp_path):
    """The last three frames are not there."""
    file = enhanced(every(3, 8), own=ALL)
    file.PixelData = file.PixelData[: 5 * 960]
    entries, volumes = convert(tmp_path, [file])
    assert all(error_hu(ct) <= EXACT and 5 in ct.array.shape for ct in volumes)
    assert [entry["reason"] for entry in entries if entry["status"] == "failed"] in (["truncated"], [])
    assert all("damaged_slices" in entry["repairs"] for entry in entries if entry["status"] == "ok")


def test_frames_without_a_rescale_are_refused(tmp_path):
    slices = every(3, 8, RescaleSlope=None, RescaleIntercept=None)
    (entry,), _ = convert(tmp_path, [enhanced(slices, own=ALL)])
    assert entry["reason"] == "no_rescale"


def test_compressed_frames_go_to_their_places(tmp_path):
    slices = shuffled(every(3, 8))
    frames = [compressed(dataset, uid.JPEGLSLossless) for dataset in slices]
    file = enhanced(slices, own=ALL, SOPInstanceUID=TWICE[0])
    save_as(file, tmp_path / "in" / "frames", uid.JPEGLSLossless, frames)
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["repairs"] == [] and error_hu(ct) <= EXACT and _beside_mm(ct, WHOLE) <= 0.01


def test_tilted_frames_are_made_upright(tmp_path):
    slices = tilted(-14.0)
    (entry,), (ct,) = convert(tmp_path, [enhanced(shuffled([*slices, *tilted(-14.0, 8)[7:]]), own=ALL)])
    assert entry["repairs"] == ["gantry_tilt"]
    check_shows(ct, tilted(-14.0, 8), MENDED)


# --- padding -----------------------------------------------------------------------------------------------------


def with_corner(slices: list[Dataset], value: int) -> list[Dataset]:
    """The first row of every slice lies outside the field of view, and the scanner wrote a value of its own there."""
    for dataset in slices:
        dtype = "<i2" if dataset.PixelRepresentation else "<u2"
        values = np.frombuffer(dataset.PixelData, dtype).reshape(20, 24).copy()
        values[0] = value
        dataset.PixelData = values.tobytes()
    return slices


@pytest.mark.parametrize(
    ("make", "outside"),
    [
        pytest.param(lambda: with_corner(every(3, 8), -2000), -1024, id="stored -2000, HU -3024"),
        pytest.param(lambda: with_corner(every(3, 8, PixelPaddingValue=-2000), -2000), -1024, id="-2000 with its mark"),
        pytest.param(lambda: with_corner(stored(every(3, 8), "<i2", 16, 0), -3024), -1024, id="stored -3024, HU -3024"),
        pytest.param(lambda: with_corner(stored(every(3, 8), "<i2", 16, 0), -2000), -1024, id="stored -2000, HU -2000"),
        pytest.param(lambda: with_corner(stored(every(3, 8), "<i2", 16, 0), -32768), -1024, id="stored -32768"),
        pytest.param(
            lambda: with_corner(each(stored(every(3, 8), "<u2", 16, -1024), "PixelPaddingValue", [63536] * 8), 63536),
            -1024,
            id="-2000 read as unsigned, with its mark",
        ),
        pytest.param(lambda: with_corner(every(3, 8, PixelPaddingValue=30000), 30000), -1024, id="30000 with its mark"),
        pytest.param(
            lambda: with_corner(every(3, 8, PixelPaddingValue=1064), 1064), 40, id="a mark that reads as tissue"
        ),
        pytest.param(
            lambda: with_corner(every(3, 8, PixelPaddingValue=4524), 4524), 3500, id="a mark that reads as metal"
        ),
        pytest.param(lambda: with_corner(every(3, 8), 7024), 6000, id="metal without a mark"),
    ],
)
def test_outside_the_field_of_view_is_air_and_tissue_is_never_masked(tmp_path, make, outside):
    (entry,), (ct,) = convert(tmp_path, make())
    assert entry["repairs"] == []
    points = grid_mm(ct)
    first_row = np.abs(-points[:, 1] + 20) < 1
    assert np.all(ct.array.ravel()[first_row] == outside)
    assert np.abs(linear_hu(points) - ct.array.ravel())[~first_row].max() <= EXACT


def test_padding_is_air_before_a_missing_slice_is_filled(tmp_path):
    """The filled slice lies halfway between air and tissue, not between tissue and a padding value."""
    slices = without(every(3, 8), 4)
    with_corner(slices[3:4], -2000)
    _, (ct,) = convert(tmp_path, slices)
    points = grid_mm(ct)
    filled = (np.abs(points[:, 2] - 12) < 0.1) & (np.abs(-points[:, 1] + 20) < 1)
    wanted = (-1024 + linear_hu(points[filled] + [0, 0, 3])) / 2
    assert filled.sum() == 24
    assert np.abs(ct.array.ravel()[filled] - wanted).max() <= MENDED


# --- transfer syntaxes -------------------------------------------------------------------------------------------


def jpeg_lossless(values: NDArray[np.integer], predictor: int) -> bytes:
    """A 16-bit image as JPEG lossless by any of its seven predictors (ITU-T T.81, annex H); GDCM writes the first.

    Every difference has a category of 5 bits: one Huffman table for all images.
    """
    pixels = values.astype(np.int64) & 0xFFFF
    left, above = np.roll(pixels, 1, 1), np.roll(pixels, 1, 0)
    corner = np.roll(above, 1, 1)
    predicted = {
        1: left,
        2: above,
        3: corner,
        4: left + above - corner,
        5: left + ((above - corner) >> 1),
        6: above + ((left - corner) >> 1),
        7: (left + above) >> 1,
    }[predictor]
    predicted[0], predicted[:, 0] = left[0], above[:, 0]
    predicted[0, 0] = 0x8000
    bits = []
    for difference in (((pixels - predicted + 0x8000) & 0xFFFF) - 0x8000).ravel().tolist():
        size = abs(difference).bit_length()
        bits.append(f"{size:05b}")
        if 0 < size < 16:
            bits.append(f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    rows, columns = values.shape
    frame = bytes([0xFF, 0xC3, 0, 11, 16]) + rows.to_bytes(2, "big") + columns.to_bytes(2, "big") + bytes([1, 1, 17, 0])
    table = bytes([0xFF, 0xC4, 0, 19 + 17, 0, *([0] * 4), 17, *([0] * 11), *range(17)])
    start = bytes([0xFF, 0xDA, 0, 8, 1, 1, 0, predictor, 0, 0])
    return b"\xff\xd8" + frame + table + start + scan + b"\xff\xd9"


def textured(n: int = 3, **attributes: Any) -> list[Dataset]:
    """Slices with noise and negative stored values, so that every bit of a stream counts."""
    slices = every(3, n, **attributes)
    noise = np.random.default_rng(1)
    for number, dataset in enumerate(slices):
        values = np.frombuffer(dataset.PixelData, "<i2") - 1024 + noise.integers(-400, 400, 480)
        dataset.PixelData = values.astype("<i2").tobytes()
        dataset.RescaleIntercept = 0
        dataset.SOPInstanceUID = TWICE[number]
    return slices


def twelve_bit(n: int = 3) -> list[Dataset]:
    """The same, 12 bits unsigned."""
    slices = textured(n)
    for dataset in slices:
        values = np.frombuffer(dataset.PixelData, "<i2") + 1024
        dataset.PixelData = values.astype("<u2").tobytes()
        _change(dataset, {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "RescaleIntercept": -1024})
    return slices


def by_predictor(predictor: int) -> Callable[[Dataset, str], bytes]:
    """An encoder of our own."""
    return lambda dataset, _: jpeg_lossless(np.frombuffer(dataset.PixelData, "<u2").reshape(20, 24), predictor)


def unsigned_stream(dataset: Dataset, syntax: str) -> bytes:
    """A stream that says unsigned, while the header says signed: the bits are what counts."""
    other = deepcopy(dataset)
    other.PixelRepresentation = 0
    return compressed(other, syntax)


def signed_stream(dataset: Dataset, syntax: str) -> bytes:
    """A stream that says signed, while the header says unsigned."""
    other = deepcopy(dataset)
    other.PixelRepresentation = 1
    return compressed(other, syntax)


PLAIN = "1.2.840.10008.1.2.4."
SYNTAXES = [
    ("implicit", uid.ImplicitVRLittleEndian, None, 1, textured),
    ("big-endian", uid.ExplicitVRBigEndian, None, 1, textured),
    ("big-endian, 12 bits", uid.ExplicitVRBigEndian, None, 1, twelve_bit),
    ("deflated", uid.DeflatedExplicitVRLittleEndian, None, 1, textured),
    ("RLE", uid.RLELossless, compressed, 1, textured),
    ("RLE, 12 bits", uid.RLELossless, compressed, 1, twelve_bit),
    ("JPEG-LS", uid.JPEGLSLossless, compressed, 1, textured),
    ("JPEG-LS, 12 bits", uid.JPEGLSLossless, compressed, 1, twelve_bit),
    ("JPEG-LS in 2 fragments", uid.JPEGLSLossless, compressed, 2, textured),
    ("JPEG-LS in 7 fragments", uid.JPEGLSLossless, compressed, 7, textured),
    ("JPEG lossless SV1", uid.JPEGLosslessSV1, compressed, 1, textured),
    ("JPEG lossless SV1, 12 bits", uid.JPEGLosslessSV1, compressed, 1, twelve_bit),
    ("JPEG lossless in 3 fragments", uid.JPEGLosslessSV1, compressed, 3, textured),
    ("JPEG lossless process 14", uid.JPEGLossless, compressed, 1, textured),
    *((f"JPEG lossless predictor {k}", uid.JPEGLossless, by_predictor(k), 1, textured) for k in range(1, 8)),
    *((f"JPEG lossless under the retired .{k}", f"{PLAIN}{k}", by_predictor(1), 1, textured) for k in (58, 65, 66)),
    *((f"JPEG lossless predictor 6 under .{k}", f"{PLAIN}{k}", by_predictor(6), 1, textured) for k in (58, 65, 66)),
    *((f"JPEG lossless, 12 bits, under .{k}", f"{PLAIN}{k}", compressed, 1, twelve_bit) for k in (58, 65, 66)),
    ("JPEG 2000 lossless", uid.JPEG2000Lossless, compressed, 1, textured),
    ("JPEG 2000 lossless, 12 bits", uid.JPEG2000Lossless, compressed, 1, twelve_bit),
    ("JPEG 2000 reversible", uid.JPEG2000, compressed, 1, textured),
    ("JPEG 2000, stream unsigned, header signed", uid.JPEG2000Lossless, unsigned_stream, 1, textured),
    ("JPEG 2000, stream signed, header unsigned", uid.JPEG2000Lossless, signed_stream, 1, twelve_bit),
    ("JPEG-LS, header's sign differs", uid.JPEGLSLossless, unsigned_stream, 1, textured),
]


@pytest.fixture(scope="module")
def twins(tmp_path_factory) -> dict[Callable, tuple[Entry, Volume]]:
    """What uncompressed files give, by the function that makes the slices."""
    found = {}
    for make in (textured, twelve_bit):
        folder = tmp_path_factory.mktemp("plain")
        for number, dataset in enumerate(make()):
            save_as(dataset, folder / "in" / f"{number}", uid.ExplicitVRLittleEndian)
        (entry,), (ct,) = converted(folder / "in", folder / "out")
        assert entry["repairs"] == [] and np.ptp(ct.array) > 700  # the noise is there
        found[make] = entry, ct
    return found


@pytest.mark.parametrize(
    ("syntax", "encoder", "fragments", "make"), [row[1:] for row in SYNTAXES], ids=[row[0] for row in SYNTAXES]
)
def test_every_lossless_syntax_gives_the_voxels_of_its_uncompressed_twin(
    tmp_path, twins, syntax, encoder, fragments, make
):
    # GDCM knows only the UID that the retired ones share their streams with.
    writable = uid.JPEGLossless if syntax[len(PLAIN) :] in ("58", "65", "66") else syntax
    for number, dataset in enumerate(make()):
        frames = None if encoder is None else [encoder(dataset, writable)]
        save_as(dataset, tmp_path / "in" / f"{number}", syntax, frames, fragments)
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    plain, wanted = twins[make]
    assert entry["repairs"] == [] and entry["flags"] == plain["flags"]
    np.testing.assert_array_equal(ct.array, wanted.array)
    np.testing.assert_array_equal(ct.affine, wanted.affine)


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
def test_what_stands_in_a_sequence_is_not_the_slices_own(tmp_path, syntax, undefined):
    """Pictures that a slice refers to, and its icon, have positions, sizes and pixels too."""
    for number, dataset in enumerate(named(every(2, 3), *range(3))):
        decoy = slice_of((100, 100, -500 * number), pixel_mm=(9, 9), shape=(4, 4))
        decoy.RescaleSlope, decoy.SeriesInstanceUID, decoy.Modality = 7, f"{UID}.66", "MR"
        inner = deepcopy(decoy)
        inner.is_undefined_length_sequence_item = decoy.is_undefined_length_sequence_item = undefined
        for part in (inner, decoy):
            part["PixelData"].VR = "OW"
        decoy.ReferencedImageSequence = Items([inner])
        for keyword in ("ReferencedImageSequence", "SourceImageSequence", "IconImageSequence"):
            setattr(dataset, keyword, Items([deepcopy(decoy), deepcopy(inner)]))
            dataset[keyword].is_undefined_length = undefined
        block = dataset.private_block(0x0019, "MAKER", create=True)
        block.add_new(1, "UN", bytes(range(256)) * 300)
        block.add_new(2, "SQ", Items([deepcopy(inner)]))
        save_as(dataset, tmp_path / "in" / f"{number}", syntax)
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["repairs"] == entry["flags"] == []
    assert error_hu(ct) <= EXACT and _beside_mm(ct, Box(0, 4, 3)) <= 0.01


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "explicit"])
def test_files_without_a_preamble_are_read(tmp_path, implicit):
    (tmp_path / "in").mkdir()
    for number, dataset in enumerate(named(one(), *range(8))):
        path = tmp_path / "in" / f"{number}"
        pydicom.dcmwrite(path, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[128:132] != b"DICM"
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["repairs"] == []
    assert error_hu(ct) <= EXACT and _beside_mm(ct, WHOLE) <= 0.01


def irreversible(dataset: Dataset) -> bytes:
    """JPEG 2000 by the wavelet that loses."""
    values = np.frombuffer(dataset.PixelData, "<u2").reshape(20, 24)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "JPEG2000", irreversible=True, no_jp2=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("syntax", "encoder"),
    [
        pytest.param(uid.JPEGExtended12Bit, lambda d: compressed(d, uid.JPEGExtended12Bit), id="JPEG extended"),
        pytest.param(uid.JPEG2000, irreversible, id="JPEG 2000 irreversible"),
    ],
)
def test_a_lossy_stream_is_refused_without_a_word_in_the_header(tmp_path, syntax, encoder):
    for number, dataset in enumerate(twelve_bit()):
        save_as(dataset, tmp_path / "in" / f"{number}", syntax, [encoder(dataset)])
    (entry,), _ = converted(tmp_path / "in", tmp_path / "out")
    assert entry["reason"] == "lossy"


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.JPEG2000Lossless])
def test_a_cut_stream_is_a_missing_slice(tmp_path, syntax):
    """As in the table, but compressed: a third of the stream is there."""
    for number, dataset in enumerate(each(every(3, 8), "SOPInstanceUID", TWICE)):
        frame = compressed(dataset, syntax)
        save_as(dataset, tmp_path / "in" / f"{number}", syntax, [frame[: len(frame) // 3] if number == 4 else frame])
    entries, (ct,) = converted(tmp_path / "in", tmp_path / "out")
    (entry,) = [entry for entry in entries if entry["status"] == "ok"]
    assert sorted(entry["repairs"]) == ["damaged_slices", "missing_slices"] and entry["n_slices"] == 7
    assert error_hu(ct) <= MENDED and _beside_mm(ct, WHOLE) <= 0.01


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57", uid.JPEGLossless),
        ("JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57", f"{PLAIN}58"),
        ("JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70", f"{PLAIN}66"),
        ("BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2", uid.ExplicitVRBigEndian),
    ],
)
def test_streams_of_other_makers_give_the_voxels_of_their_uncompressed_twin(tmp_path, name, label, real_data):
    folder = real_data / "cornerstone_ct_transfer_syntaxes"
    for where, file, syntax in (
        ("plain", "CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm", uid.ExplicitVRLittleEndian),
        ("in", f"CTImage.dcm_{name}.dcm", label),
    ):
        with quiet():
            dataset = pydicom.dcmread(folder / file)
            for number in range(2):
                dataset.ImagePositionPatient = [0, 0, 5 * number]
                dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid.UID(TWICE[number])
                dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
                path = tmp_path / where / f"{number}"
                path.parent.mkdir(exist_ok=True)
                little = syntax != uid.ExplicitVRBigEndian
                pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=little, enforce_file_format=False)
    _, (wanted,) = converted(tmp_path / "plain", tmp_path / "plain out")
    _, (ct,) = converted(tmp_path / "in", tmp_path / "out")
    np.testing.assert_array_equal(ct.array, wanted.array)


# --- identifiers ---------------------------------------------------------------------------------------------------

IDS = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID"]


def bare(folder: Path, slices: Sequence[Dataset], keywords: Iterable[str], value: str | None) -> None:
    """Write slices without some identifiers, or with empty ones."""
    for number, dataset in enumerate(each(list(slices), "SOPInstanceUID", TWICE[: len(slices)])):
        _change(dataset, dict.fromkeys(keywords, value))
        save_as(dataset, folder / f"{number:03d}", uid.ExplicitVRLittleEndian)


@pytest.mark.parametrize("value", [None, ""], ids=["missing", "empty"])
@pytest.mark.parametrize("keywords", [*([name] for name in IDS), IDS], ids=[*IDS, "all of them"])
def test_slices_without_identifiers_are_one_volume_under_a_substitute(tmp_path, keywords, value):
    bare(tmp_path / "in", every(3, 8), keywords, value)
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["flags"] == ["substitute_ids"] and entry["repairs"] == []
    assert error_hu(ct) <= EXACT and _beside_mm(ct, WHOLE) <= 0.01
    (again,), _ = converted(tmp_path / "in", tmp_path / "again")
    assert again == entry


def test_one_slice_without_its_instance_uid_stays_in_its_series(tmp_path):
    slices = every(3, 8)
    bare(tmp_path / "in", slices, [], None)
    _change(slices[3], {"SOPInstanceUID": None})
    save_as(slices[3], tmp_path / "in" / "003", uid.ExplicitVRLittleEndian)
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["flags"] == ["substitute_ids"] and _beside_mm(ct, WHOLE) <= 0.01


def test_folders_keep_apart_what_has_no_identifiers(tmp_path):
    bare(tmp_path / "in" / "a", every(3, 8), IDS, "")
    bare(tmp_path / "in" / "b", every(3, 8, plus=9), IDS, "")
    entries, volumes = converted(tmp_path / "in", tmp_path / "out")
    assert [entry["status"] for entry in entries] == ["ok", "ok"]
    assert all("substitute_ids" in entry["flags"] for entry in entries)
    assert sorted(plus for ct in volumes for plus in (0, 9) if error_hu(ct, plus) <= EXACT) == [0, 9]


def test_missing_slices_and_missing_identifiers_are_both_said(tmp_path):
    bare(tmp_path / "in", without(every(3, 8), 5), ["SOPInstanceUID", "SeriesInstanceUID"], "")
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["repairs"] == ["missing_slices"] and entry["flags"] == ["substitute_ids"]
    assert error_hu(ct) <= MENDED


# --- folders -----------------------------------------------------------------------------------------------------


def test_every_file_of_a_mixed_folder_is_accounted_for(tmp_path):
    folder = tmp_path / "in"
    save_all(every(3, 8), folder / "deep" / "down here")
    save_all(scout(SeriesInstanceUID=f"{UID}.1.5"), folder / "scout")
    (folder / "README.txt").write_text("Exported from the archive.\n")
    (folder / "notes.csv").write_text("a,b\n1,2\n" * 40)
    (folder / "empty").touch()
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    whole = save(at(40, SeriesInstanceUID=f"{UID}.1.6")[0], tmp_path / "whole").read_bytes()
    (folder / "transfer.tmp").write_bytes(whole[: len(whole) * 3 // 4])
    directory = Dataset()
    directory.SOPClassUID = uid.MediaStorageDirectoryStorage
    directory.DirectoryRecordSequence = Items([])
    save(directory, folder / "DICOMDIR")
    entries, (ct,) = converted(folder, tmp_path / "out")
    assert error_hu(ct) <= EXACT
    reasons = {entry["reason"]: entry["n_files"] for entry in entries}
    assert reasons[None] == 8 and reasons["localizer"] == 1 and reasons["not_dicom"] == 3
    assert reasons["empty"] == 1 and reasons["dicomdir"] == 1 and reasons["truncated"] == 1
    assert sum(entry["n_files"] for entry in entries) == 15


def test_an_empty_folder_gives_an_empty_list(tmp_path):
    (tmp_path / "in").mkdir()
    assert converted(tmp_path / "in", tmp_path / "out") == ([], [])


def test_an_uncompressed_nifti_holds_the_same(tmp_path):
    save_all(every(3, 8), tmp_path / "in")
    (entry,) = convert_folder(tmp_path / "in", tmp_path / "out", form="nii")
    assert entry["file"].endswith(".nii")
    assert error_hu(read(tmp_path / "out" / entry["file"], entry)) <= EXACT


def test_the_same_folder_under_other_file_names_gives_the_same_volume(tmp_path):
    slices = every(3, 8)
    _, (first,) = convert(tmp_path / "one", slices)
    for number, dataset in enumerate(slices):
        save(dataset, tmp_path / "in" / f"{(number * 5) % 8}" / "IM")
    _, (second,) = converted(tmp_path / "in", tmp_path / "out")
    np.testing.assert_array_equal(first.array, second.array)
    np.testing.assert_array_equal(first.affine, second.affine)


# --- everything at once --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mishaps:
    """What befell a stack: its tilt and spacing, and what became of each slice."""

    degrees: float
    step: float
    fates: list[str]
    order: int


mishaps = st.builds(
    Mishaps,
    st.sampled_from([0.0, 0.0, -15.0, 12.0]),
    st.sampled_from([1.0, 2.5, 4.0]),
    st.lists(st.sampled_from(["kept"] * 6 + ["lost", "twice", "odd", "cut"]), min_size=6, max_size=12),
    st.integers(0, 1000),
)


@settings(max_examples=20, deadline=None)
@given(mishaps)
def test_whatever_comes_together_a_written_volume_is_right(tmp_path_factory, what):
    """Lost, doubled, odd and cut slices in a stack that may lean: mended up to steps of 10 mm, else refused."""
    slices = []
    for k, fate in enumerate(what.fates):
        made = tilted(what.degrees, len(what.fates), what.step)[k]
        if fate == "odd":
            # Each of another size, so that no two of them make a stack of their own.
            odd = slice_of(made.ImagePositionPatient, made.ImageOrientationPatient, shape=(20, 25 + k))
            slices.append(odd)
        elif fate == "cut":
            slices += cut([made], 0)
        elif fate != "lost":
            slices += [made, deepcopy(made)] if fate == "twice" else [made]
    kept = [k for k, fate in enumerate(what.fates) if fate in ("kept", "twice")]
    np.random.default_rng(what.order).shuffle(slices)  # pyright: ignore[reportArgumentType] (a list will do)
    entries, volumes = convert(tmp_path_factory.mktemp("mishaps"), slices)
    used = [tilted(what.degrees, len(what.fates), what.step)[k] for k in kept]
    steps = np.diff(kept)
    assert len(kept) >= 2 or not volumes
    for ct in volumes:
        check_shows(ct, used, MENDED, ends=bool(np.median(steps) == 1))
    # With fewer slices left, what their usual step was is anybody's guess.
    if len(kept) >= 4 and np.median(steps) == 1:
        mendable = steps.max() * what.step * np.cos(np.radians(what.degrees)) <= 10
        assert len(volumes) == int(mendable)
        if mendable:
            (entry,) = [entry for entry in entries if entry["status"] == "ok"]
            wanted = {"gantry_tilt"} if what.degrees else set()
            wanted |= {"missing_slices"} if steps.max() > 1 else set()
            wanted |= {"duplicate_slices"} if "twice" in what.fates else set()
            wanted |= {"odd_slices"} if "odd" in what.fates else set()
            wanted |= {"damaged_slices"} if "cut" in what.fates else set()
            assert set(entry["repairs"]) == wanted
