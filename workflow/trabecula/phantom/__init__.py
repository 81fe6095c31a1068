"""Make a synthetic CT archive of spines with known bone density.

`sample_patient` draws a person, `render` scans them on a `Device`, `write_series` stores a volume as DICOM and
`write_archive` makes a whole archive with labels and truth. An archive also holds artefacts, as real ones do: other
objects of a study and stray files.
"""

from trabecula.phantom.archive import write_archive
from trabecula.phantom.devices import DEVICES, Device
from trabecula.phantom.dicom import PatientAttributes, SeriesAttributes, StudyAttributes, write_series
from trabecula.phantom.population import Patient, sample_patient
from trabecula.phantom.render import Positioning, render

__all__ = [
    "DEVICES",
    "Device",
    "Patient",
    "PatientAttributes",
    "Positioning",
    "SeriesAttributes",
    "StudyAttributes",
    "render",
    "sample_patient",
    "write_archive",
    "write_series",
]
