"""Make stacks of slices whose HU are linear in the patient, and compare what `convert` makes of them.

One number then checks voxels and affine together, on upright, tilted and mended stacks alike.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ct_files import UID, linear_hu, save_briefly, slice_of
from nibabel import nifti1
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from trabecula.convert.by_hand import convert_folder
from trabecula.image.volume import Volume, bounds_mm

Entry = dict[str, Any]

EXACT, MENDED = 0.51, 1.01  # HU: rounding of the stored value; and once more after interpolation
KEYS = {
    *("file", "status", "reason", "detail", "repairs", "flags", "largest_gap_mm", "tilt_degrees"),
    *("n_slices", "shape", "spacing_mm", "n_files"),
}


# --- the comparison -----------------------------------------------------------------------------------


def convert(tmp_path: Path, datasets: Sequence[Dataset]) -> tuple[list[Entry], list[Volume]]:
    """Convert a folder of data sets: its entries and volumes."""
    save_briefly(datasets, tmp_path / "in")
    return converted(tmp_path / "in", tmp_path / "out")


def converted(folder: Path, out: Path) -> tuple[list[Entry], list[Volume]]:
    """Convert a folder, and check what holds for every conversion: its entries and volumes."""
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
    """Read a written volume by nibabel: int16, one upright grid in both of NIfTI's forms, as its entry says."""
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
    """Give the (n, 3) places of all voxels, RAS+ millimetres."""
    return ct.to_mm(np.moveaxis(np.indices(ct.array.shape), 0, -1).reshape(-1, 3))


def error_hu(ct: Volume, plus: float = 0.0) -> float:
    """Give the largest difference from the field that the slices were written from."""
    return float(np.abs((linear_hu(grid_mm(ct)) + plus).clip(-1024) - ct.array.ravel()).max())


def sorted_by_height(slices: Iterable[Dataset]) -> tuple[NDArray, NDArray, NDArray]:
    """Give the (3, 3) axes of slices, LPS+, their (n, 3) positions and (n,) heights along the normal, lowest first."""
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


# --- slices -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """A volume of the slices of `at`: lowest and highest slice in mm, their number, and what `at` added."""

    low: float
    high: float
    n: int
    plus: float = 0.0


WHOLE = Box(0, 21, 8)
TWICE = [f"{UID}.7.{k}" for k in range(8)]
VARIED = [(1 - 0.05 * k, -1024 + 10 * k) for k in range(8)]


def at(*heights: float, plus: float = 0.0, **attributes: Any) -> list[Dataset]:
    """Make axial slices at heights; attributes as in `ct_dataset`, None removes one."""
    slices = [slice_of((-17, -20, z), hu=lambda p: linear_hu(p) + plus) for z in heights]
    for number, dataset in enumerate(slices):
        dataset.InstanceNumber = number + 1
        change(dataset, attributes)
    return slices


def every(step: float, n: int, first: float = 0.0, **options: Any) -> list[Dataset]:
    """Make slices at even heights."""
    return at(*(first + step * k for k in range(n)), **options)


def each(slices: list[Dataset], keyword: str, values: Iterable[Any]) -> list[Dataset]:
    """Give each slice its own value of an attribute."""
    for dataset, value in zip(slices, values, strict=True):
        change(dataset, {keyword: value})
    return slices


def change(dataset: Dataset, attributes: dict[str, Any]) -> None:
    """Set attributes of a slice; None removes one."""
    for keyword, value in attributes.items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            delattr(dataset, keyword)


def scout(**attributes: Any) -> list[Dataset]:
    """Make a coronal localizer, as scanners put it into the series that was planned on it."""
    image = slice_of((-17, 0, 40), (1, 0, 0, 0, 0, -1), shape=(30, 24))
    change(image, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]} | attributes)
    return [image]


def rescaled(slices: list[Dataset], rescales: Iterable[tuple[float, float]]) -> list[Dataset]:
    """Store the same HU under a slope and an intercept for each slice."""
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
    """Store the same HU with another type and intercept; `under` changes the values in the file."""
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


def shuffled(slices: list[Dataset]) -> list[Dataset]:
    """Shuffle eight slices."""
    return [slices[k] for k in (5, 0, 7, 3, 1, 6, 2, 4)]


def eight(**attributes: Any) -> list[Dataset]:
    """Make the eight slices of most cases."""
    return every(3, 8, **attributes)


def named(slices: list[Dataset], *numbers: int) -> list[Dataset]:
    """Give slices their instance UIDs by number: the same number is the same instance."""
    return each(slices, "SOPInstanceUID", [TWICE[number] for number in numbers])


def beside_mm(ct: Volume, box: Box) -> float:
    """Measure how far the corners of a volume lie off those of the slices that it must show."""
    low, high = bounds_mm(ct)
    corners = (-17.5, -18.0, box.low), (17.0, 20.0, box.high)
    return float(np.abs(np.subtract((low, high), corners)).max())


def check_codes(codes: Sequence[str], expected: Sequence[str]) -> None:
    """Check that each code is expected, and that each expected code without a question mark is there."""
    left = list(codes)
    for choice in sorted(expected, key=lambda text: text.startswith("?")):
        fitting = next((code for code in left if code in choice.strip("?").split("|")), None)
        assert fitting or choice.startswith("?"), f"{choice} is not among {codes}"
        if fitting:
            left.remove(fitting)
    assert not left, f"{left} beyond {expected}"


def tilted(
    degrees: float, n: int = 7, step: float = 4.0, *, direction: int = 1, feet: bool = False, **options: Any
) -> list[Dataset]:
    """Make slices that lean forwards or backwards and are stacked along the table, head up or (`feet`) mirrored."""
    angle = np.radians(degrees)
    row = -1.0 if feet else 1.0  # turns the normal to the feet
    orientation = (row, 0.0, 0.0, 0.0, np.cos(angle), np.sin(angle))
    return [slice_of((-17.0 * row, -20.0, direction * step * k), orientation, **options) for k in range(n)]
