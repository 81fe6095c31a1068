"""Find the attributes of `fields` in the first bytes of a plain DICOM file: the hot path of the index.

It walks the top level of a little-endian data set up to the pixel data, by DICOM PS3.5 7.1, and decodes nothing. At any
doubt it raises `Doubt`, and pydicom reads the file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from trabecula.dicom.encoding import LONG, SHORT
from trabecula.dicom.headers.fields import FIELDS
from trabecula.dicom.streams import loss_in_file
from trabecula.dicom.syntaxes import BIG_ENDIAN, DEFLATED, IMPLICIT, UNCOMPRESSED, is_compression

FIRST_BYTES = 8192  # holds most headers
_MORE_BYTES = 65536
_MAX_VALUE = 4096
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 8


def _swapped(tag: int) -> int:
    """Give a tag as the number that its four bytes make, element before group; and back again.

    >>> hex(_swapped(0x7FE00010))
    '0x107fe0'
    """
    return tag >> 16 | (tag & 0xFFFF) << 16


_PIXELS = _swapped(0x7FE00010)
# Functional groups of multi-frame files, and pixels that are no whole numbers.
_DOUBTFUL = {_swapped(tag) for tag in (0x52009229, 0x52009230, 0x7FE00008, 0x7FE00009)}
_PLACES = {_swapped(field.tag): place for place, field in enumerate(FIELDS)}
_ALLOWED = [field.representations for field in FIELDS]
_ROWS = next(place for place, field in enumerate(FIELDS) if field.name == "rows")
_explicit = struct.Struct("<I2sH").unpack_from
_implicit = struct.Struct("<II").unpack_from
_long = struct.Struct("<I").unpack_from
_ITEM, _ITEM_END, _SEQUENCE_END = (struct.pack("<HH", 0xFFFE, element) for element in (0xE000, 0xE00D, 0xE0DD))
_SYNTAX = b"\x02\x00\x10\x00UI"
_DIRECTORY = b"1.2.840.10008.1.3.10"  # storage class of a DICOMDIR

Read = Callable[[int, int], bytes]


class Parsed(NamedTuple):
    """Raw values and place of the pixels of a plain file.

    Attributes
    ----------
    values : dict
        Raw values by their place in `FIELDS`.
    syntax : str
        UID of the transfer syntax.
    pixel_offset : int or None
        Byte at which the pixel data's value begins, where it is not compressed; None where it is, or is absent.
    pixel_length : int or None
        Length of that value in bytes.
    stream_lossy : bool or None
        See `Header.stream_lossy`.
    """

    values: dict[int, bytes]
    syntax: str
    pixel_offset: int | None
    pixel_length: int | None
    stream_lossy: bool | None


class _Step(NamedTuple):
    """An element: its tag, offsets of it and of its value, the value's length, and its place in `FIELDS`."""

    tag: int
    at: int
    value: int
    length: int
    field: int | None


class Doubt(Exception):
    """The file is not as plain as this parser needs it: a case for pydicom."""


def parse(read: Read) -> Parsed:
    """Find the raw values of a file's attributes.

    Parameters
    ----------
    read : callable
        Gives the file's bytes from an offset on, at most so many; fewer at its end.

    Raises
    ------
    Doubt
        If anything is unusual.
    """
    try:
        return _parse(read)
    except struct.error:  # cut off
        raise Doubt from None


def _parse(read: Read) -> Parsed:
    buffer = read(0, FIRST_BYTES)
    if buffer[128:136] != b"DICM\x02\x00\x00\x00" or buffer[136:138] != b"UL":
        raise Doubt
    start = 144 + _long(buffer, 140)[0]
    meta = buffer[:start]
    syntax = _syntax_in(meta)
    if _DIRECTORY in meta:
        raise Doubt
    walk = _Walk(read, buffer, start, explicit=syntax != IMPLICIT)
    offset, length = walk.to_pixels()
    native = syntax in UNCOMPRESSED
    if not (native or is_compression(syntax)):
        raise Doubt
    if native == (length == _UNDEFINED) if offset is not None else _ROWS in walk.values:
        raise Doubt
    if native:
        return Parsed(walk.values, syntax, offset, length, None)
    return Parsed(walk.values, syntax, None, None, None if offset is None else loss_in_file(read, offset))


def _syntax_in(meta: bytes) -> str:
    """Give the transfer syntax of a file's meta information, if it is one that this parser knows."""
    at = meta.find(_SYNTAX)
    length = int.from_bytes(meta[at + 6 : at + 8], "little")
    raw = meta[at + 8 : at + 8 + length]
    if at < 0 or not raw.startswith(b"1.2.840.10008.1.2"):
        raise Doubt
    syntax = raw.rstrip(b"\0 ").decode("ascii", "replace")
    if syntax in (BIG_ENDIAN, DEFLATED):
        raise Doubt
    return syntax


# --- runs of elements that earlier files had --------------------------------------------------------------


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
            "<" + "".join(f"{head}x{length}{'s' if is_read else 'x'}" for head, length, is_read in parts)
        ).unpack_from
        self.expected = self.heads(buffer, self.first)


class _Single(NamedTuple):
    """An element whose next one differs from file to file: its tag in order, its value's length, its place."""

    order: int
    length: int
    field: int | None


class _Runs(dict[bytes, _Run | _Single | None]):
    """Runs by the eight bytes with which they begin; None where these do not tell an element's length."""

    def learn(self, buffer: bytes, steps: list[_Step]) -> None:
        """Remember elements that were just walked; the list is empty afterwards."""
        if len(self) >= _REMEMBERED:
            self.clear()
        if len(steps) > 1:
            self[buffer[steps[0].at : steps[0].at + 8]] = _Run(buffer, steps.copy())
        steps.clear()

    def shorten(self, run: _Run, buffer: bytes, at: int) -> None:
        """Keep of a run what it has in common with the elements at an offset."""
        pairs = zip(run.heads(buffer, at), run.expected, strict=True)
        same = next(i for i, (head, expected) in enumerate(pairs) if head != expected)
        start = buffer[at : at + 8]
        if same > 1:
            by = at - run.first
            steps = [step._replace(at=step.at + by, value=step.value + by) for step in run.steps[:same]]
            self[start] = _Run(buffer, steps)
            return
        first = run.steps[0]
        short = first.value - first.at == 8
        self[start] = _Single(_swapped(first.tag), first.length, first.field) if short else None


_REMEMBERED = 2_000
_IMPLICIT_RUNS, _EXPLICIT_RUNS = _Runs(), _Runs()


# --- the walk ---------------------------------------------------------------------------------------------


class _Walk:
    """A walk over the elements at the top level of a data set; offsets count from the start of the buffer.

    Parameters
    ----------
    read : callable
        See `parse`.
    buffer : bytes
        The file's first bytes.
    start : int
        Offset of the data set's first element.
    explicit : bool
        Whether elements name their value representation.
    """

    __slots__ = ("_at", "_base", "_buffer", "_end", "_explicit", "_last", "_new", "_read", "_runs", "values")

    def __init__(self, read: Read, buffer: bytes, start: int, *, explicit: bool) -> None:
        self.values: dict[int, bytes] = {}  # by their place in `FIELDS`
        self._read, self._explicit = read, explicit
        self._buffer, self._base, self._at, self._end = buffer, 0, start, len(buffer)
        self._last = 0  # tag of the last element, in order
        self._runs = _EXPLICIT_RUNS if explicit else _IMPLICIT_RUNS
        self._new: list[_Step] = []  # elements that belong to no run yet

    def to_pixels(self) -> tuple[int | None, int | None]:
        """Walk up to the pixel data; give offset and length of its value, or None for both where there is none."""
        while True:
            is_new = self._follow_runs()
            if self._at and self._at + 12 > self._end:  # at 0, what is left of the file is in the buffer already
                if not self._read_on():
                    return None, None
                continue
            step = self._next_step()
            if step.tag == _PIXELS:
                self._learn()
                return self._base + step.value, step.length
            if self._is_no_image(step):
                return None, None
            self._take_step(step, is_new=is_new)

    def _follow_runs(self) -> bool:
        """Take all that is known from earlier files; tell whether the element after it begins as none did before."""
        runs, buffer, end, values = self._runs, self._buffer, self._end, self.values
        at, last, new = self._at, self._last, self._new
        while True:
            run = runs.get(buffer[at : at + 8], ...)
            if type(run) is _Run and at + run.size <= end:
                if new:
                    self._learn()
                if run.heads(buffer, at) != run.expected:
                    runs.shorten(run, buffer, at)
                    continue
                if run.lowest <= last:
                    raise Doubt
                last = run.highest
                values.update(zip(run.fields, run.values(buffer, at)))  # noqa: B905 (equally long, and a hot path)
                at += run.size
            elif type(run) is _Single and at + 8 + run.length <= end:
                if new:
                    self._learn()
                if run.order <= last:
                    raise Doubt
                last, value = run.order, at + 8
                at = value + run.length
                if run.field is not None:
                    values[run.field] = buffer[value:at]
            else:
                self._at, self._last = at, last
                return run is ...

    def _read_on(self) -> bool:
        """Move the buffer on through the file; tell whether anything is left."""
        self._learn()
        self._base += self._at
        self._at, self._buffer = 0, self._read(self._base, _MORE_BYTES)
        self._end = len(self._buffer)
        return self._end > 0

    def _learn(self) -> None:
        if self._new:
            self._runs.learn(self._buffer, self._new)

    def _next_step(self) -> _Step:
        """Give the next element; raise Doubt where its tag is there twice, or out of order."""
        step = _step(self._buffer, self._at, self._explicit)
        order = _swapped(step.tag)
        if order <= self._last:
            raise Doubt
        self._last = order
        return step

    def _is_no_image(self, step: _Step) -> bool:
        """Tell whether the rows of an image should have come before an element: then nothing else matters."""
        return step.field is None and step.tag & 0xFFFF > 0x28 and _ROWS not in self.values

    def _take_step(self, step: _Step, *, is_new: bool) -> None:
        """Take the value of an element, and go on to the next one."""
        if step.field is not None:
            self.values[step.field] = self._value_of(step)
        end = step.value + step.length
        if step.length == _UNDEFINED:
            self._learn()
            self._at = _after_sequence(self._buffer, step.value, self._explicit, 0)
            return
        self._at = end
        if is_new and end <= self._end:
            self._new.append(step)
        else:
            self._learn()

    def _value_of(self, step: _Step) -> bytes:
        end = step.value + step.length
        within = end <= self._end
        raw = self._buffer[step.value : end] if within else self._read(self._base + step.value, step.length)
        if len(raw) < step.length:
            raise Doubt
        return raw


def _step(buffer: bytes, at: int, explicit: bool) -> _Step:
    """Give the element at an offset."""
    tag, representation, value, length = _head(buffer, at, explicit)
    field = _PLACES.get(tag)
    if field is not None and (length > _MAX_VALUE or (explicit and representation not in _ALLOWED[field])):
        raise Doubt
    if tag in _DOUBTFUL or (length == _UNDEFINED and explicit and representation != b"SQ" and tag != _PIXELS):
        raise Doubt
    return _Step(tag, at, value, length, field)


def _head(buffer: bytes, at: int, explicit: bool) -> tuple[int, bytes, int, int]:
    """Give the tag of the element at an offset, its representation, the offset of its value, and the value's length."""
    if not explicit:
        tag, length = _implicit(buffer, at)
        return tag, b"", at + 8, length
    tag, representation, length = _explicit(buffer, at)
    if representation in SHORT:
        return tag, representation, at + 8, length
    if representation in LONG:
        return tag, representation, at + 12, _long(buffer, at + 8)[0]
    raise Doubt


def _after_sequence(buffer: bytes, at: int, explicit: bool, depth: int) -> int:
    """Give the offset after a sequence of undefined length that lies within the buffer."""
    if depth > _DEEPEST:
        raise Doubt
    while True:
        tag, length = buffer[at : at + 4], _long(buffer, at + 4)[0]
        at += 8
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise Doubt
        at = _after_item(buffer, at, explicit, depth) if length == _UNDEFINED else at + length


def _after_item(buffer: bytes, at: int, explicit: bool, depth: int) -> int:
    """Give the offset after an item of undefined length."""
    while buffer[at : at + 4] != _ITEM_END:
        _, representation, value, length = _head(buffer, at, explicit)
        if length != _UNDEFINED:
            at = value + length
        elif not explicit or representation == b"SQ":
            at = _after_sequence(buffer, value, explicit, depth + 1)
        else:
            raise Doubt
    return at + 8
