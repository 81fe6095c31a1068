"""Probability that contrast medium was given, from the attenuation of the blood, with the header as a hint."""

import math
from dataclasses import dataclass

from trabecula.density.attenuation import iodine_hu_per_mg_ml
from trabecula.density.calibrate.energy import energy_prior_kev

# Aorta without contrast medium: 39 to 50 HU (quartiles) without anaemia and 25 to 37 HU with it,
# doi:10.21203/rs.3.rs-1420003/v1; mean 38 HU in 151 patients of an abdominal series.
NATIVE_HU, NATIVE_SD_HU = 41.0, 8.0
# Iodine in the blood, mg/ml, mean and SD: at 120 kVp about 150 HU in the portal-venous and 300 in the arterial phase.
IODINE_MG_ML = {"portal": (3.9, 1.3), "arterial": (9.5, 3.0)}
# Probability of each phase before the blood is measured, by ContrastBolusAgent (0018,0010): it names a medium, names
# none, or is absent. It is often wrong or left empty.
PRIOR = {
    True: {"native": 0.15, "portal": 0.60, "arterial": 0.25},
    False: {"native": 0.80, "portal": 0.14, "arterial": 0.06},
    None: {"native": 0.45, "portal": 0.40, "arterial": 0.15},
}
# A phase is named from this probability on.
SURE = 0.8


@dataclass(frozen=True)
class Contrast:
    """Contrast medium of a scan.

    Attributes
    ----------
    probability : float or None
        Probability that contrast medium was given; None where the blood is not seen.
    phase : str
        native, portal, arterial, or unknown.
    """

    probability: float | None
    phase: str


def contrast(blood_hu: float | None, kvp: float | None, agent: bool | None) -> Contrast:
    """Weigh the phases by Bayes' rule, blood being normally distributed in each.

    Parameters
    ----------
    blood_hu : float or None
        Median of the aorta, see `tissue.blood_hu`.
    kvp : float or None
        Tube voltage: the softer the beam, the brighter the iodine.
    agent : bool or None
        True where the header names a contrast medium, False where it names none, None where it says nothing.

    Examples
    --------
    >>> contrast(40.0, 120.0, None).phase, contrast(150.0, 120.0, None).phase, contrast(None, 120.0, True).phase
    ('native', 'portal', 'unknown')
    """
    if blood_hu is None:
        return Contrast(None, "unknown")
    per_mg = iodine_hu_per_mg_ml(energy_prior_kev(kvp)[0])
    # Blood darker than usual is anaemia, not contrast medium; blood brighter than the usual arterial phase is arterial.
    ceiling = NATIVE_HU + per_mg * IODINE_MG_ML["arterial"][0]
    seen = min(max(blood_hu, NATIVE_HU), ceiling)
    weights = {"native": PRIOR[agent]["native"] * _density(seen, NATIVE_HU, NATIVE_SD_HU)}
    for phase, (mean, sd) in IODINE_MG_ML.items():
        spread = math.hypot(NATIVE_SD_HU, per_mg * sd)
        weights[phase] = PRIOR[agent][phase] * _density(seen, NATIVE_HU + per_mg * mean, spread)
    total = sum(weights.values())
    likeliest = max(weights, key=lambda phase: weights[phase])
    sure = weights[likeliest] / total >= SURE
    return Contrast(1.0 - weights["native"] / total, likeliest if sure else "unknown")


def _density(value: float, mean: float, sd: float) -> float:
    """Give the normal density at a value, up to a constant factor."""
    return math.exp(-0.5 * ((value - mean) / sd) ** 2) / sd
