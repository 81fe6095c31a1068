"""Likely effective energy at a tube voltage."""

from functools import cache

import numpy as np

from trabecula.density.attenuation import EFFECTIVE_ENERGY_KEV

# Filters and patients differ: at 120 kV effective energies of about 65 to 75 keV are reported.
SD_KEV = 3.0
# Where the header gives no voltage that a CT can have: 80 to 140 kV, 120 kV the most usual.
UNKNOWN_KEV, UNKNOWN_SD_KEV = 66.0, 7.0
POSSIBLE_KVP = (60.0, 160.0)


@cache
def energy_prior_kev(kvp: float | None) -> tuple[float, float]:
    """Give mean and SD of the effective energy, in keV, as the tube voltage alone predicts it.

    >>> round(energy_prior_kev(120.0)[0]), round(energy_prior_kev(None)[0])
    (68, 66)
    """
    if kvp is None or not POSSIBLE_KVP[0] <= kvp <= POSSIBLE_KVP[1]:
        return UNKNOWN_KEV, UNKNOWN_SD_KEV
    voltages = sorted(EFFECTIVE_ENERGY_KEV)
    line = np.polyfit(voltages, [EFFECTIVE_ENERGY_KEV[voltage] for voltage in voltages], 1)
    return float(np.polyval(line, kvp)), SD_KEV
