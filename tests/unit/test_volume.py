"""Geometry of volumes: properties that hold for any grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from trabecula.image.volume import Volume, aligned_grid, bounds_mm, read_nifti, resample, write_nifti

angles = st.floats(-np.pi, np.pi, allow_subnormal=False).map(lambda angle: round(angle, 6))
spacings = st.floats(0.3, 5.0)
offsets = st.floats(-500, 500)


@st.composite
def affines(draw) -> np.ndarray:
    """Any rotated, flipped, permuted grid without shear, RAS+."""
    turn = Rotation.from_euler("xyz", [draw(angles) for _ in range(3)]).as_matrix()
    flips = np.diag([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    order = np.eye(3)[:, draw(st.permutations(range(3)))]
    affine = np.eye(4)
    affine[:3, :3] = turn @ flips @ order * [draw(spacings) for _ in range(3)]
    affine[:3, 3] = [draw(offsets) for _ in range(3)]
    return affine


def ramp(points_mm: np.ndarray) -> np.ndarray:
    """A field that is linear in the patient."""
    return points_mm @ [0.7, -1.1, 0.4] + 12.0


def of_ramp(affine: np.ndarray, shape=(7, 6, 5)) -> Volume:
    """Volume that samples the ramp on a grid."""
    volume = Volume(np.zeros(shape), affine)
    return volume.with_array(ramp(volume.to_mm(np.argwhere(volume.array == 0))).reshape(shape))


@given(affines(), st.lists(st.tuples(offsets, offsets, offsets), min_size=1, max_size=5))
def test_voxels_and_millimetres_are_inverse(affine, points):
    volume = Volume(np.zeros((2, 2, 2)), affine)
    np.testing.assert_allclose(volume.to_mm(volume.to_voxels(points)), points, atol=1e-6)


@given(affines())
def test_spacing_and_volume_follow_from_the_affine(affine):
    volume = Volume(np.zeros((2, 2, 2)), affine)
    np.testing.assert_allclose(abs(np.linalg.det(affine[:3, :3])), volume.spacing_mm.prod(), rtol=1e-9)
    one_step = np.linalg.norm(np.diff(volume.to_mm([[0, 0, 0], [0, 1, 0]]), axis=0))
    np.testing.assert_allclose(volume.spacing_mm[1], one_step, rtol=1e-9)


@given(affines())
def test_simpleitk_holds_the_same_grid(affine):
    volume = of_ramp(affine)
    again = Volume.from_sitk(volume.to_sitk())
    np.testing.assert_array_equal(again.array, volume.array)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-6)
    index = (3, 1, 2)
    lps = np.array(volume.to_sitk().TransformIndexToPhysicalPoint(index))
    np.testing.assert_allclose(lps * [-1, -1, 1], volume.to_mm([index])[0], atol=1e-6)


@settings(deadline=None)
@given(affines(), affines())
def test_a_ramp_stays_a_ramp_on_any_other_grid(given_axes, wanted_axes):
    """Trilinear sampling is exact on linear fields, whatever the axes."""
    volume = of_ramp(given_axes)
    inner = Volume(np.zeros((3, 3, 3)), wanted_axes.copy())
    inner.affine[:3, :3] *= 0.2 / np.abs(np.linalg.inv(given_axes[:3, :3]) @ wanted_axes[:3, :3]).sum(axis=1).max()
    inner.affine[:3, 3] += volume.to_mm([[3, 2.5, 2]])[0] - inner.to_mm([[1, 1, 1]])[0]
    sampled = resample(volume, (3, 3, 3), inner.affine, outside=np.nan)
    np.testing.assert_allclose(sampled.array, of_ramp(inner.affine, (3, 3, 3)).array, atol=1e-6)


def test_nearest_invents_no_label():
    labels = Volume((np.indices((6, 6, 6)).sum(axis=0) % 2 * 20).astype(np.uint8), np.eye(4))
    moved = resample(labels, (9, 9, 9), np.diag([0.6, 0.6, 0.6, 1.0]), outside=0, how="nearest")
    assert set(np.unique(moved.array)) == {0, 20}


@given(affines())
def test_an_aligned_grid_covers_the_volume(affine):
    volume = of_ramp(affine)
    low, high = bounds_mm(volume)
    shape, grid = aligned_grid(low, high, 1.5)
    reach = Volume(np.zeros(1), grid).to_mm([np.array(shape) - 1])[0]
    assert np.all(reach >= high - 1e-9) and np.all(grid[:3, 3] <= low + 1e-9)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_nifti_keeps_voxels_and_place(tmp_path, name):
    affine = np.array([[0, 0, -2.0, 30], [0.7, 0, 0, -40], [0, -0.7, 0, 900], [0, 0, 0, 1]])
    volume = Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5) - 1024, affine)
    write_nifti(volume, tmp_path / name)
    again = read_nifti(tmp_path / name)
    np.testing.assert_array_equal(again.array, volume.array)
    assert again.array.dtype == np.int16
    np.testing.assert_allclose(again.affine, affine, atol=1e-4)
