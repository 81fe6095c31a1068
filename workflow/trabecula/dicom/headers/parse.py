"""The hot path: the attributes of `fields` from the first bytes of a plain DICOM file.

It walks the top level of a little-endian data set up to the pixel data, by DICOM PS3.5 7.1, and decodes nothing. At any
doubt it raises `Doubt`, and pydicom reads the file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from trabecula.dicom.attributes import UNCOMPRESSED
from trabecula.dicom.headers.fields import FIELDS

FIRST_BYTES = 8192  # holds most headers
_MORE_BYTES = 65536
_MAX_VALUE = 4096
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 8


def _swapped(tag: int) -> int:
    """A tag as the number that its four bytes make, element before group; and back again."""
    return tag >> 16 | (tag & 0xFFFF) << 16


_PIXELS = _swapped(0x7FE00010)
# Functional groups of multi-frame files, and pixels that are no whole numbers.
_DOUBTFUL = {_swapped(tag) for tag in (0x52009229, 0x52009230, 0x7FE00008, 0x7FE00009)}
# Representations whose length takes two bytes, and those where it takes four after two empty ones.
_SHORT = set(re.findall(b"..", b"AEASATCSDADSDTFLFDISLOLTPNSHSLSSSTTMUIULUS"))
_LONG = set(re.findall(b"..", b"OBODOFOLOVOWSQSVUCUNURUTUV"))
_WANTED = {_swapped(field.tag): i for i, field in enumerate(FIELDS)}
_ALLOWED = [field.representations for field in FIELDS]
_ROWS = next(i for i, field in enumerate(FIELDS) if field.name == "rows")
_explicit = struct.Struct("<I2sH").unpack_from
_implicit = struct.Struct("<II").unpack_from
_long = struct.Struct("<I").unpack_from
_ITEM, _ITEM_END, _SEQUENCE_END = (struct.pack("<HH", 0xFFFE, element) for element in (0xE000, 0xE00D, 0xE0DD))
_SYNTAX = b"\x02\x00\x10\x00UI"
_DIRECTORY = MediaStorageDirectoryStorage.encode()

Read = Callable[[int, int], bytes]
Raw = dict[int, bytes]  # values by their place in `FIELDS`


class _Step(NamedTuple):
    """One element: its tag, offsets of it and of its value, the value's length, and its place in `FIELDS`."""

    tag: int
    at: int
    value: int
    length: int
    field: int | None


class Doubt(Exception):
    """The file is not as plain as this parser wants it: a case for pydicom."""


def parse(read: Read) -> tuple[Raw, str, int | None, int | None]:
    """Raw values of a file's attributes.

    Parameters
    ----------
    read : callable
        Bytes of the file from an offset, at most so many; fewer at its end.

    Returns
    -------
    dict
        Values by their place in `FIELDS`.
    str
        Transfer syntax.
    int or None
        Offset of the pixel data's value, uncompressed; None where they are encapsulated or absent.
    int or None
        Its length.

    Raises
    ------
    Doubt
        If anything is unusual.
    """
    try:
        return _parse(read)
    except struct.error:  # cut off
        raise Doubt from None


def _parse(read: Read) -> tuple[Raw, str, int | None, int | None]:
    buffer = read(0, FIRST_BYTES)
    if buffer[128:136] != b"DICM\x02\x00\x00\x00" or buffer[136:138] != b"UL":
        raise Doubt
    start = 144 + _long(buffer, 140)[0]
    meta = buffer[:start]
    syntax = _syntax_in(meta)
    if _DIRECTORY in meta:
        raise Doubt
    values, offset, length = _walk(read, buffer, start, explicit=syntax != ImplicitVRLittleEndian)
    native = syntax in UNCOMPRESSED
    if offset is not None and native == (length == _UNDEFINED):
        raise Doubt
    return (values, syntax, offset, length) if native else (values, syntax, None, None)


def _syntax_in(meta: bytes) -> str:
    """Transfer syntax of a file's meta information, if it is one that this parser knows."""
    at = meta.find(_SYNTAX)
    length = int.from_bytes(meta[at + 6 : at + 8], "little")
    raw = meta[at + 8 : at + 8 + length]
    if at < 0 or not raw.startswith(b"1.2.840.10008.1.2"):
        raise Doubt
    syntax = raw.rstrip(b"\0 ").decode("ascii", "replace")
    if syntax in (ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        raise Doubt
    return syntax


class _Run:
    """Elements that follow each other: the next file of a series mostly has the same, with other values.

    The heads (tag, representation and length) of all of them are compared at once, so that a run is taken only where a
    walk would have found the very same elements.
    """

    __slots__ = ("expected", "fields", "first", "heads", "highest", "lowest", "size", "steps", "values")

    def __init__(self, buffer: bytes, steps: list[_Step]) -> None:
        self.steps = steps
        self.first = steps[0].at
        self.lowest, self.highest = _swapped(steps[0].tag), _swapped(steps[-1].tag)
        self.size = steps[-1].value + steps[-1].length - self.first
        self.fields = [step.field for step in steps if step.field is not None]
        parts = [(step.value - step.at, step.length, step.field is not None) for step in steps]
        self.heads = struct.Struct("<" + "".join(f"{head}s{length}x" for head, length, _ in parts)).unpack_from
        self.values = struct.Struct(
            "<" + "".join(f"{head}x{length}{'s' if wanted else 'x'}" for head, length, wanted in parts)
        ).unpack_from
        self.expected = self.heads(buffer, self.first)


class _Single(NamedTuple):
    """An element whose next one differs from file to file: its tag in order, its value's length, its place."""

    order: int
    length: int
    field: int | None


Runs = dict[bytes, _Run | _Single | None]
# By the first element's eight bytes, for implicit and explicit representation; None where these eight bytes do not tell
# the length.
_RUNS: tuple[Runs, Runs] = ({}, {})
_REMEMBERED = 2_000


def _learn(runs: Runs, buffer: bytes, steps: list[_Step]) -> None:
    """Remember elements that were just walked; the list is empty afterwards."""
    if len(runs) >= _REMEMBERED:
        runs.clear()
    if len(steps) > 1:
        runs[buffer[steps[0].at : steps[0].at + 8]] = _Run(buffer, steps.copy())
    steps.clear()


def _shorten(runs: Runs, run: _Run, buffer: bytes, o: int) -> None:
    """Keep of a run what it has in common with the elements at an offset."""
    pairs = zip(run.heads(buffer, o), run.expected, strict=True)
    same = next(i for i, (found, expected) in enumerate(pairs) if found != expected)
    by = o - run.first
    steps = [step._replace(at=step.at + by, value=step.value + by) for step in run.steps[:same]]
    if same > 1:
        runs[buffer[o : o + 8]] = _Run(buffer, steps)
        return
    first = run.steps[0]
    short = first.value - first.at == 8
    runs[buffer[o : o + 8]] = _Single(_swapped(first.tag), first.length, first.field) if short else None


def _walk(read: Read, buffer: bytes, o: int, *, explicit: bool) -> tuple[Raw, int | None, int | None]:
    """Walk the top level; `o` counts from the start of the buffer, which moves on through the file."""
    values: Raw = {}
    runs = _RUNS[explicit]
    walked: list[_Step] = []
    base, end, last = 0, len(buffer), 0
    while True:
        if o + 12 > end:
            _learn(runs, buffer, walked)
            base, o, buffer = base + o, 0, read(base + o, _MORE_BYTES)
            end = len(buffer)
            if not end:
                return values, None, None
        run = runs.get(buffer[o : o + 8], ...)
        if type(run) is _Run and o + run.size <= end:
            if walked:
                _learn(runs, buffer, walked)
            if run.heads(buffer, o) == run.expected:
                if run.lowest <= last:
                    raise Doubt
                last = run.highest
                values.update(zip(run.fields, run.values(buffer, o)))  # noqa: B905 (equally long, and a hot path)
                o += run.size
            else:
                _shorten(runs, run, buffer, o)
            continue
        if type(run) is _Single and o + 8 + run.length <= end:
            if walked:
                _learn(runs, buffer, walked)
            if run.order <= last:
                raise Doubt
            last, value = run.order, o + 8
            o = value + run.length
            if run.field is not None:
                values[run.field] = buffer[value:o]
            continue
        step = _step(buffer, o, explicit)
        if _swapped(step.tag) <= last:  # an attribute that is there twice, or out of order
            raise Doubt
        last = _swapped(step.tag)
        if step.tag == _PIXELS:
            _learn(runs, buffer, walked)
            return values, base + step.value, step.length
        ends = step.value + step.length
        if step.field is not None:
            raw = buffer[step.value : ends] if ends <= end else read(base + step.value, step.length)
            if len(raw) < step.length:
                raise Doubt
            values[step.field] = raw
        elif step.tag & 0xFFFF > 0x28 and _ROWS not in values:  # no image: what else it holds does not matter
            return values, None, None
        if step.length == _UNDEFINED:
            _learn(runs, buffer, walked)
            o = _after_sequence(buffer, step.value, explicit, 0)
            continue
        o = ends
        if run is ... and ends <= end:
            walked.append(step)
        elif walked:
            _learn(runs, buffer, walked)


def _step(buffer: bytes, o: int, explicit: bool) -> _Step:
    """The element at an offset."""
    if explicit:
        tag, vr, length = _explicit(buffer, o)
        value = o + 8
        if vr in _LONG:
            length, value = _long(buffer, value)[0], o + 12
        elif vr not in _SHORT:
            raise Doubt
    else:
        tag, length = _implicit(buffer, o)
        vr, value = b"", o + 8
    field = _WANTED.get(tag)
    if field is not None and (length > _MAX_VALUE or (explicit and vr not in _ALLOWED[field])):
        raise Doubt
    if tag in _DOUBTFUL or (length == _UNDEFINED and explicit and vr != b"SQ" and tag != _PIXELS):
        raise Doubt
    return _Step(tag, o, value, length, field)


def _moved(steps: list[_Step], by: int) -> list[_Step]:
    return [step._replace(at=step.at + by, value=step.value + by) for step in steps]


def _after_sequence(buffer: bytes, o: int, explicit: bool, depth: int) -> int:
    """Offset after a sequence of undefined length that lies within the buffer."""
    if depth > _DEEPEST:
        raise Doubt
    while True:
        tag, length = buffer[o : o + 4], _long(buffer, o + 4)[0]
        o += 8
        if tag == _SEQUENCE_END:
            return o
        if tag != _ITEM:
            raise Doubt
        o = _after_item(buffer, o, explicit, depth) if length == _UNDEFINED else o + length


def _after_item(buffer: bytes, o: int, explicit: bool, depth: int) -> int:
    while True:
        if buffer[o : o + 4] == _ITEM_END:
            return o + 8
        if explicit:
            _, vr, length = _explicit(buffer, o)
            o += 8
            if vr in _LONG:
                length, o = _long(buffer, o)[0], o + 4
            elif vr not in _SHORT:
                raise Doubt
        else:
            vr, length = b"SQ", _long(buffer, o + 4)[0]
            o += 8
        if length != _UNDEFINED:
            o += length
        elif vr == b"SQ":
            o = _after_sequence(buffer, o, explicit, depth + 1)
        else:
            raise Doubt
