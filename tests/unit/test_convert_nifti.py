"""Convert NIfTI volumes: any order of voxels, type and packing gives the scan that DICOM gives."""

import gzip
import io
import os
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from ct_files import axial_stack, linear_hu, save_all
from linear_stacks import MENDED
from nifti_files import AFFINE, STORAGE, linear_volume, save_nifti, stored_as
from numpy.typing import NDArray

from trabecula.cohort.linked import Linked
from trabecula.convert import Converted, convert_stack
from trabecula.convert.read import read_slices
from trabecula.convert.slices import slices_of
from trabecula.dicom.headers.read import read_headers
from trabecula.dicom.headers.record import NIFTI, Header, ListedFile
from trabecula.errors import StudyFailure
from trabecula.image.volume import Volume, read_nifti
from trabecula.nifti.header import read_header
from trabecula.nifti.slicing import slicing_of


def headers_of(path: Path, *, member: str | None = None, content: bytes | None = None) -> list[Header]:
    raw = path.read_bytes() if content is None else content
    volume = read_header(io.BytesIO(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw))
    slicing = slicing_of(volume.shape, volume.affine_ras)
    state = os.stat(path)
    first = Header(str(path), member, state.st_size, state.st_mtime_ns, transfer_syntax=NIFTI)
    first = first._replace(rows=slicing.n_rows, columns=slicing.n_columns, frames=slicing.n_slices)
    first = first._replace(slope=volume.slope, intercept=volume.intercept, orientation=slicing.orientation)
    first = first._replace(pixel_spacing_mm=slicing.pixel_mm, bits=volume.dtype.itemsize * 8)
    return [first._replace(frame=n, positions_mm=slicing.position_mm(n)) for n in range(slicing.n_slices)]


def dicom_headers(files: list[str]) -> list[Header]:
    listed = [ListedFile(file[1:], os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files]
    return [header._replace(path=f"/{header.path}") for header in read_headers("", listed, archives=False)]


def convert(headers: list[Header], out: Path) -> tuple[Volume, Converted]:
    done = convert_stack(Linked(headers), out, max_gap_mm=10, key=b"key")
    return read_nifti(out), done


def refused(headers: list[Header], out: Path) -> str:
    with pytest.raises(StudyFailure) as failure:
        convert(headers, out)
    assert not out.exists()
    return failure.value.reason


# --- the same scan, however it is stored --------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("order", "flips"), STORAGE)
def test_any_order_of_the_voxels_gives_the_same_volume(tmp_path, order, flips, suffix):
    stored = stored_as(linear_volume(), order, flips)
    ct, done = convert(headers_of(save_nifti(stored, tmp_path / f"in{suffix}")), tmp_path / "ct.nii")
    np.testing.assert_array_equal(ct.array, linear_volume().array)
    np.testing.assert_allclose(ct.affine, AFFINE, atol=1e-4)
    assert (done.repairs, done.flags, done.n_slices) == ([], [], 6)


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept"),
    [
        *((dtype, 1, 0) for dtype in ("<i2", ">i2", "<i4", ">i4", "<i8", "<f4", ">f4", "<f8", ">f8")),
        *((dtype, 1, -1024) for dtype in ("<u2", ">u2", "<u4", "<i2", "<f4")),
        *(("<i2", 0.5, 100), (">u2", 0.25, -1024), ("<f4", 1000, 0), ("<i1", 16, 100), ("<u1", 8, -1024)),
    ],
)
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
def test_any_type_and_scaling_gives_the_same_values(tmp_path, dtype, slope, intercept, order):
    stored = stored_as(linear_volume(), order, (1, -1, 1))
    path = save_nifti(stored, tmp_path / "in.nii.gz", dtype, slope, intercept)
    ct, _ = convert(headers_of(path), tmp_path / "ct.nii")
    tolerance = slope / 2 + 0.01 if np.dtype(dtype).kind in "iu" and slope > 1 else 0.01
    assert np.abs(ct.array - linear_volume().array).max() <= tolerance


@pytest.mark.parametrize("slope", [1, 0.5])
def test_what_is_no_number_and_what_is_less_than_air_is_padding(tmp_path, slope):
    volume = linear_volume()
    odd = {(0, 0, 0): np.nan, (1, 2, 3): np.inf, (4, 5, 5): -np.inf, (7, 0, 2): -3024, (8, 1, 1): -1e30}
    for place, value in odd.items():
        volume.array[place] = value
    volume.array[3, 3, 3] = 1e30
    ct, _ = convert(headers_of(save_nifti(volume, tmp_path / "in.nii", "<f4", slope)), tmp_path / "ct.nii")
    assert all(ct.array[place] == -1024 for place in odd)
    assert ct.array[3, 3, 3] == 32767
    usual = np.ones(volume.array.shape, bool)
    usual[tuple(np.transpose([*odd, (3, 3, 3)]))] = False
    np.testing.assert_array_equal(ct.array[usual], linear_volume().array[usual])


def test_integers_below_air_are_padding(tmp_path):
    volume = linear_volume()
    volume.array[:4] = -3024
    ct, _ = convert(headers_of(save_nifti(volume, tmp_path / "in.nii")), tmp_path / "ct.nii")
    assert (ct.array[:4] == -1024).all() and (ct.array[4:] == linear_volume().array[4:]).all()


def test_a_sheared_volume_is_a_tilted_scan(tmp_path):
    affine = AFFINE.copy()
    affine[:3, 2] = [0, 1.2, 3]
    ct, done = convert(headers_of(save_sheared(linear_volume(affine=affine), tmp_path / "in.nii")), tmp_path / "ct.nii")
    assert done.repairs == ["gantry_tilt"]
    inside = ct.array > -1024
    assert inside.mean() > 0.6
    off = np.abs(linear_hu(ct.to_mm(np.argwhere(inside))) - ct.array[inside])
    # At the rim, a row is no mixture of two but a copy of one, up to half a row away.
    assert np.quantile(off, 0.85) <= MENDED and off.max() <= MENDED + 2.1


def save_sheared(volume: Volume, path: Path) -> Path:
    """Write a volume whose sform alone says where it lies: a qform can't shear."""
    image = nib.Nifti1Image(volume.array.astype("<i2"), None)
    image.set_sform(volume.affine, 1)
    image.set_qform(None, 0)
    image.to_filename(path)
    return path


def test_slices_can_be_read_in_any_order_and_again(tmp_path):
    for order in ((0, 1, 2), (2, 1, 0)):
        path = save_nifti(stored_as(linear_volume(), order, (1, 1, 1)), tmp_path / "in.nii.gz")
        slices = slices_of(headers_of(path))
        upwards = [hu.copy() for hu in read_slices(slices)]
        for numbers in ([5, 4, 3, 2, 1, 0], [0, 0, 1, 3], [2], [0, 2, 1, 5]):
            again = read_slices([slices[n] for n in numbers])
            for number, hu in zip(numbers, again, strict=True):
                np.testing.assert_array_equal(hu, upwards[number])


def test_several_volumes_by_turns_are_not_mixed_up(tmp_path):
    one, other = linear_volume(), linear_volume()
    other.array[:] = other.array[::-1]
    paths = [save_nifti(volume, tmp_path / f"{n}.nii.gz") for n, volume in enumerate((one, other))]
    slices = [slices_of(headers_of(path)) for path in paths]
    turns = [part for pair in zip(*slices, strict=True) for part in pair]
    for number, hu in enumerate(read_slices(turns)):
        np.testing.assert_array_equal(hu, (one, other)[number % 2].array[:, :, number // 2].T)


# --- inside zip and tar files -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("name", ["a/ct.nii", "a/ct.nii.gz"])
def test_a_member_of_an_archive_is_read(tmp_path, kind, name):
    path = save_nifti(linear_volume(), tmp_path / name)
    archive = tmp_path / f"all.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.write(path, name)
    else:
        with tarfile.open(archive, "w:gz" if kind == "tar.gz" else "w") as packed:
            packed.add(path, name)
    ct, _ = convert(headers_of(archive, member=name, content=path.read_bytes()), tmp_path / "ct.nii")
    np.testing.assert_array_equal(ct.array, linear_volume().array)


# --- damage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("left", [0.5, 0.97])
def test_a_file_that_was_cut_off_is_truncated(tmp_path, order, left):
    path = save_nifti(stored_as(linear_volume((40, 40, 9)), order, (1, 1, 1)), tmp_path / "in.nii")
    headers, content = headers_of(path), path.read_bytes()
    path.write_bytes(content[: int(len(content) * left)])
    assert refused(seen_again(headers, path), tmp_path / "ct.nii") == "truncated"
    path.write_bytes(gzip.compress(content)[: int(len(gzip.compress(content)) * left)])
    assert refused(seen_again(headers, path), tmp_path / "ct.nii") == "truncated"
    path.write_bytes(gzip.compress(content)[:-4])
    assert refused(seen_again(headers, path), tmp_path / "ct.nii") == "truncated"


def seen_again(headers: list[Header], path: Path) -> list[Header]:
    """Give the headers as of an index that came after the damage."""
    state = os.stat(path)
    return [header._replace(size=state.st_size, mtime_ns=state.st_mtime_ns) for header in headers]


@pytest.mark.parametrize("place", [-6, 0.7], ids=["the check sum", "the content"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_damaged_compression_is_unreadable(tmp_path, order, place):
    """Also where a flipped bit gives other voxels and no error but that of the check sum at the end."""
    path = save_nifti(stored_as(linear_volume((40, 40, 9)), order, (1, 1, 1)), tmp_path / "in.nii.gz")
    headers, content = headers_of(path), bytearray(path.read_bytes())
    content[place if isinstance(place, int) else int(place * len(content))] ^= 0x55
    path.write_bytes(content)
    assert refused(seen_again(headers, path), tmp_path / "ct.nii") == "unreadable"


def test_a_file_that_changed_or_went_is_said_to(tmp_path):
    path = save_nifti(linear_volume(), tmp_path / "in.nii.gz")
    headers = headers_of(path)
    os.utime(path, (1, 1))
    assert refused(headers, tmp_path / "ct.nii") == "changed"
    path.unlink()
    assert refused(headers, tmp_path / "ct.nii") == "vanished"


def test_what_stands_behind_the_voxels_does_not_count(tmp_path):
    path = save_nifti(linear_volume(), tmp_path / "in.nii")
    path.write_bytes(path.read_bytes() + b"notes of a program")
    ct, _ = convert(headers_of(path), tmp_path / "ct.nii")
    np.testing.assert_array_equal(ct.array, linear_volume().array)


def test_no_more_is_unpacked_than_the_header_says(tmp_path):
    path = save_nifti(linear_volume(), tmp_path / "in.nii")
    packed = tmp_path / "bomb.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes() + bytes(200 * 2**20), 1))
    headers = headers_of(path)
    with most_memory_mb(20):
        ct, _ = convert(
            [header._replace(path=str(packed)) for header in seen_again(headers, packed)], tmp_path / "ct.nii"
        )
    np.testing.assert_array_equal(ct.array, linear_volume().array)


@contextmanager
def most_memory_mb(limit: float) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("order", "times_the_volume"), [((0, 1, 2), 0.5), ((2, 0, 1), 1.5)])
def test_memory_holds_a_few_slices_or_one_volume(tmp_path, order, times_the_volume):
    volume = linear_volume((256, 256, 120))
    headers = headers_of(save_nifti(stored_as(volume, order, (1, 1, 1)), tmp_path / "in.nii.gz", "<f8"))
    with most_memory_mb(times_the_volume * volume.array.size * 2 / 2**20):
        convert_stack(Linked(headers), tmp_path / "ct.nii", max_gap_mm=10, key=b"key")


# --- values that no CT has ------------------------------------------------------------------------------


def trunk(seed: int = 0) -> Volume:
    """Make a scan with air, fat, muscle and bone, and noise."""
    rng = np.random.default_rng(seed)
    hu = rng.choice([-1000, -90, 50, 400], (64, 64, 20), p=[0.3, 0.2, 0.42, 0.08]) + rng.normal(0, 40, (64, 64, 20))
    return Volume(np.rint(hu).clip(-1024), AFFINE)


def refusal(array: NDArray, folder: Path, dtype: str = "<i2") -> tuple[str, str]:
    path = save_nifti(Volume(array, AFFINE), folder / "in.nii", dtype)
    with pytest.raises(StudyFailure) as failure:
        convert(headers_of(path), folder / "ct.nii")
    return failure.value.reason, failure.value.detail


def test_a_scan_without_air_is_one(tmp_path):
    volume = trunk()
    without_air = Volume(np.where(volume.array < -300, 45, volume.array), AFFINE)
    convert(headers_of(save_nifti(without_air, tmp_path / "in.nii")), tmp_path / "ct.nii")


@pytest.mark.parametrize("dtype", ["<i2", "<u2", "<f4", "<f8"])
@pytest.mark.parametrize("labels", [[0, 1], [0, 255], [0, *range(8, 25)], list(range(118)), [0, 1000, 2000]])
def test_a_label_map_is_told_by_its_values(tmp_path, dtype, labels):
    rng = np.random.default_rng(1)
    array = np.where(rng.random((8, 8, 20)) < 0.9, 0, rng.choice(labels, (8, 8, 20))).repeat(8, 0).repeat(8, 1)
    array[:, :8, :] = np.resize(labels, (8, 20)).repeat(8, 0).reshape(64, 1, 20)
    reason, detail = refusal(array, tmp_path, dtype)
    assert reason == "label_map" and detail == f"{len(labels)} different values from 0 to {labels[-1]}"


@pytest.mark.parametrize("added", [1000, 1024])
def test_hounsfield_units_with_an_offset_are_said_to_be_such(tmp_path, added):
    reason, detail = refusal((trunk().array + added).clip(0), tmp_path, "<u2")
    assert reason == "implausible_hu" and detail.endswith("they would fit with 1024 less")


@pytest.mark.parametrize(("low", "high"), [(-160, 240), (-450, 1050), (-1000, 1000), (-1000, 400)])
def test_a_picture_of_256_greys_is_no_ct(tmp_path, low, high):
    """Whatever the window, and whether it is stored with 8 bits or more."""
    grey = np.rint((trunk().array.clip(low, high) - low) * 255 / (high - low))
    reason, detail = refusal(grey, tmp_path)
    assert reason == "implausible_hu" and "less" not in detail


@pytest.mark.parametrize("highest", [200, 300, 450])
def test_bone_that_was_cut_off_is_no_bone(tmp_path, highest):
    """Its mean would come out too low, without a word."""
    reason, detail = refusal(trunk().array.clip(None, highest), tmp_path)
    assert reason == "implausible_hu" and f"cut off at {highest} HU" in detail


@pytest.mark.parametrize("highest", [1600, 3071])
def test_metal_that_is_cut_off_is_metal(tmp_path, highest):
    array = trunk().array
    array[20:24, 20:24] = highest
    convert(headers_of(save_nifti(Volume(array, AFFINE), tmp_path / "in.nii")), tmp_path / "ct.nii")


REFUSED = dict.fromkeys(["niivue_head_phantom", "niivue_iguana", "niivue_vessels_only"], "implausible_hu")


@pytest.mark.slow
def test_real_scans_are_told_from_pictures_and_label_maps(real_data, tmp_path):
    folders = ("chest_ct", "verse19", "no_spine_ct", "label_maps")
    for path in (path for folder in folders for path in sorted((real_data / folder).glob("*.nii.gz"))):
        name = path.name.removesuffix(".nii.gz")
        expected = "label_map" if "msk" in name or path.parent.name == "label_maps" else REFUSED.get(name)
        if nib.Nifti1Image.from_filename(path).get_data_dtype() == np.uint8:
            expected = "eight_bit"
        try:
            convert(headers_of(path), tmp_path / "ct.nii")
        except StudyFailure as failure:
            assert failure.reason == expected, name
        else:
            assert expected is None, name


# --- the same scan as DICOM and as NIfTI ----------------------------------------------------------------


def noisy_stack(folder: Path, **options: Any) -> list[str]:
    """Write DICOM slices with noise, by which they are known again."""
    rng = np.random.default_rng(0)
    return save_all(axial_stack(hu=lambda points: rng.integers(-1100, 900, points.shape[:2]), **options), folder)


def by_us(files: list[str], path: Path) -> None:
    convert(dicom_headers(files), path)


def by_simpleitk(files: list[str], path: Path) -> None:
    sitk.WriteImage(sitk.ReadImage(files), str(path))


def by_dcm2niix(files: list[str], path: Path) -> None:
    dcm2niix = pytest.importorskip("dcm2niix")
    command = [dcm2niix.bin, "-z", "y", "-b", "n", "-f", "out", "-o", str(path.parent), str(Path(files[0]).parent)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (path.parent / "out.nii.gz").rename(path)


def check_copy(files: list[str], path: Path, out: Path) -> None:
    """Check that a NIfTI copy of DICOM files gives the same voxels in the same places, and the same row."""
    ct, done = convert(dicom_headers(files), out / "dicom.nii")
    copy, done_again = convert(headers_of(path), out / "nifti.nii")
    np.testing.assert_array_equal(copy.array, ct.array)
    np.testing.assert_allclose(copy.affine, ct.affine, atol=1e-3)
    exact, again = vars(done), vars(done_again)
    for name in ("shape", "n_slices", "repairs", "flags", "hu_p01", "hu_p99", "slice_digests"):
        assert exact[name] == again[name], name
    for name in ("spacing_mm", "largest_gap_mm", "tilt_degrees"):
        assert exact[name] == pytest.approx(again[name], abs=1e-3), name
    assert done.slice_digests


@pytest.mark.parametrize("write", [by_us, by_simpleitk])
def test_a_copy_of_a_dicom_series_is_the_same_scan(tmp_path, write):
    files = noisy_stack(tmp_path / "in")
    write(files, tmp_path / "copy.nii.gz")
    check_copy(files, tmp_path / "copy.nii.gz", tmp_path)


@pytest.mark.parametrize("place", ["crlm_ct_1004/dicom", "crlm_ct_1006/dicom", "ibsi_sts_018/dicom/CT/image"])
@pytest.mark.parametrize("write", [by_us, by_simpleitk, by_dcm2niix])
def test_a_copy_of_a_real_series_is_the_same_scan(real_data, tmp_path, write, place):
    files = [str(path) for path in sorted((real_data / place).iterdir())]
    reader = sitk.ImageSeriesReader()
    write(list(reader.GetGDCMSeriesFileNames(str(real_data / place))), tmp_path / "copy.nii.gz")
    check_copy(files, tmp_path / "copy.nii.gz", tmp_path)


@pytest.mark.parametrize(("order", "flips"), STORAGE[::5])
def test_a_copy_in_any_order_of_the_voxels_is_known_again(tmp_path, order, flips):
    files = noisy_stack(tmp_path / "in")
    by_us(files, tmp_path / "copy.nii")
    save_nifti(stored_as(read_nifti(tmp_path / "copy.nii"), order, flips), tmp_path / "stored.nii.gz")
    check_copy(files, tmp_path / "stored.nii.gz", tmp_path)
