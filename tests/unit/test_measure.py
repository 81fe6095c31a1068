"""Measurements against bodies whose density, volume and heights are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bodies import CORE_HU, cylinder, places_mm, turned, vertebra
from hypothesis import given, settings
from hypothesis import strategies as st
from real_spine import totalseg_cubes
from scipy.ndimage import uniform_filter

from trabecula import measure, tables
from trabecula.errors import REASONS
from trabecula.image.levels import CODE_OF_LEVEL, POSTERIOR

OPTIONS = {"spacing_mm": 1.0, "erosion_mm": 4.0, "endplate_mm": 5.0, "metal_hu": 1200, "min_volume_mm3": 1000}
DENSITY = [name for name in tables.MEASURE.names if name.startswith("trabecular_")]


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
def test_the_volume_of_a_body_is_the_analytic_one(half_height, right, front):
    measured = measure.measure_vertebra(cylinder(half_height, right, front), **OPTIONS)
    # Whole voxels along z, as the grid rounds them; nothing is rounded in the plane.
    assert measured.body_volume_mm3 == pytest.approx(np.pi * right * front * 2 * np.floor(half_height + 0.5), rel=0.01)


@settings(max_examples=12)
@given(st.sampled_from("xyz"), st.floats(-35, 35))
def test_a_pose_changes_nothing(axis, angle):
    """No gradient and no noise: what is left is the grid of the cube."""
    straight = measure.measure_vertebra(cylinder(concave=1.5), **OPTIONS)
    posed = measure.measure_vertebra(cylinder(concave=1.5, axes=turned(**{axis: angle})), **OPTIONS)
    for name in ("trabecular_hu_mean", "ellipse_hu_mean"):
        assert getattr(posed, name) == pytest.approx(getattr(straight, name), abs=1)
    for name in ("height_anterior_mm", "height_middle_mm", "height_posterior_mm"):
        # One voxel: half of one at each end.
        assert getattr(posed, name) == pytest.approx(getattr(straight, name), abs=1.0)
    assert posed.body_volume_mm3 == pytest.approx(straight.body_volume_mm3, rel=0.02)
    assert posed.ellipse_area_mm2 == pytest.approx(straight.ellipse_area_mm2, rel=0.05)
    assert posed.flags == straight.flags == []


def test_a_small_thoracic_body_keeps_enough():
    """A T9 of a small woman, 26 x 22 x 18 mm, leaves more than 1000 mm3."""
    measured = measure.measure_vertebra(cylinder(9, 13, 11), **OPTIONS)
    assert measured.trabecular_volume_mm3 is not None
    assert measured.trabecular_volume_mm3 > 1000


def test_a_flat_body_is_not_measured_and_says_so():
    measured = measure.measure_vertebra(cylinder(half_height=4), **OPTIONS)
    assert {getattr(measured, name) for name in DENSITY} == {None}
    assert measured.ellipse_hu_mean is None
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
    measured = measure.measure_vertebra(cylinder(right=40, pedicles=False), **OPTIONS)
    assert measured.flags == ["beyond_cube", "front_by_shape"]
    assert measured.body_volume_mm3 is None
    assert measured.rim_overhang_mm is None
    assert measured.trabecular_hu_mean == pytest.approx(CORE_HU, abs=0.5)
    # Its ends are in the cube.
    assert measured.height_middle_mm == pytest.approx(26, abs=0.5)


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


def test_a_broken_neighbour_is_no_yardstick():
    """Crush: lower in front and at the back than up to four neighbours, of whom one is broken too."""
    levels = ("T12", "L1", "L2", "L3", "L4")
    heights = (13.0, 9.0, 13.0, 8.0, 13.5)
    cases = [cylinder(half, level=level) for half, level in zip(heights, levels, strict=True)]
    rows = {row["level"]: row for row in measure.measure_shard(map(coded, cases), **OPTIONS)}
    assert {level: row["genant_grade"] for level, row in rows.items()} == {"T12": 0, "L1": 2, "L2": 0, "L3": 2, "L4": 0}
    assert [level for level, row in rows.items() if "height_loss" in row["flags"]] == ["L1", "L3"]
    assert rows["L1"]["height_ratio_neighbours"] == pytest.approx(18 / 26, abs=0.03)


def coded(crop):
    """The same vertebra with its level's code in the label map."""
    label = crop.label.copy()
    label[label == CODE_OF_LEVEL["L1"]] = crop.code
    label[label > POSTERIOR] = POSTERIOR + crop.code
    return replace(crop, label=label)


def test_a_vertebra_that_is_seen_alone_has_no_neighbours():
    (row,) = measure.measure_shard([cylinder()], **OPTIONS)
    assert row["height_ratio_neighbours"] is None
    assert row["genant_grade"] == 0


def test_studies_are_not_compared_with_each_other():
    rows = list(measure.measure_shard([cylinder(study_id="a"), cylinder(8, study_id="b")], **OPTIONS))
    assert [row["height_ratio_neighbours"] for row in rows] == [None, None]


def test_rows_fit_the_table_and_flags_are_known_reasons():
    cases = [cylinder(complete=False), cylinder(half_height=4, level_uncertain=True), cylinder(right=40)]
    rows = list(measure.measure_shard(cases, **OPTIONS))
    table = tables.cast(rows, tables.MEASURE)
    assert {flag for row in table.to_pylist() for flag in row["flags"]} <= REASONS.keys()
    assert [row["picture"] is None for row in rows] == [True, False, False]


def test_cubes_of_one_study_are_held_at_most():
    taken = []
    studies = ["a", "a", "b", "b", "c"]
    rows = measure.measure_shard((taken.append(study) or cylinder(study_id=study) for study in studies), **OPTIONS)
    next(rows)
    assert taken == ["a", "a", "b"]


# --- real CT ------------------------------------------------------------------------------------------

REPORTED_ML = {"L1": 35.61, "L2": 36.42, "L3": 38.34, "L4": 39.04, "L5": 34.02}


def test_a_real_lumbar_spine_gives_what_its_makers_report(real_data: Path):
    """Volumes in spine_report.json (3 mm voxels); the lowest thoracic body is cut."""
    rows = {row["level"]: row for row in measure.measure_shard(totalseg_cubes(real_data), **OPTIONS)}
    assert rows.pop("T12")["flags"] == ["incomplete"]
    assert rows.keys() == REPORTED_ML.keys()
    for level, volume_ml in REPORTED_ML.items():
        assert rows[level]["body_volume_mm3"] == pytest.approx(volume_ml * 1000, rel=0.04)
    assert all(80 < row["trabecular_hu_mean"] < 140 for row in rows.values())
    # The largest loss of height that the report finds is that of L1.
    assert [level for level, row in rows.items() if row["genant_grade"]] == ["L1"]
