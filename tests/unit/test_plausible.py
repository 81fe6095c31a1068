"""Distributions of values that a patient can have, and those of maps, pictures and lost rescales, which none can."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nibabel import nifti1
from numpy.typing import NDArray

from trabecula.convert.hounsfield import Sample

Values = NDArray[np.float64]

SCANS = {
    "chest_ct": ("c3l_00189_lungbase", "cip_ct64", "cmb_crc_01068", "lungdx_a0002_b40", "lungfcp_0001", "moose_neck"),
    "verse19": ("sub-verse007_ct", "sub-verse008_ct"),
    "no_spine_ct": ("sts_013_limb", "sts_020_limb", "sts_049_limb"),
    "totalseg_example": ("example_ct_sm", "example_ct"),
    "tptbox_vertebra_crop/sample_ct": ("sub-ct_label-22_ct",),
    "ibsi_sts_018/nifti": ("CT_image",),
}
NO_SCANS = ("niivue_head_phantom", "niivue_iguana", "niivue_vessels_only")
WITH_PADDING, WITHOUT_AIR = "chest_ct/c3l_00189_lungbase", "verse19/sub-verse008_ct"
WHOLE = "totalseg_example/example_ct"


def values_of(folder: Path, name: str) -> Values:
    """Read every third plane of a scan."""
    (path,) = folder.glob(f"{name}.nii*")
    return np.asarray(nifti1.load(path).dataobj[..., ::3], float)


def refusal(values: Values) -> str | None:
    sample = Sample()
    for plane in np.moveaxis(np.rint(values).clip(-1024, 32767).astype(np.int16), 2, 0):
        sample.add(plane)
    return sample.implausible()


def noise(values: Values, sd: float) -> Values:
    return np.random.default_rng(1).normal(0, sd, values.shape)


def inside(values: Values) -> NDArray[np.bool_]:
    return values > -300


def round_field(values: Values) -> NDArray[np.bool_]:
    """Mark what lies outside a circle within the slices."""
    x, y = np.ogrid[-1 : 1 : values.shape[0] * 1j, -1 : 1 : values.shape[1] * 1j]
    return np.broadcast_to((x**2 + y**2 > 0.7)[..., None], values.shape)


@pytest.mark.parametrize("name", [f"{folder}/{name}" for folder, names in SCANS.items() for name in names])
def test_real_scans_are_plausible_also_cropped_to_the_spine(name, real_data):
    assert refusal(values_of(real_data, name)) is None


@pytest.mark.parametrize("name", NO_SCANS)
def test_pictures_of_eight_bits_are_not(name, real_data):
    assert "no air, no fat" in str(refusal(values_of(real_data, f"no_spine_ct/{name}")))


@pytest.mark.parametrize("name", [WITH_PADDING, WITHOUT_AIR, WHOLE])
@pytest.mark.parametrize(
    "change",
    [
        lambda hu: np.where(round_field(hu), -1024, hu),
        lambda hu: np.where(noise(hu, 1) > 1.7, 3071, hu),  # metal in one voxel of twenty
        lambda hu: hu + noise(hu, 60),
        lambda hu: hu[hu.shape[0] // 4 : -hu.shape[0] // 4, hu.shape[1] // 4 : -hu.shape[1] // 4],
        lambda hu: hu + 150 * ((hu > 20) & (hu < 90)),  # contrast medium
        lambda hu: np.pad(hu, ((300, 300), (0, 0), (0, 0)), constant_values=-1024),
    ],
    ids=["round field", "metal", "noise", "cropped", "contrast", "padded"],
)
def test_what_makes_scans_odd_leaves_them_plausible(name, change, real_data):
    assert refusal(change(values_of(real_data, name))) is None


MAPS: dict[str, Callable[[Values], Values]] = {
    "blood flow on zero": lambda hu: np.where(inside(hu), 60 + noise(hu, 20).clip(-50), 0),
    "blood flow on padding": lambda hu: np.where(inside(hu), 60 + noise(hu, 20).clip(-50), -1024),
    "iodine density": lambda hu: np.where(inside(hu), 0.1 * hu.clip(0, 300), 0) + noise(hu, 8),
    "difference": lambda hu: np.where(inside(hu), noise(hu, 16), noise(hu, 3)),
    "effective atomic number": lambda hu: np.where(inside(hu), 7.4 + hu.clip(-200, 1500) / 250, 0),
    "fat in per cent": lambda hu: (100 - (hu + 100) / 1.5).clip(0, 100),
    "electron density in per cent": lambda hu: (hu + 1000) / 10,
    "rescale lost": lambda hu: hu + 1024,
    "rescale lost, with noise and padding": lambda hu: np.where(round_field(hu), -1024, hu + 1024 + noise(hu, 40)),
    "grey values": lambda hu: (hu + 160).clip(0, 400) / 400 * 255,
    "grey values below -1024": lambda hu: (hu + 160).clip(0, 400) / 400 * 255 - 1024,
}


@pytest.mark.parametrize("kind", [kind for kind in MAPS if kind.startswith("rescale")])
def test_where_only_the_offset_is_missing_the_figures_say_so(kind, real_data):
    assert "would fit with 1024 less" in str(refusal(MAPS[kind](values_of(real_data, WHOLE))))


@pytest.mark.parametrize("name", [WITH_PADDING, WITHOUT_AIR, WHOLE])
@pytest.mark.parametrize("kind", MAPS)
def test_maps_pictures_and_lost_rescales_are_refused_with_their_figures(name, kind, real_data):
    figures = refusal(MAPS[kind](values_of(real_data, name)))
    assert figures is not None and ("HU" in figures or "padding" in figures)


def test_a_window_that_cut_off_air_is_refused_by_its_lowest_value(real_data):
    assert "have the same value, -160 HU" in str(refusal(values_of(real_data, WHOLE).clip(-160, 240)))


def test_a_volume_of_padding_is_refused():
    assert refusal(np.full((8, 8, 8), -1024.0)) == "nothing but padding"
