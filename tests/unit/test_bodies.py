"""Bodies told from posterior elements, on vertebrae of known shape and on real ones."""

from pathlib import Path

import numpy as np
import pytest
from overlap import dice
from scipy.spatial.transform import Rotation

from trabecula.image.codings import CODINGS
from trabecula.image.levels import CODE_OF_LEVEL, POSTERIOR
from trabecula.image.volume import Volume, read_nifti
from trabecula.segment.bodies import split_bodies
from trabecula.segment.masks import recode

pytestmark = pytest.mark.slow

LEVELS = ("L3", "L2", "L1")
HEIGHT_MM, PITCH_MM = 28.0, 38.0


def vertebra_at(points_mm: np.ndarray, height_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Body and posterior elements of a vertebra at the origin, as (n,) masks of (n, 3) places."""
    x, y, z = np.moveaxis(points_mm, -1, 0)
    body = ((x / 24) ** 2 + (y / 17) ** 2 < 1) & (abs(z) < height_mm / 2)
    from_canal = np.hypot(x / 1.2, y + 26)
    upper = (z > -2) & (z < min(10, height_mm / 2))
    arch = (from_canal > 9) & (from_canal < 15) & ((y < -22) & (abs(z) < 12) | upper & (abs(x) > 8))
    spinous = (abs(x) < 4) & (y < -38) & (y > -65) & (abs(z + 3) < 9)
    transverse = (abs(y + 22) < 5) & (abs(x) > 14) & (abs(x) < 40) & upper
    return body, (arch | spinous | transverse) & ~body


def spine(
    spacing_mm: tuple[float, float, float], turn: Rotation, height_mm: float = HEIGHT_MM
) -> tuple[Volume, Volume]:
    """Label map with a number per whole vertebra, and the true bodies: three vertebrae, the patient turned."""
    size = np.array([110.0, 120.0, 150.0])
    shape = tuple(int(n) for n in np.ceil(size / spacing_mm))
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -size / 2 + [0, -15, 0]
    whole, bodies = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    points = Volume(whole, affine).to_mm(np.indices(shape).reshape(3, -1).T)
    straight = turn.inv().apply(points)
    for i, level in enumerate(LEVELS):
        body, rest = vertebra_at(straight - [0, 0, PITCH_MM * (i - 1)], height_mm)
        whole.reshape(-1)[body | rest] = CODE_OF_LEVEL[level]
        bodies.reshape(-1)[body] = CODE_OF_LEVEL[level]
    return Volume(whole, affine), Volume(bodies, affine)


WHOLE = CODINGS["verse"].whole
TURNS = [(0, 0, 0), (20, 0, 0), (-20, 0, 0), (0, 15, 0), (0, 0, 20), (15, -10, 15)]


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_the_body_lies_in_front_of_the_canal_whatever_the_pose(turn: tuple[float, float, float]) -> None:
    whole, bodies = spine((1.5, 1.5, 2.0), Rotation.from_euler("xyz", turn, degrees=True))
    parted = split_bodies(whole, WHOLE).array
    for level in LEVELS:
        code = CODE_OF_LEVEL[level]
        assert dice(parted == code, bodies.array == code) > 0.93, level
        assert np.array_equal((parted == code) | (parted == POSTERIOR + code), whole.array == code)


@pytest.mark.parametrize("spacing_mm", [(0.7, 0.7, 5.0), (3.0, 3.0, 3.0), (1.0, 1.0, 1.0)], ids=str)
def test_thick_slices_and_coarse_maps_do(spacing_mm: tuple[float, float, float]) -> None:
    whole, bodies = spine(spacing_mm, Rotation.from_euler("x", 10, degrees=True))
    parted = split_bodies(whole, WHOLE).array
    assert min(dice(parted == CODE_OF_LEVEL[x], bodies.array == CODE_OF_LEVEL[x]) for x in LEVELS) > 0.9


def test_a_collapsed_body_is_kept() -> None:
    whole, bodies = spine((1.0, 1.0, 1.0), Rotation.identity(), height_mm=11)
    code = CODE_OF_LEVEL["L2"]
    assert dice(split_bodies(whole, WHOLE).array == code, bodies.array == code) > 0.9


def test_an_open_arch_leaves_what_is_thick() -> None:
    """Without pedicles there is no canal to see."""
    whole, bodies = spine((1.0, 1.0, 1.0), Rotation.identity())
    opened = whole.array.copy()
    opened[:, : int(np.flatnonzero(bodies.array.any(axis=(0, 2)))[0]) - 20] = 0
    code = CODE_OF_LEVEL["L2"]
    assert dice(split_bodies(whole.with_array(opened), WHOLE).array == code, bodies.array == code) > 0.9


def test_posterior_elements_alone_are_no_body() -> None:
    whole, bodies = spine((1.0, 1.0, 1.0), Rotation.identity())
    code = CODE_OF_LEVEL["L1"]
    cut = np.where((whole.array == code) & (bodies.array == code), 0, whole.array).astype(np.uint8)
    assert code not in split_bodies(whole.with_array(cut), WHOLE).array


def test_codes_that_are_bodies_already_stay() -> None:
    whole, _ = spine((2.0, 2.0, 2.0), Rotation.identity())
    assert np.array_equal(split_bodies(whole, frozenset()).array, whole.array)


def test_bodies_of_a_real_spine_are_those_of_a_network_for_bodies(real_data: Path) -> None:
    """The whole vertebrae of the task `total`, against the map of the task `vertebrae_body` and the refined bodies.

    The refined L5 is smaller than the body map's: its Dice with that map within the vertebra is 0.88, the best that
    any split of the vertebra at the canal can reach.
    """
    folder = real_data / "totalseg_example/spine_report/test_result"
    total, body, refined = (
        read_nifti(folder / f"totalseg{name}.nii.gz") for name in ("", "_vertebrae_body", "_vertebrae_pp_refined")
    )
    whole = recode(total.array, CODINGS["totalsegmentator"])
    parted = split_bodies(total.with_array(whole), CODINGS["totalsegmentator"].whole).array
    for level in ("T12", "L1", "L2", "L3", "L4", "L5"):
        code = CODE_OF_LEVEL[level]
        assert dice(parted == code, (whole == code) & (body.array == 1)) > 0.95, level
        assert dice(parted == code, refined.array == code) > (0.84 if level == "L5" else 0.9), level


def test_bodies_of_a_real_spine_are_those_of_its_reader(real_data: Path) -> None:
    """VerSe numbers, against sub-regions 49 and 50, the body."""
    folder = real_data / "tptbox_vertebra_crop/sample_ct"
    verse = read_nifti(folder / "sub-ct_seg-vert_label-22_msk.nii.gz")
    parts = read_nifti(folder / "sub-ct_seg-subreg_label-22_msk.nii.gz").array
    parted = split_bodies(verse, WHOLE).array
    for level in ("L2", "L3", "L4"):
        code = CODE_OF_LEVEL[level]
        assert dice(parted == code, (verse.array == code) & np.isin(parts, (49, 50))) > 0.95, level


def test_vertebrae_that_lie_in_no_column_are_parted_as_if_they_stood_upright():
    """A label map from elsewhere may hold anything: pieces in front of each other, or in one place."""
    labels = np.zeros((40, 60, 40), np.uint8)
    labels[10:30, 5:25, 10:30] = CODE_OF_LEVEL["L1"]
    labels[10:30, 35:55, 10:30] = CODE_OF_LEVEL["L2"]
    labels[::2, :, 0] = 30
    labels[1::2, :, 0] = 31
    whole = Volume(labels, np.eye(4))
    parted = split_bodies(whole, range(1, 32))
    assert np.array_equal(parted.array % POSTERIOR, labels)
