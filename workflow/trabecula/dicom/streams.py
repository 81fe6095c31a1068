"""Tell by its own bytes what a compressed stream is, and whether it lost anything. Bytes in, facts out.

The transfer syntax is only a promise: lossy streams are found under names that promise none, and the other way round.
JPEG is read by ITU-T T.81 annex B, JPEG-LS by T.87 annex C, JPEG 2000 by T.800 annex A and T.814 annex A, JPEG XL by
ISO/IEC 18181-1. A stream's first bytes tell most; a reversible JPEG 2000 stream that was cut off at a rate is told by
`trabecula.convert.passes`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Codec = Literal["JPEG", "JPEG-LS", "JPEG 2000", "HTJ2K", "JPEG XL"]

_WINDOW, _LONG_WINDOW = 1024, 65536  # bytes that hold the markers of most streams, and of nearly all
_ITEM = b"\xfe\xff\x00\xe0"
_JP2_START = b"\0\0\0\x0cjP  \r\n\x87\n"
_JXL_START = b"\0\0\0\x0cJXL \r\n\x87\n"
_DCT = (0xC0, 0xC1, 0xC2, 0xC5, 0xC6, 0xC9, 0xCA, 0xCD, 0xCE)
_DIFFERENCES = (0xC3, 0xC7, 0xCB, 0xCF)
_JPEG_LS = 0xF7
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a segment


@dataclass(frozen=True)
class Stream:
    """A compressed image.

    Attributes
    ----------
    codec : str
        How it was compressed.
    is_lossy : bool or None
        Whether it lost something; None where its header does not tell.
    depth : int
        Bits of its samples.
    signed : bool
        Whether its samples are two's complement.
    """

    codec: Codec
    is_lossy: bool | None
    depth: int
    signed: bool = False


def stream_of(start: bytes) -> Stream | None:
    """Tell what a stream is by its first bytes; None where they are of no codec that is known, or too few.

    >>> stream_of(bytes.fromhex("ffd8 ffc0 000b 08 0010 0010 01 011100"))
    Stream(codec='JPEG', is_lossy=True, depth=8, signed=False)
    """
    try:
        if start.startswith(b"\xff\xd8"):
            return _jpeg(start)
        if start.startswith((b"\xff\x4f\xff\x51", _JP2_START)):
            return _jpeg_2000(codestream_of(start))
        if start.startswith((b"\xff\x0a", _JXL_START)):
            return _jpeg_xl(start)
    except (IndexError, ValueError):  # it ends too early
        pass
    return None


# --- a stream within its file -------------------------------------------------------------------------------


def loss_in_file(read: Callable[[int, int], bytes], offset: int) -> bool | None:
    """Tell whether the first frame of encapsulated pixel data lost something; None where its first bytes do not tell.

    Parameters
    ----------
    read : callable
        Gives the file's bytes from an offset on, at most so many; fewer at its end.
    offset : int
        Where the value of the pixel data's element begins: the item of the basic offset table (DICOM PS3.5 A.4).
    """
    window = read(offset, _WINDOW)
    first = 8 + int.from_bytes(window[4:8], "little")
    if window[:4] != _ITEM:
        return None
    if first + 64 > len(window):
        window, first = read(offset + first, _WINDOW), 0
    stream = stream_of(b"".join(_items(window[first:])))
    if stream is None and len(window) == _WINDOW:
        stream = stream_of(b"".join(_items(read(offset, _LONG_WINDOW))[1:]))
    return stream.is_lossy if stream else None


def _items(value: bytes) -> list[bytes]:
    """Give the contents of items one after another; the last one as far as it is there."""
    contents, at = [], 0
    while value[at : at + 4] == _ITEM:
        length = int.from_bytes(value[at + 4 : at + 8], "little")
        contents.append(value[at + 8 : at + 8 + length])
        at += 8 + length
    return contents


def frame_of(value: bytes, number: int, n_frames: int) -> bytes:
    """Give the stream of a frame of encapsulated pixel data.

    Tables of offsets are often wrong, and needed only where frames have several fragments each. Of one frame, all
    fragments are the stream; where there are as many fragments as frames, each is one; else a frame ends where its
    stream does, or where the basic offset table says.

    Parameters
    ----------
    value : bytes
        Value of the pixel data's element.
    number : int
        Number of the frame, from 0.
    n_frames : int
        Frames in all.

    Raises
    ------
    ValueError
        If the fragments are not those of so many frames.
    """
    table, *fragments = _items(value) or [b""]
    if n_frames == 1:
        return b"".join(fragments)
    if len(fragments) == n_frames:
        return fragments[number]
    for frames in (_frames_by_table(table, fragments), _frames_by_end(fragments)):
        if len(frames) == n_frames:
            return frames[number]
    raise ValueError("fragments of another number of frames")


def _frames_by_table(table: bytes, fragments: list[bytes]) -> list[bytes]:
    """Join fragments to frames by the basic offset table; none where it does not fit the fragments."""
    starts = [int.from_bytes(table[at : at + 4], "little") for at in range(0, len(table), 4)]
    places, at = [], 0
    for fragment in fragments:
        places.append(at)
        at += 8 + len(fragment)
    if starts[:1] != [0] or starts != sorted(set(starts)) or not set(starts) <= set(places):
        return []
    firsts = [places.index(start) for start in starts]
    ends = [*firsts[1:], len(fragments)]
    return [b"".join(fragments[first:end]) for first, end in zip(firsts, ends, strict=True)]


def _frames_by_end(fragments: list[bytes]) -> list[bytes]:
    """Join fragments to frames by the markers with which JPEG and JPEG 2000 streams end."""
    frames, parts = [], []
    for fragment in fragments:
        parts.append(fragment)
        if ends_whole(fragment):
            frames.append(b"".join(parts))
            parts = []
    return [*frames, b"".join(parts)] if parts else frames


def ends_whole(stream: bytes) -> bool:
    """Tell whether a stream ends with the end marker of JPEG and JPEG 2000, apart from padding."""
    return stream[-8:].rstrip(b"\0").endswith(b"\xff\xd9")


# --- JPEG and JPEG-LS ---------------------------------------------------------------------------------------


def _word(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _jpeg(data: bytes) -> Stream | None:
    """Read a JPEG stream up to its scan."""
    process = depth = None
    for marker, body, _ in segments(data, 2):
        if marker in _DCT:
            return Stream("JPEG", True, body[0])
        if marker in _DIFFERENCES or marker == _JPEG_LS:
            process, depth = marker, body[0]
        elif marker == 0xDA and process is not None and depth is not None:
            first, _, last = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            # The lowest bits may have been shifted out before (point transform).
            lost = last & 15 > 0 or (process == _JPEG_LS and first > 0)
            return Stream("JPEG-LS" if process == _JPEG_LS else "JPEG", lost, depth)
    return None


def segments(data: bytes, at: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield the marker segments from an offset on: the marker's second byte, content and end; stop at what is none.

    Raises
    ------
    IndexError, ValueError
        If the data end within a segment.
    """
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker in _ALONE:
            at += 2
            continue
        end = at + 2 + _word(data, at + 2)
        if end > len(data):
            raise ValueError("cut off")
        yield marker, data[at + 4 : end], end
        at = end


# --- JPEG 2000 and HTJ2K ------------------------------------------------------------------------------------


def codestream_of(data: bytes) -> bytes:
    """Give the JPEG 2000 codestream that is, or lies in a JP2 file in, the data.

    Raises
    ------
    ValueError
        If there is none.
    """
    at = 0
    while data[at : at + 2] != b"\xff\x4f":
        length, kind, head = _box(data, at)
        if kind == b"jp2c":
            return data[at + head : at + length if length else None]
        if not length:
            raise ValueError("no codestream")
        at += length
    return data[at:]


def _box(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Give length, kind and length of the head of a box; the length is 0 where it reaches to the end."""
    length, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
    if length == 1:
        length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
    if len(kind) < 4 or 0 < length < head:
        raise ValueError("no box")
    return length, kind, head


def _jpeg_2000(data: bytes) -> Stream | None:
    """Read the main header of a JPEG 2000 codestream; a wavelet for the first component alone goes before the rest."""
    markers: dict[int, bytes] = {}
    try:
        for marker, body, _ in segments(data, 2):
            if marker == 0x90:  # the first tile
                break
            if marker in (0x53, 0x5D) and body[0] != 0:
                continue
            markers.setdefault(marker, body)
    except (IndexError, ValueError):
        if 0x52 not in markers:
            raise
    size, coding = markers.get(0x51), markers.get(0x52)
    if size is None or coding is None:
        return None
    wavelet = markers[0x53][6] if 0x53 in markers else coding[9]
    quantised = markers[0x5D][1] if 0x5D in markers else markers.get(0x5C, b"\0")[0]
    lost = wavelet == 0 or (wavelet == 1 and quantised & 31 > 0)
    depth = size[36]
    codec: Codec = "HTJ2K" if 0x50 in markers and markers[0x50][1] & 2 else "JPEG 2000"
    return Stream(codec, lost or None, (depth & 127) + 1, depth > 127)


# --- JPEG XL ------------------------------------------------------------------------------------------------


class _Bits:
    """Bits of a JPEG XL header, lowest first."""

    def __init__(self, data: bytes) -> None:
        self._bits, self._n = int.from_bytes(data, "little"), 8 * len(data)
        self.at = 0

    def take(self, n: int) -> int:
        if self.at + n > self._n:
            raise ValueError("cut off")
        value = self._bits >> self.at & ((1 << n) - 1)
        self.at += n
        return value

    def choice(self, *forms: tuple[int, int]) -> int:
        """Read two bits that choose a form, and so many bits to be added to its number."""
        base, n = forms[self.take(2)]
        return base + self.take(n)

    def enum(self) -> int:
        return self.choice((0, 0), (1, 0), (2, 4), (18, 6))


def _jpeg_xl(data: bytes) -> Stream | None:
    """Read a JPEG XL stream up to the header of its first frame.

    Without loss are frames of the modular mode that keep the original colours. A recompressed JPEG is of the other
    mode, and had lost something before.
    """
    bits = _Bits(_jpeg_xl_codestream(data)[2:512])
    _skip_size(bits)
    if bits.take(1):  # all defaults: 8 bits, and the colours XYB, which no integer survives
        return Stream("JPEG XL", True, 8)
    extra = bits.take(1)
    if extra and _skip_extra(bits):
        return None
    is_float = bits.take(1)
    depths = (32, 16, 24) if is_float else (8, 10, 12)
    depth = bits.choice(*((number, 0) for number in depths), (1, 6))
    bits.take(4 if is_float else 0)
    bits.take(1)  # whether 16-bit buffers do
    if bits.choice((0, 0), (1, 0), (2, 4), (1, 12)):
        return None  # further channels
    if bits.take(1):  # XYB
        return Stream("JPEG XL", True, depth)
    has_profile = _skip_colours(bits)
    if extra:
        _skip_tone(bits)
    if has_profile or bits.take(2) or not bits.take(1):  # a colour profile, extensions, or weights for larger images
        return Stream("JPEG XL", None, depth)
    bits.at = -(-bits.at // 8) * 8
    frame_is_default = bits.take(1)
    modular = not frame_is_default and bits.take(2) == 0 and bits.take(1) == 1
    return Stream("JPEG XL", not modular or bool(is_float), depth)


def _jpeg_xl_codestream(data: bytes) -> bytes:
    """Give the codestream in a JPEG XL file, whose boxes are those of JP2."""
    if data.startswith(b"\xff\x0a"):
        return data
    at, parts = 0, []
    while at + 8 <= len(data):
        length, kind, head = _box(data, at)
        end = at + length if length else len(data)
        if kind == b"jxlc":
            return data[at + head : end]
        if kind == b"jxlp":
            parts.append(data[at + head + 4 : end])
        at = end
    if not parts:
        raise ValueError("no codestream")
    return b"".join(parts)


def _skip_size(bits: _Bits) -> None:
    small = bits.take(1)
    sizes = (1, 9), (1, 13), (1, 18), (1, 30)
    _ = bits.take(5) if small else bits.choice(*sizes)
    if bits.take(3) == 0:
        _ = bits.take(5) if small else bits.choice(*sizes)


def _skip_extra(bits: _Bits) -> bool:
    """Skip orientation and intrinsic size; tell whether a preview or an animation follows, which no slice has."""
    bits.take(3)
    if bits.take(1):
        _skip_size(bits)
    return bool(bits.take(1) or bits.take(1))


def _skip_colours(bits: _Bits) -> bool:
    """Skip the colour encoding; tell whether a profile takes its place."""
    if bits.take(1):
        return False
    has_profile, space = bits.take(1), bits.enum()
    if has_profile:
        return True
    if space == 2 or bits.enum() == 2 or (space == 0 and bits.enum() == 2):
        raise ValueError("colours of its own")
    bits.take(24) if bits.take(1) else bits.enum()
    bits.enum()
    return False


def _skip_tone(bits: _Bits) -> None:
    if not bits.take(1):
        bits.take(16 + 16 + 1 + 16)
