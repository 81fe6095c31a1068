"""Convert pixels outside the field of view to air, and never mask tissue."""

import numpy as np
import pytest
from ct_files import linear_hu
from linear_stacks import EXACT, MENDED, convert, each, every, grid_mm, stored, without
from pydicom.dataset import Dataset


def with_corner(slices: list[Dataset], value: int) -> list[Dataset]:
    """Put the first row of every slice outside the field of view, where the scanner wrote a value of its own."""
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
    expected = (-1024 + linear_hu(points[filled] + [0, 0, 3])) / 2
    assert filled.sum() == 24
    assert np.abs(ct.array.ravel()[filled] - expected).max() <= MENDED
