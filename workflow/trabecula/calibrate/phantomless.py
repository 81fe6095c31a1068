"""Bone density from a patient's own air, fat, muscle and blood.

Internal calibration as Michalski, Besler, Michalak and Boyd, Med Eng Phys 2020 (doi:10.1016/j.medengphy.2020.01.009),
proposed it: at each candidate energy the measured Hounsfield units of tissues are fitted by a line to those that their
tabulated attenuation gives, and the energy of the best fit counts. Here every tissue counts by how well its composition
is known, the tube voltage says beforehand which energies are likely, and all energies are kept with their weights: what
the tissues can't tell widens the standard deviation.

Hounsfield units then become hydroxyapatite that displaces marrow. How much of the marrow is fat a single scan can't
tell; age and sex give its mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from trabecula.attenuation import iodine_hu_per_mg_ml, material_hu, mean_marrow_fat, spongiosa
from trabecula.calibrate.energy import energy_prior_kev
from trabecula.calibrate.line import Line
from trabecula.calibrate.phase import NATIVE_HU, Contrast
from trabecula.errors import StudyFailure

ENERGIES_KEV = np.arange(45.0, 95.5, 1.0)
# How far a tissue of a patient is from the one that is assumed, SD in HU: composition, place in the body, finding it.
TISSUES = {"air": 3.0, "fat": 15.0, "muscle": 12.0, "blood": 7.0}
AIR_HU = -998.8
# Fat in the muscle beside the spine, by volume; its spread is the greater part of that tissue's SD.
MUSCLE_FAT = 0.10
# Iodine after contrast medium, mg/ml, mean and SD; in marrow of its red part, where it is 5 to 20 HU of the bone. It
# comes late to both.
MUSCLE_IODINE_MG_ML = {"portal": (0.4, 0.3), "arterial": (0.2, 0.2)}
MARROW_IODINE_MG_ML = {"portal": (0.6, 0.3), "arterial": (0.3, 0.3)}
# Spread of marrow's fat between people of one age and sex, and what is assumed where these are unknown.
MARROW_FAT_SD = 0.08
MARROW_FAT, MARROW_FAT_UNKNOWN_SD = 0.45, 0.12
# Four SD in one tissue: then something else was taken for it.
WORST_MISFIT = 16.0


@dataclass(frozen=True)
class Tissues:
    """What a scan and its header say of a patient; None where unknown.

    Attributes
    ----------
    air_hu, fat_hu, muscle_hu, blood_hu : float or None
        Medians of the patient's tissues, see `tissue`.
    contrast : Contrast
        Whether contrast medium was given.
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
        """Probability of contrast medium; even where nothing is known of it."""
        return 0.5 if self.contrast.probability is None else self.contrast.probability


def calibrate(tissues: Tissues) -> Line:
    """Line from Hounsfield units to trabecular vBMD for one scan.

    Parameters
    ----------
    tissues : Tissues
        The tissues of the scan, and what is known of it.

    Returns
    -------
    Line
        To mg/cm3 HA; its covariance holds the tissues, the energy and the marrow.

    Raises
    ------
    StudyFailure
        If air and two other tissues are not seen, or no energy makes them fit together.
    """
    seen = [name for name in TISSUES if _measured_hu(tissues, name) is not None]
    if "air" not in seen or len(seen) < 3:
        raise StudyFailure("no_reference_tissue", "seen: " + (", ".join(seen) or "none"))
    fits, covariances, misfit = _fits(tissues, seen)
    if misfit.min() > WORST_MISFIT:
        raise StudyFailure("odd_tissues", f"misfit {misfit.min():.0f}")
    mean_kev, sd_kev = energy_prior_kev(tissues.kvp)
    score = -0.5 * (misfit + ((ENERGIES_KEV - mean_kev) / sd_kev) ** 2)
    weights = np.exp(score - score.max())
    lines, covariances = _to_density(fits, covariances, tissues)
    return _mean_line(lines, covariances, weights / weights.sum())


def _mean_line(lines: NDArray, covariances: NDArray, weights: NDArray) -> Line:
    """Mean of (n, 2) lines; its covariance is that within them and that between them (law of total variance)."""
    slope, intercept = weights @ lines
    away = lines - [slope, intercept]
    covariance = np.tensordot(weights, covariances + away[:, :, None] * away[:, None, :], axes=1)
    return Line(float(slope), float(intercept), covariance, 0.0)


def _measured_hu(tissues: Tissues, name: str) -> float | None:
    """HU of a tissue that is of use: blood with contrast medium says nothing."""
    if name == "blood" and tissues.contrast.phase != "native":
        return None
    return getattr(tissues, f"{name}_hu")


def _fits(tissues: Tissues, names: list[str]) -> tuple[NDArray, NDArray, NDArray]:
    """Lines from measured to true Hounsfield units, each tissue weighted by how well it is known.

    Returns
    -------
    lines : (n, 2) array
        Slope and intercept at each energy.
    covariances : (n, 2, 2) array
        Of these.
    misfit : (n,) array
        Sum of squares, in units of the tissues' SD.
    """
    expected, sd = (np.stack(part, axis=1) for part in zip(*(_expected_hu(tissues, n) for n in names), strict=True))
    measured = np.array([_measured_hu(tissues, name) for name in names], float)
    design = np.stack([np.broadcast_to(measured, sd.shape), np.ones_like(sd)], axis=2) / sd[:, :, None]
    covariances = np.linalg.inv(design.transpose(0, 2, 1) @ design)
    target = (expected / sd)[:, :, None]
    lines = covariances @ (design.transpose(0, 2, 1) @ target)
    return lines[:, :, 0], covariances, np.sum((design @ lines - target) ** 2, axis=(1, 2))


def _expected_hu(tissues: Tissues, name: str) -> tuple[NDArray, NDArray]:
    """(n,) true HU of a tissue at each energy, and (n,) its SD between patients."""
    sd = np.full(len(ENERGIES_KEV), TISSUES[name])
    if name in ("air", "blood"):
        return np.full_like(sd, AIR_HU if name == "air" else NATIVE_HU), sd
    fat = 0.5 * (_hu("fat") + _hu("rich_fat"))
    if name == "fat":
        return fat, sd
    iodine, iodine_sd = _iodine(tissues, MUSCLE_IODINE_MG_ML)
    muscle = _hu("muscle") + MUSCLE_FAT * (fat - _hu("muscle"))
    return muscle + _iodine_hu() * iodine, np.hypot(sd, _iodine_hu() * iodine_sd)


@cache
def _hu(material: str) -> NDArray[np.float64]:
    """(n,) HU of a material at each energy."""
    return np.array([material_hu(material, energy) for energy in ENERGIES_KEV])


@cache
def _iodine_hu() -> NDArray[np.float64]:
    """(n,) HU per mg/ml of iodine at each energy."""
    return np.array([iodine_hu_per_mg_ml(energy) for energy in ENERGIES_KEV])


def _iodine(tissues: Tissues, given: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """Mean and SD of iodine in a tissue, mg/ml, when it may or may not have been given."""
    share, (mean, sd) = tissues.contrast_share, given.get(tissues.contrast.phase, given["portal"])
    return share * mean, float(np.sqrt(share * sd**2 + share * (1 - share) * mean**2))


def _to_density(lines: NDArray, covariances: NDArray, tissues: Tissues) -> tuple[NDArray, NDArray]:
    """(n, 2) lines from measured HU to mg/cm3 HA, and their covariances, to which the marrow adds."""
    fat, fat_sd = _marrow_fat(tissues)
    iodine, iodine_sd = _iodine(tissues, MARROW_IODINE_MG_ML)
    bones = [spongiosa(energy, marrow_fat=fat, iodine_mg_ml=iodine) for energy in ENERGIES_KEV]
    marrow, per_mg_cm3 = np.array([(bone.marrow_hu, bone.hu_per_mg_cm3) for bone in bones]).T
    red = _hu("red_marrow") + iodine * _iodine_hu()
    variance = ((_hu("yellow_marrow") - red) * fat_sd) ** 2 + ((1 - fat) * _iodine_hu() * iodine_sd) ** 2
    covariances = covariances.copy()
    covariances[:, 1, 1] += variance
    lines = np.stack([lines[:, 0], lines[:, 1] - marrow], axis=1)
    return lines / per_mg_cm3[:, None], covariances / per_mg_cm3[:, None, None] ** 2


def _marrow_fat(tissues: Tissues) -> tuple[float, float]:
    """Share of fat in the marrow and its SD."""
    if tissues.age_years is None or tissues.sex not in ("F", "M"):
        return MARROW_FAT, MARROW_FAT_UNKNOWN_SD
    return float(mean_marrow_fat(tissues.age_years, tissues.sex)), MARROW_FAT_SD
