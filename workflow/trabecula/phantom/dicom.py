"""Write volumes as DICOM CT series, and the header blocks that other objects share."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from trabecula.image.volume import Volume

Plane = Literal["axial", "sagittal", "coronal"]

# Directions (LPS+) in which columns, rows and slices count, by plane.
_PLANES: dict[Plane, NDArray[np.float64]] = {
    "axial": np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "sagittal": np.array([[0.0, 1, 0], [0, 0, -1], [1, 0, 0]]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
_INTERCEPT_HU = -1024
IMPLEMENTATION_UID = UID("2.25.302145768112908112415672990013378425113")


def make_uid(*parts: object) -> str:
    """Make a UID that depends on its parts alone (ITU-T X.667 form, 2.25.<128 bit>)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


@dataclass(frozen=True)
class PatientAttributes:
    """DICOM Patient module."""

    patient_id: str
    name: str
    birth_date: date | None = None
    sex: str = "O"
    age_years: float | None = None


@dataclass(frozen=True)
class StudyAttributes:
    """DICOM General Study module and the frame of reference."""

    uid: str
    date: date
    frame_of_reference_uid: str
    time: str = "101500"
    study_id: str = "1"
    accession: str = "1"
    description: str = "CT Abdomen"


@dataclass(frozen=True)
class SeriesAttributes:
    """General Series, Equipment and CT Image attributes.

    Attributes
    ----------
    padding_hu : float or None
        Hounsfield value of pixels that were not reconstructed; becomes PixelPaddingValue.
    """

    uid: str
    number: int = 2
    description: str = "Abdomen"
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    manufacturer: str = "Synthetic"
    model: str = "Synthetic"
    station: str = "CT1"
    kvp: float = 120.0
    kernel: str = "STANDARD"
    thickness_mm: float | None = None
    exposure_mas: int = 150
    body_part: str = "ABDOMEN"
    patient_position: str = "HFS"
    contrast_agent: str | None = None
    padding_hu: float | None = None


def patient_study_block(patient: PatientAttributes, study: StudyAttributes) -> Dataset:
    """Give the patient and study modules, common to all objects of a study."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID, ds.PatientSex = patient.name, patient.patient_id, patient.sex
    ds.PatientBirthDate = patient.birth_date.strftime("%Y%m%d") if patient.birth_date else ""
    if patient.age_years is not None:
        ds.PatientAge = f"{int(patient.age_years):03d}Y"
    ds.StudyInstanceUID, ds.StudyID, ds.AccessionNumber = study.uid, study.study_id, study.accession
    ds.StudyDate, ds.StudyTime = study.date.strftime("%Y%m%d"), study.time
    ds.StudyDescription, ds.ReferringPhysicianName = study.description, ""
    return ds


def ct_block(patient: PatientAttributes, study: StudyAttributes, series: SeriesAttributes) -> Dataset:
    """Give all attributes of a CT image that do not change from slice to slice."""
    ds = patient_study_block(patient, study)
    ds.SOPClassUID, ds.Modality = CTImageStorage, "CT"
    ds.SeriesInstanceUID, ds.SeriesNumber = series.uid, series.number
    ds.SeriesDescription, ds.SeriesDate, ds.SeriesTime = series.description, ds.StudyDate, ds.StudyTime
    ds.AcquisitionDate, ds.AcquisitionTime, ds.AcquisitionNumber = ds.StudyDate, ds.StudyTime, 1
    ds.ContentDate, ds.ContentTime = ds.StudyDate, ds.StudyTime
    ds.BodyPartExamined, ds.PatientPosition = series.body_part, series.patient_position
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = study.frame_of_reference_uid, ""
    ds.Manufacturer, ds.ManufacturerModelName, ds.StationName = series.manufacturer, series.model, series.station
    ds.ImageType, ds.KVP, ds.ConvolutionKernel = list(series.image_type), series.kvp, series.kernel
    ds.Exposure, ds.RotationDirection, ds.GantryDetectorTilt = series.exposure_mas, "CW", 0
    if series.contrast_agent:
        ds.ContrastBolusAgent = series.contrast_agent
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleIntercept, ds.RescaleSlope = _INTERCEPT_HU, 1
    # The standard forbids HU for projections.
    ds.RescaleType = "US" if "LOCALIZER" in series.image_type else "HU"
    ds.WindowCenter, ds.WindowWidth = 50, 400
    if series.padding_hu is not None:
        ds.PixelPaddingValue = int(series.padding_hu) - _INTERCEPT_HU
    return ds


def save(ds: Dataset, path: Path) -> None:
    """Write a dataset as a DICOM file, Explicit VR Little Endian, without any time stamp."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, IMPLEMENTATION_UID
    meta.ImplementationVersionName = "TRABECULA"
    ds.file_meta = meta
    ds.save_as(path, enforce_file_format=True)


def in_plane(volume: Volume, plane: Plane) -> tuple[NDArray, NDArray[np.float64]]:
    """Reorder voxels so that slices lie in an anatomical plane.

    Returns
    -------
    pixels : (slices, rows, columns) array
    affine : (4, 4) array
        (column, row, slice) indices to LPS+ millimetres; oblique where the volume is.
    """
    directions = _RAS_TO_LPS @ volume.affine[:3, :3]
    closeness = _PLANES[plane] @ (directions / np.linalg.norm(directions, axis=0))
    order, free = [], {0, 1, 2}
    for target in np.argsort(-np.abs(closeness).max(axis=1)):
        nearest = max(free, key=lambda axis, target=target: abs(closeness[target, axis]))
        free.remove(nearest)
        order.append((int(target), nearest))
    axes = [axis for _, axis in sorted(order)]
    array, affine = volume.array.transpose(axes), np.eye(4)
    affine[:3, :3] = directions[:, axes]
    affine[:3, 3] = _RAS_TO_LPS @ volume.affine[:3, 3]
    for target, axis in enumerate(axes):
        if closeness[target, axis] < 0:
            array = np.flip(array, target)
            affine[:3, 3] += affine[:3, target] * (array.shape[target] - 1)
            affine[:3, target] *= -1
    return array.transpose(2, 1, 0), affine


def default_name(number: int, _uid: str) -> str:
    """Name the file of a slice by its number.

    >>> default_name(7, "2.25.1")
    '0007.dcm'
    """
    return f"{number:04d}.dcm"


def write_series(
    ct: Volume,
    folder: Path,
    *,
    patient: PatientAttributes,
    study: StudyAttributes,
    series: SeriesAttributes,
    plane: Plane = "axial",
    name: Callable[[int, str], str] = default_name,
) -> list[Path]:
    """Write a CT as one DICOM series, a file per slice.

    Parameters
    ----------
    ct : Volume
        Hounsfield units; any axis order, flips and obliqueness, no shear.
    folder : Path
        Made when missing.
    patient, study, series
        Header attributes.
    plane : {"axial", "sagittal", "coronal"}
        The anatomical plane nearest to which slices are cut (no resampling).
    name : callable
        File name from the slice's number (from 1) and SOP instance UID.

    Returns
    -------
    list of Path
        The files in the order of the slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pixels, affine = in_plane(ct, plane)
    stored = np.clip(np.rint(pixels) - _INTERCEPT_HU, -32768, 32767).astype("<i2")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = affine[:3, :3] / spacing
    ds = ct_block(patient, study, series)
    ds.Rows, ds.Columns = stored.shape[1:]
    ds.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
    ds.SliceThickness = _decimal(series.thickness_mm or spacing[2])
    ds.SpacingBetweenSlices = _decimal(spacing[2])
    ds.ImageOrientationPatient = [_decimal(c) for c in (*cosines[:, 0], *cosines[:, 1])]
    paths = []
    for number, image in enumerate(stored, start=1):
        corner = affine[:3, 3] + affine[:3, 2] * (number - 1)
        ds.SOPInstanceUID, ds.InstanceNumber = make_uid(series.uid, number), number
        ds.ImagePositionPatient = [_decimal(c) for c in corner]
        ds.SliceLocation = _decimal(corner @ cosines[:, 2])
        ds.PixelData = image.tobytes()
        paths.append(folder / name(number, ds.SOPInstanceUID))
        save(ds, paths[-1])
    return paths


def _decimal(value: float) -> str:
    """Write a DICOM decimal string: at most 16 characters, no negative zero.

    >>> _decimal(-12.5), _decimal(-1e-12)
    ('-12.5', '0')
    """
    text = f"{value:.9f}".rstrip("0").rstrip(".")[:16].rstrip(".")
    return "0" if text in ("-0", "") else text
