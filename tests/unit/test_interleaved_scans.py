"""Two scans whose slices lie between each other are no volume, whatever their headers say."""

import numpy as np
import pytest
from ct_files import axial_stack, linear_hu, save_all, slice_of

from trabecula.convert.by_hand import convert_folder
from trabecula.convert.interleaved import Alternation

N = 24


def body(z: np.ndarray, plus: float = 0, moved: int = 0, noise: float = 0, seed: int = 3) -> list[np.ndarray]:
    """Make slices of a body in air with organs that change along it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:128, :128]
    slices = []
    for height in z:
        organs = 60 * np.sin((x + 2 * height) / 9) * np.cos((y - height) / 7)
        inside = ((x - 64) / 55) ** 2 + ((y - 64) / 40) ** 2 < 1
        hu = np.where(inside, 40 + organs + plus, -1000) + rng.normal(0, noise, x.shape)
        slices.append(np.roll(hu, moved, axis=0).astype(np.int16))
    return slices


def is_mixed(slices: list[np.ndarray], z: np.ndarray) -> bool:
    alternation = Alternation(z.tolist())
    for passed, slice_hu in zip(alternation.watching(slices), slices, strict=True):
        assert passed is slice_hu
    return alternation.holds()


HEIGHTS = {
    "even": 1.5 * np.arange(N),
    "a third of a step": np.sort(np.concatenate([3.0 * np.arange(N // 2), 3.0 * np.arange(N // 2) + 1])),
    "with a gap": 1.5 * np.delete(np.arange(N + 2), [9, 10]),
}


@pytest.mark.parametrize("heights", HEIGHTS)
@pytest.mark.parametrize("noise", [0, 15])
@pytest.mark.parametrize("other", [{"plus": 30}, {"plus": -100}, {"moved": 12}, {"plus": 20, "moved": 6}])
def test_slices_of_two_scans_that_alternate_are_noticed(heights, noise, other):
    z = HEIGHTS[heights]
    first, second = body(z, noise=noise), body(z, noise=noise, seed=4, **other)
    assert is_mixed([(first, second)[k % 2][k] for k in range(N)], z)


@pytest.mark.parametrize("heights", HEIGHTS)
@pytest.mark.parametrize("noise", [0, 15, 60])
@pytest.mark.parametrize("step", [1, 4])
def test_a_scan_is_none_of_two(heights, noise, step):
    z = step * HEIGHTS[heights]
    assert not is_mixed(body(z, noise=noise), z)
    assert not is_mixed([*body(z[:9], noise=noise), *body(z[9:], plus=100, noise=noise)], z)  # one jump, as of phases


@pytest.mark.parametrize("noise", [1, 50, 400])
def test_noise_alone_is_one_scan(noise):
    rng = np.random.default_rng(noise)
    for n in (10, 24):
        assert not is_mixed([rng.normal(0, noise, (128, 128)).astype(np.int16) for _ in range(n)], np.arange(n) * 1.0)
    assert not is_mixed([np.full((64, 64), -1024, np.int16)] * N, np.arange(N) * 1.0)


@pytest.mark.parametrize("shift_mm", [1.5, 1.0, 0.75])
def test_passes_that_no_header_tells_apart_are_refused(tmp_path, shift_mm):
    second = [slice_of((-17.0, -20.0, -30 + 3.0 * k + shift_mm), hu=lambda p: linear_hu(p) + 100) for k in range(12)]
    save_all([*axial_stack(12), *second], tmp_path / "in")
    (entry,) = convert_folder(tmp_path / "in", tmp_path / "out", form="nii")
    assert entry["reason"] == "mixed_scans" and not list((tmp_path / "out").glob("*.nii"))
