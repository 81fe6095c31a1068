"""DICOM files for tests of index and convert: CT slices wherever a test wants them."""

import io
import tempfile
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID as UniqueId
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

Position = Sequence[float] | np.ndarray
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
UID = "1.2.826.0.1.3680043.8.498"


def linear_hu(points_ras_mm: np.ndarray) -> np.ndarray:
    """Compute HU that are linear in the patient, from air to soft tissue: one number checks voxel and place."""
    return points_ras_mm @ [1.3, -2.1, 1.7] - 60.0


def decimal(number: float) -> str:
    """Write a DICOM decimal string: at most 16 characters."""
    return f"{number:.9f}"[:16].rstrip("0").rstrip(".")


def slice_of(
    position_lps: Position,
    orientation: Position = AXIAL,
    pixel_mm: tuple[float, float] = (2.0, 1.5),
    shape: tuple[int, int] = (20, 24),
    hu: Callable[[np.ndarray], np.ndarray] = linear_hu,
) -> Dataset:
    """Make a CT slice; `pixel_mm` is the distance between rows and between columns."""
    row, column = np.reshape(orientation, (2, 3))
    j, i = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    points = np.asarray(position_lps) + i[..., None] * pixel_mm[1] * row + j[..., None] * pixel_mm[0] * column
    stored = np.rint(hu(points * [-1, -1, 1])).astype(np.int64) + 1024
    return ct_dataset(
        ImagePositionPatient=[decimal(x) for x in position_lps],
        ImageOrientationPatient=[decimal(x) for x in orientation],
        PixelSpacing=list(pixel_mm),
        Rows=shape[0],
        Columns=shape[1],
        PixelData=stored.clip(-32768, 32767).astype("<i2").tobytes(),
    )


def ct_dataset(**attributes: Any) -> Dataset:
    """Make a CT slice's header with some defaults; an attribute given as None is left out."""
    defaults = {
        "SOPClassUID": CTImageStorage,
        "StudyInstanceUID": f"{UID}.1",
        "SeriesInstanceUID": f"{UID}.1.1",
        "PatientID": "HOSPITAL-4711",
        "PatientName": "Muster^Maria",
        "PatientBirthDate": "19500102",
        "PatientSex": "F",
        "StudyDate": "20200102",
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Manufacturer": "Maker",
        "ManufacturerModelName": "Model",
        "ConvolutionKernel": "STANDARD",
        "KVP": 120,
        "SliceThickness": 99,  # wrong on purpose: nothing may believe it
        "SpacingBetweenSlices": 99,
        "PatientPosition": "FFP",
        "InstanceNumber": 7,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
    }
    dataset = Dataset()
    for keyword, value in {**defaults, **attributes}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    """Write a data set as a DICOM file; it gets an instance UID from its path when it has none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if "SOPInstanceUID" not in dataset:
        dataset.SOPInstanceUID = f"{UID}.9.{int.from_bytes(str(path).encode()[-12:], 'big')}"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = UniqueId(dataset.SOPInstanceUID)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    FileDataset(str(path), dataset, preamble=b"\0" * 128, file_meta=meta).save_as(path, enforce_file_format=True)
    return path


def save_all(datasets: Sequence[Dataset], folder: Path, **attributes: Any) -> list[str]:
    """Write slices with attributes in common; an attribute given as None is removed."""
    paths = []
    for number, dataset in enumerate(datasets):
        for keyword, value in attributes.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        paths.append(str(save(dataset, folder / f"{number:03d}")))
    return paths


def save_odd(datasets: Sequence[Dataset], folder: Path, **attributes: Any) -> None:
    """Write slices with attributes in common, also such as the standard forbids; one given as None is removed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, dataset in enumerate(datasets):
            plain = {"SOPInstanceUID": dataset.get("SOPInstanceUID", f"{UID}.7.{number}")}
            for keyword, value in (plain | attributes).items():
                if value is None:
                    delattr(dataset, keyword)
                else:
                    setattr(dataset, keyword, value)
            save_as(dataset, folder / f"{number:03d}", ExplicitVRLittleEndian)


def axial_stack(n: int = 6, spacing_mm: float = 3.0, **options: Any) -> list[Dataset]:
    """Make axial slices one above the other."""
    return [slice_of((-17.0, -20.0, -30.0 + k * spacing_mm), **options) for k in range(n)]


def save_briefly(datasets: Sequence[Dataset], folder: Path) -> None:
    """Write slices with the shortest file header, in a third of the time; each gets an instance UID if it has none."""
    folder.mkdir(parents=True, exist_ok=True)
    syntax = ExplicitVRLittleEndian.encode() + b"\0"
    meta = b"\2\0\x10\0UI" + len(syntax).to_bytes(2, "little") + syntax
    length = b"\2\0\0\0UL\4\0" + len(meta).to_bytes(4, "little")
    for number, dataset in enumerate(datasets):
        if "SOPInstanceUID" not in dataset:
            dataset.SOPInstanceUID = f"{UID}.9.{number}"
        content = io.BytesIO(b"")
        pydicom.dcmwrite(content, dataset, implicit_vr=False, little_endian=True, enforce_file_format=False)
        (folder / f"{number:03d}").write_bytes(bytes(128) + b"DICM" + length + meta + content.getvalue())


def save_as(
    dataset: Dataset, path: Path, syntax: str, frames: Sequence[bytes] | None = None, fragments: int = 1
) -> Path:
    """Write a data set in a transfer syntax exactly as it is, UIDs may be missing.

    `frames` are compressed frames; each goes to so many fragments. For big-endian, uncompressed pixels are swapped.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UniqueId(syntax)
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    if "SOPInstanceUID" in dataset:
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    written = FileDataset(str(path), deepcopy(dataset), preamble=b"\0" * 128, file_meta=meta)
    big = syntax == ExplicitVRBigEndian
    if big:
        written.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    written["PixelData"].VR = "OW"  # pydicom can't choose while it writes big-endian
    if frames is not None:
        written.PixelData = encapsulate(list(frames), fragments_per_frame=fragments, has_bot=False)
        written["PixelData"].VR = "OB"
        written["PixelData"].is_undefined_length = True
    # pydicom's own rules for groups 0002 would invent the identifiers that a test leaves out.
    implicit = syntax == ImplicitVRLittleEndian
    pydicom.dcmwrite(path, written, implicit_vr=implicit, little_endian=not big, enforce_file_format=False)
    return path


def compressed(dataset: Dataset, syntax: str) -> bytes:
    """Compress the frame of a slice by GDCM."""
    with tempfile.TemporaryDirectory() as folder:
        plain = str(save_as(dataset, Path(folder) / "plain", ExplicitVRLittleEndian))
        reader = gdcm.ImageReader()
        reader.SetFileName(plain)
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
        writer = gdcm.ImageWriter()
        writer.SetFileName(f"{folder}/compressed")
        if not reader.Read():
            raise RuntimeError("GDCM can't read the slice")
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise RuntimeError(f"GDCM can't write {syntax}")
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise RuntimeError(f"GDCM can't write {syntax}")
        (frame,) = generate_frames(pydicom.dcmread(f"{folder}/compressed").PixelData, number_of_frames=1)
        return frame


def frame_item(**attributes: Any) -> Dataset:
    """Make an item of a sequence."""
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def enhanced(slices: list[Dataset], **per_frame: list[Any]) -> Dataset:
    """Make an Enhanced CT of these slices, geometry in functional groups; `per_frame` has a value for each frame."""
    shared, frames = Dataset(), []
    shared.PlaneOrientationSequence = Items([frame_item(ImageOrientationPatient=list(AXIAL))])
    shared.PixelMeasuresSequence = Items([frame_item(PixelSpacing=[2.0, 1.5])])
    for k, plane in enumerate(slices):
        frame = Dataset()
        frame.PlanePositionSequence = Items([frame_item(ImagePositionPatient=plane.ImagePositionPatient)])
        intercept = per_frame.get("RescaleIntercept", [-1024] * len(slices))[k]
        frame.PixelValueTransformationSequence = Items([frame_item(RescaleSlope=1, RescaleIntercept=intercept)])
        content = {name: values[k] for name, values in per_frame.items() if name != "RescaleIntercept"}
        frame.FrameContentSequence = Items([frame_item(**content)])
        frames.append(frame)
    return ct_dataset(
        SOPClassUID=EnhancedCTImageStorage,
        NumberOfFrames=len(slices),
        Rows=20,
        Columns=24,
        RescaleSlope=None,
        RescaleIntercept=None,
        SharedFunctionalGroupsSequence=Items([shared]),
        PerFrameFunctionalGroupsSequence=Items(frames),
        PixelData=b"".join(plane.PixelData for plane in slices),
    )
