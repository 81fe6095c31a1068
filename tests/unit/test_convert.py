"""Voxels and geometry of converted series, against formulas and against other people's converters."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from ct_files import axial_stack, compressed, enhanced, linear_hu, save, save_all, save_as, slice_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from scipy.spatial.transform import Rotation

from trabecula import tables
from trabecula.cohort.linkage import LINKAGE
from trabecula.cohort.linkage import slice_of as in_linkage
from trabecula.cohort.linked import Linked
from trabecula.cohort.pseudonym import SYNTHETIC_KEY
from trabecula.cohort.shards import Chosen
from trabecula.convert import Converted, child, convert_stack, decoder
from trabecula.convert.arrange import arrange, in_order
from trabecula.convert.by_hand import convert_folder
from trabecula.convert.hounsfield import Sample, hounsfield
from trabecula.convert.read import SliceFailure, read_slices
from trabecula.convert.shard import convert_shard, write_shard
from trabecula.convert.slices import slices_of
from trabecula.dicom.geometry import even_spacing_of
from trabecula.dicom.headers.read import read_headers
from trabecula.dicom.headers.record import Header, ListedFile
from trabecula.dicom.quiet import quiet
from trabecula.errors import StudyFailure
from trabecula.image.volume import Volume, read_nifti, write_nifti
from trabecula.index.link import Writer


def files_in(folder: Path, pattern: str) -> list[str]:
    """List the files of the real test data that match a pattern, sorted."""
    return sorted(str(path) for path in folder.glob(pattern) if path.is_file())


def headers_of(paths: list[str]) -> list[Header]:
    """Read the headers of files as the index does."""
    listed = [ListedFile(path[1:], os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in paths]
    return [header._replace(path=f"/{header.path}") for header in read_headers("", listed, archives=False)]


def convert(paths: list[str]) -> tuple[Volume, Converted]:
    """Convert a stack through a file; give the volume and the facts of the conversion."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ct.nii"
        done = convert_stack(Linked(headers_of(paths)), path, max_gap_mm=10, key=SYNTHETIC_KEY)
        return read_nifti(path), done


def refusal(paths: list[str]) -> str:
    with pytest.raises(StudyFailure) as failure:
        convert(paths)
    return failure.value.reason


def error_hu(ct: Volume, margin: int = 0) -> float:
    """Measure the largest difference from the field that the slices were written from, without the edges."""
    inner = tuple(
        slice(margin if axis < 2 else 0, n - (margin if axis < 2 else 0)) for axis, n in enumerate(ct.array.shape)
    )
    grid = np.moveaxis(np.indices(ct.array.shape), 0, -1)[inner]
    expected = linear_hu(ct.to_mm(grid.reshape(-1, 3))).clip(-1024)
    return float(np.abs(expected - ct.array[inner].ravel()).max())


# --- analytic: HU are linear in the patient, so that one number checks voxels and affine -----------

PACKAGE = str(Path(__file__).parents[2] / "workflow")
turns = st.tuples(*[st.floats(-40, 40)] * 3)


@settings(max_examples=25, deadline=None)
@given(
    turns,
    st.sampled_from([(1, 1), (1, -1), (-1, 1), (-1, -1)]),
    st.floats(0.5, 5),
    st.permutations(range(5)),
)
def test_any_orientation_any_order(tmp_path_factory, turn, flips, spacing, order):
    """Stacks prone, decubitus, feet first, oblique or descending are right to half a unit of rounding."""
    axes = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() * [flips[0], flips[1], flips[0] * flips[1]]
    orientation = np.concatenate([axes[:, 0], axes[:, 1]])
    corner = -axes @ [11.5 * 1.5, 9.5 * 2.0, 0.0]  # the middle of the first slice lies at 0
    slices = [slice_of(corner + k * spacing * axes[:, 2], orientation) for k in range(5)]
    ct, done = convert(save_all([slices[k] for k in order], tmp_path_factory.mktemp("any")))
    assert done.repairs == done.flags == []
    np.testing.assert_allclose(ct.spacing_mm, [1.5, 2.0, spacing], atol=1e-3)
    assert error_hu(ct) <= 0.51


@pytest.mark.parametrize("tilt_degrees", [-25.0, -8.0, 3.0, 18.5])
@pytest.mark.parametrize("flip", [1, -1])
def test_gantry_tilt_of_either_sign_is_made_upright(tmp_path, tilt_degrees, flip):
    angle = np.radians(tilt_degrees)
    orientation = (1.0, 0.0, 0.0, 0.0, np.cos(angle), np.sin(angle))
    slices = [slice_of((-17.0, -20.0, 30.0 + flip * 4.0 * k), orientation) for k in range(7)]
    ct, done = convert(save_all(slices, tmp_path))
    assert done.repairs == ["gantry_tilt"] and done.tilt_degrees == pytest.approx(abs(tilt_degrees), abs=0.01)
    axes = ct.affine[:3, :3] / ct.spacing_mm
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(ct.spacing_mm, [1.5, 2.0, 4.0 * np.cos(angle)], atol=1e-3)
    filled = np.abs(ct.array.astype(int) + 1024) > 0
    expected = linear_hu(ct.to_mm(np.argwhere(filled)))
    off = np.abs(expected - ct.array[filled])
    assert np.median(off) <= 1 and (off <= 1.01).mean() > 0.85  # the rest lies beside the slices: air, or half a voxel


def test_a_tilt_tag_over_upright_slices_is_ignored(tmp_path):
    ct, done = convert(save_all(axial_stack(), tmp_path, GantryDetectorTilt=20))
    assert done.repairs == [] and error_hu(ct) <= 0.51


@pytest.mark.parametrize(
    ("heights", "repair", "n"),
    [
        ([0, 3.0, 6.2, 9.1, 12.0, 15.0], "irregular_spacing", 6),
        ([0, 3, 6, 12, 15], "missing_slices", 6),
        ([0, 3, 6, 10, 13], "irregular_spacing", 5),
        ([0, 2, 4, 14, 16], "missing_slices", 9),
        ([0, 5, 10, 20, 25.05], "missing_slices", 6),
    ],
)
def test_uneven_slices_and_small_gaps_are_mended(tmp_path, heights, repair, n):
    ct, done = convert(save_all([slice_of((-17, -20, z)) for z in heights], tmp_path))
    assert done.repairs == [repair] and error_hu(ct) <= 1.01 and ct.array.shape[2] == n
    assert done.largest_gap_mm == pytest.approx(np.diff(heights).max()) and done.n_slices == len(heights)


def test_slices_beside_missing_ones_stay_as_they_are(tmp_path):
    rng = np.random.default_rng(4)
    noise = {z: rng.integers(-800, 800, (20, 24)) for z in (0, 3, 6, 12, 15)}
    slices = [slice_of((-17, -20, z), hu=lambda p, z=z: noise[z] + 0 * p[..., 0]) for z in noise]
    ct, _ = convert(save_all(slices, tmp_path))
    for k, z in ((0, 0), (1, 3), (2, 6), (4, 12), (5, 15)):
        np.testing.assert_array_equal(ct.array[..., k].T, noise[z])
    np.testing.assert_allclose(ct.array[..., 3].T, (noise[6] + noise[12]) / 2, atol=0.51)


def test_positions_rounded_to_a_tenth_are_even(tmp_path):
    _, done = convert(save_all([slice_of((-17, -20, round(0.625 * k, 1))) for k in range(12)], tmp_path))
    assert done.repairs == []


@given(st.integers(3, 60), st.floats(0.3, 5), st.integers(-9, 9), st.data())
def test_even_spacing_bridges_gaps_up_to_the_limit(n, step, first, data):
    """Slices of an even stack that are missing one by one come back as the same stack."""
    whole = first + step * np.arange(n)
    gone = data.draw(st.sets(st.integers(1, n - 2), max_size=n // 4))
    kept = np.delete(whole, sorted(gone))
    usual = len(kept) - 1 > 2 * (np.diff(kept) > 1.5 * step).sum()
    if usual and np.diff(kept).max() <= 10:
        spacing = even_spacing_of(kept, max_gap_mm=10)
        assert spacing.n_slices == n and spacing.step_mm == pytest.approx(step)
        assert spacing.repair == ("missing_slices" if gone else None)


def test_every_slice_has_its_own_rescale(tmp_path):
    slices = axial_stack()
    slices[2].RescaleIntercept = -1000  # the stored values stay: 24 HU more
    slices[3].RescaleSlope = 0.5
    ct, conversion = convert(save_all(slices, tmp_path))
    changed, plain = (
        volume.array.astype(int) for volume in (ct, convert(save_all(axial_stack(), tmp_path / "plain"))[0])
    )
    assert conversion.flags == ["rescale_varies"]
    np.testing.assert_array_equal(changed[..., 2], plain[..., 2] + 24)
    assert np.abs(changed[..., 3] - ((plain[..., 3] + 1024) * 0.5 - 1024)).max() <= 0.5


def test_frames_of_an_enhanced_file_go_to_their_places(tmp_path):
    """The frames are shuffled, each has its own rescale, and the geometry lies in functional groups."""
    slices = axial_stack(6)
    plain, _ = convert(save_all(axial_stack(6), tmp_path / "plain"))
    order = [3, 0, 5, 1, 4, 2]
    file = enhanced([slices[k] for k in order], RescaleIntercept=[-1024 + k for k in order])
    done, _ = convert([str(save(file, tmp_path / "enhanced"))])
    np.testing.assert_allclose(done.affine, plain.affine, atol=1e-9)
    np.testing.assert_array_equal(done.array - np.arange(6), plain.array)


def test_a_frame_may_have_an_intercept_of_zero(tmp_path):
    stored = [-1024, *[0] * 5]
    slices = axial_stack(6)
    for dataset, intercept in zip(slices, stored, strict=True):
        values = np.frombuffer(dataset.PixelData, "<i2") - 1024 - intercept
        dataset.PixelData = values.astype("<i2").tobytes()
    ct, done = convert([str(save(enhanced(slices, RescaleIntercept=stored), tmp_path / "enhanced"))])
    assert error_hu(ct) <= 0.51 and done.flags == ["rescale_varies"]


@pytest.mark.parametrize("attribute", ["TemporalPositionIndex", "FrameAcquisitionNumber"])
def test_phases_in_one_enhanced_file_are_two_volumes(tmp_path, attribute):
    early, late = axial_stack(6), axial_stack(6, hu=lambda p: linear_hu(p) + 50)
    mixed = [plane for pair in zip(early, late, strict=True) for plane in pair]
    save(enhanced(mixed, **{attribute: [1, 2] * 6}), tmp_path / "in/enhanced")
    entries = convert_folder(tmp_path / "in", tmp_path / "out")
    assert [(entry["status"], entry["flags"], entry["n_files"]) for entry in entries] == [("ok", ["split"], 1)] * 2
    early_ct, late_ct = (read_nifti(tmp_path / "out" / entry["file"]) for entry in entries)
    assert error_hu(early_ct) <= 0.51
    np.testing.assert_array_equal(late_ct.array - early_ct.array, 50)


def test_frames_that_are_cut_off_are_missing_slices(tmp_path):
    path = save(enhanced(axial_stack(6)), tmp_path / "in/enhanced")
    path.write_bytes(path.read_bytes()[: -20 * 24 * 2 - 5])
    (entry,) = convert_folder(tmp_path / "in", tmp_path / "out")
    assert entry["repairs"] == ["damaged_slices"] and entry["n_slices"] == 4
    assert error_hu(read_nifti(tmp_path / "out" / entry["file"])) <= 0.51


def test_a_series_of_damaged_files_alone_is_not_passed_over(tmp_path):
    for path in save_all(axial_stack(), tmp_path / "in"):
        Path(path).write_bytes(Path(path).read_bytes()[:-50])
    (entry,) = convert_folder(tmp_path / "in", tmp_path / "out")
    assert (entry["reason"], entry["n_files"]) == ("truncated", 6)


# --- refused, each with its reason ------------------------------------------------------------------


def _at(*heights: float) -> list[Dataset]:
    return [slice_of((-17, -20, z)) for z in heights]


@pytest.mark.parametrize(
    ("reason", "slices", "attributes"),
    [
        ("missing_slices", _at(0, 3, 6, 18, 21), {}),
        ("irregular_spacing", _at(0, 3, 6, 16.5, 19.5, 22.5), {}),
        ("irregular_spacing", [slice_of((-17 + k * k, -20, 3 * k)) for k in range(9)], {}),
        ("duplicate_position", [*_at(0, 3, 6), slice_of((-17, -20, 6), hu=lambda p: linear_hu(p) + 9)], {}),
        ("mixed_orientation", [*_at(0), slice_of((0, 0, 6), (1, 0, 0, 0, 0, -1))], {}),
        ("too_few_slices", _at(0), {}),
        ("no_rescale", _at(0, 3, 6), {"RescaleSlope": None}),
        ("no_geometry", _at(0, 3, 6), {"ImagePositionPatient": None}),
        ("no_geometry", _at(0, 3, 6), {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}),
        ("truncated", _at(0, 3, 6), {"PixelData": b"\0\0" * 100}),
        ("truncated", _at(0, 3, 6), {"PixelData": None}),
        ("too_large", _at(0, 3, 6), {"Rows": 65535, "Columns": 65535}),
        ("implausible_hu", [slice_of((0, 0, z), hu=lambda p: 0 * p[..., 0] + 40) for z in (0, 3, 6)], {}),
        ("implausible_hu", [slice_of((0, 0, z), hu=lambda p: 0 * p[..., 0] - 900) for z in (0, 3, 6)], {}),
    ],
)
def test_what_is_no_volume_is_refused(tmp_path, reason, slices, attributes):
    assert refusal(save_all(slices, tmp_path, **attributes)) == reason


def test_a_slice_that_is_there_twice_counts_once(tmp_path):
    ct, done = convert(save_all([*_at(0, 3, 6), *_at(3)], tmp_path))
    assert done.repairs == ["duplicate_slices"] and ct.array.shape[2] == 3 and error_hu(ct) <= 0.51


@pytest.mark.parametrize(
    "odd",
    [
        slice_of((0, 0, 6), (1, 0, 0, 0, 0, -1)),
        slice_of((-17, -20, 6), shape=(20, 20)),
        slice_of((-17, -20, 6), pixel_mm=(2.0, 1.6)),
        slice_of((-12, -20, 6)),
    ],
)
def test_a_slice_that_does_not_fit_is_left_out(tmp_path, odd):
    ct, done = convert(save_all([*_at(0, 3, 9, 12, 15), odd], tmp_path))
    assert done.repairs == ["odd_slices", "missing_slices"] and ct.array.shape == (24, 20, 6)
    assert error_hu(ct) <= 1.01


def test_a_file_that_is_gone_is_a_reason(tmp_path):
    paths = save_all(axial_stack(), tmp_path)
    stack = Linked(headers_of(paths))
    Path(paths[2]).unlink()
    with pytest.raises(StudyFailure, match="vanished"):
        convert_stack(stack, tmp_path / "ct.nii", max_gap_mm=10, key=SYNTHETIC_KEY)
    assert not (tmp_path / "ct.nii").exists() and not list(tmp_path.glob(".ct*"))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_a_file_that_was_changed_since_the_index_is_a_reason(tmp_path, syntax):
    paths = save_all(axial_stack(), tmp_path)
    for path in paths if syntax == RLELossless else []:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    stack = Linked(headers_of(paths))
    save_all(axial_stack(hu=lambda p: linear_hu(p) + 100), tmp_path)
    with pytest.raises(StudyFailure, match="changed"):
        convert_stack(stack, tmp_path / "ct.nii", max_gap_mm=10, key=SYNTHETIC_KEY)


# --- voxels -----------------------------------------------------------------------------------------


def test_padding_is_air_with_and_without_its_mark():
    stored = np.array([[-2000, 0, 1064, 30000]], np.int16)
    np.testing.assert_array_equal(hounsfield(stored.copy(), 1, -1024), [[-1024, -1024, 40, 28976]])
    marked = hounsfield(stored.copy(), 1, -1024, padding=(30000, 30000))
    np.testing.assert_array_equal(marked, [[-1024, -1024, 40, -1024]])
    ranged = hounsfield(np.array([[5000, 29500, 30500]], np.int16), 1, -1024, padding=(29000, 31000))
    np.testing.assert_array_equal(ranged, [[3976, -1024, -1024]])
    water = np.array([[0, 40]], np.int16)
    np.testing.assert_array_equal(hounsfield(water.copy(), 1, 0, padding=(0, 0)), water)  # a mark on water is a mistake


@pytest.mark.parametrize("kind", [np.int16, np.uint16])
@given(st.integers(0, 2**16 - 1), st.integers(-30000, 30000))
def test_whole_rescales_come_out_right_in_sixteen_bits(kind, bits, intercept):
    stored = np.array([bits], np.uint16).view(kind)
    expected = np.clip(int(stored[0]) + intercept, -1024, 32767)
    assert hounsfield(stored.copy(), 1, intercept)[0] == expected


@given(st.integers(-(2**15), 2**15 - 1), st.floats(0.01, 10), st.floats(-2000, 2000))
def test_rescale_rounds_and_never_wraps(stored, slope, intercept):
    expected = np.clip(np.rint(stored * slope + intercept), -1024, 32767)
    assert hounsfield(np.array([stored], np.int16), slope, intercept)[0] == expected


def test_bits_above_the_stored_ones_do_not_count(tmp_path):
    slices = axial_stack()
    for dataset in slices:
        values = np.frombuffer(dataset.PixelData, "<i2") & 0x0FFF | 0x5000  # an overlay in the upper bits
        dataset.PixelData = values.astype("<i2").tobytes()
    ct, _ = convert(save_all(slices, tmp_path, BitsStored=12, HighBit=11, PixelRepresentation=0))
    assert error_hu(ct) <= 0.51


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_a_padding_mark_beyond_the_stored_bits_is_air(tmp_path, syntax):
    paths = []
    for k, dataset in enumerate(axial_stack()):
        values = np.frombuffer(dataset.PixelData, "<u2").copy()
        values[:30] = 63536  # -2000 with a sign; its lowest 12 bits would be 1072 HU
        dataset.PixelData = values.tobytes()
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
        dataset.PixelPaddingValue, dataset.SOPInstanceUID = 63536, f"1.2.3.{k}"
        paths.append(str(save_as(dataset, tmp_path / f"{k}", syntax)))
    ct, _ = convert(paths)
    assert (ct.array[:, 0] == -1024).all() and (ct.array[:, 2:] > -1024).all()


def test_a_sample_has_the_percentiles_of_all():
    rng = np.random.default_rng(1)
    slices = rng.normal(0, 300, (20, 512, 512)).clip(-1024).astype(np.int16)
    sample = Sample()
    for plane in slices:
        sample.add(plane)
    np.testing.assert_allclose(sample.percentiles(), np.percentile(slices, [1, 99]), atol=10)


# --- real data, against others ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["crlm_ct_1004", "crlm_ct_1006"])
def test_simpleitk_reads_the_same(name, real_data):
    files = files_in(real_data, f"{name}/dicom/*")
    ct, done = convert(files)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(Path(files[0]).parent)))
    theirs = Volume.from_sitk(reader.Execute())
    np.testing.assert_allclose(ct.affine, theirs.affine, atol=0.01)
    np.testing.assert_array_equal(ct.array, theirs.array.clip(-1024, None))
    assert done.repairs == done.flags == []


def test_a_third_party_nifti_holds_the_same(real_data):
    ct, _ = convert(files_in(real_data, "ibsi_sts_018/dicom/CT/image/*"))
    theirs = read_nifti(Path(files_in(real_data, "ibsi_sts_018/nifti/CT_image.nii.gz")[0]))
    np.testing.assert_allclose(ct.affine, theirs.affine, atol=0.01)
    np.testing.assert_array_equal(ct.array, theirs.array)


@pytest.mark.parametrize("place", ["crlm_ct_1004/dicom", "crlm_ct_1006/dicom", "ibsi_sts_018/dicom/CT/image"])
def test_dcm2niix_writes_the_same_volume(real_data, tmp_path, place):
    dcm2niix = pytest.importorskip("dcm2niix")
    ct, _ = convert(files_in(real_data, f"{place}/*"))
    command = [dcm2niix.bin, "-z", "n", "-b", "n", "-o", str(tmp_path), str(real_data / place)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    theirs = read_nifti(next(tmp_path.glob("*.nii")))
    low = np.argmin(np.diag(theirs.affine[:3, :3].T @ ct.affine[:3, :3] / ct.spacing_mm**2))
    assert low == 1  # dcm2niix turns the rows about, so that they count to the front
    np.testing.assert_array_equal(ct.array, theirs.array[:, ::-1].clip(-1024, None))
    last = [[0, theirs.array.shape[1] - 1, 0], [9, theirs.array.shape[1] - 8, 9]]
    np.testing.assert_allclose(ct.to_mm([[0, 0, 0], [9, 7, 9]]), theirs.to_mm(last), atol=0.01)


def test_dcm2niix_stacks_the_same_voxels(real_data):
    """A tilted head with three slice distances is two volumes for us; each voxel is that of dcm2niix's stack."""
    files = files_in(real_data, "dcm_qa_ct_ge_tilt_variable/In/GE/*.dcm")
    stack = np.stack([hu.copy() for hu in read_slices(slices_of(headers_of(files)))])
    raw = sitk.GetArrayFromImage(sitk.ReadImage(files_in(real_data, "dcm_qa_ct_ge_tilt_variable/Ref/_2.nii.gz")[0]))
    np.testing.assert_array_equal(stack, raw[:, ::-1].clip(-1024, None))
    for part in (files[:14], files[14:]):
        assert convert(part)[1].repairs == ["gantry_tilt"]
    assert convert(files)[1].repairs == ["gantry_tilt", "irregular_spacing"]


def test_every_lossless_syntax_holds_the_same_pixels(real_data):
    first_hu = None
    decoded = 0
    for file in files_in(real_data, "cornerstone_ct_transfer_syntaxes/CTImage.dcm*"):
        try:
            with quiet():
                (hu,) = read_slices(slices_of(headers_of([file])))
        except StudyFailure as failure:
            assert failure.reason == "lossy"
            continue
        except SliceFailure as damaged:
            assert damaged.failure.reason == "lossy"
            continue
        first_hu = hu if first_hu is None else first_hu
        np.testing.assert_array_equal(hu, first_hu)
        decoded += 1
    assert decoded == 10


def test_a_multi_frame_twin_holds_the_same(real_data):
    def never(*_):
        raise AssertionError("no two slices lie at one place")

    with quiet():
        single = in_order(slices_of(headers_of(files_in(real_data, "dcmqi_ct_seg/23x38x3/image/*"))))
        multi = in_order(slices_of(headers_of(files_in(real_data, "dcmqi_ct_seg/23x38x3/multiframe/mf.dcm"))))
        single_grid, multi_grid = (arrange(planes, never, never, max_gap_mm=10) for planes in (single, multi))
        np.testing.assert_allclose(single_grid.affine, multi_grid.affine, atol=1e-6)
        for hu, twin in zip(read_slices(single), read_slices(multi), strict=True):
            np.testing.assert_array_equal(hu, twin)


@pytest.mark.parametrize(
    ("reason", "place"),
    [
        ("implausible_hu", "dicom2nifti_edge/failing/gantrytilting/001"),
        ("duplicate_position", "dicom2nifti_edge/failing/notavolume/001"),
        ("implausible_hu", "dicom2nifti_edge/failing/sliceincrement/001"),
        ("implausible_hu", "dicom2nifti_edge/failing/sliceincrement/002"),
        ("no_rescale", "dicom2nifti_edge/failing/sliceorientation/001"),
        ("no_rescale", "dicom2nifti_edge/failing/slicecount/001"),
        ("missing_slices", "monai_ct_dicom_tiny/CT_DICOM"),
        ("implausible_hu", "torchio_mr_labelled_ct/dicom"),
        ("no_geometry", "pydicom_dicomdir/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000"),
    ],
)
def test_known_traps_are_refused(reason, place, real_data):
    assert refusal(files_in(real_data, f"{place}/*")) == reason


def test_noise_under_a_header_is_converted_by_hand_alone(real_data, tmp_path):
    places = {"gantrytilting/001": ["gantry_tilt"], "sliceincrement/001": ["missing_slices"]}
    for place, repairs in places.items():
        (entry,) = convert_folder(real_data / "dicom2nifti_edge/failing" / place, tmp_path / place)
        assert entry["repairs"] == repairs and "implausible_hu" in entry["flags"], place


# --- a shard ------------------------------------------------------------------------------------------


def _linked(paths: list[str]) -> Linked:
    return Linked(headers_of(paths))


def test_a_bad_study_becomes_a_row_and_its_neighbours_go_on(tmp_path):
    good = _linked(save_all(axial_stack(), tmp_path / "good"))
    bad = _linked(save_all(_at(0, 3, 30), tmp_path / "bad"))
    studies = [Chosen(name, "patient", "series", "print") for name in ("bad", "good")]
    options = {"archive": tmp_path, "folder": tmp_path, "max_gap_mm": 10, "file_format": "nii"}
    rows = list(convert_shard(studies, {"good": good, "bad": bad}, cohort="test", key=SYNTHETIC_KEY, **options))
    assert [row["status"] for row in rows] == ["failed", "ok"]
    assert rows[0]["reason"] == "missing_slices" and str(tmp_path) not in str(rows)
    assert [path.name for path in tmp_path.glob("*.nii")] == ["good.nii"]


@pytest.mark.parametrize("file_format", ["nii", "nii.gz"])
def test_a_shard_is_written_as_nifti_and_table(tmp_path, file_format):
    files = save_all(axial_stack(), tmp_path / "archive")
    row = dict.fromkeys(LINKAGE.names) | {"study_id": "st1", "series_id": "se1", "stack": 0, "chosen": True}
    row |= {"archive": str(tmp_path / "archive"), "n_damaged": 1, "n_odd": 0, "files": [], "slices": _slices(files)}
    row |= {"copies": []}
    others = [row | {"chosen": False, "stack": 1, "slices": None}, row | {"study_id": "st2", "slices": []}]
    linked = Writer(tmp_path / "linkage.parquet")
    with linked:
        linked.add([*others, row])
    linked.finish({"st1": "00000", "st2": "00001"})
    (tmp_path / "00000.tsv").write_text("study_id\tpatient_id\tseries_id\tfingerprint\nst1\tpa1\tse1\tf\n")
    out = tmp_path / "ct"
    where = {"folder": out, "table": tmp_path / "t.parquet"}
    options = {"max_gap_mm": 10, "file_format": file_format}
    write_shard(
        tmp_path / "00000.tsv", tmp_path / "linkage.parquet", cohort="test", key=SYNTHETIC_KEY, **where, **options
    )
    (written,) = tables.read(tmp_path / "t.parquet", tables.CONVERT).to_pylist()
    assert written["status"] == "ok" and written["shape"] == [24, 20, 6] and written["repairs"] == ["damaged_slices"]
    ct = read_nifti(out / f"st1.{file_format}")
    assert ct.array.dtype == np.int16 and error_hu(ct) <= 0.51
    assert (tmp_path / "linkage.parquet").stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".*"))


def _slices(paths: list[str]) -> list[dict]:
    return [in_linkage(header._replace(path=header.path[1:]), "") for header in headers_of(paths)]


def test_the_same_scan_gives_the_same_bytes(tmp_path):
    stack = _linked(save_all(axial_stack(), tmp_path / "archive"))
    for name in ("a.nii.gz", "b.nii.gz"):
        convert_stack(stack, tmp_path / name, max_gap_mm=10, key=SYNTHETIC_KEY)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_decoder_that_ends_its_process_costs_one_slice(tmp_path, monkeypatch):
    (path,) = save_all(axial_stack(1), tmp_path)
    (header,) = headers_of([path])
    worker = child.Decoder()
    monkeypatch.setattr(decoder, "decode", lambda dataset, header: os.abort())
    with pytest.raises(StudyFailure, match="undecodable"):
        worker.decode(header)
    monkeypatch.undo()
    pixels, plain = worker.decode(header)
    assert plain and pixels.shape == (20, 24)


def test_a_damaged_stream_is_a_missing_slice(tmp_path):
    for k, dataset in enumerate(axial_stack(5)):
        frame = compressed(dataset, JPEG2000Lossless)
        save_as(dataset, tmp_path / f"in/{k}", JPEG2000Lossless, [frame])
    raw = bytearray((tmp_path / "in/2").read_bytes())
    at = raw.index(b"\xff\x4f")  # the stream's start; its first marker segment follows
    raw[at + 4 : at + 6] = b"\xff\xff"
    (tmp_path / "in/2").write_bytes(raw)
    (entry,) = convert_folder(tmp_path / "in", tmp_path / "out")
    assert set(entry["repairs"]) == {"damaged_slices", "missing_slices"} and entry["n_slices"] == 4


def test_phases_that_lie_in_each_other_are_two_volumes(tmp_path):
    """The slices of both phases together are evenly spaced, half a step apart."""
    early = [slice_of((-17, -20, 0.625 * k)) for k in range(20)]
    late = [slice_of((-17, -20, 0.625 * k + 0.3), hu=lambda p: linear_hu(p) + 50) for k in range(20)]
    for number, dataset in enumerate([*early, *late]):
        dataset.AcquisitionNumber = 1 + number // 20
    save_all([*early, *late], tmp_path / "in")
    entries = convert_folder(tmp_path / "in", tmp_path / "out")
    assert [(entry["n_slices"], entry["flags"], entry["repairs"]) for entry in entries] == [(20, ["split"], [])] * 2


def test_rotations_stay_one_volume_though_a_slice_is_missing(tmp_path):
    slices = [slice_of((-17, -20, 1.25 * k)) for k in range(48)]
    for k, dataset in enumerate(slices):
        dataset.AcquisitionNumber = 1 + k // 16
    save_all([*slices[:20], *slices[21:]], tmp_path / "in")
    (entry,) = convert_folder(tmp_path / "in", tmp_path / "out")
    assert entry["repairs"] == ["missing_slices"] and error_hu(read_nifti(tmp_path / "out" / entry["file"])) <= 1.01


def test_a_slice_of_another_acquisition_does_not_move_the_grid(tmp_path):
    slices = [slice_of((-17, -20, z)) for z in (-7.4, *range(30))]
    for k, dataset in enumerate(slices):
        dataset.AcquisitionNumber = min(k, 1)
    save_all(slices, tmp_path / "in")
    alone, main = convert_folder(tmp_path / "in", tmp_path / "out")
    assert (alone["reason"], main["repairs"], main["n_slices"]) == ("too_few_slices", ["odd_slices"], 30)
    assert error_hu(read_nifti(tmp_path / "out" / main["file"])) <= 0.51


def test_stations_with_another_centre_are_two_volumes(tmp_path):
    slices = [slice_of((-17 + 5 * (k >= 12), -20, 2 * k)) for k in range(20)]
    for k, dataset in enumerate(slices):
        dataset.AcquisitionNumber = 1 + (k >= 12)
    save_all(slices, tmp_path / "in")
    entries = convert_folder(tmp_path / "in", tmp_path / "out")
    assert [entry["n_slices"] for entry in entries] == [12, 8]
    assert all(error_hu(read_nifti(tmp_path / "out" / entry["file"])) <= 0.51 for entry in entries)


def test_a_file_without_preamble_is_read(tmp_path):
    paths = save_all(axial_stack(), tmp_path)
    for path in paths:
        dataset = pydicom.dcmread(path)
        bare = Dataset({element.tag: element for element in dataset})
        pydicom.dcmwrite(path, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert Path(paths[0]).read_bytes()[128:132] != b"DICM"
    assert error_hu(convert(paths)[0]) <= 0.51


def test_slices_inside_a_zip_file_are_read(tmp_path):
    save_all(axial_stack(), tmp_path / "study")
    (tmp_path / "packed").mkdir()
    shutil.make_archive(str(tmp_path / "packed/study"), "zip", tmp_path / "study")
    (entry,) = convert_folder(tmp_path / "packed", tmp_path / "out")
    assert error_hu(read_nifti(tmp_path / "out" / entry["file"])) <= 0.51


# --- by hand --------------------------------------------------------------------------------------------


def test_a_folder_by_hand_says_what_became_of_all(tmp_path):
    save_all(axial_stack(), tmp_path / "in/ct")
    save_all(axial_stack(2), tmp_path / "in/mr", Modality="MR", SeriesInstanceUID="1.2.3")
    (tmp_path / "in/notes.txt").write_text("Muster^Maria")
    command = [sys.executable, "-m", "trabecula.convert", tmp_path / "in", tmp_path / "out", "--format", "nii"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": PACKAGE})
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out/convert.json").read_text()
    entries = json.loads(text)
    assert [(entry["status"], entry["reason"], entry["n_files"]) for entry in entries] == [
        ("failed", "not_ct", 2),
        ("ok", None, 6),
        ("failed", "not_dicom", 1),
    ]
    assert error_hu(read_nifti(tmp_path / "out" / entries[1]["file"])) <= 0.51
    assert not [word for word in ("Muster", "HOSPITAL", "1.2.826", "notes") if word in text + done.stdout]


def test_a_folder_by_hand_is_converted_with_the_defaults_of_the_configuration(tmp_path, monkeypatch):
    save_all(_at(0, 3, 6, 12, 15), tmp_path / "in")
    (entry,) = convert_folder(tmp_path / "in", tmp_path / "out")
    assert (entry["repairs"], entry["flags"]) == (["missing_slices"], [])
    defaults = {"convert.max_gap_mm": 10, "index.gates.thick_mm": 2}
    monkeypatch.setattr("trabecula.convert.by_hand.default_of", defaults.__getitem__)
    (entry,) = convert_folder(tmp_path / "in", tmp_path / "out")
    assert (entry["repairs"], entry["flags"]) == (["missing_slices"], ["thick_slices"])
    defaults["convert.max_gap_mm"] = 5
    (entry,) = convert_folder(tmp_path / "in", tmp_path / "out")
    assert entry["reason"] == "missing_slices"


def test_label_maps_are_written_like_scans(tmp_path):
    labels = Volume(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.diag([1.0, 2.0, 3.0, 1.0]))
    write_nifti(labels, tmp_path / "x.nii.gz")
    again = read_nifti(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(again.array, labels.array)
    np.testing.assert_allclose(again.affine, labels.affine)
