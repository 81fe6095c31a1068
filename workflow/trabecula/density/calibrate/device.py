"""Lines from Hounsfield units to the QCT value per scanner, voltage, kernel and contrast phase."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from trabecula.density.calibrate.line import Line, fit_line
from trabecula.errors import StudyFailure

KEY = ("device_key", "phase")
# Columns of a labelled patient.
NEEDED = ("patient_id", *KEY, "trabecular_hu", "qct_vbmd_mg_cm3")


@dataclass(frozen=True)
class Devices:
    """Labelled patients of every device and phase, and the lines through them.

    Attributes
    ----------
    labelled : mapping from (device key, phase) to DataFrame
        Columns patient (pseudonym), hu, vbmd_mg_cm3; a row per patient.
    min_patients : int
        Labelled patients that a line needs.
    """

    labelled: dict[tuple[str, str], pd.DataFrame]
    min_patients: int
    _lines: dict[tuple[str, str], Line] = field(default_factory=dict, init=False, repr=False)

    def line(self, device_key: str, phase: str, patient: str) -> Line:
        """Give the line for a patient; a labelled patient is left out of their own line.

        Raises
        ------
        StudyFailure
            If too few other patients are labelled, or all of them have the same HU.
        """
        key = (device_key, phase)
        rows = self.labelled.get(key)
        if rows is None:
            raise StudyFailure("too_few_labels", "no labelled patient")
        if not (rows["patient"] == patient).any():
            if key not in self._lines:
                self._lines[key] = self._fit(rows)
            return self._lines[key]
        return self._fit(rows[rows["patient"] != patient])

    def _fit(self, rows: pd.DataFrame) -> Line:
        """Fit the line through patients; fail where they are too few."""
        if len(rows) < self.min_patients or rows["hu"].nunique() < 2:
            raise StudyFailure("too_few_labels", f"{len(rows)} labelled patients")
        return fit_line(rows["hu"], rows["vbmd_mg_cm3"])

    def table(self) -> list[dict[str, Any]]:
        """Give the rows of the table `calibrations`, over all labelled patients of each device and phase."""
        return [self._row(*key, rows) for key, rows in sorted(self.labelled.items())]

    def _row(self, device_key: str, phase: str, rows: pd.DataFrame) -> dict[str, Any]:
        """Give the row of a device and phase: the line, or the reason why there is none."""
        row: dict[str, Any] = dict.fromkeys(FITTED)
        row |= {"device_key": device_key, "phase": phase, "n": len(rows), "reason": None}
        try:
            line = self._fit(rows)
        except StudyFailure as failure:
            return row | {"reason": failure.reason}
        slope_sd, intercept_sd = np.sqrt(np.diag(line.covariance))
        values = (line.slope, line.intercept, slope_sd, intercept_sd, line.residual_sd, line.low_hu, line.high_hu)
        return row | {name: float(value) for name, value in zip(FITTED, values, strict=True)}


FITTED = ("slope", "intercept", "slope_sd", "intercept_sd", "residual_sd", "low_hu", "high_hu")


def gather(patients: Sequence[pd.DataFrame], *, min_patients: int) -> Devices:
    """Gather the labelled patients of development cohorts.

    Parameters
    ----------
    patients : sequence of DataFrame
        Columns patient_id, device_key, phase, trabecular_hu (HU), qct_vbmd_mg_cm3 (mg/cm3 HA); a row per patient.
        Patients who lack one of these are left out. A patient of several cohorts counts once per device and phase, by
        the first cohort.
    min_patients : int
        Labelled patients that a line needs.
    """
    columns = list(NEEDED)
    rows = pd.concat([pd.DataFrame(columns=columns), *(cohort[columns] for cohort in patients)], ignore_index=True)
    rows = rows.dropna().drop_duplicates(["patient_id", *KEY])
    labelled = pd.DataFrame(
        {
            "patient": rows["patient_id"],
            "hu": rows["trabecular_hu"].astype(float),
            "vbmd_mg_cm3": rows["qct_vbmd_mg_cm3"].astype(float),
        },
        index=rows.index,
    )
    keys = list(zip(rows["device_key"], rows["phase"], strict=True))
    return Devices({key: labelled[[row == key for row in keys]] for key in dict.fromkeys(keys)}, min_patients)
