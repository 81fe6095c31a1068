"""The synthetic archive: physics, anatomy, population, DICOM."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import xraydb
from pyarrow import csv as pa_csv
from pyarrow import parquet as pq

from trabecula.density.attenuation import EFFECTIVE_ENERGY_KEV, material_hu, spongiosa
from trabecula.image.levels import CODE_OF_LEVEL, DISC, HIP, ORDER, POSTERIOR, RIB, SACRUM
from trabecula.image.volume import Volume
from trabecula.phantom import (
    DEVICES,
    PatientAttributes,
    SeriesAttributes,
    StudyAttributes,
    render,
    sample_patient,
    write_archive,
    write_series,
)
from trabecula.phantom.archive import headers_of, k2hpo4_from_ha, truth_rows
from trabecula.phantom.artefacts import PROPORTIONS, has_artefact
from trabecula.phantom.population import VBMD_SD_MG_CM3, mean_marrow_fat, mean_vbmd_mg_cm3
from trabecula.phantom.render import bone_of, expected_hu
from trabecula.phantom.spine import build_spine

pytestmark = pytest.mark.slow

SEED = 11
COARSE_MM = (3.0, 3.0, 3.0)


@pytest.fixture(scope="module")
def population():
    return [sample_patient(SEED, index) for index in range(600)]


@pytest.fixture(scope="module")
def plain(population):
    """Draw a patient with the whole lumbar spine in view and nothing odd."""
    return next(
        p
        for p in population
        if p.coverage == "abdomen_pelvis" and not p.fractures and not p.screws and p.lumbar_count == 5
    )


@pytest.fixture(scope="module")
def scan(plain):
    return render(plain, DEVICES["alpha"], spacing_mm=(1.6, 1.6, 2.5), seed=SEED)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    write_archive(folder, seed=SEED, first_patient=1, patients=2, devices=("alpha", "delta"), matrix=64)
    return folder


def _digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# Physics


def test_tissue_hu_follows_independent_attenuation():
    """The oracle is xraydb's compound function on the elements' masses, at 68 keV."""
    water = xraydb.material_mu("H2O", 68e3, density=1.0)
    fat = {"H": 0.114, "C": 0.598, "N": 0.007, "O": 0.278, "Na": 0.001, "S": 0.001, "Cl": 0.001}
    formula = "".join(f"{el}{share / xraydb.atomic_mass(el) * 1000:.6f}" for el, share in fat.items())
    oracle = 1000 * (xraydb.material_mu(formula, 68e3, density=0.95) / water - 1)
    assert material_hu("fat", 68.0) == pytest.approx(oracle, abs=3.0)


def test_mineral_displaces_marrow_like_an_independent_mixture():
    mineral = xraydb.material_mu("Ca5P3O13H", 68e3, density=0.120)
    water = xraydb.material_mu("H2O", 68e3, density=1.0)
    marrow = (1 + material_hu("red_marrow", 68.0) / 1000) * water
    oracle = 1000 * ((mineral + (1 - 0.120 / 3.16) * marrow) / water - 1)
    assert float(spongiosa(68.0, marrow_fat=0.0).hu(120.0)) == pytest.approx(oracle, abs=4.0)


@pytest.mark.parametrize(("kvp", "slope"), [(80, 1.99), (100, 1.62), (120, 1.37), (140, 1.19)])
def test_slope_of_bone_follows_the_design(kvp, slope):
    bone = spongiosa(EFFECTIVE_ENERGY_KEV[kvp], marrow_fat=0.45)
    assert bone.hu_per_mg_cm3 == pytest.approx(slope, abs=0.03)


def test_hu_falls_with_kvp_and_marrow_fat_and_rises_with_contrast(plain):
    def at(kev, fat=0.4, iodine=0.0):
        return float(spongiosa(kev, marrow_fat=fat, iodine_mg_ml=iodine).hu(110.0))

    assert at(54.0) > at(61.0) > at(68.0) > at(75.0)
    assert 12 < at(68.0, 0.3) - at(68.0, 0.6) < 30
    native, portal = (float(bone_of(plain, DEVICES["alpha"], p).hu(110.0)) for p in ("native", "portal"))
    assert 5 < portal - native < 20


def test_trabecular_hu_of_the_image_is_the_expected_one(plain):
    """The mean is that of a small box in the middle of each lumbar body, so that noise averages out."""
    ct, _ = render(plain, DEVICES["alpha"], spacing_mm=(1.2, 1.2, 2.0), seed=SEED)
    for vertebra in build_spine(plain).vertebrae[:5]:
        i, j, k = np.rint(ct.to_voxels([vertebra.frame.to_world([0, 0.1 * vertebra.half_depth_mm, 0])])[0]).astype(int)
        mean = ct.array[i - 6 : i + 7, j - 4 : j + 5, k - 2 : k + 3].mean()
        assert mean == pytest.approx(expected_hu(plain, DEVICES["alpha"], vertebra.level), abs=22)


def test_soft_tissue_is_where_it_belongs(plain, scan):
    """The aorta lies in front of L3, the canal behind it, and air outside."""
    ct, _ = scan
    l3 = next(v for v in build_spine(plain).vertebrae if v.level == "L3")
    canal = np.rint(ct.to_voxels([l3.frame.to_world([0, -l3.half_depth_mm - 8.5, 0])])[0]).astype(int)
    assert -40 < ct.array[tuple(canal)] < 90
    assert ct.array[2:6, -6:-2].mean() < -900


# Anatomy


def test_labels_cover_every_structure(plain, scan):
    _, labels = scan
    present = set(np.unique(labels.array).tolist())
    lumbar = {CODE_OF_LEVEL[f"L{i}"] for i in range(1, 6)}
    assert lumbar | {POSTERIOR + code for code in lumbar} | {SACRUM, DISC, RIB, HIP} <= present
    assert {CODE_OF_LEVEL["T11"], CODE_OF_LEVEL["T12"]} <= present


def test_bodies_do_not_touch_each_other(scan):
    """No voxel of one body is a face neighbour of another: a disc lies between."""
    array = scan[1].array.astype(int)
    bodies = np.where((array >= CODE_OF_LEVEL["T6"]) & (array <= CODE_OF_LEVEL["L6"]), array, 0)
    for axis in range(3):
        a, b = np.moveaxis(bodies, axis, 0)[:-1], np.moveaxis(bodies, axis, 0)[1:]
        assert not ((a > 0) & (b > 0) & (a != b)).any()


def test_levels_stand_in_order_from_foot_to_head(plain, scan):
    _, labels = scan
    heights = {}
    for level in plain.levels:
        voxels = np.argwhere(labels.array == CODE_OF_LEVEL[level])
        if len(voxels):
            heights[level] = labels.to_mm(voxels).mean(axis=0)[2]
    ordered = sorted(heights, key=lambda level: -heights[level])
    assert ordered == [level for level in ORDER if level in heights]


@pytest.mark.parametrize("count", [4, 6])
def test_other_numbers_of_lumbar_vertebrae(population, count):
    patient = next(p for p in population if p.lumbar_count == count and p.coverage == "abdomen_pelvis")
    _, labels = render(patient, DEVICES["gamma"], spacing_mm=COARSE_MM, seed=SEED)
    lumbar = [f"L{i}" for i in range(1, 7) if (labels.array == CODE_OF_LEVEL[f"L{i}"]).any()]
    assert lumbar == [f"L{i}" for i in range(1, count + 1)]


def test_noise_depends_on_the_seed_and_anatomy_does_not(plain):
    (a, la), (b, lb), (c, _) = (
        render(plain, DEVICES["alpha"], spacing_mm=COARSE_MM, matrix=96, seed=seed) for seed in (1, 2, 1)
    )
    assert np.array_equal(la.array, lb.array)
    assert not np.array_equal(a.array, b.array)
    assert np.array_equal(a.array, c.array)


# Population


def test_a_patient_does_not_depend_on_others(population):
    assert sample_patient(SEED, 417) == population[417]
    assert sample_patient(SEED + 1, 417) != population[417]


def test_density_follows_the_age_curve(population):
    """Standardised residuals of L1-L2 have mean 0 and SD 1 in patients without fractures."""
    z = [
        (np.mean([p.vbmd_mg_cm3["L1"], p.vbmd_mg_cm3["L2"]]) - float(mean_vbmd_mg_cm3(p.age_years, p.sex)))
        / VBMD_SD_MG_CM3
        for p in population
        if not p.fractures
    ]
    assert abs(np.mean(z)) < 0.15
    assert np.std(z) == pytest.approx(1.0, abs=0.12)


def test_curves_have_the_published_landmarks():
    women, men = (mean_vbmd_mg_cm3([20, 90], sex) for sex in ("F", "M"))
    assert 1 - women[1] / women[0] == pytest.approx(0.55, abs=0.02)
    assert 1 - men[1] / men[0] == pytest.approx(0.46, abs=0.02)
    assert mean_marrow_fat(25, "M") > mean_marrow_fat(25, "F")
    assert mean_marrow_fat(75, "F") - mean_marrow_fat(75, "M") == pytest.approx(0.10, abs=0.03)


def test_the_population_has_its_peculiarities(population):
    share = {n: np.mean([p.lumbar_count == n for p in population]) for n in (4, 5, 6)}
    assert 0.01 < share[4] < 0.08 and 0.01 < share[6] < 0.08
    assert 0.03 < np.mean([bool(p.fractures) for p in population]) < 0.4
    assert any(p.screws for p in population) and any(p.cement for p in population)
    assert any(abs(p.scoliosis_mm) > 12 for p in population)


def test_devices_hold_one_back():
    assert len(DEVICES) >= 3
    assert any(d.external for d in DEVICES.values())
    assert len({(d.maker, d.model, d.kvp, d.kernel.name) for d in DEVICES.values()}) == len(DEVICES)


# Archive


def test_the_same_seed_gives_the_same_bytes(archive, tmp_path):
    write_archive(tmp_path, seed=SEED, first_patient=1, patients=2, devices=("alpha", "delta"), matrix=64, workers=2)
    assert _digest(tmp_path) == _digest(archive)


def test_truth_lies_in_the_image(archive):
    """Truth names levels that exist, plausible densities and series that are in the archive."""
    truth = _truth(archive)
    assert truth
    for row in truth:
        assert row["level"] in CODE_OF_LEVEL
        assert 20 <= row["vbmd_mg_cm3"] < 400
    uids = {row["series_instance_uid"] for row in truth}
    uids_in_archive = {_header(f).get("SeriesInstanceUID") for f in _dicom(archive)}
    assert uids <= uids_in_archive


def _dicom(archive):
    return [f for f in (archive / "archive").rglob("*") if f.is_file() and f.suffix != ".txt"]


def _header(path):
    return pydicom.dcmread(path, stop_before_pixels=True, force=True)


def _truth(archive) -> list[dict]:
    return pq.read_table(archive / "truth.parquet").to_pylist()


def test_centroids_lie_inside_their_labels(plain, scan):
    _, labels = scan
    for row in truth_rows(plain, "alpha", headers_of(plain, DEVICES["alpha"], SEED), labels):
        i, j, k = np.rint(labels.to_voxels([[row["x_mm"], row["y_mm"], row["z_mm"]]])[0]).astype(int)
        assert labels.array[i, j, k] == CODE_OF_LEVEL[str(row["level"])]


def test_labels_are_a_small_error_away_from_the_truth(archive):
    truth = {(r["patient_id"], r["level"]): r["vbmd_mg_cm3"] for r in _truth(archive)}
    for row in pa_csv.read_csv(archive / "labels.csv").to_pylist():
        if (row["patient_id"], row["level"]) in truth:
            true = truth[row["patient_id"], row["level"]]
            expected = true if row["unit"].endswith(" HA") else k2hpo4_from_ha(true)
            assert row["vbmd"] == pytest.approx(expected, rel=0.08, abs=4)


def test_artefacts_have_fixed_proportions():
    for kind, (period, _) in PROPORTIONS.items():
        assert sum(has_artefact(kind, index) for index in range(240)) == 240 // period


def test_artefacts_are_there(archive):
    files = list((archive / "archive").rglob("*"))
    modalities = {_header(path).get("Modality") for path in _dicom(archive)}
    assert {"CT", "SR", "OT"} <= modalities
    assert any(path.name == "transfer.tmp.dcm" for path in files)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian dicom3tools) is not installed")
def test_primary_slices_are_valid_ct_images(archive):
    uids = {row["series_instance_uid"] for row in _truth(archive)}
    for uid in uids:
        slices = [f for f in _dicom(archive) if _header(f).get("SeriesInstanceUID") == uid]
        whole = next(f for f in slices if f.name != "transfer.tmp.dcm")
        report = subprocess.run(["dciodvfy", whole], capture_output=True, text=True, check=False)
        assert "Error" not in report.stderr + report.stdout, report.stderr
        assert "Warning" not in report.stderr + report.stdout, report.stderr


# The writer on any geometry


def _oblique(permutation, flips, angle_deg):
    rng = np.random.default_rng(5)
    angle = np.deg2rad(angle_deg)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = (turn @ np.diag([1.5, 2.0, 3.0] * np.array(flips)))[:, permutation]
    affine[:3, 3] = [10.0, -20.0, 30.0]
    shape = np.array([9, 8, 7])[list(permutation)]
    return Volume(rng.integers(-1000, 2000, shape).astype(np.int16), affine)


@pytest.mark.parametrize("permutation", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
@pytest.mark.parametrize("angle_deg", [0.0, 12.0])
def test_every_voxel_keeps_its_place_in_the_patient(tmp_path, permutation, flips, angle_deg):
    """SimpleITK reads back the same value at the same millimetres, whatever the axes."""
    ct = _oblique(permutation, flips, angle_deg)
    uid = "2.25.1"
    files = write_series(
        ct,
        tmp_path,
        patient=PatientAttributes("SYN-1", "Synthetic^Test"),
        study=StudyAttributes(uid=uid, date=sample_patient(0, 0).study_date, frame_of_reference_uid=f"{uid}.1"),
        series=SeriesAttributes(uid=f"{uid}.2"),
    )
    back = Volume.from_sitk(sitk.ReadImage([str(f) for f in files]))
    voxels = np.argwhere(np.ones(ct.array.shape, bool))
    place = back.to_voxels(ct.to_mm(voxels))
    index = np.rint(place).astype(int)
    assert np.abs(place - index).max() < 1e-3
    assert np.array_equal(back.array[tuple(index.T)], ct.array[tuple(voxels.T)])
    header = pydicom.dcmread(files[0])
    assert abs(header.ImageOrientationPatient[0]) > 0.9
