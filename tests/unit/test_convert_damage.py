"""Damaged files: `convert` neither raises nor hangs, and no volume hides the damage.

    PYTHONPATH=workflow:tests/fuzz:tests/helpers python tests/unit/test_convert_damage.py 10000

runs as many cases as asked and says how they ended.
"""

import argparse
import random
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ct_files import UID, compressed, linear_hu, save_as, slice_of
from guard import TooSlowError, limited_time
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from trabecula.convert.by_hand import convert_folder
from trabecula.image.volume import Volume, read_nifti

SLICES, ROWS, COLUMNS = 8, 20, 24
SECONDS = 90.0
PER_KIND = 6  # cases of each kind and variant in the test run
VARIANTS = {
    "explicit": (ExplicitVRLittleEndian, False),
    "implicit": (ImplicitVRLittleEndian, False),
    "RLE": (RLELossless, True),
    "JPEG-LS": (JPEGLSLossless, True),
}
LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT")  # of these the header has 12 bytes where it names the type


# --- the undamaged series ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Element:
    """The place of an element in a file: the first byte of its tag, of its value, and the byte after it."""

    start: int
    value: int
    end: int


@dataclass(frozen=True)
class File:
    """A whole file: its bytes, its elements in order, and where its pixels begin."""

    raw: bytes
    elements: tuple[Element, ...]
    pixels: int


@dataclass(frozen=True)
class Series:
    """A clean series and what `convert` makes of it; `places` are the voxels of each file's pixels."""

    files: tuple[File, ...]
    volume: Volume
    places: NDArray[np.intp]


def clean_slice(number: int) -> Dataset:
    """Make a slice of noise around the usual field, stored as signed HU: no bit of it is free."""
    position = (-17, -20, -30 + 2 * number)
    noise = np.random.default_rng(number).integers(-300, 300, (ROWS, COLUMNS))
    dataset = slice_of(position, shape=(ROWS, COLUMNS), hu=lambda points: linear_hu(points) + noise - 1024)
    dataset.RescaleIntercept = 0
    dataset.SOPInstanceUID = f"{UID}.5.{number}"
    dataset.InstanceNumber = number + 1
    dataset.AcquisitionNumber = 1
    dataset.FrameOfReferenceUID = f"{UID}.6"
    return dataset


@cache
def series(variant: str) -> Series:
    """Make the clean series in a transfer syntax."""
    syntax, is_compressed = VARIANTS[variant]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = []
        for number in range(SLICES):
            dataset = clean_slice(number)
            frames = [compressed(dataset, syntax)] if is_compressed else None
            raw = save_as(dataset, folder / "in" / f"{number:03d}", syntax, frames).read_bytes()
            files.append(_file(raw, implicit=syntax == ImplicitVRLittleEndian))
        (entry,) = convert_folder(folder / "in", folder / "out")
        if entry["status"] != "ok" or entry["repairs"] or entry["flags"]:
            raise RuntimeError(f"the clean series is not taken for clean: {entry}")
        volume = read_nifti(folder / "out" / entry["file"])
    rows, columns = np.indices((ROWS, COLUMNS))
    heights = np.arange(SLICES)[:, None, None] * 2.0 - 30
    points = np.stack(np.broadcast_arrays(17.0 - 1.5 * columns, 20.0 - 2.0 * rows, heights), axis=-1)  # RAS
    places = np.rint(volume.to_voxels(points.reshape(-1, 3))).astype(np.intp).reshape(SLICES, ROWS * COLUMNS, 3)
    return Series(tuple(files), volume, places)


def _file(raw: bytes, *, implicit: bool) -> File:
    """Find the elements of a file by ourselves: pydicom forgets the places of those that it looks into."""
    elements = []
    start = 132
    while start < len(raw):
        in_header = raw[start : start + 2] == b"\2\0"
        if implicit and not in_header:
            value, size = start + 8, raw[start + 4 : start + 8]
        elif raw[start + 4 : start + 6] in LONG:
            value, size = start + 12, raw[start + 8 : start + 12]
        else:
            value, size = start + 8, raw[start + 6 : start + 8]
        # Compressed pixels have no length, and nothing comes after them.
        end = len(raw) if size == b"\xff" * 4 else value + int.from_bytes(size, "little")
        elements.append(Element(start, value, end))
        start = end
    return File(raw, tuple(elements), elements[-1].value)


# --- damage -------------------------------------------------------------------------------------------------


def cut(rng: random.Random, file: File) -> bytes:
    """Truncate the file anywhere."""
    return file.raw[: rng.randrange(len(file.raw))]


def cut_pixels(rng: random.Random, file: File) -> bytes:
    """Truncate the file within the pixels."""
    return file.raw[: rng.randrange(file.pixels, len(file.raw))]


def flip_anywhere(rng: random.Random, file: File) -> bytes:
    """Flip up to 20 bits anywhere."""
    return _flipped(rng, file.raw, 0, len(file.raw), rng.randint(1, 20))


def flip_header(rng: random.Random, file: File) -> bytes:
    """Flip one to four bits before the pixels, behind the preamble."""
    return _flipped(rng, file.raw, 128, file.pixels, rng.randint(1, 4))


def flip_value(rng: random.Random, file: File) -> bytes:
    """Flip a bit in the value of an element other than the pixels."""
    element = rng.choice([part for part in file.elements[:-1] if part.end > part.value])
    return _flipped(rng, file.raw, element.value, element.end, 1)


def _flipped(rng: random.Random, raw: bytes, first: int, end: int, n: int) -> bytes:
    damaged = bytearray(raw)
    for _ in range(n):
        damaged[rng.randrange(first, end)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def zero_run(rng: random.Random, file: File) -> bytes:
    """Write a run of zeros, like a lost block."""
    return _overwritten(rng, file.raw, lambda n: bytes(n))


def random_run(rng: random.Random, file: File) -> bytes:
    """Write a run of noise."""
    return _overwritten(rng, file.raw, rng.randbytes)


def _overwritten(rng: random.Random, raw: bytes, with_what: Callable[[int], bytes]) -> bytes:
    first = rng.randrange(len(raw))
    end = min(len(raw), first + rng.choice([1, 4, 32, 256, 1024]))
    return raw[:first] + with_what(end - first) + raw[end:]


def swap_tags(rng: random.Random, file: File) -> bytes:
    """Give two elements each other's tag."""
    first, second = rng.sample(file.elements, 2)
    damaged = bytearray(file.raw)
    damaged[first.start : first.start + 4] = file.raw[second.start : second.start + 4]
    damaged[second.start : second.start + 4] = file.raw[first.start : first.start + 4]
    return bytes(damaged)


def swap_elements(rng: random.Random, file: File) -> bytes:
    """Put two elements in each other's place."""
    first, second = sorted(rng.sample(file.elements[:-1], 2), key=lambda element: element.start)
    raw = file.raw
    parts = (
        raw[: first.start],
        raw[second.start : second.end],
        raw[first.end : second.start],
        raw[first.start : first.end],
    )
    return b"".join(parts) + raw[second.end :]


def delete_element(rng: random.Random, file: File) -> bytes:
    """Delete an element."""
    element = rng.choice(file.elements)
    return file.raw[: element.start] + file.raw[element.end :]


def double_element(rng: random.Random, file: File) -> bytes:
    """Write an element twice."""
    element = rng.choice(file.elements[:-1])
    return file.raw[: element.end] + file.raw[element.start : element.end] + file.raw[element.end :]


def change_length(rng: random.Random, file: File) -> bytes:
    """Change the length of an element, by a little or by much."""
    element = rng.choice(file.elements)
    damaged = bytearray(file.raw)
    if rng.random() < 0.5:
        damaged[element.value - 2] = rng.randrange(256)
    else:
        damaged[element.value - rng.choice([1, 2, 3, 4])] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def insert(rng: random.Random, file: File) -> bytes:
    """Insert bytes before the pixels."""
    where = rng.randrange(132, file.pixels)
    return file.raw[:where] + rng.randbytes(rng.randint(1, 16)) + file.raw[where:]


def empty(rng: random.Random, file: File) -> bytes:
    """Empty the file."""
    return b""


def noise(rng: random.Random, file: File) -> bytes:
    """Replace the file by noise of the same size."""
    return rng.randbytes(len(file.raw))


KINDS = [
    *(cut, cut_pixels, flip_anywhere, flip_header, flip_value, zero_run, random_run, swap_tags, swap_elements),
    *(delete_element, double_element, change_length, insert, empty, noise),
]
EXCHANGE = "exchange"  # files bear each other's name: no damage at all
NAMES = [*(kind.__name__ for kind in KINDS), EXCHANGE]


@dataclass(frozen=True)
class Damage:
    """The files of a damaged folder, and the voxels of the clean volume that nobody can trust any more."""

    files: tuple[bytes, ...]
    touched: NDArray[np.bool_]


def damage(variant: str, kind: str, seed: int) -> Damage:
    """Damage one to three files of a series, the same for the same arguments."""
    rng = random.Random(f"{variant} {kind} {seed}")
    whole = series(variant)
    files = [file.raw for file in whole.files]
    touched = np.zeros(whole.volume.array.shape, bool)
    if kind == EXCHANGE:
        rng.shuffle(files)
        return Damage(tuple(files), touched)
    mutate = next(function for function in KINDS if function.__name__ == kind)
    for number in rng.sample(range(SLICES), rng.choice([1, 1, 2, 3])):
        file = whole.files[number]
        files[number] = mutate(rng, file)
        places = whole.places[number][_touched(file, files[number], packed=VARIANTS[variant][1])]
        touched[tuple(places.T)] = True
    return Damage(tuple(files), touched)


def _touched(file: File, damaged: bytes, *, packed: bool) -> NDArray[np.bool_]:
    """Mark the pixels of a slice whose stored bytes changed in place: nobody can tell that from a measurement.

    In a compressed frame a byte stands for many pixels, and there is no checksum: a change there marks the whole slice.
    """
    if len(damaged) != len(file.raw):
        return np.zeros(ROWS * COLUMNS, bool)
    changed = np.frombuffer(damaged, np.uint8)[file.pixels :] != np.frombuffer(file.raw, np.uint8)[file.pixels :]
    if packed:
        return np.full(ROWS * COLUMNS, changed.any())
    return changed.reshape(-1, 2).any(axis=1)


# --- what came of it --------------------------------------------------------------------------------------


GOOD = ("equal", "pixels alone", "told and written", "told and refused")


def outcome(variant: str, kind: str, seed: int, folder: Path) -> str:
    """Convert a damaged folder; give one of `GOOD`, or the fault."""
    broken = damage(variant, kind, seed)
    (folder / "in").mkdir()
    for number, raw in enumerate(broken.files):
        (folder / "in" / f"{number:03d}").write_bytes(raw)
    try:
        with limited_time(SECONDS):
            entries = convert_folder(folder / "in", folder / "out")
    except TooSlowError:
        return f"took more than {SECONDS:g} s"
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    volumes = [read_nifti(folder / "out" / entry["file"]) for entry in entries if entry["status"] == "ok"]
    if any(entry["status"] != "ok" or entry["repairs"] or entry["flags"] for entry in entries):
        return "told and written" if volumes else "told and refused"
    if len(volumes) != 1:
        return f"{len(volumes)} volumes without a word"
    return _difference(volumes[0], series(variant).volume, broken.touched)


def _difference(volume: Volume, clean: Volume, touched: NDArray[np.bool_]) -> str:
    if volume.array.shape != clean.array.shape:
        return f"silent: shape {volume.array.shape}"
    if np.abs(volume.affine - clean.affine).max() > 1e-6:
        return "silent: another affine"
    differs = volume.array != clean.array
    if np.any(differs & ~touched):
        return f"silent: {int((differs & ~touched).sum())} voxels differ whose bytes are whole"
    return "pixels alone" if differs.any() else "equal"


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", NAMES)
def test_damage_never_crashes_and_never_hides(tmp_path, variant, kind):
    outcomes = {}
    for seed in range(PER_KIND):
        (tmp_path / f"{seed}").mkdir()
        outcomes[seed] = outcome(variant, kind, seed, tmp_path / f"{seed}")
    assert {seed: text for seed, text in outcomes.items() if text not in GOOD} == {}


@pytest.mark.parametrize("variant", VARIANTS)
def test_files_that_bear_each_others_names_are_no_damage(tmp_path, variant):
    assert outcome(variant, EXCHANGE, 0, tmp_path) == "equal"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_without_a_byte_is_told(tmp_path, variant):
    assert outcome(variant, empty.__name__, 0, tmp_path) == "told and written"


def main() -> int:
    """Run many cases and print how they ended; give 1 if any ended badly."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("cases", type=int)
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to go on or to repeat one")
    options = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    bad, slowest = 0, 0.0
    for case in range(options.first, options.first + options.cases):
        seed, which = divmod(case, len(NAMES) * len(VARIANTS))
        kind, variant = NAMES[which // len(VARIANTS)], list(VARIANTS)[which % len(VARIANTS)]
        folder = Path(tempfile.mkdtemp(prefix="damage"))
        started = time.perf_counter()
        case_outcome = outcome(variant, kind, seed, folder)
        slowest = max(slowest, time.perf_counter() - started)
        shutil.rmtree(folder)
        counts[kind, case_outcome if case_outcome in GOOD else "BAD"] += 1
        if case_outcome not in GOOD:
            bad += 1
            print(f"{variant} {kind} {seed} (case {case}): {case_outcome}", flush=True)
    columns = [*GOOD, "BAD"]
    print(f"{'':16}" + "".join(f"{column:>18}" for column in columns))
    for kind in NAMES:
        print(f"{kind:16}" + "".join(f"{counts[kind, column]:18}" for column in columns))
    print(f"{'all':16}" + "".join(f"{sum(counts[k, column] for k in NAMES):18}" for column in columns))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"slowest case {slowest:.1f} s, most memory {memory} MiB")
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
