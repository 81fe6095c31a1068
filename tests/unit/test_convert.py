"""Voxels and geometry of converted series, against formulas and against other people's converters."""

import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from ct_files import AXIAL, axial_stack, ct_dataset, linear_hu, save, save_all, slice_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage
from scipy.spatial.transform import Rotation

from trabecula import tables
from trabecula.convert import convert_series, convert_shard, write_shard
from trabecula.convert.planes import affine_of, in_order, read_planes
from trabecula.convert.voxels import hounsfield, read_slices
from trabecula.dicom import quiet
from trabecula.errors import StudyFailure
from trabecula.linkage import LINKAGE, write_linkage
from trabecula.shards import Chosen
from trabecula.volume import Volume, read_nifti


def files_in(folder: Path, pattern: str) -> list[str]:
    """Files of the real test data that match a pattern, sorted."""
    return sorted(str(path) for path in folder.glob(pattern) if path.is_file())


def refusal(paths: list[str]) -> str:
    with pytest.raises(StudyFailure) as failure:
        convert_series(paths)
    return failure.value.reason


def error_hu(ct: Volume, margin: int = 0) -> float:
    """Largest difference from the field that the slices were written from, off the edges."""
    inner = tuple(
        slice(margin if axis < 2 else 0, n - (margin if axis < 2 else 0)) for axis, n in enumerate(ct.array.shape)
    )
    grid = np.moveaxis(np.indices(ct.array.shape), 0, -1)[inner]
    wanted = linear_hu(ct.to_mm(grid.reshape(-1, 3))).clip(-1024)
    return float(np.abs(wanted - ct.array[inner].ravel()).max())


# --- analytic: HU are linear in the patient, so that one number checks voxels and affine -----------

turns = st.tuples(*[st.floats(-40, 40)] * 3)


@settings(max_examples=25, deadline=None)
@given(
    turns,
    st.sampled_from([(1, 1), (1, -1), (-1, 1), (-1, -1)]),
    st.floats(0.5, 5),
    st.permutations(range(5)),
)
def test_any_orientation_any_order(tmp_path_factory, turn, flips, spacing, order):
    """Prone, decubitus, feet first, oblique, descending: right by the affine, to half a unit of rounding."""
    axes = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() * [flips[0], flips[1], flips[0] * flips[1]]
    orientation = np.concatenate([axes[:, 0], axes[:, 1]])
    corner = -axes @ [11.5 * 1.5, 9.5 * 2.0, 0.0]  # the middle of the first slice lies at 0
    slices = [slice_of(corner + k * spacing * axes[:, 2], orientation) for k in range(5)]
    done = convert_series(save_all([slices[k] for k in order], tmp_path_factory.mktemp("any")))
    assert not done.resampled
    np.testing.assert_allclose(done.ct.spacing_mm, [1.5, 2.0, spacing], atol=1e-3)
    assert error_hu(done.ct) <= 0.51


@pytest.mark.parametrize("tilt_degrees", [-25.0, -8.0, 3.0, 18.5])
@pytest.mark.parametrize("flip", [1, -1])
def test_gantry_tilt_of_either_sign_is_made_upright(tmp_path, tilt_degrees, flip):
    angle = np.radians(tilt_degrees)
    orientation = (1.0, 0.0, 0.0, 0.0, np.cos(angle), np.sin(angle))
    slices = [slice_of((-17.0, -20.0, 30.0 + flip * 4.0 * k), orientation) for k in range(7)]
    done = convert_series(save_all(slices, tmp_path))
    assert done.resampled
    axes = done.ct.affine[:3, :3] / done.ct.spacing_mm
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(done.ct.spacing_mm, [1.5, 2.0, 4.0 * np.cos(angle)], atol=1e-3)
    filled = np.abs(done.ct.array.astype(int) + 1024) > 0
    wanted = linear_hu(done.ct.to_mm(np.argwhere(filled)))
    off = np.abs(wanted - done.ct.array[filled])
    assert np.median(off) <= 1 and (off <= 1.01).mean() > 0.85  # the rest lies beside the slices: air, or half a voxel


def test_a_tilt_tag_over_upright_slices_is_ignored(tmp_path):
    done = convert_series(save_all(axial_stack(), tmp_path, GantryDetectorTilt=20))
    assert not done.resampled and error_hu(done.ct) <= 0.51


def test_mildly_uneven_slices_are_mended(tmp_path):
    heights = [0, 3.0, 6.2, 9.1, 12.0, 15.0]
    done = convert_series(save_all([slice_of((-17, -20, z)) for z in heights], tmp_path))
    assert done.resampled and error_hu(done.ct) <= 1.01


def test_positions_rounded_to_a_tenth_are_even(tmp_path):
    done = convert_series(save_all([slice_of((-17, -20, round(0.625 * k, 1))) for k in range(12)], tmp_path))
    assert not done.resampled


def test_every_slice_has_its_own_rescale(tmp_path):
    slices = axial_stack()
    slices[2].RescaleIntercept = -1000  # the stored values stay: 24 HU more
    slices[3].RescaleSlope = 0.5
    done = convert_series(save_all(slices, tmp_path)).ct.array.astype(int)
    plain = convert_series(save_all(axial_stack(), tmp_path / "plain")).ct.array.astype(int)
    np.testing.assert_array_equal(done[..., 2], plain[..., 2] + 24)
    assert np.abs(done[..., 3] - ((plain[..., 3] + 1024) * 0.5 - 1024)).max() <= 0.5


def test_frames_of_an_enhanced_file_go_to_their_places(tmp_path):
    """Shuffled frames, a rescale per frame, geometry in functional groups."""
    slices = axial_stack(6)
    plain = convert_series(save_all(axial_stack(6), tmp_path / "plain")).ct
    order = [3, 0, 5, 1, 4, 2]
    shared, frames = Dataset(), []
    shared.PlaneOrientationSequence = Sequence([_item(ImageOrientationPatient=list(AXIAL))])
    shared.PixelMeasuresSequence = Sequence([_item(PixelSpacing=[2.0, 1.5])])
    for k in order:
        frame = Dataset()
        frame.PlanePositionSequence = Sequence([_item(ImagePositionPatient=slices[k].ImagePositionPatient)])
        frame.PixelValueTransformationSequence = Sequence([_item(RescaleSlope=1, RescaleIntercept=-1024 + k)])
        frames.append(frame)
    file = ct_dataset(
        SOPClassUID=EnhancedCTImageStorage,
        NumberOfFrames=6,
        Rows=20,
        Columns=24,
        RescaleSlope=None,
        RescaleIntercept=None,
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(frames),
        PixelData=b"".join(slices[k].PixelData for k in order),
    )
    done = convert_series([str(save(file, tmp_path / "enhanced"))]).ct
    np.testing.assert_allclose(done.affine, plain.affine, atol=1e-9)
    np.testing.assert_array_equal(done.array - np.arange(6), plain.array)


def _item(**attributes) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


# --- refused, each with its reason ------------------------------------------------------------------


def _at(*heights: float) -> list[Dataset]:
    return [slice_of((-17, -20, z)) for z in heights]


@pytest.mark.parametrize(
    ("reason", "slices", "attributes"),
    [
        ("missing_slices", _at(0, 3, 6, 12, 15), {}),
        ("irregular_spacing", _at(0, 3, 6, 10, 13), {}),
        ("irregular_spacing", [*_at(0, 3), slice_of((-12, -20, 6)), *_at(9)], {}),
        ("duplicate_position", [*_at(0, 3, 6), slice_of((-17, -20, 6), hu=lambda p: linear_hu(p) + 9)], {}),
        ("mixed_orientation", [*_at(0, 3), slice_of((0, 0, 6), (1, 0, 0, 0, 0, -1))], {}),
        ("mixed_matrix", [*_at(0, 3), slice_of((-17, -20, 6), shape=(20, 20))], {}),
        ("mixed_matrix", [*_at(0, 3), slice_of((-17, -20, 6), pixel_mm=(2.0, 1.6))], {}),
        ("too_few_slices", _at(0), {}),
        ("no_rescale", _at(0, 3, 6), {"RescaleSlope": None}),
        ("no_geometry", _at(0, 3, 6), {"ImagePositionPatient": None}),
        ("no_geometry", _at(0, 3, 6), {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}),
        ("truncated", _at(0, 3, 6), {"PixelData": b"\0\0" * 100}),
        ("truncated", _at(0, 3, 6), {"PixelData": None}),
        ("too_large", _at(0, 3, 6), {"Rows": 65535, "Columns": 65535}),
        ("lossy", _at(0, 3, 6), {"LossyImageCompression": "01"}),
        ("implausible_hu", [slice_of((0, 0, z), hu=lambda p: 0 * p[..., 0] + 40) for z in (0, 3, 6)], {}),
        ("implausible_hu", [slice_of((0, 0, z), hu=lambda p: 0 * p[..., 0] - 900) for z in (0, 3, 6)], {}),
    ],
)
def test_what_is_no_volume_is_refused(tmp_path, reason, slices, attributes):
    assert refusal(save_all(slices, tmp_path, **attributes)) == reason


def test_a_slice_that_is_there_twice_counts_once(tmp_path):
    done = convert_series(save_all([*_at(0, 3, 6), *_at(3)], tmp_path))
    assert done.ct.array.shape[2] == 3 and error_hu(done.ct) <= 0.51


def test_a_file_that_is_gone_is_a_reason(tmp_path):
    paths = save_all(axial_stack(), tmp_path)
    Path(paths[2]).unlink()
    assert refusal(paths) == "vanished"


def test_damaged_files_are_refused_and_never_crash(tmp_path):
    """Cut and flipped at random bytes: a volume or a reason, nothing else."""
    rng = random.Random(5)
    paths = save_all(axial_stack(3), tmp_path)
    whole = Path(paths[1]).read_bytes()
    for _ in range(150):
        damaged = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.5 else whole)
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256) if damaged else 0
        Path(paths[1]).write_bytes(damaged)
        with suppress(StudyFailure):
            convert_series(paths)


# --- voxels -----------------------------------------------------------------------------------------


def test_padding_is_air_with_and_without_its_mark():
    stored = np.array([[-2000, 0, 1064, 30000]], np.int16)
    np.testing.assert_array_equal(hounsfield(stored, 1, -1024), [[-1024, -1024, 40, 28976]])
    np.testing.assert_array_equal(hounsfield(stored, 1, -1024, padding=30000), [[-1024, -1024, 40, -1024]])
    water = np.array([[0, 40]], np.int16)
    np.testing.assert_array_equal(hounsfield(water, 1, 0, padding=0), water)  # a mark on water is a mistake


@given(st.integers(-(2**15), 2**15 - 1), st.floats(0.01, 10), st.floats(-2000, 2000))
def test_rescale_rounds_and_never_wraps(stored, slope, intercept):
    wanted = np.clip(np.rint(stored * slope + intercept), -1024, 32767)
    assert hounsfield(np.array([stored], np.int16), slope, intercept)[0] == wanted


def test_bits_above_the_stored_ones_do_not_count(tmp_path):
    slices = axial_stack()
    for dataset in slices:
        values = np.frombuffer(dataset.PixelData, "<i2") & 0x0FFF | 0x5000  # an overlay in the upper bits
        dataset.PixelData = values.astype("<i2").tobytes()
    done = convert_series(save_all(slices, tmp_path, BitsStored=12, HighBit=11, PixelRepresentation=0))
    assert error_hu(done.ct) <= 0.51


# --- real data, against others ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["crlm_ct_1004", "crlm_ct_1006"])
def test_simpleitk_reads_the_same(name, real_data):
    files = files_in(real_data, f"{name}/dicom/*")
    done = convert_series(files)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(Path(files[0]).parent)))
    theirs = Volume.from_sitk(reader.Execute())
    np.testing.assert_allclose(done.ct.affine, theirs.affine, atol=0.01)
    np.testing.assert_array_equal(done.ct.array, theirs.array.clip(-1024, None))
    assert not done.resampled


def test_a_third_party_nifti_holds_the_same(real_data):
    done = convert_series(files_in(real_data, "ibsi_sts_018/dicom/CT/image/*"))
    theirs = read_nifti(Path(files_in(real_data, "ibsi_sts_018/nifti/CT_image.nii.gz")[0]))
    np.testing.assert_allclose(done.ct.affine, theirs.affine, atol=0.01)
    np.testing.assert_array_equal(done.ct.array, theirs.array)


def test_dcm2niix_stacks_the_same_voxels(real_data):
    """A tilted head with three slice distances: no volume for us, but voxel for voxel what dcm2niix stacks."""
    files = files_in(real_data, "dcm_qa_ct_ge_tilt_variable/In/GE/*.dcm")
    stack = np.stack([hu for _, hu in read_slices([plane for path in files for plane in read_planes(path)])])
    raw = sitk.GetArrayFromImage(sitk.ReadImage(files_in(real_data, "dcm_qa_ct_ge_tilt_variable/Ref/_2.nii.gz")[0]))
    np.testing.assert_array_equal(stack, raw[:, ::-1].clip(-1024, None))
    assert refusal(files) == "irregular_spacing"
    assert convert_series(files[:14]).resampled  # 4 mm, tilted


def test_every_lossless_syntax_holds_the_same_pixels(real_data):
    wanted = None
    decoded = 0
    for file in files_in(real_data, "cornerstone_ct_transfer_syntaxes/CTImage.dcm*"):
        try:
            with quiet():
                ((_, hu),) = read_slices(read_planes(file))
        except StudyFailure as failure:
            assert failure.reason == "lossy"
            continue
        wanted = hu if wanted is None else wanted
        np.testing.assert_array_equal(hu, wanted)
        decoded += 1
    assert decoded == 10


def test_a_multi_frame_twin_holds_the_same(real_data):
    with quiet():
        single = in_order(
            plane for path in files_in(real_data, "dcmqi_ct_seg/23x38x3/image/*") for plane in read_planes(path)
        )
        multi = in_order(read_planes(files_in(real_data, "dcmqi_ct_seg/23x38x3/multiframe/mf.dcm")[0]))
        np.testing.assert_allclose(affine_of(single, 2.5), affine_of(multi, 2.5), atol=1e-6)
        for (_, one), (_, other) in zip(sorted(read_slices(single)), sorted(read_slices(multi)), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("reason", "place"),
    [
        ("implausible_hu", "dicom2nifti_edge/failing/gantrytilting/001"),
        ("duplicate_position", "dicom2nifti_edge/failing/notavolume/001"),
        ("missing_slices", "dicom2nifti_edge/failing/sliceincrement/001"),
        ("missing_slices", "dicom2nifti_edge/failing/sliceincrement/002"),
        ("no_rescale", "dicom2nifti_edge/failing/sliceorientation/001"),
        ("no_rescale", "dicom2nifti_edge/failing/slicecount/001"),
        ("missing_slices", "monai_ct_dicom_tiny/CT_DICOM"),
        ("implausible_hu", "torchio_mr_labelled_ct/dicom"),
        ("no_geometry", "pydicom_dicomdir/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000"),
    ],
)
def test_known_traps_are_refused(reason, place, real_data):
    assert refusal(files_in(real_data, f"{place}/*")) == reason


# --- a shard ------------------------------------------------------------------------------------------


def test_a_bad_study_becomes_a_row_and_its_neighbours_go_on(tmp_path):
    good = save_all(axial_stack(), tmp_path / "good")
    bad = save_all(_at(0, 3, 9), tmp_path / "bad")
    studies = [Chosen(name, "patient", "series", "print") for name in ("bad", "good")]
    rows = [row for row, _ in convert_shard(studies, {"good": good, "bad": bad}, cohort="test")]
    assert [row["status"] for row in rows] == ["failed", "ok"]
    assert rows[0]["reason"] == "missing_slices" and str(tmp_path) not in str(rows)


def test_a_shard_is_written_as_nifti_and_table(tmp_path):
    files = save_all(axial_stack(), tmp_path / "archive")
    row = dict.fromkeys(LINKAGE.names) | {"study_id": "st1", "series_id": "se1", "stack": 0, "shard": "00000"}
    others = [row | {"shard": None, "stack": 1, "files": []}, row | {"study_id": "st2", "shard": "00001", "files": []}]
    write_linkage([*others, row | {"files": files}], tmp_path / "linkage.parquet")
    (tmp_path / "00000.tsv").write_text("study_id\tpatient_id\tseries_id\tfingerprint\nst1\tpa1\tse1\tf\n")
    out = tmp_path / "ct"
    write_shard(
        tmp_path / "00000.tsv", tmp_path / "linkage.parquet", cohort="test", folder=out, table=tmp_path / "t.parquet"
    )
    (written,) = tables.read(tmp_path / "t.parquet", tables.CONVERT).to_pylist()
    assert written["status"] == "ok" and written["shape"] == [24, 20, 6]
    ct = read_nifti(out / "st1.nii")
    assert ct.array.dtype == np.int16 and error_hu(ct) <= 0.51
    assert (tmp_path / "linkage.parquet").stat().st_mode & 0o777 == 0o600


def test_a_file_without_preamble_is_read(tmp_path):
    paths = save_all(axial_stack(), tmp_path)
    for path in paths:
        dataset = pydicom.dcmread(path)
        bare = Dataset({element.tag: element for element in dataset})
        pydicom.dcmwrite(path, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert Path(paths[0]).read_bytes()[128:132] != b"DICM"
    assert error_hu(convert_series(paths).ct) <= 0.51
