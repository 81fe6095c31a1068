"""Cubes: geometry, completeness, streaming, files."""

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from trabecula import crop, tables
from trabecula.image.levels import CODE_OF_LEVEL, POSTERIOR
from trabecula.image.volume import Volume, read_nifti

L1 = CODE_OF_LEVEL["L1"]
SMALL = {"size": 16, "spacing_mm": 1.5}

angles = st.floats(-180, 180)
spacings = st.floats(0.6, 5.0)
axes = st.tuples(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1, 1])] * 3))
points = st.tuples(*[st.floats(-300, 300)] * 3)


def affine_of(turn_deg, axes, spacing_mm, shape, centre_mm):
    """Grid of a scanner with any axes, whose middle voxel lies at a point of the patient."""
    order, signs = axes
    matrix = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = (matrix[:, order] * signs) * np.array(spacing_mm)
    affine[:3, 3] = np.array(centre_mm) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def positions_mm(shape, affine):
    """(..., 3) places of all voxels in the patient."""
    return np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]


def scan_of_ball(affine, shape, *, centre_mm, radius_mm, code=L1):
    """A ball of 300 HU in water, labelled as one body."""
    ball = np.linalg.norm(positions_mm(shape, affine) - centre_mm, axis=-1) <= radius_mm
    return Volume(np.where(ball, 300, 0).astype(np.int16), affine), Volume((ball * code).astype(np.uint8), affine)


def segmented(study="s", level: str | None = "L1", status="ok", **other):
    """Row of the table that the segmentation writes."""
    row = dict.fromkeys(tables.SEGMENT.names)
    return row | {
        "cohort": "c", "patient_id": "p", "study_id": study, "status": status, "segmenter": "test",
        "level": level, "level_confidence": 0.9, "level_uncertain": False, "level_flags": [],
    } | other  # fmt: skip


def plain_scan(**ball):
    affine = affine_of((0, 0, 0), ([0, 1, 2], (1, 1, 1)), (1, 1, 1), (60, 60, 60), (0, 0, 0))
    return scan_of_ball(affine, (60, 60, 60), **({"centre_mm": (0, 0, 0), "radius_mm": 9} | ball))


@settings(max_examples=40)
@given(st.tuples(angles, angles, angles), axes, st.tuples(spacings, spacings, spacings), points)
def test_a_ramp_in_the_patient_stays_a_ramp_in_the_cube(turn, axes, spacing, centre):
    """Trilinear sampling is exact on linear fields, whatever the scanner's axes and spacing."""
    shape = tuple(int(46 / step) + 3 for step in spacing)
    affine = affine_of(turn, axes, spacing, shape, centre)
    slope = np.array([7.0, -11.0, 5.0])
    ramp = Volume(np.rint((positions_mm(shape, affine) - centre) @ slope).astype(np.int16), affine)
    cube = crop.cut_ct(ramp, np.array(centre), **SMALL)
    places = positions_mm((16, 16, 16), crop.cube_affine(np.array(centre), **SMALL)) - centre
    # Half a unit for the rounding of the scan, half for that of the cube.
    assert np.abs(cube - places @ slope).max() <= 1.001


@settings(max_examples=20)
@given(st.tuples(angles, angles, angles), axes, st.floats(0.6, 1.2), points)
def test_labels_and_ct_lie_on_one_grid(turn, axes, spacing, centre):
    shape = (int(50 / spacing),) * 3
    affine = affine_of(turn, axes, (spacing,) * 3, shape, centre)
    ct, labels = scan_of_ball(affine, shape, centre_mm=centre, radius_mm=8)
    (vertebra,) = crop.cut_study(ct, labels, [segmented()], size=32, spacing_mm=1.0)
    body, bright = vertebra.label == L1, vertebra.ct > 150
    assert 2 * (body & bright).sum() / (body.sum() + bright.sum()) > 0.9
    for mask in (body, bright):
        np.testing.assert_allclose(np.argwhere(mask).mean(axis=0), 15.5, atol=0.35)


@settings(max_examples=10)
@given(points)
def test_a_shift_of_the_patient_changes_the_centroid_alone(shift):
    ct, labels = plain_scan(centre_mm=(1.3, -2.1, 0.4))
    moved = ct.affine.copy()
    moved[:3, 3] += np.rint(shift)
    (before,) = crop.cut_study(ct, labels, [segmented()], **SMALL)
    (after,) = crop.cut_study(Volume(ct.array, moved), Volume(labels.array, moved), [segmented()], **SMALL)
    np.testing.assert_array_equal(before.label, after.label)
    assert np.abs(before.ct - after.ct).max() <= 1
    np.testing.assert_allclose(np.subtract(after.centroid_mm, before.centroid_mm), np.rint(shift), atol=1e-6)


def test_outside_the_scan_is_air_and_padding_does_not_bleed():
    ct, _ = plain_scan()
    hu = ct.array.copy()
    hu[:30] = -3024
    cube = crop.cut_ct(ct.with_array(hu), np.array([0.0, 0.0, 29.5]), size=16, spacing_mm=1.0)
    assert cube.min() == -1024
    assert (cube[:, :, 9:] == -1024).all()
    assert (cube[9:, :, :7] == 0).all()


def test_thick_slices_do_not_leave_steps():
    """A ball at 5 mm slices, turned out of the cube's axes, is rounder than by nearest neighbour."""
    shape, centre = (80, 80, 20), np.zeros(3)
    affine = affine_of((0, 0, 0), ([0, 1, 2], (1, -1, -1)), (0.75, 0.75, 5.0), shape, centre)
    ct, labels = scan_of_ball(affine, shape, centre_mm=centre, radius_mm=16)
    (vertebra,) = crop.cut_study(ct, labels, [segmented()], size=64, spacing_mm=1.0)
    truth = np.linalg.norm(np.indices((64, 64, 64)).T - 31.5, axis=-1) <= 16
    steps = crop.cut_label(labels, np.array(vertebra.centroid_mm), size=64, spacing_mm=1.0)

    def dice(cube):
        return 2 * ((cube == L1) & truth).sum() / ((cube == L1).sum() + truth.sum())

    assert dice(vertebra.label) > 0.97 > dice(steps) + 0.02


def test_smoothing_leaves_other_labels_alone():
    shape = (60, 60, 20)
    affine = affine_of((0, 0, 0), ([0, 1, 2], (1, 1, 1)), (1, 1, 3.0), shape, (0, 0, 0))
    ct, labels = scan_of_ball(affine, shape, centre_mm=(0, 0, 0), radius_mm=12)
    codes = labels.array.copy()
    codes[:, :18] = np.where(codes[:, :18] == 0, POSTERIOR + L1, codes[:, :18])
    (vertebra,) = crop.cut_study(ct, labels.with_array(codes), [segmented()], size=32, spacing_mm=1.0)
    nearest = crop.cut_label(labels.with_array(codes), np.array(vertebra.centroid_mm), size=32, spacing_mm=1.0)
    np.testing.assert_array_equal(vertebra.label == POSTERIOR + L1, nearest == POSTERIOR + L1)


# --- completeness -----------------------------------------------------------------------------------


def body_at(low, shape=(40, 40, 40), spacing=(1.0, 1.0, 1.0)):
    affine = np.diag([*spacing, 1.0])
    codes = np.zeros(shape, np.uint8)
    codes[tuple(slice(a, a + 10) for a in low)] = L1
    return Volume(np.zeros(shape, np.int16), affine), Volume(codes, affine)


def complete(ct, labels):
    return crop.is_complete(ct, labels, L1, crop.body_boxes(labels.array)[L1])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("free", "expected"), [(0, False), (3, False), (4, True), (9, True)])
def test_a_body_needs_four_millimetres_to_each_of_the_six_edges(axis, free, expected):
    low, high = [15, 15, 15], [15, 15, 15]
    low[axis], high[axis] = free, 30 - free
    assert complete(*body_at(low)) is complete(*body_at(high)) is expected


@pytest.mark.parametrize(("free", "expected"), [(0, False), (1, True)])
def test_a_body_needs_one_free_slice_where_slices_are_thick(free, expected):
    assert complete(*body_at((15, 15, free), spacing=(1, 1, 5))) is expected


@pytest.mark.parametrize(("first", "expected"), [(25, False), (27, True)])
def test_a_body_cut_by_padding_is_not_complete(first, expected):
    ct, labels = body_at((15, 15, 15))
    ct.array[first:] = -1024
    assert complete(ct, labels) is expected


def test_single_voxels_as_dark_as_padding_are_noise():
    ct, labels = body_at((15, 15, 15))
    ct.array[25, 20, 20] = -1024
    assert complete(ct, labels)


# --- studies and shards -----------------------------------------------------------------------------


def test_vertebrae_come_from_head_to_foot_without_sacrum_and_unsegmented_levels():
    ct, labels = plain_scan(radius_mm=3)
    codes = labels.array
    for place, level in enumerate(["T12", "T13", "L2", "S1", "L3"]):
        codes[5:9, 5:9, 8 * place + 4 : 8 * place + 8] = CODE_OF_LEVEL[level]
    rows = [segmented(level=level) for level in ("S1", "L2", "L1", "T13", "T12", "T11")]
    study = crop.crop_study(ct, labels, rows, **SMALL)
    assert [vertebra.level for vertebra in study.vertebrae] == ["T12", "T13", "L1", "L2"]
    assert study.row["n_vertebrae"] == 4


def test_a_study_without_vertebra_is_a_row_with_the_reason():
    ct, labels = plain_scan(code=CODE_OF_LEVEL["S1"])
    study = crop.crop_study(ct, labels, [segmented(level="S1")], **SMALL)
    assert (study.row["status"], study.row["reason"], study.vertebrae) == ("failed", "no_vertebra", ())
    tables.cast([study.row], tables.CROP)


def test_studies_pass_through_one_by_one():
    """No scan is read before its turn, and none is kept after it."""
    alive: list[weakref.ref] = []

    def read(study_id):
        assert not any(reference() is not None for reference in alive), "an earlier scan is still held"
        ct, labels = plain_scan(radius_mm=5)
        alive.append(weakref.ref(ct))
        return ct, labels

    table = tables.cast([segmented(study=f"s{i}") for i in range(4)], tables.SEGMENT)
    studies = crop.crop_shard(table, read, **SMALL)
    assert alive == []
    for n, study in enumerate(studies, start=1):
        assert (len(alive), study.row["study_id"]) == (n, f"s{n - 1}")


def test_studies_that_failed_before_are_passed_over():
    failed = segmented(study="a", level=None, status="failed", reason="no_vertebra")
    table = tables.cast([failed, segmented(study="b")], tables.SEGMENT)
    studies = crop.crop_shard(table, lambda study_id: plain_scan(), **SMALL)
    assert [study.row["study_id"] for study in studies] == ["b"]


# --- files --------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back(tmp_path):
    table = tables.cast(
        [segmented(study="a", level_uncertain=True, level_confidence=None), segmented(study="b", level="L2"),
         segmented(study="c")], tables.SEGMENT)  # fmt: skip
    scans = {"a": plain_scan(), "b": plain_scan(), "c": plain_scan(centre_mm=(22, 0, 0))}
    studies = list(crop.crop_shard(table, scans.__getitem__, **SMALL))
    paths = tmp_path / "x.arrow", tmp_path / "x.parquet"
    crop.write_crops(iter(studies), *paths, **SMALL)
    back = list(crop.read_cubes(paths[0]))
    assert crop.read_spacing_mm(paths[0]) == SMALL["spacing_mm"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.arrow", "x.parquet"]
    for before, after in zip([v for study in studies for v in study.vertebrae], back, strict=True):
        for name, value in vars(before).items():
            np.testing.assert_array_equal(getattr(after, name), value)
        assert (after.ct.dtype, after.label.dtype, after.code) == (np.int16, np.uint8, L1)
    assert [(v.study_id, v.complete, v.level_uncertain) for v in back] == [("a", True, True), ("c", False, False)]
    table = tables.read(paths[1], tables.CROP).to_pylist()
    assert [row["reason"] for row in table] == [None, "no_vertebra", None]


def test_the_same_scans_give_the_same_bytes(tmp_path):
    table = tables.cast([segmented()], tables.SEGMENT)
    for name in ("1", "2"):
        studies = crop.crop_shard(table, lambda study_id: plain_scan(), **SMALL)
        crop.write_crops(studies, tmp_path / f"{name}.arrow", tmp_path / f"{name}.parquet", **SMALL)
    for suffix in ("arrow", "parquet"):
        assert (tmp_path / f"1.{suffix}").read_bytes() == (tmp_path / f"2.{suffix}").read_bytes()


def test_a_file_without_vertebrae_is_read_as_empty(tmp_path):
    crop.write_crops([], tmp_path / "x.arrow", tmp_path / "x.parquet", **SMALL)
    assert list(crop.read_cubes(tmp_path / "x.arrow")) == []


def test_a_crash_leaves_no_file_that_looks_whole(tmp_path):
    def studies():
        yield crop.crop_study(*plain_scan(), [segmented()], **SMALL)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crop.write_crops(studies(), tmp_path / "x.arrow", tmp_path / "x.parquet", **SMALL)
    assert not (tmp_path / "x.arrow").exists()


# --- real CT ------------------------------------------------------------------------------------------


def test_a_real_scan_in_other_axes_is_cut_in_those_of_the_patient(real_data):
    """Axes back, foot, right; L3 is whole, its neighbours are cut by the edge of the crop."""
    folder = real_data / "tptbox_vertebra_crop/sample_ct"
    ct = read_nifti(folder / "sub-ct_label-22_ct.nii.gz")
    levels = read_nifti(folder / "sub-ct_seg-vert_label-22_msk.nii.gz")
    parts = read_nifti(folder / "sub-ct_seg-subreg_label-22_msk.nii.gz").array
    # 49 and 50 are the parts of the body.
    bodies = np.where(np.isin(parts, [49, 50]), levels.array, (levels.array > 0) * (POSTERIOR + levels.array))
    labels = levels.with_array(bodies.astype(np.uint8))
    rows = [segmented(level=level) for level in ("L2", "L3", "L4")]
    cubes = {cube.level: cube for cube in crop.cut_study(ct, labels, rows, size=64, spacing_mm=1.0)}
    assert {level: cube.complete for level, cube in cubes.items()} == {"L2": False, "L3": True, "L4": False}
    body = cubes["L3"].label == cubes["L3"].code
    assert body.sum() == pytest.approx((labels.array == cubes["L3"].code).sum() * 1.5**3, rel=0.01)
    behind = np.argwhere(cubes["L3"].label == POSTERIOR + cubes["L3"].code).mean(axis=0)
    assert behind[1] < 15
    assert cubes["L2"].centroid_mm[2] > cubes["L3"].centroid_mm[2] > cubes["L4"].centroid_mm[2]
    # Cortex is brighter than what it surrounds.
    assert cubes["L3"].ct[body].mean() > cubes["L3"].ct[cubes["L3"].label == 0].mean() + 50
