"""Convert stacks of a tilted gantry, and slices in any orientation."""

import numpy as np
import pytest
from ct_files import linear_hu, slice_of
from linear_stacks import EXACT, MENDED, check_shows, convert, each, error_hu, grid_mm, tilted, without
from scipy.spatial.transform import Rotation

# --- gantry tilt ----------------------------------------------------------------------------------------


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
    _, (expected,) = convert(tmp_path / "bare", bare)
    (entry,), (ct,) = convert(tmp_path / "marked", marked)
    assert entry["repairs"] == ["gantry_tilt"]
    np.testing.assert_array_equal(ct.array, expected.array)
    np.testing.assert_array_equal(ct.affine, expected.affine)


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
    """Values far below air count as air before slices are mixed, else the edge of the view would darken."""
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


# --- orientations ----------------------------------------------------------------------------------------

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
