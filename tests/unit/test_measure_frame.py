"""The vertebra's own axes: they follow it in every pose."""

import numpy as np
import pytest
from bodies import cylinder, turned
from hypothesis import given, settings
from hypothesis import strategies as st

from trabecula.image.levels import POSTERIOR
from trabecula.measure.frame import BodyFrame, find_frame
from trabecula.measure.solid import Solid

angles = st.floats(-35, 35)


def frame_of(crop) -> BodyFrame:
    body = Solid.of(crop.label == crop.code, spacing_mm=1.0)
    assert body is not None
    frame = find_frame(body, crop.label == crop.code + POSTERIOR)
    assert frame is not None
    return frame


def error_deg(frame: BodyFrame, axes) -> float:
    """Largest angle between an axis and the true one."""
    return float(np.degrees(np.arccos(np.clip(np.sum(frame.axes * axes, axis=1), -1, 1))).max())


@settings(max_examples=12)
@given(st.sampled_from("xyz"), angles, st.floats(0, 0.35), st.floats(0, 3))
def test_axes_follow_the_body_about_every_axis(axis, angle, wedge, concave):
    axes = turned(**{axis: angle})
    frame = frame_of(cylinder(axes=axes, wedge=wedge, concave=concave))
    assert error_deg(frame, axes) < 2.0
    assert frame.from_pedicles


@settings(max_examples=12)
@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(-20, 20), st.sampled_from([(9, 13, 11), (13, 22, 16)]))
def test_axes_follow_turns_about_all_axes_together(x, y, z, size):
    axes = turned(x=x, y=y, z=z)
    assert error_deg(frame_of(cylinder(*size, axes=axes)), axes) < 2.0


@settings(max_examples=8)
@given(angles)
def test_without_posterior_elements_an_oblong_body_tells_its_front(angle):
    axes = turned(z=angle)
    frame = frame_of(cylinder(axes=axes, pedicles=False))
    assert error_deg(frame, axes) < 3.0
    assert not frame.from_pedicles


def test_without_posterior_elements_a_round_body_faces_the_patients_front():
    frame = frame_of(cylinder(right=16, front=16, pedicles=False, axes=turned(x=20)))
    assert error_deg(frame, turned(x=20)) < 2.0


def test_one_pedicle_alone_is_not_trusted():
    crop = cylinder()
    crop.label[40:][crop.label[40:] > POSTERIOR] = 0
    frame = frame_of(crop)
    assert not frame.from_pedicles
    assert error_deg(frame, np.eye(3)) < 1.0


def test_posterior_elements_in_front_are_not_believed():
    crop = cylinder()
    posterior = crop.label > POSTERIOR
    crop.label[posterior] = 0
    crop.label[posterior[:, ::-1]] = POSTERIOR + crop.code
    frame = frame_of(crop)
    assert not frame.from_pedicles
    assert error_deg(frame, np.eye(3)) < 1.0


def test_a_pedicle_of_which_the_cube_cuts_more_turns_nothing():
    """Processes that reach out of the cube on one side only."""
    crop = cylinder()
    crop.label[45:, 2:14, 28:40] = POSTERIOR + crop.code
    assert error_deg(frame_of(crop), np.eye(3)) < 3.0


def test_spurs_at_the_rim_turn_nothing():
    crop = cylinder()
    crop.label[26:38, 46:54, 41:45] = crop.code
    assert error_deg(frame_of(crop), np.eye(3)) < 1.0


@pytest.mark.parametrize(
    ("axis", "angle", "name", "expected"),
    [
        ("x", -20, "tilt_sagittal_deg", 20),
        ("y", 15, "tilt_coronal_deg", 15),
        ("z", -25, "rotation_deg", 25),
    ],
)
def test_tilts_are_named_as_they_are_meant(axis, angle, name, expected):
    assert getattr(frame_of(cylinder(axes=turned(**{axis: angle}))), name) == pytest.approx(expected, abs=1)


def test_sizes_are_those_between_walls_and_endplates():
    frame = frame_of(cylinder(axes=turned(x=15, y=-10, z=20)))
    # Medians over a waist that curves away: a little less than the largest width and depth.
    assert frame.width_mm == pytest.approx(44, abs=1.5)
    assert frame.depth_mm == pytest.approx(32, abs=1)
    assert frame.height_mm == pytest.approx(26, abs=0.5)
    np.testing.assert_allclose(frame.centre_mm, 0, atol=0.5)


def test_places_go_there_and_back():
    frame = frame_of(cylinder(axes=turned(x=15, y=-10, z=20)))
    places = np.random.default_rng(0).uniform(-30, 30, (5, 3))
    np.testing.assert_allclose(frame.to_cube(frame.to_local(places)), places)
    np.testing.assert_allclose(frame.axes @ frame.axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(frame.axes) == pytest.approx(1)


def test_a_few_voxels_have_no_axes():
    mask = np.zeros((64, 64, 64), bool)
    mask[30:33, 30:33, 30:32] = True
    body = Solid.of(mask, spacing_mm=1.0)
    assert body is not None
    assert find_frame(body, np.zeros_like(mask)) is None
    assert Solid.of(np.zeros_like(mask), spacing_mm=1.0) is None
