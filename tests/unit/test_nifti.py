"""NIfTI headers, against nibabel."""

import shutil
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel import nifti1
from scipy.spatial.transform import Rotation

from trabecula.image.nifti import header_of, nifti_in, writing_nifti

angles = st.tuples(*[st.floats(-180, 180)] * 3)


@given(angles, st.sampled_from([1, -1]), st.tuples(*[st.floats(0.2, 9)] * 3), st.tuples(*[st.floats(-900, 900)] * 3))
def test_both_ways_of_saying_where_a_volume_lies_are_nibabels(turn, handed, spacing, origin):
    axes = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() * [1, 1, handed]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * spacing, origin
    header: Any = nifti1.Nifti1Header(header_of((3, 4, 5), affine, np.dtype(np.int16))[:348])
    np.testing.assert_allclose(header.get_sform(), affine, atol=1e-3)
    np.testing.assert_allclose(header.get_qform(), affine, atol=1e-3)
    assert header.get_data_shape() == (3, 4, 5) and header.get_xyzt_units()[0] == "mm"
    assert header["qform_code"] == header["sform_code"] == 1


@pytest.mark.parametrize("half_turn", [[180, 0, 0], [0, 180, 0], [0, 0, 180], [180, 90, 0], [0, 0, 0]])
def test_half_turns_are_right(half_turn):
    """The first part of the quaternion is 0 there."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", half_turn, degrees=True).as_matrix() * [0.8, 0.8, 5.0]
    header: Any = nifti1.Nifti1Header(header_of((3, 4, 5), affine, np.dtype(np.int16))[:348])
    np.testing.assert_allclose(header.get_qform(), affine, atol=1e-5)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_voxels_come_back(tmp_path, kind, ending):
    voxels = np.arange(24).reshape(2, 3, 4).astype(kind)
    with writing_nifti(tmp_path / f"x.{ending}", voxels.shape, np.eye(4), kind) as write:
        for k in range(4):
            write(voxels[:, :, k].T)
    again = nifti1.load(nifti_in(tmp_path, "x"))
    assert again.get_data_dtype() == kind
    np.testing.assert_array_equal(np.asanyarray(again.dataobj), voxels)


def test_a_file_that_is_not_finished_is_not_there(tmp_path):
    with pytest.raises(KeyError), writing_nifti(tmp_path / "x.nii", (2, 3, 4), np.eye(4), np.int16) as write:
        write(np.zeros((3, 2)))
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_taken_away_does_not_come_back_with_a_part_of_its_files(tmp_path):
    """A job whose driver was killed goes on, while the next driver takes its folder away."""
    folder = tmp_path / "00000"
    folder.mkdir()
    with writing_nifti(folder / "first.nii.gz", (2, 2, 1), np.eye(4), np.int16) as write:
        write(np.zeros((2, 2)))
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError), writing_nifti(folder / "second.nii.gz", (2, 2, 1), np.eye(4), np.int16):
        pass
    assert not folder.exists()
