"""Compressed streams say what they are and what they lost, whatever encoder wrote them."""

import io
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from ct_files import compressed, slice_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate
from test_convert_syntaxes import jpeg_lossless

from trabecula.convert.passes import is_cut
from trabecula.dicom.streams import ends_whole, frame_of, loss_in_file, stream_of


def noise(shape: tuple[int, int] = (70, 90), bits: int = 12, sigma: float = 12.0) -> NDArray[np.uint16]:
    """Make a body on air, with noise."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    values = 900 + 3.0 * rows + columns + np.random.default_rng(1).normal(0, sigma, shape)
    values[(rows - shape[0] / 2) ** 2 + (columns - shape[1] / 2) ** 2 > (0.45 * min(shape)) ** 2] = 24
    return np.rint(values).clip(0, 2**bits - 1).astype(np.uint16)


def by_pillow(values: NDArray[np.uint16], **options: Any) -> bytes:
    """Encode JPEG 2000 by Pillow, which knows tiles, layers, precincts and orders."""
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "JPEG2000", **{"no_jp2": True, **options})
    return stream.getvalue()


def by_gdcm(values: NDArray[np.uint16], syntax: str) -> bytes:
    dataset = slice_of((0, 0, 0), shape=values.shape)
    dataset.PixelData, dataset.PixelRepresentation = values.tobytes(), 0
    return compressed(dataset, syntax)


def shifted_lossless(values: NDArray[np.uint16]) -> bytes:
    """Encode JPEG lossless that says that a bit was shifted out before (point transform 1)."""
    stream = jpeg_lossless(values, 1)
    at = stream.index(b"\xff\xda\0\x08\x01\x01\0") + 9
    return stream[:at] + b"\x01" + stream[at + 1 :]


def with_comment(stream: bytes, n: int) -> bytes:
    """Put comments of n bytes between the first marker and the next, of JPEG or (after SIZ) of JPEG 2000."""
    marker, at = (b"\xff\xfe", 2) if stream[1] == 0xD8 else (b"\xff\x64", 4 + int.from_bytes(stream[4:6], "big"))
    return stream[:at] + marker + (n + 2).to_bytes(2, "big") + bytes(n) + stream[at:]


STREAMS: dict[str, tuple[Callable[[NDArray[np.uint16]], Any], str, bool | None]] = {
    "JPEG lossless": (lambda a: jpeg_lossless(a, 6), "JPEG", False),
    "JPEG lossless by GDCM": (lambda a: by_gdcm(a, uid.JPEGLosslessSV1), "JPEG", False),
    "JPEG lossless by liblj92": (lambda a: imagecodecs.ljpeg_encode(a, bitspersample=12), "JPEG", False),
    "JPEG lossless of shifted values": (shifted_lossless, "JPEG", True),
    "JPEG of 8 bits": (lambda a: imagecodecs.jpeg8_encode((a >> 4).astype(np.uint8)), "JPEG", True),
    "JPEG of 12 bits": (lambda a: imagecodecs.jpeg8_encode(a, level=60, bitspersample=12), "JPEG", True),
    "JPEG-LS": (lambda a: bytes(imagecodecs.jpegls_encode(a)), "JPEG-LS", False),
    "JPEG-LS by GDCM": (lambda a: by_gdcm(a, uid.JPEGLSLossless), "JPEG-LS", False),
    "JPEG-LS nearly lossless": (lambda a: imagecodecs.jpegls_encode(a, level=1), "JPEG-LS", True),
    "JPEG 2000 reversible": (by_pillow, "JPEG 2000", None),
    "JPEG 2000 reversible by GDCM": (lambda a: by_gdcm(a, uid.JPEG2000Lossless), "JPEG 2000", None),
    "JPEG 2000 reversible in a JP2 file": (lambda a: by_pillow(a, no_jp2=False), "JPEG 2000", None),
    "JPEG 2000 irreversible": (lambda a: by_pillow(a, irreversible=True), "JPEG 2000", True),
    "HTJ2K reversible": (lambda a: imagecodecs.htj2k_encode(a, reversible=True), "HTJ2K", None),
    "HTJ2K irreversible": (lambda a: imagecodecs.htj2k_encode(a, reversible=False), "HTJ2K", True),
    "JPEG XL lossless": (lambda a: imagecodecs.jpegxl_encode(a, lossless=True), "JPEG XL", False),
    "JPEG XL lossless, bare": (
        lambda a: imagecodecs.jpegxl_encode(a, lossless=True, usecontainer=False),
        "JPEG XL",
        False,
    ),
    "JPEG XL lossless, quickly": (lambda a: imagecodecs.jpegxl_encode(a, lossless=True, effort=1), "JPEG XL", False),
    "JPEG XL lossy": (lambda a: imagecodecs.jpegxl_encode(a, lossless=False, distance=0.5), "JPEG XL", True),
    "JPEG XL of a JPEG": (
        lambda a: imagecodecs.jpegxl_encode_jpeg(imagecodecs.jpeg8_encode((a >> 4).astype(np.uint8))),
        "JPEG XL",
        True,
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_says_what_it_is_and_what_it_lost(name):
    encode, codec, is_lossy = STREAMS[name]
    stream = stream_of(encode(noise()))
    assert stream is not None and (stream.codec, stream.is_lossy) == (codec, is_lossy)


@pytest.mark.parametrize("table", [b"", bytes(4), bytes(40), bytes(4000)], ids=["no table", "table", "long", "longer"])
@pytest.mark.parametrize("name", STREAMS)
def test_the_first_bytes_of_a_file_say_what_its_pixels_lost(name, table):
    encode, _, is_lossy = STREAMS[name]
    value = encapsulate([encode(noise())], has_bot=False)
    file = b"header" * 50 + value[:4] + len(table).to_bytes(4, "little") + table + value[8:]
    reads = []

    def read(offset: int, length: int) -> bytes:
        reads.append(length)
        return file[offset : offset + length]

    assert loss_in_file(read, 300) is is_lossy
    assert sum(reads) <= 2048


@pytest.mark.parametrize("n", [100, 3000, 30_000])
@pytest.mark.parametrize(
    "name", ["JPEG lossless", "JPEG of 12 bits", "JPEG-LS nearly lossless", "JPEG 2000 irreversible"]
)
def test_comments_before_the_telling_marker_are_passed_over(name, n):
    encode, _, is_lossy = STREAMS[name]
    file = encapsulate([with_comment(encode(noise()), n)])
    assert loss_in_file(lambda at, length: file[at : at + length], 0) is is_lossy


@pytest.mark.parametrize("fragments", [2, 9])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_in_short_fragments_says_it_too(name, fragments):
    encode, _, is_lossy = STREAMS[name]
    file = encapsulate([encode(noise((16, 20)))], fragments_per_frame=fragments)
    assert loss_in_file(lambda at, length: file[at : at + length], 0) is is_lossy


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(STREAMS)), st.data())
def test_damaged_streams_are_told_or_not_but_raise_nothing(name, data):
    stream = bytearray(ENCODED.setdefault(name, STREAMS[name][0](noise((16, 20)))))
    for _ in range(data.draw(st.integers(0, 4))):
        stream[data.draw(st.integers(0, min(200, len(stream)) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(stream[: data.draw(st.integers(0, len(stream)))])
    stream_of(damaged)
    is_cut(damaged)
    loss_in_file(lambda at, length: damaged[at : at + length], 0)


ENCODED: dict[str, bytes] = {}


# --- frames -------------------------------------------------------------------------------------------------


def items(table: bytes, *fragments: bytes) -> bytes:
    return b"".join(b"\xfe\xff\x00\xe0" + len(part).to_bytes(4, "little") + part for part in (table, *fragments))


@pytest.mark.parametrize(
    "table",
    [b"", bytes(4), (77).to_bytes(4, "little"), b"\xff" * 8, bytes(12)],
    ids=["none", "0", "77", "far", "three"],
)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_one_frame_is_all_of_its_fragments_whatever_the_table_says(table, n):
    fragments = [bytes([k]) * 10 for k in range(n)]
    assert frame_of(items(table, *fragments), 0, 1) == b"".join(fragments)


def test_frames_are_fragments_else_by_the_table_else_by_their_ends():
    end = b"\xff\xd9"
    frames = [b"aaaa" + end, b"bbbbbb" + end, b"cc" + end]
    wrong, right = bytes(12), b"".join(at.to_bytes(4, "little") for at in (0, 14, 34))
    assert [frame_of(items(wrong, *frames), k, 3) for k in range(3)] == frames
    parts = [b"aaaa" + end, b"bb", b"bb", b"cc"]
    assert [frame_of(items(right, *parts), k, 3) for k in range(3)] == [parts[0], b"bbbb", b"cc"]
    pieces = [b"aaaa" + end, b"bbb", b"bbb" + end, b"cc" + end + b"\0"]
    assert [frame_of(items(wrong, *pieces), k, 3) for k in range(3)] == [*frames[:2], frames[2] + b"\0"]
    with pytest.raises(ValueError, match="another number"):
        frame_of(items(b"", b"a", b"b"), 0, 3)
    assert ends_whole(frames[0] + b"\0") and not ends_whole(b"aaaa")


# --- passes of JPEG 2000 ------------------------------------------------------------------------------------

# Layouts that an encoder may choose. With some tiles Pillow writes other pixels than it was given; passes count.
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layers": {"quality_layers": [40, 10, 1]},
    "tiles": {"tile_size": (64, 32)},
    "odd tiles": {"tile_size": (33, 47), "offset": (3, 5), "tile_offset": (1, 2)},
    "small blocks": {"codeblock_size": (4, 8)},
    "no wavelet": {"num_resolutions": 1},
    "precincts by resolution": {"progression": "RPCL", "precinct_size": (32, 32), "codeblock_size": (16, 16)},
    "precincts by position": {"progression": "PCRL", "precinct_size": (64, 64), "codeblock_size": (8, 32)},
    "precincts by component": {"progression": "CPRL", "precinct_size": (64, 64), "quality_layers": [20, 1]},
    "resolution before layer": {"progression": "RLCP", "quality_layers": [20, 1], "num_resolutions": 3},
}


@pytest.mark.parametrize("sigma", [0, 2, 40])
@pytest.mark.parametrize("name", LAYOUTS)
def test_reversible_streams_in_any_layout_are_whole(name, sigma):
    assert is_cut(by_pillow(noise((110, 140), sigma=sigma), **LAYOUTS[name])) is False


@pytest.mark.parametrize("rate", [0.99, 0.9, 0.5, 0.1])
@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"layers", "precincts by component", "resolution before layer"}))
def test_a_reversible_stream_that_was_cut_at_a_rate_is_told(name, rate):
    values, layout = noise((256, 256)), LAYOUTS[name]
    whole = by_pillow(values, **layout)
    cut = by_pillow(values, **layout, quality_mode="rates", quality_layers=[2 * values.size / (rate * len(whole))])
    assert len(cut) < len(whole)
    assert is_cut(cut) is True


def test_a_stream_that_lacks_its_last_packets_is_told():
    """As if only the coarser resolutions or the first layers had been sent."""
    for layout in ({}, {"quality_layers": [30, 1]}):
        whole = by_pillow(noise((128, 128)), **layout)
        at = whole.index(b"\xff\x90")
        short = whole[: len(whole) // 2] + b"\xff\xd9"
        short = short[: at + 6] + (len(short) - 2 - at).to_bytes(4, "big") + short[at + 10 :]
        assert is_cut(short) is True


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_high_throughput_streams_are_whole(bits):
    assert is_cut(bytes(imagecodecs.htj2k_encode(noise(bits=bits), reversible=True))) is False


def test_streams_of_other_makers_are_told(real_data):
    folder = real_data / "cornerstone_ct_transfer_syntaxes"
    names = {"CT1_J2KR": False, "CT2_J2KR": False}
    names["CTImage.dcm_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm"] = False
    names["CTImage.dcm_JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91.dcm"] = True
    for name, expected in names.items():
        content = (folder / name).read_bytes()
        at = content.index(b"\xff\x4f\xff\x51")
        assert is_cut(content[at:]) is expected
