"""Rotations of an axial scan that overlap, from files to one volume."""

import json
from pathlib import Path

import numpy as np
import pytest
from ct_files import linear_hu, save_all, slice_of
from pydicom.dataset import Dataset

from trabecula.convert.by_hand import convert_folder
from trabecula.image.volume import Volume, read_nifti

RNG_SEED = 5


def rotations(n: int, each: int, overlap: float, noise_hu: float = 8, plus_hu: float = 0) -> list[Dataset]:
    """Make rotations of slices with noise; `plus_hu` is added to every second rotation."""
    rng = np.random.default_rng(RNG_SEED)
    slices = []
    for rotation in range(n):
        for k in range(each):
            z = 2.5 * (rotation * (each - overlap) + k) - 60

            def hu(points: np.ndarray, plus=plus_hu * (rotation % 2)) -> np.ndarray:
                return linear_hu(points) + plus + rng.normal(0, noise_hu, points.shape[:-1])

            slices.append(slice_of((-17.0, -20.0, z), hu=hu))
            slices[-1].AcquisitionTime = f"1010{rotation:02d}"
    return slices


def converted(slices: list[Dataset], folder: Path) -> tuple[list[dict], list[Volume]]:
    save_all(slices, folder / "in")
    entries = convert_folder(folder / "in", folder / "out", form="nii")
    assert entries == json.loads((folder / "out/convert.json").read_text())
    return entries, [read_nifti(folder / "out" / entry["file"]) for entry in entries if entry["file"]]


def errors_hu(ct: Volume) -> np.ndarray:
    places = ct.to_mm(np.moveaxis(np.indices(ct.array.shape), 0, -1).reshape(-1, 3))
    return ct.array.astype(float).ravel() - linear_hu(places)


@pytest.mark.parametrize("told", [True, False], ids=["by time", "by nothing"])
@pytest.mark.parametrize(("n", "each", "overlap"), [(8, 8, 1), (4, 16, 1), (5, 8, 2), (5, 8, 3), (2, 16, 1)])
def test_rotations_become_one_volume_of_the_whole_length_with_the_noise_of_one(tmp_path, told, n, each, overlap):
    slices = rotations(n, each, overlap)
    for dataset in slices:
        dataset.AcquisitionTime = dataset.AcquisitionTime if told else "1010"
    (entry,), (ct,) = converted(slices, tmp_path)
    n_places = n * (each - overlap) + overlap
    assert entry["repairs"] == ["overlapping_rotations"] and entry["flags"] == []
    assert entry["shape"] == [24, 20, n_places] and entry["n_slices"] == n_places
    noise = errors_hu(ct).reshape(ct.array.shape).std(axis=(0, 1))
    assert abs(errors_hu(ct).mean()) < 0.5 and noise.min() > 7 and noise.max() < 9


@pytest.mark.parametrize("beside", [0.02, 0.1, 0.29])
@pytest.mark.parametrize("overlap", [1, 3])
def test_rotations_that_hardly_miss_each_other_become_one_volume(tmp_path, overlap, beside):
    (entry,), (ct,) = converted(rotations(5, 8, overlap + beside, noise_hu=0), tmp_path)
    assert "overlapping_rotations" in entry["repairs"]
    assert np.abs(errors_hu(ct)).max() <= 1.01
    length = 2.5 * (5 * 8 - 4 * (overlap + beside) - 1)
    assert length - 2.5 < ct.spacing_mm[2] * (ct.array.shape[2] - 1) <= length + 0.01


@pytest.mark.parametrize("told", [True, False], ids=["by time", "by nothing"])
def test_rotations_of_which_every_second_is_another_scan_are_refused(tmp_path, told):
    slices = rotations(6, 8, 1, plus_hu=100)
    for dataset in slices:
        dataset.AcquisitionTime = dataset.AcquisitionTime if told else "1010"
    (entry,), _ = converted(slices, tmp_path)
    assert entry["reason"] == "duplicate_position"


@pytest.mark.parametrize("repeated", [0, 8, 12, 29])
def test_a_repeated_slice_that_no_rotation_explains_is_refused(tmp_path, repeated):
    """It lies at an end, or parts the scan in two unequal halves."""
    slices = [*rotations(1, 30, 0), rotations(1, 30, 0, noise_hu=9)[repeated]]
    (entry,), _ = converted(slices, tmp_path)
    assert entry["reason"] == "duplicate_position"
