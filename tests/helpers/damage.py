"""Ways in which a study of the synthetic archive can be damaged, and what the tables have to say of each."""

import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from ct_files import decimal
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGLosslessSV1, MRImageStorage, SecondaryCaptureImageStorage

from trabecula.phantom.archive import layout_of
from trabecula.phantom.dicom import make_uid
from trabecula.phantom.population import sample_patient

Slices = list[Dataset]


@dataclass(frozen=True)
class Way:
    """A way of damage.

    Attributes
    ----------
    name : str
        What happened.
    stage, reason : str
        Where the study drops out, and the key of `trabecula.errors.REASONS`.
    change : callable
        Given the slices of a series from feet to head, those that are written in their place.
    """

    name: str
    stage: str
    reason: str
    change: Callable[[Slices], Sequence[Dataset]]


def each(**attributes: object) -> Callable[[Slices], Slices]:
    """Attributes that all slices get; None removes one."""

    def change(slices: Slices) -> Slices:
        for one in slices:
            for keyword, value in attributes.items():
                if value is None:
                    delattr(one, keyword)
                else:
                    setattr(one, keyword, value)
        return slices

    return change


def jittered(slices: Slices) -> Slices:
    """Positions that no scanner writes: all steps differ, and some are larger than can be interpolated."""
    steps = np.random.default_rng(1).uniform(1, 2.5, len(slices))
    steps[::10] = 14.3
    heights = float(slices[0].ImagePositionPatient[2]) + np.cumsum(steps)
    for one, height in zip(slices, heights, strict=True):
        one.ImagePositionPatient = [*one.ImagePositionPatient[:2], decimal(float(height))]
    return slices


def doubled(slices: Slices) -> Slices:
    """Other images at the same places, as of a second phase that nothing tells from the first."""
    second = [pydicom.dcmread(one.filename) for one in slices]
    for one in second:
        one.SOPInstanceUID += ".2"
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        one.PixelData = (np.frombuffer(one.PixelData, "<i2") + 40).astype("<i2").tobytes()
        one.filename = f"{one.filename}.again"
    return [*slices, *second]


def blank(slices: Slices) -> Slices:
    """All pixels of one value."""
    for one in slices:
        one.PixelData = np.full(one.Rows * one.Columns, 500, "<i2").tobytes()
    return slices


def jelly(slices: Slices) -> Slices:
    """A body of soft tissue without a bone."""
    for one in slices:
        hu = np.frombuffer(one.PixelData, "<i2") * float(one.RescaleSlope) + float(one.RescaleIntercept)
        flat = np.where(hu > -200, np.clip(hu, 20, 60), hu)
        one.PixelData = np.rint((flat - float(one.RescaleIntercept)) / float(one.RescaleSlope)).astype("<i2").tobytes()
    return slices


def packed(syntax: str, **attributes: object) -> Callable[[Slices], Slices]:
    """Pixels that are said to be compressed, and are noise."""

    def change(slices: Slices) -> Slices:
        for one in each(**attributes)(slices):
            one.file_meta.TransferSyntaxUID = UID(syntax)
            one.PixelData = encapsulate([np.random.default_rng(2).bytes(500)])
            one["PixelData"].VR = "OB"
            one["PixelData"].is_undefined_length = True
        return slices

    return change


def cut(slices: Slices) -> Slices:
    """The last pixels of every slice are missing."""
    for one in slices:
        one.PixelData = one.PixelData[:-200]
    return slices


def without_middle(slices: Slices) -> Slices:
    """A third of the slices is missing."""
    n = len(slices)
    return [*slices[: n // 3], *slices[n - n // 3 :]]


def short(slices: Slices) -> Slices:
    """So many slices that 60 mm are covered."""
    step = float(slices[1].ImagePositionPatient[2]) - float(slices[0].ImagePositionPatient[2])
    for one in slices:  # many slices, close to each other
        one.ImagePositionPatient = [
            *one.ImagePositionPatient[:2],
            decimal((float(one.ImagePositionPatient[2])) * 0.6 / step),
        ]
    return slices[: int(60 / 0.6)]


def spread(slices: Slices) -> Slices:
    """Slices that lie 7 mm apart."""
    for number, one in enumerate(slices):
        one.ImagePositionPatient = [*one.ImagePositionPatient[:2], decimal(7.0 * number)]
    return slices


SAGITTAL = [0, 1, 0, 0, 0, -1]


def turned(slices: Slices) -> Slices:
    """Slices that follow each other from right to left."""
    for number, one in enumerate(slices):
        one.ImageOrientationPatient, one.ImagePositionPatient = SAGITTAL, [2 * number, 0, 0]
    return slices


WAYS = [
    Way("cut off", "index", "truncated", cut),
    Way("no pixel spacing", "index", "no_geometry", each(PixelSpacing=None)),
    Way("no position", "index", "no_geometry", each(ImagePositionPatient=None)),
    Way("no rescale", "index", "no_rescale", each(RescaleSlope=None, RescaleIntercept=None)),
    Way("lossy by its syntax", "index", "lossy", packed(JPEGBaseline8Bit)),
    Way("lossy by its own word", "index", "lossy", each(LossyImageCompression="01")),
    Way("another modality", "index", "not_ct", each(Modality="MR", SOPClassUID=MRImageStorage)),
    Way("a scout", "index", "localizer", each(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    Way("a screen shot", "index", "secondary_capture", each(SOPClassUID=SecondaryCaptureImageStorage)),
    Way("a projection", "index", "projection", each(ImageType=["DERIVED", "SECONDARY", "MIP"])),
    Way("an iodine map", "index", "other_values", each(RescaleType="MGML")),
    Way("sagittal", "index", "not_axial", turned),
    Way("five slices", "index", "too_few_slices", lambda slices: slices[:5]),
    Way("60 mm", "index", "too_short", short),
    Way("7 mm apart", "index", "too_thick", spread),
    Way("a hole", "index", "missing_slices", without_middle),
    Way("uneven", "index", "irregular_spacing", jittered),
    Way(
        "a head",
        "index",
        "head_or_extremity",
        each(BodyPartExamined="HEAD", SeriesDescription="Brain", PixelSpacing=[0.5, 0.5]),
    ),
    Way("two phases at once", "convert", "duplicate_position", doubled),
    Way("all one value", "convert", "implausible_hu", blank),
    Way("noise in place of a stream", "convert", "undecodable", packed(JPEGLosslessSV1)),
    Way("a bomb", "convert", "too_large", packed(JPEGLosslessSV1, Rows=65535, Columns=65535)),
    Way("no bone", "segment", "no_vertebra", jelly),
]


# --- damage that leaves no identity ---------------------------------------------------------------------


def scribble(files: list[Path]) -> None:
    """Noise of the same size."""
    for number, file in enumerate(files):
        file.write_bytes(np.random.default_rng(number).bytes(file.stat().st_size))


def emptied(files: list[Path]) -> None:
    """No byte is left."""
    for file in files:
        file.write_bytes(b"")


def zipped(files: list[Path]) -> None:
    """All in one zip file."""
    with zipfile.ZipFile(files[0].with_name("study.zip"), "w") as archive:
        for file in files:
            archive.write(file, file.name)
            file.unlink()


def led_away(files: list[Path]) -> None:
    """Links to files outside the archive."""
    for file in files:
        file.unlink()
        file.symlink_to("/etc/hostname")


def piped(files: list[Path]) -> None:
    """Pipes that nobody writes into."""
    for file in files:
        file.unlink()
        os.mkfifo(file)


# Reason of the files, and how many remain of one: None where all do.
NAMELESS: dict[str, tuple[Callable[[list[Path]], None], int | None]] = {
    "not_dicom": (scribble, None),
    "empty": (emptied, None),
    "archive": (zipped, 1),
    "link_outside": (led_away, None),
    "not_regular": (piped, None),
}


# --- sound studies whose texts and names are hostile ----------------------------------------------------

# Folder in the archive, patient's id and study's UID.
DISGUISES = [
    ("$(touch pwned) `touch pwned`; touch pwned", "=cmd|'/C calc'!A0", "../../../../pwned"),
    ("{cohort} %s \n {shard}", "\x1b[2J<b>&amp;", "/etc/passwd"),
    ("-rf --config 'a\"b' *", "@SUM(1+1)", "..%2f..%2fpwned"),
]
SAID = {
    "Manufacturer": '=HYPERLINK("http://x";"y")',
    "ManufacturerModelName": "<script>alert(1)</script>",
    "ConvolutionKernel": "@SUM(1)\t{cohort}\r\n\x1b[2J",
    "SeriesDescription": "+1 $(touch pwned)",
    "PatientName": "=1+1^../../pwned",
}


def disguise(files: list[Path], archive: Path, number: int) -> tuple[str, str]:
    """Move a study to a folder of a hostile name, with hostile texts; returns its patient's id and its UID."""
    place, patient, uid = DISGUISES[number]
    (archive / place).mkdir()
    with disable_value_validation():
        for file in files:
            one = pydicom.dcmread(file)
            for keyword, text in (SAID | {"PatientID": patient, "StudyInstanceUID": uid}).items():
                setattr(one, keyword, text)
            pydicom.dcmwrite(archive / place / f"{file.name} -n\t", one, enforce_file_format=False)
            file.unlink()
    return patient, uid


# --- what is done with the files of a study -------------------------------------------------------------


def primary_of(archive: Path, *, seed: int, index: int, model: str) -> list[Path]:
    """Files of a study's primary series, from feet to head; all else of the study is deleted.

    A study's other series would be measured in the place of a damaged one.
    """
    patient = sample_patient(seed, index)
    layout = layout_of(archive, patient, make_uid("trabecula", seed, index, model))
    top = layout.folder(2, "Abdomen")
    top = top if index % 4 == 2 else top.parent
    found = {}
    for file in sorted(path for path in top.rglob("*") if path.is_file()):
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
        except InvalidDicomError:
            header = Dataset()
        whole = header.get("SeriesNumber") == 2 and header.SOPInstanceUID not in found
        if whole and not file.name.startswith(("copy_of", "transfer")):
            found[header.SOPInstanceUID] = (float(header.ImagePositionPatient[2]), file)
        else:
            file.unlink()
    assert found, f"no primary series of patient {index} below {top}"
    return [file for _, file in sorted(found.values())]


def apply(way: Way, files: list[Path]) -> None:
    """Damage a series."""
    slices: Slices = [pydicom.dcmread(file) for file in files]
    for one in slices:
        one.PixelData  # noqa: B018 (read now: the files are about to go)
    kept = way.change(slices)
    for file in files:
        file.unlink()
    for one in kept:
        pydicom.dcmwrite(one.filename, one, enforce_file_format=False)
