"""What the networks have seen in training, and what of a new scan lies beyond it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trabecula.model.uncertainty.quantile import exceeded_by

# How far beyond the training's range counts as within it: a share of the range of HU, and millimetres.
HU_MARGIN, GEOMETRY_MARGIN_MM = 0.1, 1.0
# Differences between network and HU line that are too rare to be believed; with fewer than MANY patients the
# quantile can't be seen, and a multiple of a lower one stands in.
RARE, MANY = 0.01, 100
UNUSUAL, MULTIPLE = 0.05, 1.5
# Findings that speak against this one result. The others say that the training held no such scans, which is so for
# every patient of another hospital.
BLOCKING = ("hu_out_of_range", "differs_from_hu", "fold_spread")


@dataclass(frozen=True)
class Range:
    """Lowest and highest value of the training."""

    low: float
    high: float

    def beyond(self, values: pd.Series, *, margin: float) -> pd.Series:
        """Which values lie beyond the range by more than the margin; an unknown one does not."""
        return (values < self.low - margin) | (values > self.high + margin)


@dataclass(frozen=True)
class Experience:
    """What a model has seen.

    Attributes
    ----------
    devices : tuple of str
        Device keys.
    kvp, trabecular_hu, thickness_mm, spacing_mm : Range or None
        None where unknown of all patients.
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
    """Ranges over patients.

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
    known = values.dropna().astype(float)
    return Range(float(known.min()), float(known.max())) if len(known) else None


def _largest(differences: np.ndarray) -> float | None:
    if len(differences) >= MANY:
        return exceeded_by(differences, share=RARE)
    unusual = exceeded_by(differences, share=UNUSUAL)
    return None if unusual is None else MULTIPLE * unusual


def find(results: pd.DataFrame, seen: Experience) -> pd.Series:
    """Codes of `errors.NOVELTY` for each result; what is unknown of a scan gives none.

    Parameters
    ----------
    results : DataFrame
        See `uncertainty.judge`.
    seen : Experience
        Of the networks that predicted.

    Returns
    -------
    Series of list of str
    """
    number = {name: results[name].astype(float) for name in _NUMBERS}
    hu = seen.trabecular_hu
    hu_margin = HU_MARGIN * (hu.high - hu.low) if hu else 0.0
    geometry = [
        _beyond(number["thickness_mm"], seen.thickness_mm, margin=GEOMETRY_MARGIN_MM),
        _beyond(number["spacing_mm"], seen.spacing_mm, margin=GEOMETRY_MARGIN_MM),
    ]
    differences = (number["vbmd_mg_cm3"] - number["hu_baseline_vbmd_mg_cm3"]).abs()
    found = {
        "new_device": results["device_key"].notna() & ~results["device_key"].isin(seen.devices),
        "new_voltage": _beyond(number["kvp"], seen.kvp),
        "hu_out_of_range": _beyond(number["trabecular_hu"], hu, margin=hu_margin),
        "geometry_out_of_range": geometry[0] | geometry[1],
        "fold_spread": _over(number["fold_spread_mg_cm3"], seen.rmse_mg_cm3),
        "differs_from_hu": _over(differences, seen.hu_difference_mg_cm3),
    }
    rows = zip(*found.values(), strict=True)
    codes = [[code for code, holds in zip(found, row, strict=True) if holds] for row in rows]
    return pd.Series(codes, results.index, object)


_NUMBERS = (
    *("kvp", "trabecular_hu", "thickness_mm", "spacing_mm"),
    *("vbmd_mg_cm3", "hu_baseline_vbmd_mg_cm3", "fold_spread_mg_cm3"),
)


def _beyond(values: pd.Series, seen: Range | None, *, margin: float = 0.0) -> pd.Series:
    return pd.Series(False, values.index) if seen is None else seen.beyond(values, margin=margin)


def _over(values: pd.Series, limit: float | None) -> pd.Series:
    return pd.Series(False, values.index) if limit is None else values > limit


def blocking(codes: pd.Series) -> pd.Series:
    """Of each list of codes the first of `BLOCKING`, or None."""
    return pd.Series([_first(found) for found in codes], codes.index, object)


def _first(found: Sequence[str]) -> str | None:
    return next((code for code in BLOCKING if code in found), None)
