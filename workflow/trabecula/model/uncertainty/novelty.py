"""The range of scans that the networks saw in training, and warnings where a new scan lies beyond it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import pandas as pd

from trabecula.dicom.device_key import spectrum_of
from trabecula.model.uncertainty.quantile import exceeded_by

# Values beyond the training's range by less than this count as within it: a share of the range of HU, and millimetres.
HU_MARGIN, GEOMETRY_MARGIN_MM = 0.1, 1.0
# Share of the differences between network and HU line that is too rare to be believed. With fewer than MANY patients
# this quantile can't be seen, and a multiple of the lower quantile UNUSUAL stands in.
RARE, MANY = 0.01, 100
UNUSUAL, MULTIPLE = 0.05, 1.5
# Codes that speak against the single result. The others say that the training held no such scans, which is so for every
# patient of another hospital.
BLOCKING = ("other_spectrum", "hu_out_of_range", "differs_from_hu", "fold_spread")


@dataclass(frozen=True)
class Range:
    """Lowest and highest value of the training."""

    low: float
    high: float

    def beyond(self, values: pd.Series, *, margin: float) -> pd.Series:
        """Mark the values that lie beyond the range by more than the margin; an unknown value does not."""
        return (values < self.low - margin) | (values > self.high + margin)


@dataclass(frozen=True)
class Experience:
    """The scans of a model's training, and how far its networks erred on them.

    Attributes
    ----------
    devices : tuple of str
        Device keys.
    kvp, trabecular_hu, thickness_mm, spacing_mm : Range or None
        None where the fact is unknown of all patients.
    rmse_mg_cm3 : float or None
        Root mean square error of the network's vBMD, out of fold.
    hu_difference_mg_cm3 : float or None
        Largest believable difference between the network and the HU line; None where there are too few patients.
    n : int
        Patients.
    """

    devices: tuple[str, ...]
    kvp: Range | None
    trabecular_hu: Range | None
    thickness_mm: Range | None
    spacing_mm: Range | None
    rmse_mg_cm3: float | None
    hu_difference_mg_cm3: float | None
    n: int


def learn(cases: pd.DataFrame) -> Experience:
    """Learn the ranges over development patients.

    Parameters
    ----------
    cases : DataFrame
        See `uncertainty.learn`.
    """
    errors = (cases["regression"] - cases["qct_vbmd_mg_cm3"]).astype(float).dropna()
    differences = (cases["regression"] - cases["hu"]).astype(float).dropna().abs().to_numpy()
    return Experience(
        devices=tuple(sorted(set(cases["device_key"].dropna()))),
        kvp=_range(cases["kvp"]),
        trabecular_hu=_range(cases["trabecular_hu"]),
        thickness_mm=_range(cases["thickness_mm"]),
        spacing_mm=_range(cases["spacing_mm"]),
        rmse_mg_cm3=float(np.sqrt((errors**2).mean())) if len(errors) else None,
        hu_difference_mg_cm3=_largest(differences),
        n=len(cases),
    )


def _range(values: pd.Series) -> Range | None:
    """Give lowest and highest value; None where all are unknown."""
    numbers = values.dropna().astype(float)
    return Range(float(numbers.min()), float(numbers.max())) if len(numbers) else None


def _largest(differences: np.ndarray) -> float | None:
    """Give the largest believable difference between the network and the HU line, in mg/cm3."""
    if len(differences) >= MANY:
        return exceeded_by(differences, share=RARE)
    unusual = exceeded_by(differences, share=UNUSUAL)
    return None if unusual is None else MULTIPLE * unusual


def find(results: pd.DataFrame, seen: Experience) -> pd.Series:
    """List the codes of `errors.NOVELTY` that hold for each result; a fact that is unknown gives no code.

    Parameters
    ----------
    results : DataFrame
        See `uncertainty.judge`.
    seen : Experience
        The experience of the networks that predicted.

    Returns
    -------
    Series of list of str
    """
    numbers = {name: results[name].astype(float) for name in _NUMBERS}
    hu = seen.trabecular_hu
    hu_margin = HU_MARGIN * (hu.high - hu.low) if hu else 0.0
    thickness = _beyond(numbers["thickness_mm"], seen.thickness_mm, margin=GEOMETRY_MARGIN_MM)
    spacing = _beyond(numbers["spacing_mm"], seen.spacing_mm, margin=GEOMETRY_MARGIN_MM)
    differences = (numbers["vbmd_mg_cm3"] - numbers["hu_baseline_vbmd_mg_cm3"]).abs()
    new_device = results["device_key"].notna() & ~results["device_key"].isin(seen.devices)
    holds = {
        "new_device": new_device,
        "other_spectrum": new_device & results["device_key"].map(spectrum_of).notna(),
        "new_voltage": _beyond(numbers["kvp"], seen.kvp),
        "hu_out_of_range": _beyond(numbers["trabecular_hu"], hu, margin=hu_margin),
        "geometry_out_of_range": thickness | spacing,
        "fold_spread": _over(numbers["fold_spread_mg_cm3"], seen.rmse_mg_cm3),
        "differs_from_hu": _over(differences, seen.hu_difference_mg_cm3),
    }
    codes = [list(compress(holds, row)) for row in zip(*holds.values(), strict=True)]
    return pd.Series(codes, results.index, object)


_NUMBERS = (
    *("kvp", "trabecular_hu", "thickness_mm", "spacing_mm"),
    *("vbmd_mg_cm3", "hu_baseline_vbmd_mg_cm3", "fold_spread_mg_cm3"),
)


def _beyond(values: pd.Series, seen: Range | None, *, margin: float = 0.0) -> pd.Series:
    """Mark the values beyond a range by more than the margin; none where the range is unknown."""
    return pd.Series(False, values.index) if seen is None else seen.beyond(values, margin=margin)


def _over(values: pd.Series, limit: float | None) -> pd.Series:
    """Mark the values over a limit; none where the limit is unknown."""
    return pd.Series(False, values.index) if limit is None else values > limit


def blocking(codes: pd.Series) -> pd.Series:
    """Give the code that stops each result's decision: the first of `BLOCKING` that its list holds, or None.

    >>> blocking(pd.Series([["new_device"], ["fold_spread", "hu_out_of_range"]])).tolist()
    [None, 'hu_out_of_range']
    """
    return pd.Series([_first_blocking(codes_of_result) for codes_of_result in codes], codes.index, object)


def _first_blocking(codes: Sequence[str]) -> str | None:
    """Give the first of `BLOCKING` in a list of codes, or None."""
    return next((code for code in BLOCKING if code in codes), None)
