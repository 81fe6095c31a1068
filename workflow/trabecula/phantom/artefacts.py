"""Write the artefacts that real archives hold beside a study's CT: other objects of the study, and stray files.

Which study has which artefacts depends on the patient's index alone, so the proportions are fixed.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    XRayRadiationDoseSRStorage,
)

from trabecula.image.volume import Volume
from trabecula.phantom.dicom import (
    PatientAttributes,
    SeriesAttributes,
    StudyAttributes,
    make_uid,
    patient_study_block,
    save,
    write_series,
)

# Kind: (period, remainder): the studies whose patient's index leaves the remainder have it.
PROPORTIONS: dict[str, tuple[int, int]] = {
    "localizer": (1, 0),
    "dose_report": (2, 0),
    "sagittal": (3, 1),
    "secondary_capture": (4, 1),
    "thick": (6, 2),
    "sharp": (6, 5),
    "mr": (6, 3),
    "pet": (8, 4),
    "duplicates": (8, 6),
    "truncated": (8, 1),
    "text": (8, 3),
    "empty_folder": (8, 7),
}


def has_artefact(kind: str, index: int) -> bool:
    """Tell whether the study of a patient has a kind of artefact.

    >>> [index for index in range(12) if has_artefact("sagittal", index)]
    [1, 4, 7, 10]
    """
    period, remainder = PROPORTIONS[kind]
    return index % period == remainder


@dataclass(frozen=True)
class Headers:
    """Attributes of the study that artefacts are added to, and of its primary series."""

    patient: PatientAttributes
    study: StudyAttributes
    series: SeriesAttributes

    def other(self, kind: str, number: int, description: str, **changes: object) -> "SeriesAttributes":
        """Give the attributes of another series of the same study."""
        uid = make_uid(self.study.uid, kind)
        return replace(self.series, uid=uid, number=number, description=description, **changes)  # type: ignore[arg-type]


def write_localizer(ct: Volume, folder: Path, headers: Headers) -> None:
    """Write a coronal projection, stored as CT like real scouts are."""
    depth = ct.array.shape[1] // 2
    mean = ct.array.mean(axis=1, dtype=np.float32)
    affine = ct.affine.copy()
    affine[:3, 3] += affine[:3, 1] * depth
    scout = Volume((2.0 * np.clip(mean, -1024, None) + 600)[:, None, :].astype(np.int16), affine)
    series = headers.other("localizer", 1, "Scout", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), padding_hu=None)
    write_series(scout, folder, patient=headers.patient, study=headers.study, series=series, plane="coronal")


def write_sagittal(ct: Volume, folder: Path, headers: Headers) -> None:
    """Write a sagittal reformat of the middle 60 mm, as wide-spaced slices."""
    middle, step = ct.array.shape[0] // 2, max(1, round(5.0 / ct.spacing_mm[0]))
    first = middle - 6 * step
    affine = ct.affine.copy()
    affine[:3, 3] += affine[:3, 0] * first
    affine[:3, 0] *= step
    part = Volume(ct.array[first : middle + 6 * step + 1 : step], affine)
    series = headers.other("sagittal", 5, "Sag MPR", image_type=("DERIVED", "SECONDARY", "MPR"))
    write_series(part, folder, patient=headers.patient, study=headers.study, series=series, plane="sagittal")


def thicker(ct: Volume) -> Volume:
    """Average pairs of slices: the thick reconstruction of the same acquisition."""
    even = ct.array[:, :, : ct.array.shape[2] // 2 * 2].astype(np.int32)
    array = ((even[:, :, ::2] + even[:, :, 1::2]) // 2).astype(np.int16)
    affine = ct.affine.copy()
    affine[:3, 3] += 0.5 * affine[:3, 2]
    affine[:3, 2] *= 2
    return Volume(array, affine)


def _other_object(headers: Headers, kind: str, number: int, sop_class: str, modality: str) -> Dataset:
    ds = patient_study_block(headers.patient, headers.study)
    ds.SOPClassUID, ds.Modality = sop_class, modality
    ds.SeriesInstanceUID, ds.SeriesNumber = make_uid(headers.study.uid, kind), number
    ds.SOPInstanceUID, ds.InstanceNumber = make_uid(headers.study.uid, kind, 1), 1
    ds.Manufacturer, ds.ManufacturerModelName = headers.series.manufacturer, headers.series.model
    ds.SeriesDescription = kind.replace("_", " ")
    ds.ContentDate, ds.ContentTime = ds.StudyDate, ds.StudyTime
    return ds


def write_dose_report(folder: Path, headers: Headers) -> None:
    """Write a radiation dose structured report with its title and one value."""
    folder.mkdir(parents=True, exist_ok=True)
    ds = _other_object(headers, "dose_report", 997, XRayRadiationDoseSRStorage, "SR")
    ds.ReferencedPerformedProcedureStepSequence = Sequence()
    ds.PerformedProcedureCodeSequence = Sequence()
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = Sequence([_code("113701", "DCM", "X-Ray Radiation Dose Report")])
    value, item = Dataset(), Dataset()
    value.NumericValue = str(headers.series.exposure_mas * 4)
    value.MeasurementUnitsCodeSequence = Sequence([_code("mGy.cm", "UCUM", "mGy.cm")])
    item.RelationshipType, item.ValueType = "CONTAINS", "NUM"
    item.ConceptNameCodeSequence = Sequence([_code("113813", "DCM", "CT Dose Length Product Total")])
    item.MeasuredValueSequence = Sequence([value])
    ds.ContentSequence = Sequence([item])
    save(ds, folder / "dose.dcm")


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, scheme, meaning
    return ds


def _set_pixels(ds: Dataset, image: np.ndarray) -> None:
    ds.Rows, ds.Columns = image.shape[:2]
    bits = image.dtype.itemsize * 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits, bits - 1, 0
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.PixelData = image.tobytes()


def write_secondary_capture(ct: Volume, folder: Path, headers: Headers) -> None:
    """Write a screenshot of the middle slice, eight bits."""
    folder.mkdir(parents=True, exist_ok=True)
    ds = _other_object(headers, "secondary_capture", 99, SecondaryCaptureImageStorage, "OT")
    ds.ConversionType, ds.ImageType = "WSD", ["DERIVED", "SECONDARY"]
    image = ct.array[:, ::-1, ct.array.shape[2] // 2].T
    _set_pixels(ds, np.clip((image.astype(np.float32) + 160) / 400 * 255, 0, 255).astype(np.uint8))
    save(ds, folder / "capture.dcm")


def write_foreign_modality(ct: Volume, folder: Path, headers: Headers, modality: str) -> None:
    """Write a few coarse MR or PET slices under the same study."""
    folder.mkdir(parents=True, exist_ok=True)
    sop_class = MRImageStorage if modality == "MR" else PositronEmissionTomographyImageStorage
    step = max(1, ct.array.shape[0] // 64)
    for number, k in enumerate(range(0, ct.array.shape[2], 8), start=1):
        ds = _other_object(headers, modality.lower(), 20, sop_class, modality)
        ds.SOPInstanceUID, ds.InstanceNumber = make_uid(headers.study.uid, modality, number), number
        ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = make_uid(headers.study.uid, modality, "frame"), ""
        ds.ImageType, ds.PatientPosition = ["ORIGINAL", "PRIMARY"], "HFS"
        ds.PixelSpacing, ds.SliceThickness = [4, 4], 5
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-128, -128, 5 * number]
        if modality == "PET":
            ds.Units, ds.RescaleSlope, ds.RescaleIntercept, ds.Modality = "BQML", 1, 0, "PT"
        image = np.clip(ct.array[::-step, ::-step, k].T + 1024, 0, 4000).astype("<u2")
        _set_pixels(ds, np.ascontiguousarray(image))
        save(ds, folder / f"{modality.lower()}{number:03d}.dcm")


def write_stray_files(folder: Path, files: list[Path], index: int) -> None:
    """Write duplicates, a half-transferred file, a text file and an empty folder, as the patient's index has them."""
    folder.mkdir(parents=True, exist_ok=True)
    if has_artefact("duplicates", index):
        for path in files[:3]:
            (folder / f"copy_of_{path.name}").write_bytes(path.read_bytes())
    if has_artefact("truncated", index):
        whole = files[len(files) // 2].read_bytes()
        (folder / "transfer.tmp.dcm").write_bytes(whole[: len(whole) * 3 // 5])
    if has_artefact("text", index):
        (folder / "README.txt").write_text("Exported from the archive. No images in this file.\n")
    if has_artefact("empty_folder", index):
        (folder / "empty").mkdir(exist_ok=True)
