"""The same pixels are known again under any name, and files of one instance that hold others are refused."""

import os
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from ct_files import AXIAL, axial_stack, compressed, save_all, save_as
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from trabecula.cohort.linked import Linked
from trabecula.cohort.pseudonym import SYNTHETIC_KEY
from trabecula.convert import convert_stack
from trabecula.convert.by_hand import convert_folder
from trabecula.convert.sketch import N_DIGESTS, Sketch
from trabecula.dicom.headers.read import read_headers
from trabecula.dicom.headers.record import Header, ListedFile
from trabecula.errors import StudyFailure


def headers_of(paths: list[str]) -> list[Header]:
    """Read the headers of files as the index does."""
    listed = [ListedFile(path[1:], os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in paths]
    return [header._replace(path=f"/{header.path}") for header in read_headers("", listed, archives=False)]


def person(seed: int, n: int = 12, **attributes) -> list[Dataset]:
    """Make slices with a person's own noise."""
    rng = np.random.default_rng(seed)
    slices = axial_stack(n, hu=lambda points: rng.integers(-200, 300, points.shape[:2]))
    for number, dataset in enumerate(slices):
        dataset.SOPInstanceUID = f"1.2.3.{seed}.{number}"
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
    return slices


def digests(slices: list[Dataset], folder: Path, key: bytes = b"key") -> list[str]:
    return digests_of(save_all(slices, folder), key)


def digests_of(paths: list[str], key: bytes = b"key") -> list[str]:
    stack = Linked(headers_of(paths))
    return convert_stack(stack, Path(paths[0]).parent / "ct.nii", max_gap_mm=10, key=key).slice_digests


def rescaled(slices: list[Dataset], slope: float, intercept: int) -> list[Dataset]:
    """Store the same Hounsfield units with another slope and intercept, where these can hold them."""
    for dataset in slices:
        hu = np.frombuffer(dataset.PixelData, "<i2").astype(float) - 1024
        dataset.PixelData = np.rint((hu - intercept) / slope).astype("<i2").tobytes()
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    return slices


# --- digests ----------------------------------------------------------------------------------------------


def test_digests_are_the_pixels_alone(tmp_path):
    known = digests(person(1), tmp_path / "a")
    assert len(known) == N_DIGESTS and known == sorted(set(known)) and {len(digest) for digest in known} == {16}
    renamed = person(1, PatientID="other", StudyInstanceUID="1.9", SeriesInstanceUID="1.9.1", WindowCenter=1)
    assert digests(renamed[::-1], tmp_path / "renamed") == known
    assert digests(rescaled(person(1), 1, 0), tmp_path / "intercept") == known
    assert digests(rescaled(person(1), 0.5, -500), tmp_path / "slope") == known
    assert not set(digests(person(2), tmp_path / "b")) & set(known)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_a_compressed_copy_has_the_same_digests(tmp_path, syntax):
    slices = person(1)
    paths = [
        str(save_as(part, tmp_path / f"c/{n}", syntax, [compressed(part, syntax)])) for n, part in enumerate(slices)
    ]
    assert digests_of(paths) == digests(slices, tmp_path / "a")


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_a_copy_that_is_encoded_otherwise_has_the_same_digests(tmp_path, syntax):
    slices = person(1)
    paths = [str(save_as(part, tmp_path / f"c/{n}", syntax)) for n, part in enumerate(slices)]
    assert digests_of(paths) == digests(slices, tmp_path / "a")


@pytest.mark.parametrize(("mirror_rows", "mirror_columns"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("swap", [False, True])
def test_the_order_of_rows_and_columns_does_not_count(tmp_path, mirror_rows, mirror_columns, swap):
    """A patient who lies prone, or a NIfTI copy, has the same voxels at the same places in another order."""
    turned = person(1)
    for dataset in turned:
        turn(dataset, mirror_rows, mirror_columns, swap)
    assert digests(turned, tmp_path / "turned") == digests(person(1), tmp_path / "a")


def turn(dataset: Dataset, mirror_rows: bool, mirror_columns: bool, swap: bool) -> None:
    """Store a slice with rows or columns in the opposite order, or rows as columns, and say so in its header."""
    pixels = np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns)
    position = np.array(dataset.ImagePositionPatient, float)
    row, column = np.reshape(np.array(dataset.ImageOrientationPatient, float), (2, 3))
    between_rows, between_columns = dataset.PixelSpacing
    if mirror_columns:
        position += row * between_columns * (dataset.Columns - 1)
        pixels, row = pixels[:, ::-1], -row
    if mirror_rows:
        position += column * between_rows * (dataset.Rows - 1)
        pixels, column = pixels[::-1], -column
    if swap:
        pixels, row, column = pixels.T, column, row
        between_rows, between_columns = between_columns, between_rows
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    dataset.PixelSpacing, dataset.ImagePositionPatient = [between_rows, between_columns], position.round(6).tolist()
    dataset.ImageOrientationPatient = [*row.tolist(), *column.tolist()]


def test_moved_and_filled_in_slices_count_as_they_were_read(tmp_path):
    whole, part = person(1, n=30), person(1, n=30)
    del part[14]
    for number, dataset in enumerate(part):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, float(y) + 0.4 * number, z]
    assert len(set(digests(whole, tmp_path / "a")) & set(digests(part, tmp_path / "b"))) >= N_DIGESTS - 1


def test_another_key_gives_other_digests(tmp_path):
    assert not set(digests(person(1), tmp_path / "a")) & set(digests(person(1), tmp_path / "b", key=b"other"))


@pytest.mark.parametrize("seed", range(20))
def test_a_copy_that_lacks_a_third_of_the_slices_shares_a_digest(seed):
    rng = np.random.default_rng(seed)
    scan = [rng.integers(-200, 300, (8, 8)).astype(np.int16) for _ in range(60)]
    part = [scan[i] for i in sorted(rng.permutation(60)[:40])]
    assert set(sketched(scan)) & set(sketched(part))
    assert set(sketched(scan)) & set(sketched(scan[20:]))


def sketched(slices: list[np.ndarray]) -> list[str]:
    sketch = Sketch(b"key")
    assert all(passed is given for passed, given in zip(sketch.watching(slices, AXIAL), slices, strict=True))
    return sketch.digests()


@pytest.mark.parametrize("values", [[-1024], [-1024, -1000], [-1000, 0, 40, 41]])
def test_blank_slices_have_no_digest(values):
    rng = np.random.default_rng(0)
    blank = np.sort(rng.choice(values, (512, 512)).astype(np.int16))
    assert sketched([blank, blank.T.copy(), np.zeros((3, 3), np.int16)]) == []


# --- files of one instance --------------------------------------------------------------------------------


def outcome(folder: Path, tmp_path: Path) -> list[tuple]:
    entries = convert_folder(folder, tmp_path / "out", form="nii")
    return [(entry["reason"], entry["n_files"]) for entry in entries]


def changed(slices: list[Dataset], *numbers: int) -> list[Dataset]:
    """Change one pixel by one unit in some slices."""
    slices = deepcopy(slices)
    for number in numbers:
        pixels = np.frombuffer(slices[number].PixelData, "<i2").copy()
        pixels[77] += 1
        slices[number].PixelData = pixels.tobytes()
    return slices


def test_the_same_files_twice_are_counted_and_left_out(tmp_path):
    save_all(person(1), tmp_path / "dicom/a")
    shutil.copytree(tmp_path / "dicom/a", tmp_path / "dicom/b")
    assert outcome(tmp_path / "dicom", tmp_path) == [(None, 12), ("duplicate_file", 12)]


def test_copies_with_another_header_and_encoding_are_the_same_pixels(tmp_path):
    slices = person(1)
    save_all(slices, tmp_path / "dicom/a")
    for number, part in enumerate(deepcopy(slices)):
        part.SeriesDescription = "sent again"
        save_as(part, tmp_path / f"dicom/b/{number}", RLELossless, [compressed(part, RLELossless)])
    assert outcome(tmp_path / "dicom", tmp_path) == [(None, 12), ("duplicate_file", 12)]


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("numbers", [[3], list(range(12))])
def test_one_instance_uid_over_different_pixels_is_refused(tmp_path, order, numbers):
    save_all(person(1), tmp_path / "dicom" / order[0])
    save_all(changed(person(1), *numbers), tmp_path / "dicom" / order[1])
    assert outcome(tmp_path / "dicom", tmp_path) == [("other_pixels", 12), ("duplicate_file", 12)]
    assert not list((tmp_path / "out").glob("*.nii"))


def test_copies_whose_rescale_contradicts_are_refused(tmp_path):
    save_all(person(1), tmp_path / "dicom/a")
    save_all(person(1), tmp_path / "dicom/b", RescaleIntercept=0)
    assert outcome(tmp_path / "dicom", tmp_path) == [("other_pixels", 12), ("duplicate_file", 12)]


def test_the_refusal_counts_what_differs(tmp_path):
    slices = person(1)
    headers = headers_of(save_all(slices, tmp_path / "a"))
    copies = headers_of(save_all(changed(slices, 2, 5, 7), tmp_path / "b"))
    stack = Linked(headers, copies=list(zip(headers, copies, strict=True)))
    with pytest.raises(StudyFailure) as failure:
        convert_stack(stack, tmp_path / "ct.nii", max_gap_mm=10, key=SYNTHETIC_KEY)
    assert (failure.value.reason, failure.value.detail) == ("other_pixels", "3 of 12 repeated slices differ")


def test_a_copy_that_is_gone_cut_off_or_changed_refuses_nothing(tmp_path):
    headers = headers_of(save_all(person(1), tmp_path / "a"))
    paths = save_all(changed(person(1), *range(12)), tmp_path / "b")
    copies = headers_of(paths)
    for path in paths[:4]:
        Path(path).unlink()
    for path in paths[4:8]:
        Path(path).write_bytes(Path(path).read_bytes()[:-50])
    for path in paths[8:10]:
        Path(path).write_bytes(b"")
    broken = [*copies[:10], copies[10]._replace(slope=None), copies[11]._replace(slope=0)]
    stack = Linked(headers, copies=list(zip(headers, broken, strict=True)))
    assert convert_stack(stack, tmp_path / "ct.nii", max_gap_mm=10, key=SYNTHETIC_KEY).n_slices == 12


def test_a_lossy_copy_refuses_nothing_and_does_not_take_the_place_of_the_original(tmp_path):
    slices = person(1)
    save_all(slices, tmp_path / "known")
    save_all(slices, tmp_path / "dicom/z")
    for number, part in enumerate(changed(slices, *range(12))):
        save_as(part, tmp_path / f"dicom/a/{number}", "1.2.840.10008.1.2.4.91", [compressed(part, JPEG2000Lossless)])
    (entry, copies) = convert_folder(tmp_path / "dicom", tmp_path / "out", form="nii")
    assert (entry["reason"], entry["repairs"], copies["reason"]) == (None, [], "duplicate_file")
    (original,) = convert_folder(tmp_path / "known", tmp_path / "alone", form="nii")
    volumes = tmp_path / "out" / entry["file"], tmp_path / "alone" / original["file"]
    assert volumes[0].read_bytes() == volumes[1].read_bytes()


def test_what_is_converted_by_hand_has_no_digests_since_their_key_would_be_public(tmp_path):
    save_all(person(1), tmp_path / "dicom/a")
    save_all(person(1), tmp_path / "dicom/b")
    (tmp_path / "dicom/c").write_text("notes")
    entries = convert_folder(tmp_path / "dicom", tmp_path / "out", form="nii")
    assert len(entries) == 3 and not any("digest" in name for entry in entries for name in entry)


def test_the_same_uid_at_another_place_is_another_slice(tmp_path):
    slices = person(1)
    for dataset in slices[6:]:
        dataset.SOPInstanceUID = slices[0].SOPInstanceUID
    save_all(slices, tmp_path / "dicom")
    assert outcome(tmp_path / "dicom", tmp_path) == [(None, 12)]
