"""Noise, muscle and fat of scans in which they are known."""

import numpy as np
import pytest

from trabecula import tissue
from trabecula.levels import CODE_OF_LEVEL, POSTERIOR
from trabecula.volume import Volume

MUSCLE_HU, FAT_HU, AIR_HU = 52, -103, -1000


def patient(noise=0.0, seed=0):
    """An elliptic trunk of muscle under 20 mm of fat on a table, with a posterior element."""
    shape, spacing = (160, 130, 20), np.array([2.5, 2.5, 5.0])
    x, y, _ = (np.indices(shape) - np.array(shape)[:, None, None, None] / 2) * spacing[:, None, None, None]
    hu = np.full(shape, AIR_HU, float)
    hu[(x / 180) ** 2 + (y / 120) ** 2 <= 1] = FAT_HU
    hu[(x / 158) ** 2 + (y / 98) ** 2 <= 1] = MUSCLE_HU
    hu[:, :4] = -60
    labels = np.zeros(shape, np.uint8)
    labels[(np.abs(x) < 8) & (y > -60) & (y < -20)] = POSTERIOR + CODE_OF_LEVEL["L2"]
    hu[labels > 0] = 500
    hu += np.random.default_rng(seed).normal(0, noise, shape) if noise else 0
    affine = np.diag([*spacing, 1.0])
    return Volume(np.rint(hu).astype(np.int16), affine), Volume(labels, affine)


@pytest.mark.parametrize("sd", [5.0, 15.0, 40.0])
def test_noise_is_that_of_the_scan(sd):
    """White noise: neighbours differ by the square root of two times its SD."""
    ct, _ = patient(noise=sd)
    assert tissue.noise_hu(ct) == pytest.approx(sd, rel=0.06)


def test_muscle_and_fat_are_found():
    ct, labels = patient(noise=10)
    assert tissue.muscle_hu(ct, labels) == pytest.approx(MUSCLE_HU, abs=1.5)
    assert tissue.fat_hu(ct) == pytest.approx(FAT_HU, abs=1.5)


def test_the_axes_of_the_scan_do_not_matter():
    ct, labels = patient()
    turned = [Volume(v.array.transpose(2, 0, 1)[::-1], v.affine[:, [2, 0, 1, 3]]) for v in (ct, labels)]
    assert tissue.slice_axis(turned[0]) == 0
    assert tissue.muscle_hu(*turned) == MUSCLE_HU
    assert tissue.fat_hu(turned[0]) == FAT_HU


def test_what_is_not_there_is_undefined():
    _, labels = patient()
    air = labels.with_array(np.full(labels.array.shape, -1024, np.int16))
    assert tissue.noise_hu(air) is None
    assert tissue.fat_hu(air) is None
    assert tissue.muscle_hu(air, labels) is None
    assert tissue.muscle_hu(patient()[0], labels.with_array(np.zeros_like(labels.array))) is None
