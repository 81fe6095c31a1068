"""Read what index and convert need from DICOM headers.

`fields` is the allow-list, `parse` the quick parser; pydicom reads what that one doubts, and checks it.
"""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from operator import itemgetter
from struct import unpack
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MediaStorageDirectoryStorage

from trabecula.dicom.attributes import LOSSY, PER_FRAME, SHARED, UNCOMPRESSED, numbers, quiet, read_dicom, value
from trabecula.dicom.files import as_path, container, is_container, open_file
from trabecula.dicom.headers.fields import COLUMNS, FIELDS, NAMES, PLACE, Field
from trabecula.dicom.headers.parse import Doubt, Raw, Read, parse
from trabecula.errors import StudyFailure
from trabecula.runtime.digest import digest
from trabecula.runtime.storage import must_be_there, patiently

# What is remembered of every file; private, since it holds identities.
FILES = pa.schema(
    [("path", pa.string()), ("member", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), *COLUMNS],
    metadata={"table": "files", "code": digest("dicom.headers")},
)


class Header(NamedTuple):
    """Attributes of one file; its fields are those of `FILES`, whose values `fields` explains."""

    path: str
    member: str | None
    size: int
    mtime_ns: int
    patient: str | None = None
    issuer: str | None = None
    study_uid: str | None = None
    series_uid: str | None = None
    instance_uid: str | None = None
    sop_class: str | None = None
    modality: str | None = None
    image_type: str | None = None
    study_date: str | None = None
    acquisition_time: str | None = None
    birth_date: str | None = None
    age: str | None = None
    sex: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    kernel: str | None = None
    body_part: str | None = None
    description: str | None = None
    contrast: str | None = None
    photometric: str | None = None
    lossy: str | None = None
    rescale_type: str | None = None
    kvp: float | None = None
    thickness_mm: float | None = None
    slope: float | None = None
    intercept: float | None = None
    rows: int | None = None
    columns: int | None = None
    frames: int | None = None
    bits: int | None = None
    bits_stored: int | None = None
    high_bit: int | None = None
    signed: int | None = None
    samples: int | None = None
    acquisition: int | None = None
    phase: int | None = None
    padding: int | None = None
    padding_limit: int | None = None
    pixel_spacing_mm: list[float] | None = None
    orientation: list[float] | None = None
    positions_mm: list[float] | None = None
    frame: int | None = 0
    transfer_syntax: str | None = None
    pixel_offset: int | None = None
    pixel_bytes: int | None = None
    substitute: bool | None = None
    reason: str | None = None

    @property
    def is_lossy(self) -> bool:
        """Whether the pixels were compressed with a loss, by the header."""
        return self.lossy == "01" or self.transfer_syntax in LOSSY


assert Header._fields == tuple(FILES.names)

Record = list[Any]  # values in the order of `NAMES`

# First bytes of a data set without the 128-byte preamble: group 0002 or 0008, little-endian.
_BARE_STARTS = (b"\x02\x00", b"\x08\x00")
_MAX_FRAMES = 100_000
_LONGEST_TEXT = 10_000  # characters: far beyond what the standard allows, also for several values
# What frames have of their own, and the attributes that stand for those of a file in their functional groups.
_FRAME_NAMES = {
    *("positions_mm", "orientation", "pixel_spacing_mm", "slope", "intercept"),
    *("image_type", "kernel", "acquisition", "phase", "kvp", "thickness_mm", "rescale_type"),
}
_BY_FRAME = [(PLACE[field.name], field) for field in FIELDS if field.name in _FRAME_NAMES]
_IN_FRAMES = {"image_type": "FrameType", "acquisition": "FrameAcquisitionNumber", "phase": "TemporalPositionIndex"}
_UNIQUE = {"instance_uid", "positions_mm"}  # differ in every file: not worth remembering
_REMEMBERED = 10_000
# Attributes that the choice of a series needs: where the quick parser finds none, pydicom looks again.
_NEEDED = [PLACE[name] for name in ("modality", "image_type", "kvp", "kernel", "slope", "intercept", "thickness_mm")]
_mandatory = itemgetter(*(PLACE[name] for name in ("study_uid", "series_uid", "instance_uid", "sop_class", "modality")))
_of_ct = itemgetter(
    *(PLACE[name] for name in ("rows", "columns", "bits", "bits_stored", "high_bit", "signed", "samples")),
    *(PLACE[name] for name in ("photometric", "pixel_spacing_mm", "orientation", "positions_mm")),
)
_SERIES = [PLACE[name] for name in ("patient", "study_uid", "series_uid")]
_TAGS = ["SpecificCharacterSet", SHARED, PER_FRAME, *(field.keyword for field in FIELDS)]
_REASON, _FRAMES, _MODALITY, _ROWS = (PLACE[name] for name in ("reason", "frames", "modality", "rows"))
_SIZES = [PLACE[name] for name in ("rows", "columns", "bits", "samples")]

# A file to be read: path from the archive's top, size in bytes, modification time in nanoseconds, and the reason why it
# need not be opened.
Listed = tuple[str, int, int, str | None]


def read_headers(archive: str, files: Iterable[Listed], *, archives: bool) -> list[Record]:
    """Read the headers of some files.

    Parameters
    ----------
    archive : str
        The archive's top folder.
    files : iterable of (str, int, int, str or None)
        Path below it, size in bytes and modification time in nanoseconds of each file; a reason where it is known
        already that nothing can be read there.
    archives : bool
        Whether to look into zip and tar files.

    Returns
    -------
    list of list
        Values in the order of `FILES`: one list per file, in the same order, or one per member of a zip or tar file,
        and one per frame of a multi-frame CT. `reason` is None where a header could be read.
    """
    with quiet():
        rows = [row for file in files for row in _rows_of(archive, file, archives)]
        _check_absent(archive, rows)
    for row in rows:
        _substitute(row)
    return rows


def as_table(rows: list[Record]) -> pa.Table:
    """What `read_headers` gives, as a table (schema `FILES`)."""
    columns = list(zip(*rows, strict=True)) or [()] * len(FILES)
    return pa.table([pa.array(c, field.type) for c, field in zip(columns, FILES, strict=True)], schema=FILES)


def _rows_of(archive: str, file: Listed, archives: bool) -> Iterator[Record]:
    path, size, mtime_ns, known = file
    full = f"{archive}/{path}"
    records = [_failed(known)] if known else _read_plain(archive, full, size)
    if records[0][_REASON] != "archive" or not archives:
        yield from ([path, None, size, mtime_ns, *record] for record in records)
        return
    try:
        members = patiently(_members, full)
    except StudyFailure:
        members = []
    except OSError:
        must_be_there(archive)
        members = []
    for member, length in members:
        try:
            records = patiently(_read_member, full, member, length)
        except StudyFailure as failure:
            records = [_failed(failure.reason)]
        except OSError:
            must_be_there(archive)
            records = [_failed("unreadable")]
        yield from ([path, member, size, mtime_ns, *record] for record in records)
    if not members:
        yield [path, None, size, mtime_ns, *_failed("unreadable")]


def _members(path: str) -> list[tuple[str, int]]:
    return container(path).members()


def _read_member(path: str, member: str, size: int) -> list[Record]:
    with open_file(path, member) as opened:
        return _read(_reader(opened), opened, size)


def _read_plain(archive: str, path: str, size: int) -> list[Record]:
    """Records of a file by itself."""
    try:
        return patiently(_read_quickly, path, size)
    except OSError as error:
        must_be_there(archive)
        return [_failed("vanished" if isinstance(error, FileNotFoundError) else "unreadable")]


def _read_quickly(path: str, size: int) -> list[Record]:
    """The one place that has to be quick."""
    handle = os.open(as_path(path), os.O_RDONLY | os.O_NONBLOCK)
    try:
        return [_decoded(*parse(lambda offset, length: os.pread(handle, length, offset)), size)]
    except Doubt:
        with closing(os.fdopen(os.dup(handle), "rb")) as file:
            return _by_pydicom(file, size, path)
    finally:
        os.close(handle)


def _reader(file: BinaryIO) -> Read:
    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    return read


def _read(read: Read, file: BinaryIO, size: int) -> list[Record]:
    try:
        return [_decoded(*parse(read), size)]
    except Doubt:
        return _by_pydicom(file, size, "")


def _failed(reason: str) -> Record:
    record: Record = [None] * len(NAMES)
    record[_REASON] = reason
    return record


# --- decoding what the quick parser found ----------------------------------------------------------------


def _decoded(raw: Raw, syntax: str, offset: int | None, length: int | None, size: int) -> Record:
    """Record of raw values; raises Doubt where one can't be decoded as plainly as it should."""
    record: Record = [None] * len(FIELDS)
    for place, found in raw.items():
        known = _KNOWN[place]
        if known is None:
            record[place] = _DECODERS[place](found, FIELDS[place])
            continue
        try:
            record[place] = known[found]
        except KeyError:
            if len(known) >= _REMEMBERED:
                known.clear()
            known[found] = record[place] = _DECODERS[place](found, FIELDS[place])
    if (record[_FRAMES] or 1) > 1 or None in _mandatory(record):
        raise Doubt
    if record[_MODALITY] == "CT" and None in _of_ct(record):
        raise Doubt
    if offset is None and syntax in UNCOMPRESSED and record[_ROWS] is not None:
        raise Doubt
    short = offset is not None and _is_truncated(record, syntax, _whole(size - offset, length))
    return [*record, 0, syntax, offset, length, False, "truncated" if short else None]


def _as_text(raw: bytes, field: Field) -> str | None:
    if not raw.isascii() or b"\x1b" in raw:  # other alphabets, in which even a backslash may be part of a letter
        raise Doubt
    text = raw.decode().rstrip("\0 ")
    if "\\" in text and field.representations == {b"LO"}:
        text = "\\".join(part.rstrip("\0 ") for part in text.split("\\"))
    return text.replace("\0", "").strip() or None


def _as_decimals(raw: bytes, field: Field) -> list[float] | None:
    try:
        listed = [float(part) for part in raw.rstrip(b"\0 ").split(b"\\")]
    except ValueError:
        raise Doubt from None
    return listed if len(listed) == field.length and all(map(math.isfinite, listed)) else None


def _as_number(raw: bytes, field: Field) -> float | None:
    if not raw.strip(b"\0 "):
        return None
    listed = _as_decimals(raw, field)
    return listed[0] if listed else None


def _as_count(raw: bytes, field: Field) -> int | None:
    if not raw:
        return None
    if b"IS" not in field.representations:
        if len(raw) != 2:
            raise Doubt
        return unpack("<H", raw)[0]
    number = _as_number(raw, field)
    if number is not None and number != int(number):
        raise Doubt
    return int(number) if number is not None and 0 <= number < 2**31 else None


_BY_KIND: dict[str, Any] = {"text": _as_text, "number": _as_number, "count": _as_count}
_DECODERS = [_BY_KIND.get(field.kind, _as_decimals) for field in FIELDS]
# Values that files have in common are decoded once.
_KNOWN: list[dict[bytes, Any] | None] = [None if field.name in _UNIQUE else {} for field in FIELDS]


# --- pydicom: for everything unusual, and as a check ------------------------------------------------------


def _by_pydicom(file: BinaryIO, size: int, path: str) -> list[Record]:
    file.seek(0)
    start = file.read(512)
    if not start:
        return [_failed("empty")]
    if start[128:132] != b"DICM" and start[:2] not in _BARE_STARTS:
        return [_failed("archive" if is_container(start, path) else "not_dicom")]
    file.seek(0)
    try:
        dataset = read_dicom(file, stop_before_pixels=True, force=True, specific_tags=_TAGS)
        return _records_of(dataset, file, size)
    except InvalidDicomError:
        return [_failed("not_dicom")]
    except StudyFailure as failure:
        return [_failed(failure.reason)]
    except OSError:
        raise
    except Exception:  # damaged headers raise anything, from struct.error to RecursionError
        return [_failed("unreadable")]


def _records_of(dataset: Dataset, file: BinaryIO, size: int) -> list[Record]:
    """Records of a data set that was read up to its pixel data."""
    meta = getattr(dataset, "file_meta", Dataset())
    if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return [_failed("dicomdir")]
    if not any(keyword in dataset for keyword in ("SOPClassUID", "Modality", "StudyInstanceUID", "Rows")):
        return [_failed("unreadable")]
    record: Record = [_value_of(dataset, field) for field in FIELDS]
    implicit, little = dataset.original_encoding
    syntax = str(meta.get("TransferSyntaxUID") or "") or None
    offset = length = None
    left = size - file.tell()
    if little and (syntax or ImplicitVRLittleEndian) in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        offset, length = _pixels_at(file, implicit=bool(implicit))
    records = _frames_of(dataset, record)
    if offset is not None:  # the first frames of a file that was cut off are whole
        left = size - offset if len(records) > 1 else _whole(size - offset, length)
    for frame, one in enumerate(records):
        short = _is_truncated(one, syntax or ImplicitVRLittleEndian, left, frames=frame + 1)
        one += [frame, syntax, offset, length, False, "truncated" if short else None]
    return records


def _frames_of(dataset: Dataset, record: Record) -> list[Record]:
    """A record per frame of a multi-frame CT (DICOM PS3.3 A.38), with what differs from frame to frame."""
    frames = record[_FRAMES] or 1
    described = len(dataset.get(PER_FRAME) or [])
    if frames == 1 or record[_MODALITY] != "CT" or described != frames or frames > _MAX_FRAMES:
        return [record]
    fields = [(place, field, _IN_FRAMES.get(field.name, field.keyword)) for place, field in _BY_FRAME]
    records = []
    for frame in range(frames):
        own = record.copy()
        for place, field, keyword in fields:
            found = _value_of(dataset, replace(field, keyword=keyword), frame)
            own[place] = record[place] if found is None else found
        records.append(own)
    return records


def _value_of(dataset: Dataset, field: Field, frame: int = 0) -> Any:
    if field.kind == "text":
        return _text(dataset, field.keyword, frame)
    found = numbers(dataset, field.keyword, field.length, frame)
    if found is None or field.kind == "vector":
        return found
    if field.kind == "number":
        return found[0]
    number = int(found[0])
    if b"IS" not in field.representations:  # padding may be written with a sign or without: 16 bits either way
        return number & 0xFFFF
    return number if 0 <= number < 2**31 else None


def _text(dataset: Dataset, keyword: str, frame: int) -> str | None:
    found = value(dataset, keyword, frame)
    parts = found if isinstance(found, MultiValue) else [found]
    text = "\\".join(str(part) for part in parts if part is not None)
    return text[:_LONGEST_TEXT].replace("\0", "").strip() or None


def _pixels_at(file: BinaryIO, *, implicit: bool) -> tuple[int | None, int | None]:
    """Offset and length of the value of the pixel data's element, at which the file stands."""
    at = file.tell()
    head = file.read(12)
    if head[:4] != b"\xe0\x7f\x10\x00" or len(head) < 12:
        return None, None
    start, length = (at + 8, head[4:8]) if implicit else (at + 12, head[8:12])
    return (None, None) if length == b"\xff\xff\xff\xff" else (start, unpack("<I", length)[0])


def _whole(left: int, length: int | None) -> int:
    """Bytes of pixels: what the element's length says, or none where the file does not hold as many."""
    return 0 if length is None or length > left else length


def _is_truncated(record: Record, syntax: str, bytes_left: int, *, frames: int = 1) -> bool:
    """Whether uncompressed pixels of the first frames would need more bytes than there are."""
    rows, columns, bits, samples = (record[place] for place in _SIZES)
    if rows is None or columns is None or bits is None or syntax not in UNCOMPRESSED:
        return False
    return bytes_left < rows * columns * bits * (samples or 1) * frames // 8


_BEFORE = 4  # path, member, size and time stand before the values
_UIDS = [_BEFORE + PLACE[name] for name in ("study_uid", "series_uid", "instance_uid")]


def _check_absent(archive: str, rows: list[Record]) -> None:
    """Where an attribute that the choice needs is absent, let pydicom read a file of the series; all, if it differs."""
    checked: dict[tuple, bool] = {}
    for row in rows:
        record = row[_BEFORE:]
        if record[_REASON] or row[1] is not None or record[_ROWS] is None or (record[_FRAMES] or 1) > 1:
            continue
        if all(record[place] is not None for place in _NEEDED):
            continue
        series = tuple(record[place] for place in _SERIES)
        if not checked.get(series, False):
            try:
                with open(as_path(f"{archive}/{row[0]}"), "rb") as file:
                    again, *_ = _by_pydicom(file, row[2], row[0])
            except OSError:
                again = _failed("unreadable")
            checked[series] = checked.get(series, True) and again == record
            row[_BEFORE:] = again


# --- identity where there is none ---------------------------------------------------------------------------


def _substitute(row: Record) -> None:
    """Fill in missing UIDs from folder and content, so that the same file always gets the same."""
    study, series, instance = (row[place] for place in _UIDS)
    if study and series and instance:
        return
    known = dict(zip(NAMES, row[_BEFORE:], strict=True))
    if known["reason"] not in (None, "truncated") or (known["modality"] is None and known["rows"] is None):
        return
    path, member = row[0], row[1] or ""
    folder = f"{os.path.dirname(path)}\0{os.path.dirname(member)}"
    study = study or _uid("study", folder, known["patient"], known["study_date"])
    about = (known[name] for name in ("modality", "description", "kernel"))
    series = series or _uid("series", study, folder, *about)
    for place, uid in zip(_UIDS, (study, series, instance or _uid("instance", path, member)), strict=True):
        row[place] = uid
    row[_BEFORE + PLACE["substitute"]] = True


def _uid(*content: Any) -> str:
    """A UID from content (DICOM PS3.5 B.2: 2.25 and 128 bits as a decimal number)."""
    return f"2.25.{int.from_bytes(sha256(repr(content).encode()).digest()[:16], 'big')}"
