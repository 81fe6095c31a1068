"""Files that are compressed one by one, such as IM1.dcm.gz: read as what is in them."""

import bz2
import gzip
import lzma
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ct_files import axial_stack, compressed, enhanced, save_as, save_briefly
from linear_stacks import EXACT, TWICE, converted, each, error_hu, every
from pydicom import uid
from test_bombs import LEAST_MB, MB, little_memory

from trabecula.convert.decoder import read_dataset
from trabecula.dicom import files
from trabecula.dicom.headers.read import read_headers
from trabecula.dicom.headers.record import Header, ListedFile
from trabecula.errors import StudyFailure

PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def read(folder: Path, *, archives: bool = False) -> list[Header]:
    """Read the headers of a folder's files."""
    states = {path.name: path.stat() for path in sorted(folder.iterdir())}
    listed = [ListedFile(name, state.st_size, state.st_mtime_ns) for name, state in states.items()]
    return read_headers(str(folder), listed, archives=archives)


def pack(folder: Path, ending: str, name: str = "{}.dcm.{}") -> None:
    """Compress each file of a folder in its place."""
    for path in list(folder.iterdir()):
        (folder / name.format(path.name, ending)).write_bytes(PACKERS[ending](path.read_bytes()))
        path.unlink()


def content_of(header: Header) -> Header:
    """Leave out where a file and its pixels lie."""
    return header._replace(path="", member=None, size=0, mtime_ns=0, pixel_offset=None)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.JPEGLSLossless])
@pytest.mark.parametrize(("ending", "name"), [(ending, "{}.dcm.{}") for ending in PACKERS] + [("gz", "IM{}")])
def test_a_packed_file_is_read_as_what_is_in_it(tmp_path, ending, name, syntax):
    for number, dataset in enumerate(each(every(3, 3), "SOPInstanceUID", TWICE[:3])):
        frames = [compressed(dataset, syntax)] if syntax == uid.JPEGLSLossless else None
        save_as(dataset, tmp_path / f"in/{number}", syntax, frames)
    plain = read(tmp_path / "in")
    _, (expected,) = converted(tmp_path / "in", tmp_path / "plain")
    pack(tmp_path / "in", ending, name)
    packed = read(tmp_path / "in")
    assert list(map(content_of, packed)) == list(map(content_of, plain))
    assert [header.size for header in packed] == [path.stat().st_size for path in sorted((tmp_path / "in").iterdir())]
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["repairs"] == entry["flags"] == []
    np.testing.assert_array_equal(ct.array, expected.array)
    np.testing.assert_array_equal(ct.affine, expected.affine)


def test_slices_without_uids_that_are_packed_one_by_one_are_one_study(tmp_path):
    slices = every(3, 4, StudyInstanceUID=None, SeriesInstanceUID=None)
    save_briefly(slices, tmp_path / "in")
    pack(tmp_path / "in", "gz")
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["n_slices"] == 4 and error_hu(ct) <= EXACT


def test_a_packed_multi_frame_file_is_read(tmp_path):
    save_briefly([enhanced(axial_stack(5))], tmp_path / "in")
    pack(tmp_path / "in", "gz")
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["n_slices"] == 5 and error_hu(ct) <= EXACT


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_packed_files_inside_an_archive_are_read(tmp_path, kind):
    save_briefly(every(3, 4), tmp_path / "study/series")
    pack(tmp_path / "study/series", "gz")
    (tmp_path / "in").mkdir()
    shutil.make_archive(str(tmp_path / "in/packed"), kind, tmp_path / "study")
    assert [header.reason for header in read(tmp_path / "in")] == ["archive"]
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["n_slices"] == 4 and error_hu(ct) <= EXACT


def test_a_packed_file_that_was_cut_off_is_a_missing_slice(tmp_path):
    slices = every(3, 8)
    noise = np.random.default_rng(5)
    for dataset in slices:
        dataset.PixelData = noise.integers(0, 2000, 480).astype("<i2").tobytes()  # the stream is as long as the pixels
    save_briefly(slices, tmp_path / "in")
    pack(tmp_path / "in", "gz")
    third = sorted((tmp_path / "in").iterdir())[3]
    third.write_bytes(third.read_bytes()[:-400])
    assert [header.reason for header in read(tmp_path / "in")].count("truncated") == 1
    entries, _ = converted(tmp_path / "in", tmp_path / "out")
    (entry,) = [entry for entry in entries if entry["status"] == "ok"]
    assert entry["n_slices"] == 7 and set(entry["repairs"]) == {"damaged_slices", "missing_slices"}


def test_a_packed_file_that_is_damaged_is_unreadable(tmp_path):
    save_briefly(every(3, 1), tmp_path / "in")
    pack(tmp_path / "in", "gz")
    (path,) = (tmp_path / "in").iterdir()
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # its checksum
    path.write_bytes(content)
    assert [header.reason for header in read(tmp_path / "in")] == ["unreadable"]


def test_a_packed_file_that_changed_since_the_index_fails(tmp_path):
    save_briefly(every(3, 1), tmp_path / "in")
    pack(tmp_path / "in", "gz")
    (header,) = read(tmp_path / "in")
    (path,) = (tmp_path / "in").iterdir()
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(StudyFailure, match="changed"):
        read_dataset(header._replace(path=str(path)))


def test_what_unpacks_to_just_as_much_is_read(tmp_path, monkeypatch):
    save_briefly(every(3, 1), tmp_path / "in")
    (path,) = (tmp_path / "in").iterdir()
    n_bytes = path.stat().st_size
    pack(tmp_path / "in", "gz")
    for most, reason in ((n_bytes, None), (n_bytes - 1, "too_large")):
        monkeypatch.setattr(files, "MAX_UNPACKED_BYTES", most)
        assert [header.reason for header in read(tmp_path / "in")] == [reason]


@pytest.mark.slow
def test_a_packed_file_that_grows_without_end_is_too_large_and_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_UNPACKED_BYTES", LEAST_MB // 2 * MB)
    save_briefly(every(3, 1), tmp_path / "in")
    (path,) = (tmp_path / "in").iterdir()
    start = path.read_bytes()
    with gzip.GzipFile(path, "wb", compresslevel=1) as packed:
        packed.write(start)
        for _ in range(LEAST_MB):
            packed.write(bytes(MB))
    with little_memory():
        assert [header.reason for header in read(tmp_path / "in")] == ["too_large"]


def test_a_tar_file_is_known_by_its_content_and_no_other_file_by_its_name(tmp_path):
    folder = tmp_path / "in"
    save_briefly(every(3, 2), tmp_path / "study")
    folder.mkdir()
    for name, form in (("a", tarfile.USTAR_FORMAT), ("b", tarfile.GNU_FORMAT), ("c", tarfile.PAX_FORMAT)):
        with tarfile.open(folder / name, "w:gz", format=form) as archive:
            archive.add(tmp_path / "study", "study")
    old = bytearray(gzip.decompress((folder / "a").read_bytes()))  # of the seventh Unix: no magic, a checksum alone
    old[257:512] = bytes(255)
    old[148:156] = b" " * 8
    old[148:156] = b"%06o\0 " % sum(old[:512])
    (folder / "d").write_bytes(gzip.compress(old))
    (folder / "e.tar.gz").write_bytes(gzip.compress(b"no archive" * 99))
    (folder / "f.tar.gz").write_bytes(b"<html>not found</html>" * 99)
    assert [header.reason for header in read(folder)] == ["archive"] * 4 + ["not_dicom"] * 2
    assert len([header for header in read(folder, archives=True) if header.member and not header.reason]) == 8


def test_an_archive_inside_an_archive_is_named_as_one(tmp_path):
    (tmp_path / "in").mkdir()
    save_briefly(every(3, 2), tmp_path / "study")
    shutil.make_archive(str(tmp_path / "inner"), "zip", tmp_path / "study")
    shutil.make_archive(str(tmp_path / "inner"), "gztar", tmp_path / "study")
    with zipfile.ZipFile(tmp_path / "in/outer.zip", "w") as outer:
        outer.write(tmp_path / "inner.zip", "inner.zip")
        outer.write(tmp_path / "inner.tar.gz", "inner.tar.gz")
    assert [header.reason for header in read(tmp_path / "in", archives=True)] == ["other_archive"] * 2
