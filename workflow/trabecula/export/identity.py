"""Under which names and numbers exported objects go: pseudonyms, and what follows from them."""

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
    """The DICOM UID with the bits of a pseudonym, as `pseudonym.pseudonym_uid` makes it of the identity."""
    bits = base64.b32decode(pseudonym[2:].upper().ljust(_BASE32_LETTERS, "="))
    return f"2.25.{int.from_bytes(bits, 'big')}"


def derived_uid(*parts: object) -> str:
    """A UID of what an object is made from (2.25 and 128 bits of a SHA-256, DICOM PS3.5 B.2).

    With a pseudonym among the parts it is keyed as that one is: nobody without the key gets it from an identity.
    """
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:16]
    return f"2.25.{int.from_bytes(digest, 'big')}"


@dataclass(frozen=True)
class Study:
    """Whose scan an object is of, and which run made its content.

    Attributes
    ----------
    patient_id, study_id, series_id : str
        Pseudonyms of the patient, the study and its measured series.
    sex : str or None
        F, M or O.
    run_id, model_id : str
        Run and model bundle.
    made : datetime
        When the run started: the only date in an object.
    synthetic : bool
        The patient is simulated.
    """

    patient_id: str
    study_id: str
    series_id: str
    sex: str | None
    run_id: str
    model_id: str
    made: datetime
    synthetic: bool

    @property
    def study_uid(self) -> str:
        """Study Instance UID: the study's pseudonym."""
        return as_uid(self.study_id)

    @property
    def series_uid(self) -> str:
        """Series Instance UID of the measured series: its pseudonym."""
        return as_uid(self.series_id)

    def uid(self, kind: str) -> str:
        """UID of something that this run makes for the scan; a run made again at another time makes other objects."""
        return derived_uid(self.study_id, self.series_id, self.run_id, self.made.isoformat(), kind)

    def described(self, text: str) -> str:
        """A description that says so when the patient is simulated."""
        return f"{text}, SYNTHETIC" if self.synthetic else text

    def made_by(self) -> dict[str, Any]:
        """Equipment and date, as highdicom's constructors take them."""
        return {
            "manufacturer": "Trabecula",
            "manufacturer_model_name": "Trabecula",
            "software_versions": __version__,
            "device_serial_number": self.run_id,
            "content_date": self.made.date(),
            "content_time": self.made.time().replace(microsecond=0),
        }


def source_image(study: Study) -> Dataset:
    """A stand-in for the measured series, with what objects made from it have to take over.

    The tables keep pseudonyms of studies and series, but not of single slices: this image's own UID
    exists nowhere else.
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


def mark_pseudonymous(made: Dataset, study: Study) -> None:
    """Say that the identity was taken out (DICOM PS3.15 E), and leave no date but that of the run."""
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = "Made from keyed pseudonyms; dates were left out"
    made.LongitudinalTemporalInformationModified = "REMOVED"
    made.InstanceCreationDate = study.made.date()
    made.InstanceCreationTime = study.made.time().replace(microsecond=0)
    # highdicom names itself, with the time of day at which it was called.
    for library in made.ContributingEquipmentSequence:
        library.ContributionDateTime = study.made.replace(microsecond=0, tzinfo=None)
