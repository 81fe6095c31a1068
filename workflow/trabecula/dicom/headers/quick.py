"""Decode what the quick parser has found in a plain file; at any doubt pydicom reads the file."""

import math
from operator import attrgetter
from struct import unpack
from typing import Any

from trabecula.dicom.headers.fields import FIELDS, Field
from trabecula.dicom.headers.parse import Doubt, Parsed, Read, parse
from trabecula.dicom.headers.record import Header, Source, pixel_bytes
from trabecula.dicom.kinds import is_ct

_UNIQUE = {"instance_uid", "positions_mm"}  # differ in every file: not worth remembering
_REMEMBERED = 10_000
_mandatory = attrgetter("study_uid", "series_uid", "instance_uid", "sop_class", "modality")
_mandatory_in_ct = attrgetter(
    *("rows", "columns", "bits", "bits_stored", "high_bit", "signed", "samples"),
    *("photometric", "pixel_spacing_mm", "orientation", "positions_mm"),
)


def read_quickly(read: Read, source: Source) -> Header:
    """Read the header of a plain file.

    Raises
    ------
    Doubt
        If anything is unusual: a case for pydicom.
    """
    return _decoded(parse(read), source)


def _decoded(parsed: Parsed, source: Source) -> Header:
    """Give the record of raw values; raise Doubt where one can't be decoded as plainly as it should."""
    syntax, offset = parsed.syntax, parsed.pixel_offset
    file = source.path, source.member, source.size, source.mtime_ns
    header = Header._make((*file, *_values(parsed.values), 0, syntax, offset, parsed.stream_lossy, False, None))
    if (header.frames or 1) > 1 or None in _mandatory(header):
        raise Doubt
    if is_ct(header) and None in _mandatory_in_ct(header):
        raise Doubt
    if offset is not None and header.is_truncated(pixel_bytes(source.n_bytes - offset, parsed.pixel_length)):
        raise Doubt
    return header


def _values(raw_values: dict[int, bytes]) -> list[Any]:
    """Decode values by their place in `FIELDS`; one that many files have in common is decoded once."""
    values: list[Any] = [None] * len(FIELDS)
    for place, raw in raw_values.items():
        remembered = _DECODED[place]
        if remembered is None:
            values[place] = _DECODERS[place](raw, FIELDS[place])
            continue
        try:
            values[place] = remembered[raw]
        except KeyError:
            if len(remembered) >= _REMEMBERED:
                remembered.clear()
            remembered[raw] = values[place] = _DECODERS[place](raw, FIELDS[place])
    return values


def _as_text(raw: bytes, field: Field) -> str | None:
    if not raw.isascii() or b"\x1b" in raw:  # other alphabets, in which even a backslash may be part of a letter
        raise Doubt
    text = raw.decode().rstrip("\0 ")
    if "\\" in text and field.representations == {b"LO"}:
        text = "\\".join(part.rstrip("\0 ") for part in text.split("\\"))
    return text.replace("\0", "").strip() or None


def _as_decimals(raw: bytes, field: Field) -> list[float] | None:
    try:
        decimals = [float(part) for part in raw.rstrip(b"\0 ").split(b"\\")]
    except ValueError:
        raise Doubt from None
    return decimals if len(decimals) == field.length and all(map(math.isfinite, decimals)) else None


def _as_number(raw: bytes, field: Field) -> float | None:
    if b"FL" in field.representations:
        return _as_float(raw)
    if not raw.strip(b"\0 "):
        return None
    decimals = _as_decimals(raw, field)
    return decimals[0] if decimals else None


def _as_float(raw: bytes) -> float | None:
    if len(raw) not in (0, 4):
        raise Doubt
    number = unpack("<f", raw)[0] if raw else None
    return number if number is not None and math.isfinite(number) else None


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


_BY_KIND: dict[str, Any] = {"text": _as_text, "number": _as_number, "count": _as_count, "vector": _as_decimals}
_DECODERS = [_BY_KIND[field.kind] for field in FIELDS]
_DECODED: list[dict[bytes, Any] | None] = [None if field.name in _UNIQUE else {} for field in FIELDS]
