"""Precision: how closely a second scan of the same patient soon after repeats the result."""

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
# Scans of a window lie on one scanner with one voltage and kernel, or on any.
DEVICES = ("one", "any")
CHI_SQUARE = "chi-square of the variance"
NO_REPEATS = "no patient was scanned twice within these days"
# Two single measurements differ by more than this many standard deviations with a chance of 5 %: 1.96 x sqrt(2).
LSC = 2.77


def repeats(studies: pd.DataFrame, column: str, *, days: int, devices: str) -> pd.DataFrame:
    """Find repeated scans: of each patient the window of some days with most results, the first of equal ones.

    Patients with fewer than two results in every window are left out.

    Parameters
    ----------
    studies : DataFrame
        Columns `FACTS`, of one cohort.
    column : str
        Column of the result, which must be known.
    days : int
        Length of the window.
    devices : str
        One of `DEVICES`; "one": the scans of a window have the same known device_key.
    """
    keys = ["patient_id", "device_key"] if devices == "one" else ["patient_id"]
    scans = studies.dropna(subset=[column, "days_from_first_study", *keys])
    scans = scans[scans.duplicated(keys, keep=False)].sort_values([*keys, "days_from_first_study", "study_id"])
    patient, _ = pd.factorize(scans["patient_id"])
    group = scans.groupby(keys, sort=True).ngroup().to_numpy()
    day = scans["days_from_first_study"].to_numpy(float)
    # Groups lie further apart than any window reaches, so that one search serves all.
    place = group * (np.ptp(day) + days + 1 if len(day) else 1) + day
    size = pd.Series(np.searchsorted(place, place + days, side="right") - np.arange(len(place)))
    first = size.groupby(patient).idxmax()
    first = first[size[first].to_numpy() > 1].to_numpy()
    rows = np.concatenate([np.arange(0), *(np.arange(start, start + size[start]) for start in first)])
    return scans.iloc[rows]


def precision(studies: pd.DataFrame, roles: pd.DataFrame, *, days: int) -> Iterator[dict[str, Any]]:
    """List the rows of the table precision.

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
        of_cohort = studies[studies["cohort"] == cohort]
        for (predictor, column), devices in product(COLUMNS.items(), DEVICES):
            scans = repeats(of_cohort, column, days=days, devices=devices)
            patient, _ = pd.factorize(scans["patient_id"])
            errors = precision_errors(scans[column].to_numpy(float), patient)
            freedom = len(scans) - scans["patient_id"].nunique()
            for metric, estimate in errors.items():
                unit = "%" if metric == "rmscv_percent" else UNIT
                row = {"metric": metric, "unit": unit, **vars(estimate), "degrees_of_freedom": freedom}
                row |= {"predictor": predictor, "devices": devices, "days_apart": days}
                yield {"cohort": cohort, "role": role, **row}


def precision_errors(values: NDArray[np.float64], patient: NDArray[np.intp]) -> dict[str, Estimate]:
    """Compute the root mean square SD, its share of the mean (RMSCV), and the least significant change.

    n counts patients. Each patient has the weight of their degrees of freedom, scans less one. The interval is that of
    a variance; the CV's is scaled alike.

    >>> errors = precision_errors(np.array([99.0, 101.0, 118.0, 122.0]), np.array([0, 0, 1, 1]))
    >>> round(errors["rms_sd_mg_cm3"].value, 6) == round((((99 - 101) ** 2 / 2 + (118 - 122) ** 2 / 2) / 2) ** 0.5, 6)
    True

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

    errors = {"rms_sd_mg_cm3": estimate(sd), "lsc_mg_cm3": estimate(LSC * sd)}
    if (mean <= 0).any():
        undefined = Estimate(None, None, None, len(scans), CHI_SQUARE, "a mean at or below zero has no CV")
        return errors | {"rmscv_percent": undefined}
    return errors | {"rmscv_percent": estimate(100 * float(((squares / mean**2).sum() / freedom) ** 0.5))}
