"""Small files that claim, or inflate, to far more than a machine holds."""

import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from ct_files import axial_stack, compressed, save, save_as
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless

from trabecula.convert import child
from trabecula.convert.by_hand import convert_folder
from trabecula.dicom import reading
from trabecula.dicom.reading import inflated
from trabecula.errors import StudyFailure

MB = 2**20
LEAST_MB, MOST_MB = 600, 150


@contextmanager
def little_memory() -> Iterator[None]:
    """Check that Python's allocator hands out far less memory than the bomb claims."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_MB * MB
    finally:
        tracemalloc.stop()


def zeros() -> bytes:
    """Make a raw deflate stream of `LEAST_MB` of zeros."""
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return b"".join([*(deflate.compress(bytes(MB)) for _ in range(LEAST_MB)), deflate.flush()])


def reasons(folder: Path, out: Path) -> dict[str, int]:
    """Count the files that were left out by reason."""
    return {entry["reason"]: entry["n_files"] for entry in convert_folder(folder, out) if entry["reason"]}


@pytest.mark.slow
def test_a_deflated_file_that_grows_without_end_is_too_large(tmp_path):
    for number, dataset in enumerate(axial_stack()):
        save(dataset, tmp_path / f"in/{number}")
    bomb = save_as(axial_stack(1)[0], tmp_path / "in/bomb", DeflatedExplicitVRLittleEndian)
    content = bomb.read_bytes()
    meta, _, _ = content.partition(DeflatedExplicitVRLittleEndian.encode())  # the last that is not deflated
    bomb.write_bytes(meta + DeflatedExplicitVRLittleEndian.encode() + zeros())
    with little_memory():
        assert reasons(tmp_path / "in", tmp_path / "out") == {"too_large": 1}
    assert (tmp_path / "out/000.nii.gz").is_file()


def test_a_deflated_file_is_read(tmp_path):
    plain = axial_stack()
    for number, dataset in enumerate(plain):
        save_as(dataset, tmp_path / f"in/{number}", DeflatedExplicitVRLittleEndian)
    assert reasons(tmp_path / "in", tmp_path / "out") == {}


def test_what_inflates_to_just_as_much_is_read(monkeypatch):
    monkeypatch.setattr(reading, "MOST_INFLATED_BYTES", 1000)
    for size in (1000, 1001):
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        content = deflate.compress(bytes(size)) + deflate.flush()
        if size == 1000:
            assert inflated(content) == bytes(size)
        else:
            with pytest.raises(StudyFailure, match="too_large"):
                inflated(content)


def test_a_member_of_a_zip_file_that_grows_without_end_costs_what_its_header_says(tmp_path):
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in/study.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number, dataset in enumerate(axial_stack()):
            whole = save_as(dataset, tmp_path / "one", ExplicitVRLittleEndian).read_bytes()
            with archive.open(f"../../outside/{number}", "w", force_zip64=True) as member:
                member.write(whole)
                for _ in range(LEAST_MB if number == 3 else 0):
                    member.write(bytes(MB))
    with little_memory():
        (entry,) = convert_folder(tmp_path / "in", tmp_path / "out")
    assert entry["status"] == "ok" and entry["shape"][2] == 6
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "one"}


def test_a_stream_that_claims_a_larger_image_than_its_header_is_undecodable(tmp_path, monkeypatch):
    """The SIZ marker of JPEG 2000 holds the size of the image (ISO 15444-1 A.5.1)."""
    monkeypatch.setattr(child, "MOST_MEMORY_BYTES", 2**28)
    monkeypatch.setattr("trabecula.convert.read._decoder", child.Decoder())
    for number, dataset in enumerate(axial_stack()):
        frame = bytearray(compressed(dataset, JPEG2000Lossless))
        if number == 3:
            size = frame.index(b"\xff\x51")
            for field in (6, 10, 22, 26):  # width and height of the image, and of its only tile
                frame[size + field : size + field + 4] = (60_000).to_bytes(4, "big")
        save_as(dataset, tmp_path / f"in/{number}", JPEG2000Lossless, [bytes(frame)])
    (entry,) = convert_folder(tmp_path / "in", tmp_path / "out")
    assert entry["status"] == "ok" and {"damaged_slices", "missing_slices"} <= set(entry["repairs"])
    assert len(pydicom.dcmread(tmp_path / "in/3").PixelData) < 10_000
