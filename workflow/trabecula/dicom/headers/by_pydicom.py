"""Read headers by pydicom: all that is unusual, and a file here and there to check the quick reader."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from pydicom.charset import convert_encodings, decode_bytes, default_encoding
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue
from pydicom.uid import MediaStorageDirectoryStorage
from pydicom.valuerep import TEXT_VR_DELIMS

from trabecula.dicom.attributes import PER_FRAME, SHARED, Attributes
from trabecula.dicom.headers.fields import FIELDS, Field
from trabecula.dicom.headers.record import Header, Source, failed, pixel_bytes
from trabecula.dicom.identity import lacks_uid
from trabecula.dicom.kinds import is_ct
from trabecula.dicom.quiet import quiet
from trabecula.dicom.reading import Pixels, ReadHeader, read_header
from trabecula.dicom.streams import loss_in_file
from trabecula.dicom.syntaxes import EXPLICIT, GE_BIG_ENDIAN, IMPLICIT
from trabecula.errors import StudyFailure

_MAX_FRAMES = 100_000
_NO_SIGN = "\N{REPLACEMENT CHARACTER}"
_LONGEST_TEXT = 10_000  # characters: far beyond what the standard allows, also for several values
_TAGS = ["SpecificCharacterSet", SHARED, PER_FRAME, *(field.keyword for field in FIELDS)]
# Values that differ from frame to frame, and the attributes that stand for those of a file in functional groups.
_FRAME_NAMES = {
    *("positions_mm", "orientation", "pixel_spacing_mm", "slope", "intercept"),
    *("image_type", "kernel", "acquisition", "phase", "kvp", "thickness_mm", "rescale_type"),
    *("acquisition_moment", "trigger_ms", "cardiac_phase"),
}
_IN_FRAMES = {
    "image_type": "FrameType",
    "acquisition": "FrameAcquisitionNumber",
    "acquisition_moment": "FrameAcquisitionDateTime",
    "phase": "TemporalPositionIndex",
    "trigger_ms": "NominalCardiacTriggerDelayTime",
}
_FRAME_FIELDS = [
    replace(field, keyword=_IN_FRAMES.get(field.name, field.keyword)) for field in FIELDS if field.name in _FRAME_NAMES
]


def read_by_pydicom(file: BinaryIO, source: Source) -> list[Header]:
    """Read the header of any DICOM file: one record, or one per frame of a multi-frame CT.

    Parameters
    ----------
    file : binary file
        Open for reading.
    source : Source
        Where it lies, and its size.

    Raises
    ------
    OSError
        If disk or network fail, or the file's own compression. All other trouble is a record with its reason.
    """
    try:
        content = read_header(file, _TAGS, n_bytes=source.n_bytes)
        stream_lossy = _loss_in(file, content.pixels)
        return [header._replace(stream_lossy=stream_lossy) for header in _headers_of(content, source)]
    except StudyFailure as failure:
        return [failed(source, failure.reason)]
    except OSError:
        raise
    except Exception:  # damaged headers raise anything, from struct.error to RecursionError
        return [failed(source, "unreadable")]


def _loss_in(file: BinaryIO, pixels: Pixels | None) -> bool | None:
    """Tell whether encapsulated pixels lost something (see `Header.stream_lossy`)."""

    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    return None if pixels is None or pixels.is_native or pixels.offset is None else loss_in_file(read, pixels.offset)


def _headers_of(read: ReadHeader, source: Source) -> list[Header]:
    """Give the records of a data set that was read up to its pixel data."""
    dataset, pixels, is_cut, is_makers_own = read
    meta = dataset.file_meta
    if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return [failed(source, "dicomdir")]
    attributes = Attributes(dataset)
    values = {field.name: _value_of(attributes, field) for field in FIELDS}
    syntax = str(meta.get("TransferSyntaxUID") or "") or None
    is_plain = syntax in (IMPLICIT, EXPLICIT)
    offset = pixels.offset if pixels is not None and is_plain else None
    place = source.path, source.member, source.size, source.mtime_ns
    whole = Header(*place, **values, transfer_syntax=syntax, pixel_offset=offset, substitute=False)
    if not any((whole.sop_class, whole.modality, whole.study_uid, whole.rows)):
        return [failed(source, "unreadable")]
    if is_cut:
        # Of a file that ends before its UIDs, nobody can tell where it belongs.
        return [failed(source, "truncated") if lacks_uid(whole) else whole._replace(reason="truncated")]
    if syntax in (None, GE_BIG_ENDIAN):
        return [whole._replace(reason="undecodable")]
    frames = _frames_of(attributes, whole)
    too_short = "undecodable" if is_makers_own and not _is_cut_off(pixels) else "truncated"
    return [
        header._replace(reason=too_short) if _is_truncated(header, pixels, number, len(frames)) else header
        for number, header in enumerate(frames, start=1)
    ]


def _is_cut_off(pixels: Pixels | None) -> bool:
    """Tell whether the file ends before the value of its pixels does."""
    return pixels is not None and pixels.is_native and pixels.length > pixels.n_left


def _is_truncated(header: Header, pixels: Pixels | None, number: int, n_frames: int) -> bool:
    """Tell whether uncompressed pixels end before those of a frame do, by its number from 1."""
    if pixels is None:
        return header.is_truncated(0)
    if not pixels.is_native:
        return False
    # The first frames of a file that was cut off are whole.
    n_bytes = pixels.n_left if n_frames > 1 else pixel_bytes(pixels.n_left, pixels.length)
    return header.is_truncated(n_bytes, frames=number)


def _frames_of(attributes: Attributes, header: Header) -> list[Header]:
    """Give a record per frame of a multi-frame CT (DICOM PS3.3 A.38), with what differs from frame to frame."""
    frames = header.frames or 1
    if not is_ct(header) or attributes.n_described != frames or frames > _MAX_FRAMES:
        return [header]
    return [header._replace(frame=frame, **_values_of_frame(attributes, frame)) for frame in range(frames)]


def _values_of_frame(attributes: Attributes, frame: int) -> dict[str, Any]:
    values = {field.name: _value_of(attributes, field, frame) for field in _FRAME_FIELDS}
    return {name: content for name, content in values.items() if content is not None or name not in _IN_FRAMES}


def _value_of(attributes: Attributes, field: Field, frame: int = 0) -> Any:
    if field.name in ("patient", "issuer"):
        return _identifier(attributes, field.keyword)
    if field.kind == "text":
        return _text(attributes, field.keyword, frame)
    decimals = attributes.numbers(field.keyword, field.length, frame)
    if decimals is None or field.kind == "vector":
        return decimals
    if field.kind == "number":
        return decimals[0]
    count = int(decimals[0])
    if "IS" not in dictionary_VR(field.keyword):  # padding may be written with a sign or without: 16 bits either way
        return count & 0xFFFF
    return count if 0 <= count < 2**31 else None


def _identifier(attributes: Attributes, keyword: str) -> str | None:
    """Give the text of an id (see `text_of_id`)."""
    if keyword not in attributes.dataset:
        return None
    raw = attributes.dataset.get_item(keyword).value
    if not isinstance(raw, bytes):
        return _text(attributes, keyword, 0)
    declared = attributes.value("SpecificCharacterSet") or []
    return text_of_id(raw, [declared] if isinstance(declared, str) else list(map(str, declared)))


def text_of_id(raw: bytes, declared: Sequence[str]) -> str | None:
    """Decode an id so that no two ids fall together, also where their bytes do not fit the declared character set.

    pydicom puts one sign in place of every byte that does not fit. Here, bytes that do not fit are read as UTF-8, which
    lists of patients are written in, and where they do not fit that either, as Latin-1, which takes every byte.

    Parameters
    ----------
    raw : bytes
        Value of the element.
    declared : sequence of str
        Values of SpecificCharacterSet (0008,0005); none where it is absent.

    >>> text_of_id("MÜLLER".encode("latin-1"), ["ISO_IR 192"]), text_of_id("MÜLLER".encode(), [])
    ('MÜLLER', 'MÜLLER')
    """
    text = _strictly_decoded(raw, declared)
    if text is None:
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
    return "\\".join(part.rstrip("\0 ") for part in text.split("\\")).replace("\0", "").strip()[:_LONGEST_TEXT] or None


@quiet()
def _strictly_decoded(raw: bytes, declared: Sequence[str]) -> str | None:
    """Decode bytes by the declared character set, by ASCII where none is declared; None where they do not fit."""
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode()
    encodings = convert_encodings(list(declared))
    if encodings[0] == default_encoding and b"\x1b" not in raw:  # ASCII, or a set that nobody knows
        return None
    text = decode_bytes(raw, encodings, TEXT_VR_DELIMS)
    return None if _NO_SIGN in text else text


def _text(attributes: Attributes, keyword: str, frame: int) -> str | None:
    content = attributes.value(keyword, frame)
    parts = content if isinstance(content, MultiValue) else [content]
    text = "\\".join(str(part) for part in parts if part is not None)
    return text[:_LONGEST_TEXT].replace("\0", "").strip() or None
