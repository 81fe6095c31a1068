"""Tell by its bytes how a data set is encoded, and how its pixels are compressed. Bytes in, names out.

Gateways decompress or rewrite files and leave the transfer syntax as it was. But the first elements of a data set tell
how it is encoded (DICOM PS3.5 7.1), and the stream of compressed pixels tells what it is.
"""

import re
from struct import Struct, unpack
from typing import NamedTuple

from trabecula.dicom.streams import stream_of
from trabecula.dicom.syntaxes import BIG_ENDIAN, EXPLICIT, IMPLICIT, RLE

PIXEL_TAGS = {0x7FE00008, 0x7FE00009, 0x7FE00010}  # whole numbers, and two kinds of decimals
UNDEFINED = 0xFFFFFFFF
ITEM = b"\xfe\xff\x00\xe0"
# Representations whose length takes two bytes, and those where it takes four after two empty ones.
SHORT = set(re.findall(b"..", b"AEASATCSDADSDTFLFDISLOLTPNSHSLSSSTTMUIULUS"))
LONG = set(re.findall(b"..", b"OBODOFOLOVOWSQSVUCUNURUTUV"))
_ENOUGH = 4  # elements in a row that leave no doubt
_LONGEST_FIRST = 2**24  # bytes of a value: no element before the pixels is longer
_JPEG = "1.2.840.10008.1.2.4."
# Transfer syntaxes of streams by their codec; those that allow both promise nothing.
_SYNTAXES = {
    "JPEG": f"{_JPEG}57",
    "JPEG-LS": f"{_JPEG}80",
    "JPEG 2000": f"{_JPEG}91",
    "HTJ2K": f"{_JPEG}203",
    "JPEG XL": f"{_JPEG}112",
}
_LOSSY_SYNTAXES = {"JPEG": f"{_JPEG}51", "JPEG-LS": f"{_JPEG}81"}


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
    def syntax(self) -> str:
        """Give the transfer syntax of uncompressed pixels."""
        if self.implicit:
            return IMPLICIT
        return EXPLICIT if self.little else BIG_ENDIAN


ENCODINGS = (Encoding(False, True), Encoding(False, False), Encoding(True, True))


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
    counts = {encoding: _count_elements(start, encoding) for encoding in ENCODINGS}
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
        elif representation in LONG:
            if at + 4 > len(start):
                break
            length, at = long(start, at)[0], at + 4
        if length == UNDEFINED:  # a sequence, whose items leave no doubt, or encapsulated pixels
            is_item = start[at : at + 4] == (ITEM if encoding.little else ITEM[1::-1] + ITEM[:1:-1])
            return _ENOUGH if is_item else n_elements
        if length > _LONGEST_FIRST and tag not in PIXEL_TAGS:
            break
        last, at, n_elements = tag, at + length, n_elements + 1
    return n_elements


def first_fragment(value: bytes) -> bytes:
    """Give the beginning of the first fragment of encapsulated pixels, after the table of offsets (DICOM PS3.5 A.4)."""
    length = int.from_bytes(value[4:8], "little")
    return value[8 + length + 8 :]


def syntax_of_stream(start: bytes) -> str | None:
    """Give a transfer syntax of a compressed stream by its first bytes; None where it is of no known kind."""
    stream = stream_of(start)
    if stream is not None:
        return (_LOSSY_SYNTAXES if stream.is_lossy else _SYNTAXES).get(stream.codec, _SYNTAXES[stream.codec])
    n_segments, first = (int.from_bytes(start[at : at + 4], "little") for at in (0, 4))
    return RLE if 0 < n_segments < 16 and first == 64 else None  # DICOM PS3.5 G.5
