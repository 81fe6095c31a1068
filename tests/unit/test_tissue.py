"""Noise, muscle and fat of scans in which they are known."""

import numpy as np
import pytest

from trabecula.density import tissue
from trabecula.density.attenuation import in_water
from trabecula.image.levels import CODE_OF_LEVEL, POSTERIOR
from trabecula.image.volume import Volume, read_nifti
from trabecula.phantom import DEVICES, Positioning, render, sample_patient
from trabecula.phantom.physics import tissue_hu

MUSCLE_HU, FAT_HU, AIR_HU = 52, -103, -1000


def patient(noise=0.0, seed=0):
    """Make an elliptic trunk of muscle under 20 mm of fat on a table, with a posterior element."""
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
    """In white noise neighbours differ by the square root of two times its SD."""
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
    assert tissue.air_hu(air) is None
    assert tissue.blood_hu(air, labels, noise_hu=10.0) is None
    assert tissue.rods_hu(air, labels, noise_hu=10.0) == []


def test_padding_is_told_from_cold_air():
    ct, _ = patient(noise=20)
    hu = np.maximum(ct.array, -1024)
    assert tissue.padding_share(ct.with_array(hu)) < 1e-3
    hu[:16] = -1024
    assert tissue.padding_share(ct.with_array(hu)) == pytest.approx(16 / 160, abs=2e-3)
    assert tissue.air_hu(ct.with_array(hu)) == pytest.approx(AIR_HU, abs=1)


# --- synthetic patients, whose tissues are known ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("name", "phase"), [("alpha", "native"), ("beta", "portal"), ("gamma", "arterial")])
def test_blood_is_that_of_the_aorta(name, phase):
    device = DEVICES[name]
    ct, labels = render(sample_patient(7, 8), device, spacing_mm=(2.0, 2.0, 3.0), seed=1, phase=phase)
    true = device.slope * tissue_hu(device.energy_kev, phase).aorta + device.offset_hu
    measured = tissue.blood_hu(ct, labels, noise_hu=tissue.noise_hu(ct) or 0.0)
    # Beam hardening in the middle of the body takes up to 6 HU.
    assert measured is not None
    assert true - 8 < measured < true + 3


@pytest.mark.slow
@pytest.mark.parametrize("rods", [(0.0, 50.0, 100.0, 200.0), (200.0, 100.0, 50.0)])
def test_calibration_rods_are_found_under_the_patient(rods):
    device = DEVICES["delta"]
    scan = {"spacing_mm": (1.5, 1.5, 5.0), "seed": 1}
    ct, labels = render(sample_patient(7, 2), device, positioning=Positioning(rods), **scan)
    measured = np.array(tissue.rods_hu(ct, labels, noise_hu=tissue.noise_hu(ct) or 0.0))
    true = device.slope * in_water(device.energy_kev).hu(rods) + device.offset_hu
    for hu in true:
        assert np.abs(measured - hu).min() < 1.5
    without, labels = render(sample_patient(7, 2), device, **scan)
    assert tissue.rods_hu(without, labels, noise_hu=10.0) == []


def test_a_real_native_scan(real_data):
    """A native scan with its published label map has blood of the usual attenuation, no rods, and air near -1000 HU."""
    folder = real_data / "totalseg_example"
    ct = read_nifti(folder / "example_ct.nii.gz")
    labels = read_nifti(folder / "spine_report" / "test_result" / "totalseg_vertebrae_pp_refined.nii.gz")
    facts = tissue.scan_facts(ct, labels.with_array(labels.array.astype(np.uint8)))
    assert facts["blood_hu"] == pytest.approx(44, abs=6)
    assert facts["air_hu"] == pytest.approx(-1000, abs=5)
    assert facts["fat_hu"] == pytest.approx(-103, abs=5)
    assert facts["rods_hu"] == []
