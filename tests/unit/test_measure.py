"""Measurements against bodies whose density, volume and heights are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from trabecula import crop, measure, tables
from trabecula.cubes import VertebraCrop
from trabecula.errors import REASONS
from trabecula.levels import CODE_OF_LEVEL
from trabecula.volume import read_nifti

L1 = CODE_OF_LEVEL["L1"]
CORE_HU, CORTEX_HU, AROUND_HU = 150, 450, 40
OPTIONS = {"spacing_mm": 1.0, "erosion_mm": 4.0, "metal_hu": 1200, "min_volume_mm3": 1000}
DENSITY = ("trabecular_hu_mean", "trabecular_hu_median", "trabecular_hu_sd", "trabecular_volume_mm3")


def places_mm(size=64, spacing_mm=1.0):
    """Right, front and head positions of a cube's voxels, from its middle."""
    return (np.indices((size,) * 3) - (size - 1) / 2) * spacing_mm


def vertebra(body, ct, **other):
    fields = {
        "cohort": "c", "patient_id": "p", "study_id": "s", "level": "L1", "level_confidence": 0.9,
        "level_uncertain": False, "complete": True, "centroid_mm": (0.0, 0.0, 0.0), "segmenter": "test",
        "ct": ct.astype(np.int16), "label": (body * L1).astype(np.uint8),
    }  # fmt: skip
    return VertebraCrop(**(fields | other))


def cylinder(half_height=13.0, right=22.0, front=16.0, cortex=1.0, **other):
    """An elliptic cylinder with a shell of cortex."""
    x, y, z = places_mm()

    def solid(less):
        return ((x / (right - less)) ** 2 + (y / (front - less)) ** 2 <= 1) & (np.abs(z) <= half_height - less)

    ct = np.where(solid(cortex), CORE_HU, np.where(solid(0), CORTEX_HU, AROUND_HU))
    return vertebra(solid(0), ct, **other)


def test_the_mean_of_a_body_with_cortex_is_that_of_its_core():
    """Analytic oracle: homogeneous core, shell, soft tissue around; sharp, and blurred over three voxels."""
    body = cylinder()
    blurred = replace(body, ct=uniform_filter(body.ct.astype(float), 3).round().astype(np.int16))
    for case in (body, blurred):
        measured = measure.measure_vertebra(case, **OPTIONS)
        assert measured.trabecular_hu_mean == pytest.approx(CORE_HU, abs=0.5)
        assert measured.trabecular_hu_median == CORE_HU
        assert measured.trabecular_hu_sd == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("error_mm", [-2, -1, 1, 2])
def test_an_outline_that_is_wrong_by_two_millimetres_hardly_changes_the_mean(error_mm):
    body = cylinder()
    wrong = cylinder(half_height=13 + error_mm, right=22 + error_mm, front=16 + error_mm)
    measured = measure.measure_vertebra(replace(body, label=wrong.label), **OPTIONS)
    assert measured.trabecular_hu_mean == pytest.approx(CORE_HU, abs=0.5)


@settings(max_examples=8)
@given(st.floats(8, 16), st.floats(18, 26), st.floats(14, 20))
def test_volumes_are_the_analytic_ones(half_height, right, front):
    measured = measure.measure_vertebra(cylinder(half_height, right, front), **(OPTIONS | {"min_volume_mm3": 0}))
    # Whole voxels along z, as the grid rounds them; nothing is rounded in the plane.
    height = 2 * np.floor(half_height + 0.5)
    area = np.pi * right * front
    assert measured.body_volume_mm3 == pytest.approx(area * height, rel=0.01)
    # Steiner's formula for the inner parallel of an ellipse, with Ramanujan's perimeter.
    h = ((right - front) / (right + front)) ** 2
    perimeter = np.pi * (right + front) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h)))
    core = (area - 4 * perimeter + 16 * np.pi) * (height - 8)
    # Distances to voxels keep a little more off a round surface than the erosion asks for.
    assert 0.9 * core < measured.trabecular_volume_mm3 < 1.02 * core


def test_the_erosion_is_in_millimetres():
    """A box of 40 x 30 x 24 mm keeps 32 x 22 x 16 mm at every spacing of the cube."""
    for size, spacing_mm in ((48, 1.0), (96, 0.5), (24, 2.0)):
        x, y, z = np.abs(places_mm(size, spacing_mm))
        body = (x < 20) & (y < 15) & (z < 12)
        roi = measure.trabecular_roi(body, np.zeros_like(body), spacing_mm=spacing_mm, erosion_mm=4.0)
        extent = [np.ptp(axis) + 1 for axis in np.nonzero(roi)]
        np.testing.assert_allclose(np.array(extent) * spacing_mm, [32, 22, 16], atol=2 * spacing_mm - 1)


def test_a_small_thoracic_body_keeps_enough():
    """A T9 of a small woman, 26 x 22 x 18 mm, leaves more than 1000 mm3."""
    measured = measure.measure_vertebra(cylinder(9, 13, 11), **OPTIONS)
    assert measured.trabecular_volume_mm3 is not None
    assert measured.trabecular_volume_mm3 > 1000


def test_a_flat_body_is_not_measured_and_says_so():
    measured = measure.measure_vertebra(cylinder(half_height=4), **OPTIONS)
    assert [getattr(measured, name) for name in DENSITY] == [None] * 4
    assert measured.flags == ["empty_roi"]
    assert measured.body_volume_mm3 is not None


def test_a_cut_body_is_never_measured_as_a_whole():
    measured = measure.measure_vertebra(cylinder(complete=False, level_uncertain=True), **OPTIONS)
    assert measured == measure.Measurement(flags=["incomplete", "level_uncertain"])


def test_a_body_that_is_not_in_its_cube_has_no_values():
    x, y, _ = places_mm()
    ct = np.where(np.hypot(x, y) < 9, 3000, 40)
    measured = measure.measure_vertebra(vertebra(np.zeros(ct.shape, bool), ct), **OPTIONS)
    assert measured == measure.Measurement(flags=["empty_roi"])


def test_the_volume_of_a_body_that_leaves_its_cube_is_unknown():
    measured = measure.measure_vertebra(cylinder(right=40), **OPTIONS)
    assert measured.flags == ["beyond_cube"]
    assert measured.body_volume_mm3 is None
    assert measured.trabecular_hu_mean == pytest.approx(CORE_HU, abs=0.5)


def test_metal_is_flagged_and_kept_out_of_the_region():
    """A screw of 3000 HU with a halo of 600 HU."""
    body = cylinder()
    x, _, z = places_mm()
    away = np.hypot(x - 10, z)
    ct = np.where(away < 3, 3000, np.where(away < 5, 600, body.ct)).astype(np.int16)
    measured = measure.measure_vertebra(replace(body, ct=ct), **OPTIONS)
    assert measured.flags == ["metal"]
    assert measured.trabecular_hu_mean == pytest.approx(CORE_HU, abs=0.5)


@pytest.mark.parametrize(("gap_mm", "flags"), [(1, ["metal"]), (4, [])])
def test_metal_counts_where_it_touches_the_body(gap_mm, flags):
    """A rod of 6 mm beside a body that ends 22 mm from the middle."""
    body = cylinder()
    x, y, _ = places_mm()
    ct = np.where(np.hypot(x - 22 - gap_mm - 3, y) < 3, 2500, body.ct)
    assert measure.measure_vertebra(replace(body, ct=ct.astype(np.int16)), **OPTIONS).flags == flags


def test_specks_of_bright_noise_are_not_metal():
    body = cylinder()
    ct = body.ct.copy()
    ct[32, 32, 20:30:2] = 1500
    assert measure.measure_vertebra(replace(body, ct=ct), **OPTIONS).flags == []


@pytest.mark.parametrize("tilt_deg", [-30, -15, 0, 15, 30])
@pytest.mark.parametrize(("front_mm", "back_mm"), [(28, 28), (18, 27), (28, 22)])
def test_heights_follow_the_body_whatever_its_tilt(tilt_deg, front_mm, back_mm):
    """A wedge of known heights; a third's mean height is that at its middle."""
    x, y, z = places_mm()
    turn = np.radians(tilt_deg)
    ahead, up = y * np.cos(turn) + z * np.sin(turn), z * np.cos(turn) - y * np.sin(turn)
    height = (front_mm + back_mm) / 2 + (front_mm - back_mm) * ahead / 34
    body = (np.abs(x) < 20) & (np.abs(ahead) < 17) & (np.abs(up) < height / 2)
    expected = [back_mm + (front_mm - back_mm) * place for place in (5 / 6, 1 / 2, 1 / 6)]
    found = measure.heights_mm(body, spacing_mm=1.0)
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=0.8)


def test_heights_of_nothing_are_undefined():
    body = np.zeros((16, 16, 16), bool)
    assert measure.heights_mm(body, spacing_mm=1.0) is None
    body[8, 8, 8] = True
    assert measure.heights_mm(body, spacing_mm=1.0) is None


def test_rows_fit_the_table_and_flags_are_known_reasons():
    cases = [cylinder(complete=False), cylinder(half_height=4, level_uncertain=True), cylinder(right=40)]
    rows = list(measure.measure_shard(cases, **OPTIONS))
    table = tables.cast(rows, tables.MEASURE)
    assert {flag for row in table.to_pylist() for flag in row["flags"]} <= REASONS.keys()


def test_cubes_are_measured_one_by_one():
    taken = []
    rows = measure.measure_shard((taken.append(i) or cylinder() for i in range(3)), **OPTIONS)
    next(rows)
    assert taken == [0]


# --- real CT ------------------------------------------------------------------------------------------

REPORTED_ML = {"L1": 35.61, "L2": 36.42, "L3": 38.34, "L4": 39.04, "L5": 34.02}
REPORTED_HEIGHT_MM = {"L1": (21.0, 24.0, 27.0), "L2": (28.5, 24.0, 25.5), "L3": (28.5, 22.5, 24.0)}


def test_a_real_lumbar_spine_gives_what_its_makers_report(real_data: Path):
    """Volumes and heights in spine_report.json (3 mm voxels); the lowest thoracic body is cut."""
    folder = real_data / "totalseg_example"
    ct = read_nifti(folder / "example_ct.nii.gz")
    labels = read_nifti(folder / "spine_report/test_result/totalseg_vertebrae_pp_refined.nii.gz")
    row = {"cohort": "c", "patient_id": "p", "study_id": "s", "segmenter": "x", "level_confidence": None}
    found = [row | {"level": level, "level_uncertain": False} for level in ("T12", *REPORTED_ML)]
    cubes = crop.cut_study(ct, labels, found, size=64, spacing_mm=1.0)
    measured = {cube.level: measure.measure_vertebra(cube, **OPTIONS) for cube in cubes}
    assert measured.pop("T12").flags == ["incomplete"]
    assert measured.keys() == REPORTED_ML.keys()
    for level, volume_ml in REPORTED_ML.items():
        assert measured[level].body_volume_mm3 == pytest.approx(volume_ml * 1000, rel=0.04)
    for level, heights in REPORTED_HEIGHT_MM.items():
        one = measured[level]
        ours = (one.height_anterior_mm, one.height_middle_mm, one.height_posterior_mm)
        np.testing.assert_allclose(np.array(ours, float), heights, atol=3.5)
    assert all(80 < m.trabecular_hu_mean < 140 for m in measured.values() if m.trabecular_hu_mean)
