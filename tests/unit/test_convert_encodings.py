"""A compressed series gives the volume of its uncompressed twin, whatever lies in the bits that are not stored."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from ct_files import axial_stack, save_all
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from trabecula.convert.by_hand import convert_folder
from trabecula.image.volume import read_nifti

Words = NDArray[np.uint16]
N = 12


def j2k(words: Words, **options: Any) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(words, codecformat="j2k", bitspersample=16, **options))


# By the last part of the transfer syntax 1.2.840.10008.1.2.4.
LOSSLESS: dict[str, tuple[str, Callable[[Words], Any]]] = {
    "JPEG lossless": ("70", lambda words: imagecodecs.ljpeg_encode(words, bitspersample=16)),
    "JPEG-LS": ("80", imagecodecs.jpegls_encode),
    "JPEG 2000": ("90", lambda words: j2k(words, reversible=True, level=0)),
    "HTJ2K": ("201", lambda words: imagecodecs.htj2k_encode(words, reversible=True)),
    "HTJ2K, maybe lossy": ("203", lambda words: imagecodecs.htj2k_encode(words, reversible=True)),
    "JPEG XL": ("110", lambda words: imagecodecs.jpegxl_encode(words, lossless=True)),
    "JPEG XL, maybe lossy": ("112", lambda words: imagecodecs.jpegxl_encode(words, lossless=True)),
}
LOSSY: dict[str, tuple[str, Callable[[Words], Any]]] = {
    "JPEG of 12 bits": ("70", lambda words: imagecodecs.jpeg8_encode(words, level=70, bitspersample=12)),
    "JPEG-LS within 2": ("80", lambda words: imagecodecs.jpegls_encode(words, level=2)),
    "JPEG 2000 with the wavelet 9-7": ("90", lambda words: j2k(words, reversible=False, level=50)),
    "JPEG 2000 cut off": ("91", lambda words: j2k(words, reversible=True, level=50)),
    "HTJ2K with the wavelet 9-7": ("201", lambda words: imagecodecs.htj2k_encode(words, reversible=False, level=0.01)),
    "JPEG XL": ("110", lambda words: imagecodecs.jpegxl_encode(words, level=50)),
}
# How 12 bits lie in words of 16: the highest of them, and what fills the others.
LAYOUTS = {
    "right": (11, 0),
    "overlay above": (11, 0x8000),
    "left": (15, 0),
    "left, with rest": (15, 5),
    "between": (13, 1),
}


def in_words(dataset: Dataset, high_bit: int, rest: int, *, signed: bool) -> Words:
    """Write the 12-bit values of a slice into words of 16 bits, and say so in its header."""
    hu = np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns).astype(int) - 1024
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, high_bit, int(signed)
    dataset.RescaleIntercept = 0 if signed else -1024
    stored = hu if signed else hu + 1024
    assert stored.min() >= (-2048 if signed else 0) and stored.max() < (2048 if signed else 4096)
    words = (stored & 0xFFF) << (high_bit - 11)
    words[::3] |= rest
    return words.astype(np.uint16)


def series(signed: bool = False, layout: str = "right", noise: float = 0) -> list[tuple[Dataset, Words]]:
    rng = np.random.default_rng(5)

    def hu(points: np.ndarray) -> np.ndarray:
        flat = points @ [4.0, -6.0, 3.0] - 60.0
        return (flat + rng.normal(0, noise, flat.shape)).clip(-1000, 1500)

    slices = axial_stack(N, hu=hu, shape=(64, 48))
    return [(dataset, in_words(dataset, *LAYOUTS[layout], signed=signed)) for dataset in slices]


def packed(slices: list[tuple[Dataset, Words]], encode: Callable[[Words], Any]) -> list[Dataset]:
    for dataset, words in slices:
        dataset.PixelData = encapsulate([bytes(encode(words))])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    return [dataset for dataset, _ in slices]


def plain(slices: list[tuple[Dataset, Words]]) -> list[Dataset]:
    for dataset, words in slices:
        dataset.PixelData = words.astype("<u2").tobytes()
    return [dataset for dataset, _ in slices]


def save_as(datasets: list[Dataset], folder: Path, syntax: str = ExplicitVRLittleEndian) -> None:
    """Write slices under the name of a transfer syntax, also one that pydicom does not know."""
    for path in map(Path, save_all(datasets, folder)):
        name, said = (f"{uid}\0".encode() if len(uid) % 2 else uid.encode() for uid in (ExplicitVRLittleEndian, syntax))
        content = path.read_bytes()
        at = content.index(b"\x02\x00\x10\x00UI") + 6
        old = int.from_bytes(content[at : at + 2], "little")
        assert content[at + 2 : at + 2 + old] == name
        meta = int.from_bytes(content[140:144], "little") + len(said) - old
        content = content[:at] + len(said).to_bytes(2, "little") + said + content[at + 2 + old :]
        path.write_bytes(content[:140] + meta.to_bytes(4, "little") + content[144:])


def volume_of(folder: Path) -> NDArray:
    (entry,) = convert_folder(folder, folder.with_name(f"{folder.name}_out"), form="nii")
    assert entry["status"] == "ok", entry
    return read_nifti(folder.with_name(f"{folder.name}_out") / entry["file"]).array


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("codec", ["none", "RLE", *LOSSLESS])
def test_stored_bits_give_the_same_volume_in_every_encoding(tmp_path, codec, layout, signed):
    save_as(plain(series(signed)), tmp_path / "twin")
    datasets = series(signed, layout)
    if codec == "none":
        save_as(plain(datasets), tmp_path / "in")
    elif codec == "RLE":
        for dataset in plain(datasets):
            dataset["PixelData"].VR = "OW"
            dataset.ensure_file_meta()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.compress(RLELossless, generate_instance_uid=False)
        save_as([dataset for dataset, _ in datasets], tmp_path / "in", RLELossless)
    else:
        number, encode = LOSSLESS[codec]
        save_as(packed(datasets, encode), tmp_path / "in", UID(f"1.2.840.10008.1.2.4.{number}"))
    assert np.array_equal(volume_of(tmp_path / "in"), volume_of(tmp_path / "twin"))


@pytest.mark.parametrize("codec", LOSSY)
def test_lossy_streams_under_names_that_promise_none_are_refused(tmp_path, codec):
    number, encode = LOSSY[codec]
    save_as(packed(series(noise=12), encode), tmp_path / "in", f"1.2.840.10008.1.2.4.{number}")
    (entry,) = convert_folder(tmp_path / "in", tmp_path / "out")
    assert entry["reason"] == "lossy"


@pytest.mark.parametrize("sorts_first", ["lossy", "lossless"])
@pytest.mark.parametrize("kept", ["none", "JPEG lossless", "JPEG 2000"])
@pytest.mark.parametrize("codec", LOSSY)
def test_lossless_files_are_used_beside_lossy_copies(tmp_path, codec, kept, sorts_first):
    folders = {"lossy": "a", "lossless": "b"} if sorts_first == "lossy" else {"lossy": "b", "lossless": "a"}
    number, encode = LOSSY[codec]
    lossless = plain(series(noise=12)) if kept == "none" else packed(series(noise=12), LOSSLESS[kept][1])
    syntax = ExplicitVRLittleEndian if kept == "none" else f"1.2.840.10008.1.2.4.{LOSSLESS[kept][0]}"
    lossy = packed(series(noise=12), encode)
    for number_of_slice, pair in enumerate(zip(lossless, lossy, strict=True)):
        for dataset in pair:
            dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.77.{number_of_slice + 1}"
    save_as(lossless, tmp_path / "in" / folders["lossless"], syntax)
    save_as(lossy, tmp_path / "in" / folders["lossy"], f"1.2.840.10008.1.2.4.{number}")
    save_as(plain(series(noise=12)), tmp_path / "twin")
    entries = convert_folder(tmp_path / "in", tmp_path / "out", form="nii")
    (converted,) = (entry for entry in entries if entry["file"])
    volume = read_nifti(tmp_path / "out" / converted["file"]).array
    assert np.array_equal(volume, volume_of(tmp_path / "twin"))


@pytest.mark.parametrize("way", ["syntax", "Philips", "Philips without pixel data"])
def test_a_makers_own_packing_is_not_said_to_be_cut_off(tmp_path, way):
    datasets = plain(series())
    for dataset in datasets:
        content = gzip.compress(dataset.PixelData, mtime=0)
        content += bytes(len(content) % 2)
        dataset.PixelData = content if way == "syntax" else b""
        if way != "syntax":
            dataset.private_block(0x07A1, "ELSCINT1", create=True).add_new(0x11, "LO", "PMSCT_RLE1")
        if way.endswith("without pixel data"):
            del dataset.PixelData
    save_as(datasets, tmp_path / "in", "1.3.12.2.1107.5.9.1" if way == "syntax" else ExplicitVRLittleEndian)
    (entry,) = convert_folder(tmp_path / "in", tmp_path / "out")
    assert entry["reason"] == "undecodable"
