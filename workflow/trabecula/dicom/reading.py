"""Read a data set by pydicom as its bytes are encoded, which its transfer syntax need not say (see `encoding`).

The element of the pixel data tells whether the pixels are encapsulated (DICOM PS3.5 A.4). Index and convert both read
by this module, so that they agree.
"""

import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from struct import unpack
from typing import BinaryIO, NamedTuple, cast

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from trabecula.dicom.encoding import (
    ENCODINGS,
    ITEM,
    PIXEL_TAGS,
    UNDEFINED,
    Encoding,
    encoding_of,
    first_fragment,
    is_dicom,
    syntax_of_stream,
)
from trabecula.dicom.syntaxes import DEFLATED, GE_BIG_ENDIAN, is_compression, is_of_maker
from trabecula.errors import StudyFailure

# A deflated file grows to this at most: no slice with its header is larger.
MOST_INFLATED_BYTES = 2**28
_LOOKED_AT = 4096  # bytes of a data set in which its first elements lie
# Names the packing of the pixels that Philips keeps in a private element (gdcmdata of GDCM 3.0, PMSCT_RLE1).
_PHILIPS_PACKING = BaseTag(0x07A11011)
_LONGEST_OFFSETS = 2**20  # bytes before the first fragment: the offsets of 250,000 frames


class Pixels(NamedTuple):
    """Place of the pixel data within a file.

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


class ReadHeader(NamedTuple):
    """A data set that was read up to its pixel data.

    Attributes
    ----------
    dataset : Dataset
        With `file_meta`, whose transfer syntax is that which the pixels have; it has none where nothing tells it.
    pixels : Pixels or None
        None where there are none.
    is_cut : bool
        The file ends within an element before the pixel data.
    is_makers_own : bool
        The pixels may be packed in a maker's own manner, by the name of the transfer syntax or the element that Philips
        packs them in.
    """

    dataset: Dataset
    pixels: Pixels | None
    is_cut: bool
    is_makers_own: bool


class _Opened(NamedTuple):
    """File of a data set that is about to be read: what is said of it, and where and how its elements lie."""

    file: BinaryIO
    n_bytes: int
    meta: FileMetaDataset
    encoding: Encoding
    is_deflated: bool


def read_header(file: BinaryIO, tags: Sequence[str], *, n_bytes: int) -> ReadHeader:
    """Read some attributes of a data set, up to its pixel data.

    Parameters
    ----------
    file : binary file
        Open for reading.
    tags : sequence of str
        Keywords of the attributes.
    n_bytes : int
        Size of the file.

    Raises
    ------
    InvalidDicomError
        If the file is no DICOM file.
    StudyFailure
        too_large, where it inflates to more than `MOST_INFLATED_BYTES`; truncated, where it ends and pydicom fails.
    """
    opened = _opened(file, n_bytes)
    end = _End(opened)
    try:
        dataset = _read_elements(opened, end.is_reached, tags)
    except Exception:  # pydicom raises anything at the end of a file, as it does in a damaged one
        if opened.file.tell() >= opened.n_bytes:
            raise StudyFailure("truncated") from None
        raise
    is_makers_own = is_of_maker(_said(opened)) or _PHILIPS_PACKING in dataset
    at, length = _pixels_at(opened)
    if at is None:
        return ReadHeader(_with_syntax(dataset, opened, None), None, end.is_cut, is_makers_own)
    opened.file.seek(at)
    is_native = _is_native(length, opened.file.read(4))
    opened.file.seek(at)
    value = b"" if is_native or is_compression(_said(opened)) else opened.file.read(_LONGEST_OFFSETS)
    offset = None if opened.is_deflated else at
    pixels = Pixels(offset, length if is_native else 0, opened.n_bytes - at, is_native)
    return ReadHeader(_with_syntax(dataset, opened, (value, is_native)), pixels, False, is_makers_own)


class _End:
    """End of the last element that pydicom has begun to read, where its length says so."""

    def __init__(self, opened: _Opened) -> None:
        self._file, self._n_bytes = opened.file, opened.n_bytes
        self._end: int | None = None

    def is_reached(self, tag: BaseTag, _: str | None, length: int) -> bool:
        """Tell whether an element, before whose value the file stands, is that of the pixel data."""
        self._end = None if length == UNDEFINED else self._file.tell() + length
        return tag in PIXEL_TAGS

    @property
    def is_cut(self) -> bool:
        """Tell whether the file ends within that element, or within the head of the next one."""
        return self._end is not None and self._end != self._n_bytes


def read_attributes(file: BinaryIO, tags: Sequence[str]) -> Dataset:
    """Read some attributes of a data set by their keywords; raises InvalidDicomError where it is none."""
    return _read_elements(_opened(file, 0), lambda tag, _, __: tag in PIXEL_TAGS, tags)


def read_dicom(file: BinaryIO) -> Dataset:
    """Read a whole data set; see `ReadHeader` for its `file_meta`, and `read_header` for what is raised."""
    opened = _opened(file, 0)
    dataset = _read_elements(opened)
    if "PixelData" not in dataset:
        return _with_syntax(dataset, opened, None)
    element = dataset["PixelData"]
    is_native = _is_native(UNDEFINED if element.is_undefined_length else 0, element.value)
    element.is_undefined_length = not is_native
    return _with_syntax(dataset, opened, (element.value, is_native))


def _opened(file: BinaryIO, n_bytes: int) -> _Opened:
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
    if said == DEFLATED or encoding_of(start, least=2) is None:
        content = _inflated_from(file, at, is_said=said == DEFLATED)
        if content is not None:
            return _Opened(
                BytesIO(content), len(content), meta, encoding_of(content[:_LOOKED_AT]) or ENCODINGS[0], True
            )
    by_name = {encoding.syntax: encoding for encoding in ENCODINGS}
    return _Opened(file, n_bytes, meta, encoding_of(start) or by_name.get(said, ENCODINGS[0]), False)


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
    opened: _Opened, stop: Callable[[BaseTag, str | None, int], bool] | None = None, tags: Sequence[str] | None = None
) -> Dataset:
    implicit, little = opened.encoding
    numbers = None if tags is None else [BaseTag(number) for tag in tags if (number := tag_for_keyword(tag))]
    if numbers is not None:
        numbers.append(_PHILIPS_PACKING)
    return read_dataset(opened.file, implicit, little, stop_when=stop, specific_tags=cast(list[BaseTag | int], numbers))


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
    return length != UNDEFINED and not value.startswith(ITEM)


def _with_syntax(dataset: Dataset, opened: _Opened, pixels: tuple[bytes, bool] | None) -> Dataset:
    """Add the file's meta information to a data set, with the transfer syntax that its pixels have.

    Where nothing tells it, it has none.
    """
    meta = opened.meta
    if pixels is None:
        syntax = _said(opened) if is_compression(_said(opened)) else opened.encoding.syntax
    else:
        syntax = _syntax_of_pixels(opened, pixels[0], is_native=pixels[1])
    if syntax is not None:
        meta.TransferSyntaxUID = UID(syntax)
    elif "TransferSyntaxUID" in meta:
        del meta.TransferSyntaxUID
    dataset.file_meta = meta
    return dataset


def _syntax_of_pixels(opened: _Opened, value: bytes, *, is_native: bool) -> str | None:
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
    said = _said(opened)
    if is_native and said == GE_BIG_ENDIAN and opened.encoding.implicit:
        return said
    if is_native:
        return DEFLATED if opened.is_deflated else opened.encoding.syntax
    return said if is_compression(said) else syntax_of_stream(first_fragment(value))


def _said(opened: _Opened) -> str:
    """Give the transfer syntax that the file names; nothing where it names none."""
    return str(opened.meta.get("TransferSyntaxUID") or "")
