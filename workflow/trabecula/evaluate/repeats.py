"""How well a scan of the same patient soon after repeats the result."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2

from trabecula.evaluate.estimate import TAIL, Estimate
from trabecula.evaluate.sets import CALIBRATED, HU, NETWORK, UNIT

COLUMNS = {NETWORK: "vbmd_mg_cm3", HU: "hu_baseline_vbmd_mg_cm3", CALIBRATED: "vbmd_hu_mg_cm3"}
FACTS = ("cohort", "patient_id", "study_id", "days_from_first_study", "device_key", *COLUMNS.values())
# Scans of a window: on one scanner with one voltage and kernel, or whatever the device.
DEVICES = ("one", "any")
CHI_SQUARE = "chi-square of the variance"
NO_REPEATS = "no patient was scanned twice within these days"
# Of two single measurements, a change this many standard deviations large has a chance of 5 %: 1.96 x sqrt(2).
LSC = 2.77


def repeats(studies: pd.DataFrame, column: str, *, days: int, devices: str) -> pd.DataFrame:
    """Scans of patients who have several with a result within some days: of each the fullest such window, or the first.

    Parameters
    ----------
    studies : DataFrame
        Columns `FACTS`, of one cohort.
    column : str
        Whose value must be known.
    days : int
        Length of the window.
    devices : str
        Of `DEVICES`: one wants scans of one known device_key in a window.
    """
    of_window = ["patient_id", "device_key"] if devices == "one" else ["patient_id"]
    known = studies.dropna(subset=[column, "days_from_first_study", *of_window])
    known = known[known.duplicated(of_window, keep=False)].sort_values(
        [*of_window, "days_from_first_study", "study_id"]
    )
    patient, _ = pd.factorize(known["patient_id"])
    group = known.groupby(of_window, sort=True).ngroup().to_numpy()
    day = known["days_from_first_study"].to_numpy(float)
    # Groups lie further apart than any window reaches, so that one search serves all.
    place = group * (np.ptp(day) + days + 1 if len(day) else 1) + day
    size = pd.Series(np.searchsorted(place, place + days, side="right") - np.arange(len(place)))
    first = size.groupby(patient).idxmax()
    first = first[size[first].to_numpy() > 1].to_numpy()
    rows = np.concatenate([np.arange(0), *(np.arange(start, start + size[start]) for start in first)])
    return known.iloc[rows]


def precision(studies: pd.DataFrame, roles: pd.DataFrame, *, days: int) -> Iterator[dict[str, Any]]:
    """Rows of the table precision.

    Parameters
    ----------
    studies : DataFrame
        Columns `FACTS`.
    roles : DataFrame
        Columns cohort and role, a row per cohort.
    days : int
        Scans of a patient at most this far apart count as repeats.
    """
    for cohort, role in roles[["cohort", "role"]].itertuples(index=False):
        own = studies[studies["cohort"] == cohort]
        for (predictor, column), devices in product(COLUMNS.items(), DEVICES):
            scans = repeats(own, column, days=days, devices=devices)
            patient, _ = pd.factorize(scans["patient_id"])
            found = precision_errors(scans[column].to_numpy(float), patient)
            freedom = len(scans) - scans["patient_id"].nunique()
            for metric, estimate in found.items():
                unit = "%" if metric == "rmscv_percent" else UNIT
                row = {"metric": metric, "unit": unit, **vars(estimate), "degrees_of_freedom": freedom}
                row |= {"predictor": predictor, "devices": devices, "days_apart": days}
                yield {"cohort": cohort, "role": role, **row}


def precision_errors(values: NDArray[np.float64], patient: NDArray[np.intp]) -> dict[str, Estimate]:
    """Root mean square SD, its share of the mean (RMSCV), and the least significant change; n counts patients.

    Patients count by their degrees of freedom, scans less one. The interval is that of a variance; the CV's is scaled
    alike.

    Parameters
    ----------
    values : (n,) array
        Results of the scans, mg/cm3 HA.
    patient : (n,) array
        Number of the patient, from 0; each has two scans or more.

    References
    ----------
    Gluer et al., Osteoporos Int 1995;5:262.
    """
    if not len(values):
        unknown = Estimate(None, None, None, 0, CHI_SQUARE, NO_REPEATS)
        return dict.fromkeys(("rms_sd_mg_cm3", "rmscv_percent", "lsc_mg_cm3"), unknown)
    scans = np.bincount(patient)
    mean = np.bincount(patient, values) / scans
    squares = np.bincount(patient, (values - mean[patient]) ** 2)
    freedom = int((scans - 1).sum())
    sd = float((squares.sum() / freedom) ** 0.5)
    scale = (freedom / chi2.ppf([1 - TAIL, TAIL], freedom)) ** 0.5

    def estimate(value: float) -> Estimate:
        low, high = value * scale
        return Estimate(value, float(low), float(high), len(scans), CHI_SQUARE)

    found = {"rms_sd_mg_cm3": estimate(sd), "lsc_mg_cm3": estimate(LSC * sd)}
    if (mean <= 0).any():
        none = Estimate(None, None, None, len(scans), CHI_SQUARE, "a mean at or below zero has no CV")
        return found | {"rmscv_percent": none}
    return found | {"rmscv_percent": estimate(100 * float(((squares / mean**2).sum() / freedom) ** 0.5))}
