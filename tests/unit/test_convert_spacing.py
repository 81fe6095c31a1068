"""Convert slices at uneven distances: mended up to gaps of ten millimetres, else refused."""

import numpy as np
import pytest
from ct_files import slice_of
from linear_stacks import EXACT, MENDED, at, convert, eight, error_hu

from trabecula.image.volume import bounds_mm


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
    slices = eight()
    slices[number] = slice_of((-17 + beside_mm, -20, 3 * number))
    entries, volumes = convert(tmp_path, slices)
    if volumes:
        (entry,) = [entry for entry in entries if entry["status"] == "ok"]
        assert entry["repairs"] and "gantry_tilt" not in entry["repairs"]
        assert error_hu(volumes[0]) <= MENDED
    else:
        assert {entry["reason"] for entry in entries} <= {"irregular_spacing", "missing_slices"}
