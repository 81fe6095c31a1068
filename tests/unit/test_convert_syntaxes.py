"""Convert every lossless transfer syntax: it gives the voxels of its uncompressed twin."""

import io
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pydicom
import pytest
from ct_files import UID, compressed, save_as, slice_of
from linear_stacks import (
    EXACT,
    MENDED,
    TWICE,
    WHOLE,
    Box,
    Entry,
    beside_mm,
    change,
    converted,
    each,
    eight,
    error_hu,
    every,
    named,
)
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from trabecula.dicom.quiet import quiet
from trabecula.image.volume import Volume


def jpeg_lossless(values: NDArray[np.integer], predictor: int) -> bytes:
    """Write a 16-bit image as JPEG lossless by any of its seven predictors (ITU-T T.81, annex H).

    GDCM writes the first alone. Every difference has a category of 5 bits: one Huffman table for all images.
    """
    pixels = values.astype(np.int64) & 0xFFFF
    left, above = np.roll(pixels, 1, 1), np.roll(pixels, 1, 0)
    corner = np.roll(above, 1, 1)
    predicted = {
        1: left,
        2: above,
        3: corner,
        4: left + above - corner,
        5: left + ((above - corner) >> 1),
        6: above + ((left - corner) >> 1),
        7: (left + above) >> 1,
    }[predictor]
    predicted[0], predicted[:, 0] = left[0], above[:, 0]
    predicted[0, 0] = 0x8000
    bits = []
    for difference in (((pixels - predicted + 0x8000) & 0xFFFF) - 0x8000).ravel().tolist():
        size = abs(difference).bit_length()
        bits.append(f"{size:05b}")
        if 0 < size < 16:
            bits.append(f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    rows, columns = values.shape
    frame = bytes([0xFF, 0xC3, 0, 11, 16]) + rows.to_bytes(2, "big") + columns.to_bytes(2, "big") + bytes([1, 1, 17, 0])
    table = bytes([0xFF, 0xC4, 0, 19 + 17, 0, *([0] * 4), 17, *([0] * 11), *range(17)])
    start = bytes([0xFF, 0xDA, 0, 8, 1, 1, 0, predictor, 0, 0])
    return b"\xff\xd8" + frame + table + start + scan + b"\xff\xd9"


def textured(n: int = 3, **attributes: Any) -> list[Dataset]:
    """Make slices with noise and negative stored values, so that every bit of a stream counts."""
    slices = every(3, n, **attributes)
    noise = np.random.default_rng(1)
    for number, dataset in enumerate(slices):
        values = np.frombuffer(dataset.PixelData, "<i2") - 1024 + noise.integers(-400, 400, 480)
        dataset.PixelData = values.astype("<i2").tobytes()
        dataset.RescaleIntercept = 0
        dataset.SOPInstanceUID = TWICE[number]
    return slices


def twelve_bit(n: int = 3) -> list[Dataset]:
    """Make the textured slices with 12 bits unsigned."""
    slices = textured(n)
    for dataset in slices:
        values = np.frombuffer(dataset.PixelData, "<i2") + 1024
        dataset.PixelData = values.astype("<u2").tobytes()
        change(dataset, {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "RescaleIntercept": -1024})
    return slices


def by_predictor(predictor: int) -> Callable[[Dataset, str], bytes]:
    """Give an encoder of our own for a predictor."""
    return lambda dataset, _: jpeg_lossless(np.frombuffer(dataset.PixelData, "<u2").reshape(20, 24), predictor)


def unsigned_stream(dataset: Dataset, syntax: str) -> bytes:
    """Encode a stream that says unsigned, while the header says signed: the bits are what counts."""
    relabelled = deepcopy(dataset)
    relabelled.PixelRepresentation = 0
    return compressed(relabelled, syntax)


def signed_stream(dataset: Dataset, syntax: str) -> bytes:
    """Encode a stream that says signed, while the header says unsigned."""
    relabelled = deepcopy(dataset)
    relabelled.PixelRepresentation = 1
    return compressed(relabelled, syntax)


PLAIN = "1.2.840.10008.1.2.4."
SYNTAXES = [
    ("implicit", uid.ImplicitVRLittleEndian, None, 1, textured),
    ("big-endian", uid.ExplicitVRBigEndian, None, 1, textured),
    ("big-endian, 12 bits", uid.ExplicitVRBigEndian, None, 1, twelve_bit),
    ("deflated", uid.DeflatedExplicitVRLittleEndian, None, 1, textured),
    ("RLE", uid.RLELossless, compressed, 1, textured),
    ("RLE, 12 bits", uid.RLELossless, compressed, 1, twelve_bit),
    ("JPEG-LS", uid.JPEGLSLossless, compressed, 1, textured),
    ("JPEG-LS, 12 bits", uid.JPEGLSLossless, compressed, 1, twelve_bit),
    ("JPEG-LS in 2 fragments", uid.JPEGLSLossless, compressed, 2, textured),
    ("JPEG-LS in 7 fragments", uid.JPEGLSLossless, compressed, 7, textured),
    ("JPEG lossless SV1", uid.JPEGLosslessSV1, compressed, 1, textured),
    ("JPEG lossless SV1, 12 bits", uid.JPEGLosslessSV1, compressed, 1, twelve_bit),
    ("JPEG lossless in 3 fragments", uid.JPEGLosslessSV1, compressed, 3, textured),
    ("JPEG lossless process 14", uid.JPEGLossless, compressed, 1, textured),
    *((f"JPEG lossless predictor {k}", uid.JPEGLossless, by_predictor(k), 1, textured) for k in range(1, 8)),
    *((f"JPEG lossless under the retired .{k}", f"{PLAIN}{k}", by_predictor(1), 1, textured) for k in (58, 65, 66)),
    *((f"JPEG lossless predictor 6 under .{k}", f"{PLAIN}{k}", by_predictor(6), 1, textured) for k in (58, 65, 66)),
    *((f"JPEG lossless, 12 bits, under .{k}", f"{PLAIN}{k}", compressed, 1, twelve_bit) for k in (58, 65, 66)),
    ("JPEG 2000 lossless", uid.JPEG2000Lossless, compressed, 1, textured),
    ("JPEG 2000 lossless, 12 bits", uid.JPEG2000Lossless, compressed, 1, twelve_bit),
    ("JPEG 2000 reversible", uid.JPEG2000, compressed, 1, textured),
    ("JPEG 2000, stream unsigned, header signed", uid.JPEG2000Lossless, unsigned_stream, 1, textured),
    ("JPEG 2000, stream signed, header unsigned", uid.JPEG2000Lossless, signed_stream, 1, twelve_bit),
    ("JPEG-LS, header's sign differs", uid.JPEGLSLossless, unsigned_stream, 1, textured),
]


@pytest.fixture(scope="module")
def twins(tmp_path_factory) -> dict[Callable, tuple[Entry, Volume]]:
    """Convert uncompressed files, by the function that makes the slices."""
    twins = {}
    for make in (textured, twelve_bit):
        folder = tmp_path_factory.mktemp("plain")
        for number, dataset in enumerate(make()):
            save_as(dataset, folder / "in" / f"{number}", uid.ExplicitVRLittleEndian)
        (entry,), (ct,) = converted(folder / "in", folder / "out")
        assert entry["repairs"] == [] and np.ptp(ct.array) > 700  # the noise is there
        twins[make] = entry, ct
    return twins


@pytest.mark.parametrize(
    ("syntax", "encoder", "fragments", "make"), [row[1:] for row in SYNTAXES], ids=[row[0] for row in SYNTAXES]
)
def test_every_lossless_syntax_gives_the_voxels_of_its_uncompressed_twin(
    tmp_path, twins, syntax, encoder, fragments, make
):
    # GDCM knows only the UID that the retired ones share their streams with.
    writable = uid.JPEGLossless if syntax[len(PLAIN) :] in ("58", "65", "66") else syntax
    for number, dataset in enumerate(make()):
        frames = None if encoder is None else [encoder(dataset, writable)]
        save_as(dataset, tmp_path / "in" / f"{number}", syntax, frames, fragments)
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    plain, expected = twins[make]
    assert entry["repairs"] == [] and entry["flags"] == plain["flags"]
    np.testing.assert_array_equal(ct.array, expected.array)
    np.testing.assert_array_equal(ct.affine, expected.affine)


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
def test_what_stands_in_a_sequence_is_not_the_slices_own(tmp_path, syntax, undefined):
    """Pictures that a slice refers to, and its icon, have positions, sizes and pixels too."""
    for number, dataset in enumerate(named(every(2, 3), *range(3))):
        decoy = slice_of((100, 100, -500 * number), pixel_mm=(9, 9), shape=(4, 4))
        decoy.RescaleSlope, decoy.SeriesInstanceUID, decoy.Modality = 7, f"{UID}.66", "MR"
        inner = deepcopy(decoy)
        inner.is_undefined_length_sequence_item = decoy.is_undefined_length_sequence_item = undefined
        for part in (inner, decoy):
            part["PixelData"].VR = "OW"
        decoy.ReferencedImageSequence = Items([inner])
        for keyword in ("ReferencedImageSequence", "SourceImageSequence", "IconImageSequence"):
            setattr(dataset, keyword, Items([deepcopy(decoy), deepcopy(inner)]))
            dataset[keyword].is_undefined_length = undefined
        block = dataset.private_block(0x0019, "MAKER", create=True)
        block.add_new(1, "UN", bytes(range(256)) * 300)
        block.add_new(2, "SQ", Items([deepcopy(inner)]))
        save_as(dataset, tmp_path / "in" / f"{number}", syntax)
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["repairs"] == entry["flags"] == []
    assert error_hu(ct) <= EXACT and beside_mm(ct, Box(0, 4, 3)) <= 0.01


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "explicit"])
def test_files_without_a_preamble_are_read(tmp_path, implicit):
    (tmp_path / "in").mkdir()
    for number, dataset in enumerate(named(eight(), *range(8))):
        path = tmp_path / "in" / f"{number}"
        pydicom.dcmwrite(path, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[128:132] != b"DICM"
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["repairs"] == []
    assert error_hu(ct) <= EXACT and beside_mm(ct, WHOLE) <= 0.01


def irreversible(dataset: Dataset) -> bytes:
    """Encode JPEG 2000 by the irreversible wavelet."""
    values = np.frombuffer(dataset.PixelData, "<u2").reshape(20, 24)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "JPEG2000", irreversible=True, no_jp2=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("syntax", "encoder"),
    [
        pytest.param(uid.JPEGExtended12Bit, lambda d: compressed(d, uid.JPEGExtended12Bit), id="JPEG extended"),
        pytest.param(uid.JPEG2000, irreversible, id="JPEG 2000 irreversible"),
    ],
)
def test_a_lossy_stream_is_refused_without_a_word_in_the_header(tmp_path, syntax, encoder):
    for number, dataset in enumerate(twelve_bit()):
        save_as(dataset, tmp_path / "in" / f"{number}", syntax, [encoder(dataset)])
    (entry,), _ = converted(tmp_path / "in", tmp_path / "out")
    assert entry["reason"] == "lossy"


@pytest.mark.slow
@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.JPEG2000Lossless])
def test_a_cut_stream_is_a_missing_slice(tmp_path, syntax):
    """As in the table, but compressed: a third of the stream is there."""
    for number, dataset in enumerate(each(every(3, 8), "SOPInstanceUID", TWICE)):
        frame = compressed(dataset, syntax)
        save_as(dataset, tmp_path / "in" / f"{number}", syntax, [frame[: len(frame) // 3] if number == 4 else frame])
    entries, (ct,) = converted(tmp_path / "in", tmp_path / "out")
    (entry,) = [entry for entry in entries if entry["status"] == "ok"]
    assert sorted(entry["repairs"]) == ["damaged_slices", "missing_slices"] and entry["n_slices"] == 7
    assert error_hu(ct) <= MENDED and beside_mm(ct, WHOLE) <= 0.01


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57", uid.JPEGLossless),
        ("JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57", f"{PLAIN}58"),
        ("JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70", f"{PLAIN}66"),
        ("BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2", uid.ExplicitVRBigEndian),
    ],
)
def test_streams_of_other_makers_give_the_voxels_of_their_uncompressed_twin(tmp_path, name, label, real_data):
    folder = real_data / "cornerstone_ct_transfer_syntaxes"
    for where, file, syntax in (
        ("plain", "CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm", uid.ExplicitVRLittleEndian),
        ("in", f"CTImage.dcm_{name}.dcm", label),
    ):
        with quiet():
            dataset = pydicom.dcmread(folder / file)
            for number in range(2):
                dataset.ImagePositionPatient = [0, 0, 5 * number]
                dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid.UID(TWICE[number])
                dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
                path = tmp_path / where / f"{number}"
                path.parent.mkdir(exist_ok=True)
                little = syntax != uid.ExplicitVRBigEndian
                pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=little, enforce_file_format=False)
    _, (expected,) = converted(tmp_path / "plain", tmp_path / "plain out")
    _, (ct,) = converted(tmp_path / "in", tmp_path / "out")
    np.testing.assert_array_equal(ct.array, expected.array)
