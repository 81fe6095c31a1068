"""Bone density from a patient's own air, fat, muscle and blood.

Internal calibration as Michalski, Besler, Michalak and Boyd, Med Eng Phys 2020 (doi:10.1016/j.medengphy.2020.01.009),
proposed it: at each candidate energy the measured Hounsfield units of tissues are fitted by a line to those that their
tabulated attenuation gives, and the energy of the best fit counts. Here every tissue is weighted by how well its
composition is known, the tube voltage gives the prior probability of each energy, and all energies are kept with their
weights, so that an undecided energy widens the standard deviation.

Hounsfield units are then converted to hydroxyapatite that displaces marrow. A single scan cannot show how much of the
marrow is fat; its mean is taken from age and sex.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from trabecula.density.attenuation import (
    HYDROXYAPATITE_DENSITY_MG_CM3,
    iodine_hu_per_mg_ml,
    material_hu,
    mean_marrow_fat,
)
from trabecula.density.calibrate.energy import energy_prior_kev
from trabecula.density.calibrate.line import Line
from trabecula.density.calibrate.phase import NATIVE_HU, Contrast
from trabecula.errors import StudyFailure

ENERGIES_KEV = np.arange(45.0, 95.5, 1.0)
# SD in HU between a patient's tissue and the assumed one: composition, place in the body, and errors in finding it.
TISSUES = {"air": 3.0, "fat": 15.0, "muscle": 12.0, "blood": 7.0}
AIR_HU = -998.8
# Fat in the muscle beside the spine, by volume; its spread is the greater part of that tissue's SD.
MUSCLE_FAT = 0.10
# Iodine after contrast medium, mg/ml, mean and SD, in muscle and in red marrow, where it adds 5 to 20 HU to the bone.
# It reaches both late.
MUSCLE_IODINE_MG_ML = {"portal": (0.4, 0.3), "arterial": (0.2, 0.2)}
MARROW_IODINE_MG_ML = {"portal": (0.6, 0.3), "arterial": (0.3, 0.3)}
# SD of marrow fat between people of one age and sex; mean and SD where age or sex is unknown.
MARROW_FAT_SD = 0.08
MARROW_FAT, MARROW_FAT_UNKNOWN_SD = 0.45, 0.12
# Four SD in one tissue: then something else was mistaken for it.
WORST_MISFIT = 16.0


@dataclass(frozen=True)
class Tissues:
    """Tissues of a patient and facts from the header of the scan; None where unknown.

    Attributes
    ----------
    air_hu, fat_hu, muscle_hu, blood_hu : float or None
        Medians of the patient's tissues, see `tissue`.
    contrast : Contrast
        Probability and phase of contrast medium.
    kvp : float or None
        Tube voltage.
    age_years : float or None
        Age at the scan.
    sex : str or None
        F, M or O.
    """

    air_hu: float | None
    fat_hu: float | None
    muscle_hu: float | None
    blood_hu: float | None
    contrast: Contrast
    kvp: float | None = None
    age_years: float | None = None
    sex: str | None = None

    @property
    def contrast_share(self) -> float:
        """Probability that contrast medium was given; one half where nothing is known."""
        return 0.5 if self.contrast.probability is None else self.contrast.probability


@dataclass(frozen=True)
class _Lines:
    """Lines and their variances, each an (n, energies) array: n scans from measured HU to true HU or mg/cm3 HA."""

    slope: NDArray[np.float64]
    intercept: NDArray[np.float64]
    slope_var: NDArray[np.float64]
    both_var: NDArray[np.float64]
    intercept_var: NDArray[np.float64]


def calibrate(tissues: Tissues) -> Line:
    """Fit the line from Hounsfield units to trabecular vBMD for one scan; see `calibrate_all`.

    Raises
    ------
    StudyFailure
        If air and two other tissues are not seen, or no energy makes them fit together.
    """
    (line,) = calibrate_all([tissues])
    if isinstance(line, StudyFailure):
        raise line
    return line


def calibrate_all(scans: Sequence[Tissues]) -> list[Line | StudyFailure]:
    """Fit the line from Hounsfield units to trabecular vBMD for each scan, or give the reason why it has none.

    Parameters
    ----------
    scans : sequence of Tissues
        Tissues and header facts of each scan.

    Returns
    -------
    list of Line or StudyFailure
        To mg/cm3 HA; the covariance of a line includes the uncertainty of the tissues, the energy and the marrow.
    """
    if not scans:
        return []
    seen = {name: np.array([_measured_hu(scan, name) for scan in scans], float) for name in TISSUES}
    n_seen = _total(np.isfinite(hu) for hu in seen.values())
    fits, misfit = _fits(scans, seen)
    prior = np.array([energy_prior_kev(scan.kvp) for scan in scans])
    score = -0.5 * (misfit + ((ENERGIES_KEV - prior[:, :1]) / prior[:, 1:]) ** 2)
    weights = np.exp(score - score.max(axis=1, keepdims=True))
    lines = _mean_lines(_to_density(fits, scans), weights / weights.sum(axis=1, keepdims=True))
    too_few = np.isnan(seen["air"]) | (n_seen < 3)
    return [
        _too_few(seen, i) if too_few[i] else _odd(misfit[i]) if misfit[i].min() > WORST_MISFIT else line
        for i, line in enumerate(lines)
    ]


def _too_few(seen: Mapping[str, NDArray], i: int) -> StudyFailure:
    """Give the failure of a scan in which too few tissues are seen."""
    names = [name for name, hu in seen.items() if np.isfinite(hu[i])]
    return StudyFailure("no_reference_tissue", "seen: " + (", ".join(names) or "none"))


def _odd(misfit: NDArray) -> StudyFailure:
    """Give the failure of a scan whose tissues fit at no energy."""
    return StudyFailure("odd_tissues", f"misfit {misfit.min():.0f}")


def _mean_lines(lines: _Lines, weights: NDArray) -> list[Line]:
    """Average over energies; the covariance is that within them plus that between them (law of total variance)."""
    slope, intercept = ((weights * part).sum(axis=1) for part in (lines.slope, lines.intercept))
    away = lines.slope - slope[:, None], lines.intercept - intercept[:, None]
    parts = (
        lines.slope_var + away[0] ** 2, lines.both_var + away[0] * away[1],
        lines.both_var + away[0] * away[1], lines.intercept_var + away[1] ** 2,
    )  # fmt: skip
    covariance = np.stack([(weights * part).sum(axis=1) for part in parts], axis=1).reshape(-1, 2, 2)
    return [Line(float(a), float(b), matrix, 0.0) for a, b, matrix in zip(slope, intercept, covariance, strict=True)]


def _measured_hu(tissues: Tissues, name: str) -> float | None:
    """Give the HU of a tissue that serves as a reference; blood with contrast medium does not."""
    if name == "blood" and tissues.contrast.phase != "native":
        return None
    return getattr(tissues, f"{name}_hu")


def _fits(scans: Sequence[Tissues], seen: Mapping[str, NDArray]) -> tuple[_Lines, NDArray]:
    """Fit measured to true Hounsfield units by least squares, each tissue weighted by how well it is known.

    Returns
    -------
    lines : _Lines
        At each energy; without meaning where fewer than two tissues are seen.
    misfit : (n, energies) array
        Sum of squares, in units of the tissues' SD.
    """
    true = {name: _expected_hu(scans, name) for name in TISSUES}
    weight = {name: np.isfinite(seen[name])[:, None] / true[name][1] ** 2 for name in TISSUES}
    x = {name: np.nan_to_num(hu)[:, None] for name, hu in seen.items()}
    s, sx, sxx = (_total(weight[name] * x[name] ** power for name in TISSUES) for power in (0, 1, 2))
    sy, sxy = (_total(weight[name] * x[name] ** power * true[name][0] for name in TISSUES) for power in (0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        area = s * sxx - sx**2
        slope, intercept = (s * sxy - sx * sy) / area, (sxx * sy - sx * sxy) / area
        lines = _Lines(slope, intercept, s / area, -sx / area, sxx / area)
        misfit = _total(weight[name] * (slope * x[name] + intercept - true[name][0]) ** 2 for name in TISSUES)
    return lines, misfit


def _total(parts: Iterable[NDArray]) -> NDArray[np.float64]:
    """Add arrays."""
    return np.asarray(sum(parts), np.float64)


def _expected_hu(scans: Sequence[Tissues], name: str) -> tuple[NDArray, NDArray]:
    """Give the true HU of a tissue and its SD between patients; (n, energies), or (1, energies) if the same for all."""
    sd = np.full((1, len(ENERGIES_KEV)), TISSUES[name])
    if name in ("air", "blood"):
        return np.full_like(sd, AIR_HU if name == "air" else NATIVE_HU), sd
    fat = 0.5 * (_hu("fat") + _hu("rich_fat"))
    if name == "fat":
        return fat[None], sd
    iodine, iodine_sd = _iodine(scans, MUSCLE_IODINE_MG_ML)
    muscle = _hu("muscle") + MUSCLE_FAT * (fat - _hu("muscle"))
    return muscle + _iodine_hu() * iodine, np.hypot(sd, _iodine_hu() * iodine_sd)


@cache
def _hu(material: str) -> NDArray[np.float64]:
    """Give the HU of a material at each energy; (energies,)."""
    return np.array([material_hu(material, energy) for energy in ENERGIES_KEV])


@cache
def _iodine_hu() -> NDArray[np.float64]:
    """Give the HU per mg/ml of iodine at each energy; (energies,)."""
    return np.array([iodine_hu_per_mg_ml(energy) for energy in ENERGIES_KEV])


def _iodine(scans: Sequence[Tissues], by_phase: Mapping[str, tuple[float, float]]) -> tuple[NDArray, NDArray]:
    """Give mean and SD of iodine in a tissue, mg/ml, weighing that it may not have been given; (n, 1) each."""
    share = np.array([[scan.contrast_share] for scan in scans])
    mean, sd = np.array([by_phase.get(scan.contrast.phase, by_phase["portal"]) for scan in scans]).T[..., None]
    return share * mean, np.sqrt(share * sd**2 + share * (1 - share) * mean**2)


def _to_density(lines: _Lines, scans: Sequence[Tissues]) -> _Lines:
    """Turn lines to true HU into lines to mg/cm3 HA; the marrow adds to their variance."""
    fat, fat_sd = np.array([_marrow_fat(scan) for scan in scans]).T[..., None]
    iodine, iodine_sd = _iodine(scans, MARROW_IODINE_MG_ML)
    red = _hu("red_marrow") + iodine * _iodine_hu()
    # The same mixture as in `attenuation.spongiosa`, at all energies.
    marrow = (1 - fat) * red + fat * _hu("yellow_marrow")
    hu_per_mg_cm3 = (_hu("hydroxyapatite") - marrow) / HYDROXYAPATITE_DENSITY_MG_CM3
    variance = ((_hu("yellow_marrow") - red) * fat_sd) ** 2 + ((1 - fat) * _iodine_hu() * iodine_sd) ** 2
    return _Lines(
        slope=lines.slope / hu_per_mg_cm3,
        intercept=(lines.intercept - marrow) / hu_per_mg_cm3,
        slope_var=lines.slope_var / hu_per_mg_cm3**2,
        both_var=lines.both_var / hu_per_mg_cm3**2,
        intercept_var=(lines.intercept_var + variance) / hu_per_mg_cm3**2,
    )


def _marrow_fat(tissues: Tissues) -> tuple[float, float]:
    """Give the share of fat in the marrow, and its SD."""
    if tissues.age_years is None or tissues.sex not in ("F", "M"):
        return MARROW_FAT, MARROW_FAT_UNKNOWN_SD
    return float(mean_marrow_fat(tissues.age_years, tissues.sex)), MARROW_FAT_SD
