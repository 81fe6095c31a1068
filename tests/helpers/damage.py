"""Ways to damage a study of the synthetic archive, with the stage and reason that the tables must give for each."""

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
        Its name in a list of ways.
    stage, reason : str
        Stage at which the study drops out, and the key of `trabecula.errors.REASONS`.
    change : callable
        Takes the slices of a series from feet to head, and gives those that are written in their place.
    """

    name: str
    stage: str
    reason: str
    change: Callable[[Slices], Sequence[Dataset]]


def each(**attributes: object) -> Callable[[Slices], Slices]:
    """Set attributes of all slices; None removes one."""

    def change(slices: Slices) -> Slices:
        for dataset in slices:
            for keyword, value in attributes.items():
                if value is None:
                    delattr(dataset, keyword)
                else:
                    setattr(dataset, keyword, value)
        return slices

    return change


def jittered(slices: Slices) -> Slices:
    """Set positions that no scanner writes: all steps differ, and some are too large to be interpolated."""
    steps = np.random.default_rng(1).uniform(1, 2.5, len(slices))
    steps[::10] = 14.3
    heights = float(slices[0].ImagePositionPatient[2]) + np.cumsum(steps)
    for dataset, height in zip(slices, heights, strict=True):
        dataset.ImagePositionPatient = [*dataset.ImagePositionPatient[:2], decimal(float(height))]
    return slices


def doubled(slices: Slices) -> Slices:
    """Add other images at the same places, like a second phase that nothing tells from the first."""
    second = [pydicom.dcmread(dataset.filename) for dataset in slices]
    for dataset in second:
        dataset.SOPInstanceUID += ".2"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<i2") + 40).astype("<i2").tobytes()
        dataset.filename = f"{dataset.filename}.again"
    return [*slices, *second]


def blank(slices: Slices) -> Slices:
    """Give all pixels one value."""
    for dataset in slices:
        dataset.PixelData = np.full(dataset.Rows * dataset.Columns, 500, "<i2").tobytes()
    return slices


def jelly(slices: Slices) -> Slices:
    """Turn bone into soft tissue."""
    for dataset in slices:
        hu = np.frombuffer(dataset.PixelData, "<i2") * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        flat = np.where(hu > -200, np.clip(hu, 20, 60), hu)
        dataset.PixelData = (
            np.rint((flat - float(dataset.RescaleIntercept)) / float(dataset.RescaleSlope)).astype("<i2").tobytes()
        )
    return slices


def packed(syntax: str, **attributes: object) -> Callable[[Slices], Slices]:
    """Replace the pixels by noise that is declared as a compressed stream."""

    def change(slices: Slices) -> Slices:
        for dataset in each(**attributes)(slices):
            dataset.file_meta.TransferSyntaxUID = UID(syntax)
            dataset.PixelData = encapsulate([np.random.default_rng(2).bytes(500)])
            dataset["PixelData"].VR = "OB"
            dataset["PixelData"].is_undefined_length = True
        return slices

    return change


def cut(slices: Slices) -> Slices:
    """Cut off the last pixels of every slice."""
    for dataset in slices:
        dataset.PixelData = dataset.PixelData[:-200]
    return slices


def without_middle(slices: Slices) -> Slices:
    """Leave out a third of the slices."""
    n = len(slices)
    return [*slices[: n // 3], *slices[n - n // 3 :]]


def short(slices: Slices) -> Slices:
    """Keep as many slices as cover 60 mm."""
    step = float(slices[1].ImagePositionPatient[2]) - float(slices[0].ImagePositionPatient[2])
    for dataset in slices:  # many slices, close to each other
        dataset.ImagePositionPatient = [
            *dataset.ImagePositionPatient[:2],
            decimal((float(dataset.ImagePositionPatient[2])) * 0.6 / step),
        ]
    return slices[: int(60 / 0.6)]


def spread(slices: Slices) -> Slices:
    """Place the slices 7 mm apart."""
    for number, dataset in enumerate(slices):
        dataset.ImagePositionPatient = [*dataset.ImagePositionPatient[:2], decimal(7.0 * number)]
    return slices


SAGITTAL = [0, 1, 0, 0, 0, -1]


def turned(slices: Slices) -> Slices:
    """Place the slices one behind the other from right to left."""
    for number, dataset in enumerate(slices):
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = SAGITTAL, [2 * number, 0, 0]
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
    """Overwrite the files with noise of the same size."""
    for number, file in enumerate(files):
        file.write_bytes(np.random.default_rng(number).bytes(file.stat().st_size))


def emptied(files: list[Path]) -> None:
    """Empty the files."""
    for file in files:
        file.write_bytes(b"")


def zipped(files: list[Path]) -> None:
    """Move all files into one zip file."""
    with zipfile.ZipFile(files[0].with_name("study.zip"), "w") as archive:
        for file in files:
            archive.write(file, file.name)
            file.unlink()


def led_away(files: list[Path]) -> None:
    """Replace the files by links to a file outside the archive."""
    for file in files:
        file.unlink()
        file.symlink_to("/etc/hostname")


def piped(files: list[Path]) -> None:
    """Replace the files by pipes that nobody writes into."""
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


def disguise(files: list[Path], archive: Path, number: int) -> str:
    """Move a study to a folder of a hostile name, with hostile texts; give its patient's id."""
    place, patient, uid = DISGUISES[number]
    (archive / place).mkdir()
    with disable_value_validation():
        for file in files:
            dataset = pydicom.dcmread(file)
            for keyword, text in (SAID | {"PatientID": patient, "StudyInstanceUID": uid}).items():
                setattr(dataset, keyword, text)
            pydicom.dcmwrite(archive / place / f"{file.name} -n\t", dataset, enforce_file_format=False)
            file.unlink()
    return patient


# --- what is done with the files of a study -------------------------------------------------------------


def primary_of(archive: Path, *, seed: int, index: int, model: str) -> list[Path]:
    """List the files of a study's primary series, from feet to head, and delete all else of the study.

    A study's other series would be measured in the place of a damaged one.
    """
    patient = sample_patient(seed, index)
    layout = layout_of(archive, patient, make_uid("trabecula", seed, index, model))
    top = layout.folder(2, "Abdomen")
    top = top if index % 4 == 2 else top.parent
    file_of = {}
    for file in sorted(path for path in top.rglob("*") if path.is_file()):
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
        except InvalidDicomError:
            header = Dataset()
        whole = header.get("SeriesNumber") == 2 and header.SOPInstanceUID not in file_of
        if whole and not file.name.startswith(("copy_of", "transfer")):
            file_of[header.SOPInstanceUID] = (float(header.ImagePositionPatient[2]), file)
        else:
            file.unlink()
    assert file_of, f"no primary series of patient {index} below {top}"
    return [file for _, file in sorted(file_of.values())]


def apply(way: Way, files: list[Path]) -> None:
    """Damage the files of a series."""
    slices: Slices = [pydicom.dcmread(file) for file in files]
    for dataset in slices:
        dataset.PixelData  # noqa: B018 (read now: the files are about to go)
    kept = way.change(slices)
    for file in files:
        file.unlink()
    for dataset in kept:
        pydicom.dcmwrite(dataset.filename, dataset, enforce_file_format=False)
