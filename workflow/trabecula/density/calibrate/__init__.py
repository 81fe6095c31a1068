"""From trabecular Hounsfield units to bone density, with its uncertainty and the name of the method.

Each study has one straight line (`Line`) or a reason why it has none; the line converts the HU of vertebrae and
patients. Nothing here reads scans: `crop` has measured the tissues and rods, so that another method needs no scan.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from trabecula import tables
from trabecula.density.calibrate import phantom, phantomless
from trabecula.density.calibrate.device import NEEDED, Devices, gather
from trabecula.density.calibrate.line import Line
from trabecula.density.calibrate.phase import Contrast, contrast
from trabecula.density.units import ha_from_k2hpo4, material_of
from trabecula.dicom.device_key import spectrum_of
from trabecula.errors import StudyFailure

__all__ = ["NEEDED", "OF_STUDY", "Devices", "Line", "Options", "calibrated", "contrast_rows", "gather", "study_lines"]


@dataclass(frozen=True)
class Options:
    """The configuration's section `calibrate`.

    Attributes
    ----------
    method : str
        none, device, phantom or phantomless.
    min_patients : int
        Labelled patients that a device's line needs.
    rods : sequence of float
        Densities of a phantom's rods.
    rods_unit : str
        mg/cm3 HA or mg/cm3 K2HPO4.
    """

    method: str
    min_patients: int
    rods: Sequence[float]
    rods_unit: str

    @property
    def rods_mg_cm3(self) -> list[float]:
        """Densities of the rods in mg/cm3 HA."""
        return [ha_from_k2hpo4(rod) if material_of(self.rods_unit) == "K2HPO4" else rod for rod in self.rods]


def contrast_rows(studies: pd.DataFrame) -> pd.DataFrame:
    """Give the columns contrast_probability and phase of studies, in their order; None for studies not measured.

    Blood tells nothing in images of another spectrum than a tube's: iodine is three times as bright at 40 keV.

    Parameters
    ----------
    studies : DataFrame
        Columns blood_hu (HU), kvp (kV), device_key, contrast_agent and status, as in the table `studies`.
    """
    needed = ("blood_hu", "kvp", "device_key", "contrast_agent", "status")
    rows: list[tuple[float | None, str | None]] = []
    for blood, kvp, key, agent, status in zip(*(studies[name].tolist() for name in needed), strict=True):
        blood_hu = None if spectrum_of(key) else _known(blood)
        weighed = contrast(blood_hu, _known(kvp), None if pd.isna(agent) else bool(agent))
        rows.append((weighed.probability, weighed.phase) if status == "measured" else (None, None))
    names = [column.name for column in tables.CONTRAST]
    return pd.DataFrame(rows, columns=names, index=studies.index, dtype=object)


def study_lines(studies: pd.DataFrame, options: Options, devices: Devices) -> dict[str, Line | str]:
    """Give the line of every measured study, or the reason why it has none.

    Parameters
    ----------
    studies : DataFrame
        Columns as in the table `studies`, with the scan's facts and contrast.
    options : Options
        Method and what it needs.
    devices : Devices
        Labelled patients, for the method device.
    """
    measured = studies[studies["status"] == "measured"]
    if options.method == "none":
        return dict.fromkeys(measured["study_id"], "no_calibration")
    rows = measured.to_dict("records")
    lines: dict[str, Line | str]
    if options.method == "phantomless":
        fitting = [row for row in rows if spectrum_of(row["device_key"]) is None]
        pairs = zip(fitting, phantomless.calibrate_all([_tissues(row) for row in fitting]), strict=True)
        lines = {row["study_id"]: line.reason if isinstance(line, StudyFailure) else line for row, line in pairs}
        return {row["study_id"]: lines.get(row["study_id"], "other_spectrum") for row in rows}
    lines = {}
    for row in rows:
        try:
            lines[row["study_id"]] = _line(row, options, devices)
        except StudyFailure as failure:
            lines[row["study_id"]] = failure.reason
    return lines


def _tissues(study: Mapping[Any, Any]) -> phantomless.Tissues:
    """Take the tissues and header facts from a row of the table `studies`."""
    numbers = {name: _known(study[name]) for name in _NUMBERS}
    agent = Contrast(_known(study["contrast_probability"]), study["phase"])
    return phantomless.Tissues(**numbers, contrast=agent, sex=study["sex"])


def _line(study: Mapping[Any, Any], options: Options, devices: Devices) -> Line:
    """Fit the line of a study by the method phantom or device."""
    if options.method == "phantom":
        rods = study["rods_hu"]
        return phantom.calibrate([] if rods is None else list(rods), options.rods_mg_cm3, kvp=_known(study["kvp"]))
    return devices.line(study["device_key"], study["phase"], study["patient_id"])


_NUMBERS = ("air_hu", "fat_hu", "muscle_hu", "blood_hu", "kvp", "age_years")
# Columns that a study's line needs.
OF_STUDY = [
    *("cohort", "patient_id", "study_id", "status", "sex", "device_key", "contrast_probability", "phase", "rods_hu"),
    *_NUMBERS,
]


def _known(value: Any) -> float | None:
    """Turn a missing value of pandas into None."""
    return None if pd.isna(value) else float(value)


def calibrated(
    hu: Iterable[float | None], studies: Iterable[str | None], lines: Mapping[str, Line | str], *, method: str
) -> pd.DataFrame:
    """Give the columns `tables.CALIBRATED` of vertebrae or patients.

    Parameters
    ----------
    hu : iterable of float
        Trabecular HU; None or NaN where not measured.
    studies : iterable of str
        The study whose line converts each value; None for a patient without a study.
    lines : mapping
        See `study_lines`; a study that it does not name was not measured.
    method : str
        Name of the method, for the column calibration.

    Returns
    -------
    DataFrame
        A row for each HU: either a density with its SD, or a reason.
    """
    values = pd.Series(list(hu), dtype=float).to_numpy()
    # The first row stands for studies that were not measured.
    results = ["not_measured", *lines.values()]
    place = pd.Index(list(lines), dtype=object).get_indexer(pd.Index(list(studies), dtype=object)) + 1
    reason = np.array([result if isinstance(result, str) else None for result in results], object)[place]
    reason[np.isnan(values) & pd.isna(reason)] = "not_measured"
    line = Line.of_many([_NO_LINE if isinstance(result, str) else result for result in results], place)
    defined = pd.isna(reason)
    values_of_columns = (line.vbmd_mg_cm3(values), line.sd_mg_cm3(values), method, reason, line.extrapolates(values))
    columns = zip((column.name for column in tables.CALIBRATED), values_of_columns, strict=True)
    rows = pd.DataFrame(dict(columns), dtype=object)
    hidden = ["vbmd_hu_mg_cm3", "vbmd_hu_sd_mg_cm3", "calibration_extrapolates"]
    return rows.assign(**{name: rows[name].where(defined, None) for name in hidden})


_NO_LINE = Line(np.nan, np.nan, np.full((2, 2), np.nan), np.nan)
