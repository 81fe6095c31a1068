"""Names, UIDs and dates of exported objects, made from pseudonyms and the run."""

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from trabecula import __version__

_BASE32_LETTERS = 32


def as_uid(pseudonym: str) -> str:
    """Give the DICOM UID with the bits of a pseudonym; `pseudonym.pseudonym_uid` makes the same from the identity."""
    bits = base64.b32decode(pseudonym[2:].upper().ljust(_BASE32_LETTERS, "="))
    return f"2.25.{int.from_bytes(bits, 'big')}"


def derived_uid(*parts: object) -> str:
    """Make a UID from the parts that define an object (2.25 and 128 bits of a SHA-256, DICOM PS3.5 B.2).

    With a pseudonym among the parts, nobody can compute the UID from an identity without the key of the pseudonyms.
    """
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:16]
    return f"2.25.{int.from_bytes(digest, 'big')}"


@dataclass(frozen=True)
class Study:
    """The scan that an object describes, and the run that made its content.

    Attributes
    ----------
    patient_id, study_id, series_id : str
        Pseudonyms of the patient, the study and its measured series.
    sex : str or None
        F, M or O.
    run_id, model_id : str
        Run and model bundle.
    started : datetime
        Start of the run: the only date in an object.
    synthetic : bool
        The patient is simulated.
    """

    patient_id: str
    study_id: str
    series_id: str
    sex: str | None
    run_id: str
    model_id: str
    started: datetime
    synthetic: bool

    @property
    def study_uid(self) -> str:
        """Give the Study Instance UID, made from the study's pseudonym."""
        return as_uid(self.study_id)

    @property
    def series_uid(self) -> str:
        """Give the Series Instance UID of the measured series, made from its pseudonym."""
        return as_uid(self.series_id)

    def uid(self, kind: str) -> str:
        """Make the UID of a kind of object of this scan and run; a run started at another time makes other UIDs."""
        return derived_uid(self.study_id, self.series_id, self.run_id, self.started.isoformat(), kind)

    def described(self, text: str) -> str:
        """Mark a description with SYNTHETIC when the patient is simulated."""
        return f"{text}, SYNTHETIC" if self.synthetic else text

    def equipment(self) -> dict[str, Any]:
        """Give equipment and date, as highdicom's constructors take them."""
        return {
            "manufacturer": "Trabecula",
            "manufacturer_model_name": "Trabecula",
            "software_versions": __version__,
            "device_serial_number": self.run_id,
            "content_date": self.started.date(),
            "content_time": self.started.time().replace(microsecond=0),
        }


def source_image(study: Study) -> Dataset:
    """Make a stand-in for the images of the measured series, with the attributes that objects made from it take over.

    The tables keep pseudonyms of studies and series, but not of single slices: the UID of this image exists nowhere
    else.
    """
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = derived_uid(study.series_id, "slices")
    image.SeriesInstanceUID = study.series_uid
    image.StudyInstanceUID = study.study_uid
    image.FrameOfReferenceUID = derived_uid(study.series_id, "frame of reference")
    image.PatientID = study.patient_id
    # A caret says that one part is the whole name (PS3.5, 6.2.1.2).
    image.PatientName = f"{study.patient_id}^"
    image.PatientSex = study.sex or ""
    image.PatientBirthDate = image.StudyDate = image.StudyTime = None
    image.AccessionNumber = image.StudyID = image.ReferringPhysicianName = ""
    image.PositionReferenceIndicator = ""
    image.Modality = "CT"
    image.Rows = image.Columns = 1
    image.PixelSpacing = [1.0, 1.0]
    image.SliceThickness = 1.0
    image.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    image.ImagePositionPatient = [0.0, 0.0, 0.0]
    return image


def mark_pseudonymous(dataset: Dataset, study: Study) -> None:
    """Say that the identity was removed (DICOM PS3.15 E), and set all dates to that of the run."""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Made from keyed pseudonyms; dates were left out"
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    dataset.InstanceCreationDate = study.started.date()
    dataset.InstanceCreationTime = study.started.time().replace(microsecond=0)
    # highdicom names itself, with the time of day at which it was called.
    for library in dataset.ContributingEquipmentSequence:
        library.ContributionDateTime = study.started.replace(microsecond=0, tzinfo=None)
