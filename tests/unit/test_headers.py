"""Single headers: read by an allow-list, the same by the quick reader and by pydicom, whole or damaged."""

import gzip
import random
import shutil
import zipfile
from pathlib import Path

import pydicom
import pytest
from ct_files import UID, axial_stack, save, save_all
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from trabecula.dicom.headers.by_pydicom import read_by_pydicom
from trabecula.dicom.headers.fields import FIELDS
from trabecula.dicom.headers.parse import Doubt
from trabecula.dicom.headers.quick import read_quickly
from trabecula.dicom.headers.read import read_headers
from trabecula.dicom.headers.record import Header, ListedFile, Source
from trabecula.dicom.headers.table import FILES, as_table
from trabecula.dicom.quiet import quiet


def read_files(folder: Path, *names: str, archives: bool = False) -> list[dict]:
    files = [ListedFile(name, (folder / name).stat().st_size, 1) for name in names]
    return as_table(read_headers(str(folder), files, archives=archives)).to_pylist()


def test_a_header_is_read_by_an_allow_list(tmp_path):
    save(axial_stack(1)[0], tmp_path / "x")
    (record,) = read_files(tmp_path, "x")
    assert record["reason"] is None and record["patient"] == "HOSPITAL-4711" and record["rows"] == 20
    assert record["positions_mm"] == [-17.0, -20.0, -30.0] and record["image_type"] == "ORIGINAL\\PRIMARY\\AXIAL"
    assert "Maria" not in str(record)


def test_the_allow_list_has_the_tags_of_the_standard():
    for field in FIELDS:
        assert (field.tag, field.vr) == (tag_for_keyword(field.keyword), dictionary_VR(field.tag)), field.keyword


STRANGERS = {
    "page.dcm": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 9, "not_dicom"),
    "report.txt": (b"not DICOM" * 99, "not_dicom"),
    "photo.jpg": (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)) * 3, "not_dicom"),
    "report.pdf": (b"%PDF-1.7\n%\xe2\xe3" + bytes(range(256)) * 3, "not_dicom"),
    "ct.nrrd": (b"NRRD0004\ntype: short\ndimension: 3\n" + bytes(900), "not_dicom"),
    "ct.mha": (b"ObjectType = Image\nNDims = 3\n" + bytes(900), "not_dicom"),
    "ct.hdr": (b"\x5c\1\0\0" + bytes(344), "not_dicom"),
    "ct.img": (b"\0\x04" * 900, "not_dicom"),
    "Thumbs.db": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(900), "not_dicom"),
    ".DS_Store": (b"\0\0\0\1Bud1" + bytes(900), "not_dicom"),
    "._IM1": (b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(900), "not_dicom"),
    "zeros": (bytes(900), "not_dicom"),
    "half a preamble": (bytes(100), "not_dicom"),
    "preamble": (bytes(128) + b"DICM", "unreadable"),
    "noise": (bytes(128) + b"DICM" + bytes(range(255, 0, -1)) * 5, "unreadable"),
    "empty": (b"", "empty"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "placeholder"),
    "annex": (b"/annex/objects/MD5E-s526000--c0ffee.dcm\n", "placeholder"),
    "study.7z": (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(90), "other_archive"),
    "study.rar": (b"Rar!\x1a\7\1\0" + bytes(90), "other_archive"),
    "study.zst": (b"\x28\xb5\x2f\xfd" + bytes(90), "other_archive"),
    "notes.txt.gz": (gzip.compress(b"not DICOM" * 99), "not_dicom"),
    "empty.gz": (gzip.compress(b""), "empty"),
    "damaged.dcm.gz": (b"\x1f\x8b\x08" + b"x" * 900, "unreadable"),
    "BZ stands for Bremerhaven": (b"BZ" * 300, "not_dicom"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_no_image_has_a_true_reason(tmp_path, name):
    content, reason = STRANGERS[name]
    (tmp_path / name).write_bytes(content)
    (record,) = read_files(tmp_path, name, archives=True)
    assert record["reason"] == reason


@pytest.mark.parametrize("implicit", [True, False])
def test_a_file_that_ends_anywhere_before_its_pixels_do_is_truncated(tmp_path, implicit):
    dataset = axial_stack(1)[0]
    dataset.ReferencedStudySequence = Sequence([Dataset()])
    path = save(dataset, tmp_path / "x")
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    dataset.save_as(path, implicit_vr=implicit, little_endian=True)
    whole = path.read_bytes()
    raw = map(pydicom.dcmread(path).get_item, dataset.keys())
    ends = {element.value_tell + element.length for element in raw if isinstance(element, RawDataElement)}
    first = whole.rindex(CTImageStorage.encode()) + len(CTImageStorage)
    kinds = set()
    for n in range(first, len(whole), 5):
        path.write_bytes(whole[:n])
        (record,) = read_files(tmp_path, "x")
        assert record["reason"] == "truncated" or n in ends
        kinds.add(record["study_uid"] == f"{UID}.1")
    assert kinds == {True, False}  # a file counts in its series as soon as it says which that is


def _source(path: Path) -> Source:
    return Source(str(path), None, path.stat().st_size, 1, path.stat().st_size)


def _by_pydicom(path: Path) -> Header:
    with path.open("rb") as file, quiet():
        return read_by_pydicom(file, _source(path))[0]


def _quickly(path: Path) -> Header | None:
    """Give the header by the quick reader; None where it doubts."""
    content = path.read_bytes()
    try:
        return read_quickly(lambda at, n: content[at : at + n], _source(path))
    except Doubt:
        return None


def test_the_quick_parser_says_what_pydicom_says(real_data, tmp_path):
    files = [path for path in real_data.rglob("*") if path.is_file()]
    quick = {path: _quickly(path) for path in files}
    assert sum(header is not None for header in quick.values()) > 250
    for path, header in quick.items():
        assert header is None or header == _by_pydicom(path), path


def _unusual() -> list[Dataset]:
    """Headers that a quick parser could stumble over."""
    item = Dataset()
    item.PatientID = "NESTED"
    sequence = Sequence([item])
    nested = axial_stack(1)[0]
    nested.ReferencedStudySequence = sequence
    long = axial_stack(1)[0]
    long.add_new(0x00290010, "LO", "PRIVATE")
    long.add_new(0x00291010, "OB", b"x" * 100_000)
    foreign = axial_stack(1)[0]
    foreign.SpecificCharacterSet, foreign.PatientID = "ISO_IR 192", "Ärztin"
    strange = axial_stack(1)[0]
    strange.AcquisitionNumber, strange.PixelPaddingValue, strange.PatientWeight = 3, -2000, None
    del strange.KVP
    return [nested, long, foreign, strange]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("undefined", [True, False])
def test_unusual_headers_are_read_the_same_either_way(tmp_path, number, implicit, undefined):
    path = save(_unusual()[number], tmp_path / "x")
    dataset = pydicom.dcmread(path)
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = undefined
            element.value[0].is_undefined_length_sequence_item = undefined
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    dataset.save_as(path, implicit_vr=implicit, little_endian=True)
    quick, slow = _quickly(path), _by_pydicom(path)
    assert quick in (None, slow)
    assert quick is not None or number == 2  # only the foreign letters are a doubt
    assert slow.patient == ("Ärztin" if number == 2 else "HOSPITAL-4711")


def test_damaged_headers_never_crash(tmp_path):
    rng = random.Random(3)
    whole = save(axial_stack(1)[0], tmp_path / "x").read_bytes()[:900]
    for _ in range(300):
        damaged = bytearray(whole[: rng.randrange(1, len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(1, 8)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (tmp_path / "x").write_bytes(damaged)
        quick, slow = _quickly(tmp_path / "x"), _by_pydicom(tmp_path / "x")
        assert quick is None or quick == slow
        assert len(read_files(tmp_path, "x")) == 1


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_files_inside_archives_are_read_where_asked(tmp_path, kind):
    save_all(axial_stack(3), tmp_path / "study/series")
    (tmp_path / "study/notes.txt").write_text("text")
    name = Path(shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path / "study")).name
    (closed,) = read_files(tmp_path, name)
    assert closed["reason"] == "archive"
    opened = read_files(tmp_path, name, archives=True)
    assert sorted(record["reason"] or "" for record in opened) == ["", "", "", "not_dicom"]
    images = [record for record in opened if not record["reason"]]
    plain = read_files(tmp_path, *(f"study/series/{k:03d}" for k in range(3)))
    for member, file in zip(sorted(images, key=lambda record: record["member"]), plain, strict=True):
        assert {k: v for k, v in member.items() if k not in FILES.names[:4]} == {
            k: v for k, v in file.items() if k not in FILES.names[:4]
        }


def test_missing_identities_are_made_from_folder_and_content(tmp_path):
    nothing = {"StudyInstanceUID": "", "SeriesInstanceUID": "", "PatientID": None}
    for folder in ("a", "b"):
        save_all(axial_stack(3), tmp_path / folder, **nothing)
    first, again = (read_files(tmp_path, "a/000", "a/001", "b/000") for _ in range(2))
    assert first == again and all(record["substitute"] for record in first)
    assert first[0]["study_uid"] == first[1]["study_uid"] != first[2]["study_uid"]
    assert first[0]["series_uid"] == first[1]["series_uid"] and first[0]["study_uid"].startswith("2.25.")


def test_a_member_of_a_zip_file_may_have_no_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", save(axial_stack(1)[0], tmp_path / "one").read_bytes())
    content = (tmp_path / "x.zip").read_bytes()
    at = content.rindex(b"PK\1\2")  # its entry in the central directory: the length of the name, and the name
    nameless = content[: at + 28] + b"\0\0" + content[at + 30 : at + 46] + content[at + 47 :]
    size = content.rindex(b"PK\5\6") - 1 + 12
    nameless = nameless[:size] + (46).to_bytes(4, "little") + nameless[size + 4 :]
    (tmp_path / "x.zip").write_bytes(nameless)
    (record,) = read_files(tmp_path, "x.zip", archives=True)
    assert record["member"] == "" and record["reason"] in (None, "unreadable")
