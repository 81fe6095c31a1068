"""Read a data set as its bytes are encoded, which its transfer syntax need not say.

Gateways decompress or rewrite files and leave the transfer syntax as it was. But the first elements of a data set tell
how it is encoded (DICOM PS3.5 7.1), and the element of the pixel data tells whether the pixels are encapsulated (PS3.5
A.4). Index and convert both read by this module, so that they agree.
"""

import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from struct import Struct, unpack
from typing import BinaryIO, NamedTuple

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from trabecula.dicom.syntaxes import is_compression
from trabecula.errors import StudyFailure

# A deflated file grows to this at most: no slice with its header is larger.
MOST_INFLATED_BYTES = 2**28
PIXEL_TAGS = {0x7FE00008, 0x7FE00009, 0x7FE00010}  # whole numbers, and two kinds of decimals
_UNDEFINED = 0xFFFFFFFF
_LOOKED_AT = 4096  # bytes of a data set in which its first elements lie
_ENOUGH = 4  # elements in a row that leave no doubt
_LONGEST_FIRST = 2**24  # bytes of a value: no element before the pixels is longer
_LONGEST_OFFSETS = 2**20  # bytes before the first fragment: the offsets of 250,000 frames
_LONG = {representation.encode() for representation in EXPLICIT_VR_LENGTH_32}
_ITEM = b"\xfe\xff\x00\xe0"
# Start of frame of JPEG (ITU-T T.81 table B.1) and JPEG-LS (T.87 C.1.1), and the syntax whose decoder takes it.
_JPEG_FRAMES = {0xC0: JPEGBaseline8Bit, 0xC1: JPEGExtended12Bit, 0xC3: JPEGLossless, 0xF7: JPEGLSLossless}
_CODESTREAM, _CAPABILITIES = b"\xff\x4f\xff\x51", b"\xff\x50"  # ISO 15444-1 A.4.1, and 15444-15 A.2 for HTJ2K


class Encoding(NamedTuple):
    """Encoding of a data set's elements.

    Attributes
    ----------
    implicit : bool
        Elements do not name their value representation.
    little : bool
        The lowest byte comes first.
    """

    implicit: bool
    little: bool

    @property
    def syntax(self) -> UID:
        """Give the transfer syntax of uncompressed pixels."""
        if self.implicit:
            return ImplicitVRLittleEndian
        return ExplicitVRLittleEndian if self.little else ExplicitVRBigEndian


_IMPLICIT, _EXPLICIT, _BIG = Encoding(True, True), Encoding(False, True), Encoding(False, False)


class Pixels(NamedTuple):
    """Place of the pixel data within the file that `read_header` was given.

    Attributes
    ----------
    offset : int or None
        Byte at which the value begins; None where the file is deflated.
    length : int
        Bytes of the value; of encapsulated pixels, 0.
    n_left : int
        Bytes from the value's beginning to the end of the data set.
    is_native : bool
        The pixels are not encapsulated.
    """

    offset: int | None
    length: int
    n_left: int
    is_native: bool


class _Opened(NamedTuple):
    """File of a data set that is about to be read: what is said of it, and where and how its elements lie."""

    file: BinaryIO
    meta: FileMetaDataset
    encoding: Encoding
    is_deflated: bool


# --- telling --------------------------------------------------------------------------------------------------


def is_dicom(start: bytes) -> bool:
    r"""Tell by its first 512 bytes whether a file is a DICOM file, with or without the preamble of 128 bytes.

    >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"\x08\0\x05\0CS\0\0\x08\0\x08\0CS\0\0\x08\0\x16\0UI\0\0")
    (True, True)
    >>> is_dicom(bytes(512))
    False
    """
    return b"DICM" in (start[128:132], start[:4]) or _is_bare(start)


def _is_bare(start: bytes) -> bool:
    """Tell whether bytes begin with three elements, the first of group 0000, 0002 or 0008."""
    encoding = encoding_of(start, least=3)
    return encoding is not None and unpack("<H" if encoding.little else ">H", start[:2])[0] in (0, 2, 8)


def encoding_of(start: bytes, *, least: int = 1) -> Encoding | None:
    r"""Tell how a data set is encoded by the elements with which it begins.

    Parameters
    ----------
    start : bytes
        Its first bytes.
    least : int
        Elements that have to follow each other in ascending order.

    Returns
    -------
    Encoding or None
        None where the bytes are no elements in any encoding: the data set is deflated, empty or damaged.

    >>> encoding_of(b"\x08\0\x05\0CS\x02\0  ")
    Encoding(implicit=False, little=True)
    """
    counts = {encoding: _count_elements(start, encoding) for encoding in (_EXPLICIT, _BIG, _IMPLICIT)}
    # Of both orders of bytes, the right one makes the smaller group of the first element.
    best = max(counts, key=lambda encoding: (counts[encoding], not encoding.implicit, -_first_group(start, encoding)))
    return best if counts[best] >= least else None


def _first_group(start: bytes, encoding: Encoding) -> int:
    return int.from_bytes(start[:2], "little" if encoding.little else "big")


def _count_elements(start: bytes, encoding: Encoding) -> int:
    """Count the elements in ascending order with which bytes begin in an encoding, up to `_ENOUGH`."""
    order = "<" if encoding.little else ">"
    head, long = Struct(f"{order}HH2sH").unpack_from, Struct(f"{order}I").unpack_from
    at, last, n_elements = 0, -1, 0
    while n_elements < _ENOUGH and at + 8 <= len(start):
        group, element, representation, length = head(start, at)
        is_named = representation.isalpha() and representation.isupper()
        tag, at = group << 16 | element, at + 8
        if is_named == encoding.implicit or tag <= last:
            break
        if encoding.implicit:
            length = long(start, at - 4)[0]
        elif representation in _LONG:
            if at + 4 > len(start):
                break
            length, at = long(start, at)[0], at + 4
        if length == _UNDEFINED:  # a sequence, whose items leave no doubt, or encapsulated pixels
            is_item = start[at : at + 4] == (_ITEM if encoding.little else _ITEM[1::-1] + _ITEM[:1:-1])
            return _ENOUGH if is_item else n_elements
        if length > _LONGEST_FIRST and tag not in PIXEL_TAGS:
            break
        last, at, n_elements = tag, at + length, n_elements + 1
    return n_elements


def _syntax_of_pixels(opened: _Opened, value: bytes, *, is_native: bool) -> UID | None:
    """Give the transfer syntax that pixels have; None where they are encapsulated and nothing tells how.

    Parameters
    ----------
    opened : _Opened
        Data set.
    value : bytes
        First bytes of the value of its pixel data.
    is_native : bool
        See `Pixels`.
    """
    if is_native:
        return DeflatedExplicitVRLittleEndian if opened.is_deflated else opened.encoding.syntax
    said = _said(opened)
    return UID(said) if is_compression(said) else _syntax_of_stream(_first_fragment(value))


def _said(opened: _Opened) -> str:
    """Give the transfer syntax that the file names; nothing where it names none."""
    return str(opened.meta.get("TransferSyntaxUID") or "")


def _first_fragment(value: bytes) -> bytes:
    """Give the beginning of the first fragment of encapsulated pixels, after the table of offsets (DICOM PS3.5 A.4)."""
    length = int.from_bytes(value[4:8], "little")
    return value[8 + length + 8 :]


def _syntax_of_stream(stream: bytes) -> UID | None:
    """Give a transfer syntax whose decoder takes a compressed stream; None where it is of no known kind."""
    if stream[:2] == b"\xff\xd8":
        return _syntax_of_jpeg(stream)
    if stream[:4] == _CODESTREAM:
        return HTJ2K if _CAPABILITIES in stream[:200] else JPEG2000
    n_segments, first = (int.from_bytes(stream[at : at + 4], "little") for at in (0, 4))
    return RLELossless if 0 < n_segments < 16 and first == 64 else None  # DICOM PS3.5 G.5


def _syntax_of_jpeg(stream: bytes) -> UID | None:
    """Give the transfer syntax of a JPEG or JPEG-LS stream by its start of frame, which segments may precede."""
    at = 2
    while stream[at : at + 1] == b"\xff" and at + 4 <= len(stream):
        marker, length = unpack(">xBH", stream[at : at + 4])
        if marker in _JPEG_FRAMES:
            return _JPEG_FRAMES[marker]
        at += 2 + length
    return None


# --- reading --------------------------------------------------------------------------------------------------


def read_header(file: BinaryIO, tags: Sequence[str]) -> tuple[Dataset, Pixels | None]:
    """Read some attributes of a data set, up to its pixel data.

    Parameters
    ----------
    file : binary file
        Open for reading.
    tags : sequence of str
        Keywords of the attributes.

    Returns
    -------
    dataset : Dataset
        With `file_meta`, whose transfer syntax is that which the pixels have.
    pixels : Pixels or None
        None where there are none.

    Raises
    ------
    InvalidDicomError
        If the file is no DICOM file.
    StudyFailure
        too_large, where it inflates to more than `MOST_INFLATED_BYTES`.
    """
    opened = _opened(file)
    tag_numbers = [number for tag in tags if (number := tag_for_keyword(tag)) is not None]
    dataset = _read_elements(opened, lambda tag, _, __: tag in PIXEL_TAGS, tag_numbers)
    at, length = _pixels_at(opened)
    if at is None:
        return _with_syntax(dataset, opened, None), None
    opened.file.seek(at)
    is_native = _is_native(length, opened.file.read(4))
    opened.file.seek(at)
    value = b"" if is_native or is_compression(_said(opened)) else opened.file.read(_LONGEST_OFFSETS)
    n_left = opened.file.seek(0, 2) - at
    pixels = Pixels(None if opened.is_deflated else at, length if is_native else 0, n_left, is_native)
    return _with_syntax(dataset, opened, (value, is_native)), pixels


def read_dicom(file: BinaryIO) -> Dataset:
    """Read a whole data set; see `read_header` for its `file_meta` and for what is raised."""
    opened = _opened(file)
    dataset = _read_elements(opened)
    if "PixelData" not in dataset:
        return _with_syntax(dataset, opened, None)
    element = dataset["PixelData"]
    is_native = _is_native(_UNDEFINED if element.is_undefined_length else 0, element.value)
    element.is_undefined_length = not is_native
    return _with_syntax(dataset, opened, (element.value, is_native))


def _opened(file: BinaryIO) -> _Opened:
    """Read the file's meta information, and find out how the data set after it is encoded."""
    file.seek(0)
    start = file.read(512)
    if not is_dicom(start):
        raise InvalidDicomError
    file.seek(132 if start[128:132] == b"DICM" else 4 if start[:4] == b"DICM" else 0)
    meta = FileMetaDataset(_read_group(file, 2))
    _read_group(file, 0)  # a command of the network, which some programs keep
    said = str(meta.get("TransferSyntaxUID") or "")
    at = file.tell()
    start = file.read(_LOOKED_AT)
    file.seek(at)
    if said == DeflatedExplicitVRLittleEndian or encoding_of(start, least=2) is None:
        content = _inflated_from(file, at, is_said=said == DeflatedExplicitVRLittleEndian)
        if content is not None:
            return _Opened(BytesIO(content), meta, encoding_of(content[:_LOOKED_AT]) or _EXPLICIT, True)
    by_name = {str(ImplicitVRLittleEndian): _IMPLICIT, str(ExplicitVRBigEndian): _BIG}
    return _Opened(file, meta, encoding_of(start) or by_name.get(said, _EXPLICIT), False)


def _read_group(file: BinaryIO, group: int) -> Dataset:
    """Read the elements of a group with which a file goes on, if it does: little-endian, and group 0000 implicit."""
    at = file.tell()
    start = file.read(2)
    file.seek(at)
    if start != group.to_bytes(2, "little"):
        return Dataset()
    return read_dataset(file, group == 0, True, stop_when=lambda tag, _, __: tag >> 16 != group)


def _inflated_from(file: BinaryIO, at: int, *, is_said: bool) -> bytes | None:
    """Inflate a file from a place on (DICOM PS3.5 A.5); None where it is not deflated.

    Where nothing says that it is, it counts as deflated if it inflates to elements.

    Raises
    ------
    StudyFailure
        too_large, where it inflates to more than `MOST_INFLATED_BYTES`.
    """
    content = file.read()
    file.seek(at)
    try:
        start = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[:_LOOKED_AT], _LOOKED_AT)
    except zlib.error:
        return None
    return inflated(content) if is_said or encoding_of(start, least=2) else None


def inflated(content: bytes) -> bytes:
    """Inflate a deflated data set, or as much as is there of it.

    Its size is found first, bit by bit, so that no more memory is taken than the limit allows.

    Raises
    ------
    StudyFailure
        too_large, where it inflates to more than `MOST_INFLATED_BYTES`.
    zlib.error
        If it is damaged.
    """
    inflate, left, size = zlib.decompressobj(-zlib.MAX_WBITS), content, 0
    while left and not inflate.eof:
        size += len(inflate.decompress(left, 2**24))
        left = inflate.unconsumed_tail
        if size > MOST_INFLATED_BYTES:
            raise StudyFailure("too_large")
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content)


def _read_elements(
    opened: _Opened, stop: Callable[[BaseTag, str | None, int], bool] | None = None, tags: Sequence[int] | None = None
) -> Dataset:
    implicit, little = opened.encoding
    options = {"stop_when": stop, "specific_tags": None if tags is None else list(map(BaseTag, tags))}
    return read_dataset(opened.file, implicit, little, **options)


def _pixels_at(opened: _Opened) -> tuple[int | None, int]:
    """Give offset and length of the value of the pixel data, at whose element the file stands.

    The offset is None for decimals, which no CT has, and where nothing is left. The element may be implicit in an
    explicit data set too.
    """
    at = opened.file.tell()
    head = opened.file.read(12)
    order = "<" if opened.encoding.little else ">"
    if len(head) < 12 or unpack(f"{order}HH", head[:4]) != (0x7FE0, 0x0010):
        return None, 0
    named = not opened.encoding.implicit and head[4:6].isalpha() and head[4:6].isupper()
    start, length = (at + 12, head[8:12]) if named else (at + 8, head[4:8])
    return start, unpack(f"{order}I", length)[0]


def _is_native(length: int, value: bytes) -> bool:
    """Tell whether pixels are not encapsulated: they have a length, and do not begin with an item."""
    return length != _UNDEFINED and not value.startswith(_ITEM)


def _with_syntax(dataset: Dataset, opened: _Opened, pixels: tuple[bytes, bool] | None) -> Dataset:
    """Add the file's meta information to a data set, with the transfer syntax that its pixels have.

    Where nothing tells it, it has none.
    """
    meta = opened.meta
    if pixels is None:
        syntax = UID(_said(opened)) if is_compression(_said(opened)) else opened.encoding.syntax
    else:
        syntax = _syntax_of_pixels(opened, pixels[0], is_native=pixels[1])
    if syntax is not None:
        meta.TransferSyntaxUID = syntax
    elif "TransferSyntaxUID" in meta:
        del meta.TransferSyntaxUID
    dataset.file_meta = meta
    return dataset
