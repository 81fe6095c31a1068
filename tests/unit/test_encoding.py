"""Files whose transfer syntax says something else than their bytes, or nothing: read as their plain twins are."""

import io
import zlib
from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from ct_files import compressed, save_as, slice_of
from linear_stacks import TWICE, change, converted, every
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from trabecula.dicom.encoding import encoding_of, is_dicom, syntax_of_stream
from trabecula.dicom.headers.by_pydicom import read_by_pydicom
from trabecula.dicom.headers.parse import Doubt
from trabecula.dicom.headers.quick import read_quickly
from trabecula.dicom.headers.read import read_headers
from trabecula.dicom.headers.record import Header, ListedFile, Source
from trabecula.dicom.quiet import quiet
from trabecula.dicom.syntaxes import GE_BIG_ENDIAN

PRIVATE = "1.2.826.0.1.3680043.8.498.77"
NATIVE = {"implicit": (True, True), "explicit": (False, True), "big-endian": (False, False)}
SAID = {
    "implicit": uid.ImplicitVRLittleEndian,
    "explicit": uid.ExplicitVRLittleEndian,
    "big-endian": uid.ExplicitVRBigEndian,
    "deflated": uid.DeflatedExplicitVRLittleEndian,
    "JPEG lossless": uid.JPEGLosslessSV1,
    "JPEG baseline": uid.JPEGBaseline8Bit,
    "RLE": uid.RLELossless,
    "JPEG 2000": uid.JPEG2000,
    "private": PRIVATE,
    "no syntax": None,
}


def textured() -> list[Dataset]:
    """Make three slices with noise, a private sequence and a value of odd length, all of one series."""
    slices = every(3, 3)
    noise = np.random.default_rng(1)
    for number, dataset in enumerate(slices):
        values = np.frombuffer(dataset.PixelData, "<i2") + noise.integers(-400, 400, 480)
        dataset.PixelData = values.astype("<i2").tobytes()
        dataset["PixelData"].VR = "OW"
        inner = Dataset()
        inner.PatientID, inner.Rows = "NESTED", 7
        change(dataset, {"SOPInstanceUID": TWICE[number], "AcquisitionNumber": 4, "ReferencedImageSequence": [inner]})
    return slices


def elements(dataset: Dataset, encoding: str) -> bytes:
    """Write a data set alone: neither preamble nor meta information."""
    implicit, little = NATIVE[encoding]
    written = pydicom.Dataset(dataset)
    if not little:
        written.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        written["PixelData"].VR = "OW"
    content = io.BytesIO()
    pydicom.dcmwrite(content, written, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
    return content.getvalue()


def meta(syntax: str | None) -> bytes:
    """Write the file's meta information (DICOM PS3.10 7.1) with a transfer syntax, or without."""

    def element(tag: bytes, text: str) -> bytes:
        raw = text.encode() + b"\0" * (len(text) % 2)
        return b"\2\0" + tag + b"UI" + len(raw).to_bytes(2, "little") + raw

    content = element(b"\2\0", uid.CTImageStorage) + element(b"\3\0", TWICE[0])
    content += b"" if syntax is None else element(b"\x10\0", syntax)
    return b"\2\0\0\0UL\4\0" + len(content).to_bytes(4, "little") + content


def encapsulated(dataset: Dataset, syntax: str) -> Dataset:
    """Compress a slice."""
    written = pydicom.Dataset(dataset)
    written.PixelData = encapsulate([compressed(dataset, syntax)])
    written["PixelData"].VR = "OB"
    written["PixelData"].is_undefined_length = True
    return written


def read(folder: Path) -> list[Header]:
    """Read the headers of a folder's files, and check that the quick reader says the same or doubts."""
    files = [ListedFile(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())]
    headers = read_headers(str(folder), files, archives=False)
    for file in files:
        content = (folder / file.path).read_bytes()
        source = Source(file.path, None, file.size, file.mtime_ns, file.size)
        with quiet():
            (slowly,) = read_by_pydicom(io.BytesIO(content), source)
        with suppress(Doubt):
            assert read_quickly(lambda at, n: content[at : at + n], source) == slowly  # noqa: B023
    return headers


def content_of(header: Header) -> Header:
    """Leave out where a file and its pixels lie, and how they are compressed."""
    return header._replace(path="", size=0, mtime_ns=0, transfer_syntax=None, pixel_offset=None, stream_lossy=None)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Write the slices as they should be: headers and voxels."""
    folder = tmp_path_factory.mktemp("plain")
    for number, dataset in enumerate(textured()):
        save_as(dataset, folder / f"in/{number}", uid.ExplicitVRLittleEndian)
    _, (ct,) = converted(folder / "in", folder / "out")
    return [content_of(header) for header in read(folder / "in")], ct


def check(folder: Path, plain: tuple) -> list[Header]:
    """Compare headers and voxels with those of the plain files."""
    headers = read(folder / "in")
    assert [content_of(header) for header in headers] == plain[0]
    (entry,), (ct,) = converted(folder / "in", folder / "out")
    assert entry["repairs"] == entry["flags"] == []
    np.testing.assert_array_equal(ct.array, plain[1].array)
    np.testing.assert_array_equal(ct.affine, plain[1].affine)
    return headers


def write(folder: Path, number: int, content: bytes) -> None:
    (folder / "in").mkdir(exist_ok=True)
    (folder / f"in/{number}").write_bytes(content)


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("encoding", [*NATIVE, "deflated"])
def test_a_data_set_is_read_by_its_bytes_and_not_by_its_transfer_syntax(tmp_path, plain, encoding, said):
    for number, dataset in enumerate(textured()):
        if encoding == "deflated":
            deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            content = deflate.compress(elements(dataset, "explicit")) + deflate.flush()
        else:
            content = elements(dataset, encoding)
        write(tmp_path, number, bytes(128) + b"DICM" + meta(SAID[said]) + content)
    headers = check(tmp_path, plain)
    assert {header.transfer_syntax for header in headers} == {SAID[encoding]}


@pytest.mark.parametrize("encoding", NATIVE)
@pytest.mark.parametrize(
    "begin",
    [b"", meta(None), meta(uid.ImplicitVRLittleEndian), b"DICM" + meta(uid.ExplicitVRBigEndian), bytes(128) + b"DICM"],
    ids=["nothing", "meta without a syntax", "meta", "no preamble", "no meta"],
)
def test_a_data_set_is_read_whatever_precedes_it(tmp_path, plain, encoding, begin):
    for number, dataset in enumerate(textured()):
        write(tmp_path, number, begin + elements(dataset, encoding))
    check(tmp_path, plain)


@pytest.mark.parametrize("said", ["implicit", "explicit", "private", "no syntax"])
@pytest.mark.parametrize(
    "syntax", [uid.RLELossless, uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.JPEGLossless, uid.JPEG2000Lossless]
)
def test_encapsulated_pixels_without_a_true_name_are_read_by_their_stream(tmp_path, plain, syntax, said):
    for number, dataset in enumerate(textured()):
        write(
            tmp_path,
            number,
            bytes(128) + b"DICM" + meta(SAID[said]) + elements(encapsulated(dataset, syntax), "explicit"),
        )
    check(tmp_path, plain)


@pytest.mark.parametrize("said", ["implicit", "explicit", "private", "no syntax"])
def test_a_compression_that_nothing_tells_is_undecodable(tmp_path, said):
    dataset = slice_of((0, 0, 0))
    dataset.SOPInstanceUID = TWICE[0]
    dataset.PixelData = encapsulate([b"a maker's own compression" * 9])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    write(tmp_path, 0, bytes(128) + b"DICM" + meta(SAID[said]) + elements(dataset, "explicit"))
    assert [header.reason for header in read(tmp_path / "in")] == ["undecodable"]
    (entry,), _ = converted(tmp_path / "in", tmp_path / "out")
    assert entry["reason"] == "undecodable"


@pytest.mark.parametrize("encoding", NATIVE)
def test_pixels_under_the_private_syntax_of_ge_are_refused_unless_the_data_set_is_of_another(tmp_path, plain, encoding):
    for number, dataset in enumerate(textured()):
        write(tmp_path, number, bytes(128) + b"DICM" + meta(GE_BIG_ENDIAN) + elements(dataset, encoding))
    if encoding != "implicit":
        check(tmp_path, plain)
        return
    assert {header.reason for header in read(tmp_path / "in")} == {"undecodable"}
    (entry,), _ = converted(tmp_path / "in", tmp_path / "out")
    assert entry["reason"] == "undecodable"


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("encoding", NATIVE)
def test_native_pixels_that_are_too_few_are_cut_off_under_any_name(tmp_path, encoding, said):
    content = elements(textured()[0], encoding)
    write(tmp_path, 0, bytes(128) + b"DICM" + meta(SAID[said]) + content[:-100])
    assert [header.reason for header in read(tmp_path / "in")] == ["truncated"]


@pytest.mark.parametrize(
    ("encode", "options", "syntax"),
    [
        ("jpegxl_encode", {"lossless": True}, "1.2.840.10008.1.2.4.112"),
        ("jpegls_encode", {}, "1.2.840.10008.1.2.4.80"),
        ("jpegls_encode", {"level": 2}, "1.2.840.10008.1.2.4.81"),
        ("htj2k_encode", {"reversible": True}, "1.2.840.10008.1.2.4.203"),
        ("jpeg2k_encode", {"reversible": True}, "1.2.840.10008.1.2.4.91"),
    ],
)
def test_a_stream_names_a_syntax_that_promises_no_more_than_it_keeps(encode, options, syntax):
    values = np.random.default_rng(3).integers(0, 4000, (20, 24)).astype("u2")
    stream = getattr(imagecodecs, encode)(values, **options)
    assert syntax_of_stream(stream) == syntax
    assert syntax_of_stream(stream[1:]) is None


def test_no_bytes_but_elements_are_a_data_set():
    rng = np.random.default_rng(2)
    others = [rng.bytes(512) for _ in range(300)]
    others += [bytes([value]) * 512 for value in range(256)]
    others += [rng.integers(0, 40, 256).astype("<u2").tobytes() for _ in range(300)]
    others += [b"", b"\x08\0", b"\0\x08\0\x05", b"<!DOCTYPE html><html>" * 20, b"version https://git-lfs" * 9]
    assert not any(map(is_dicom, others))
    for encoding, (implicit, little) in NATIVE.items():
        start = elements(slice_of((0, 0, 0)), encoding)[:512]
        assert is_dicom(start) and encoding_of(start) == (implicit, little)
