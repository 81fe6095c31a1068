"""Bone density from the rods of a calibration phantom that was scanned with the patient."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from trabecula.density.attenuation import in_water
from trabecula.density.calibrate.energy import energy_prior_kev
from trabecula.density.calibrate.line import Line, fit_line
from trabecula.errors import StudyFailure

# More even spots than this under a patient are no phantom.
MOST_SPOTS = 14
# Rods lie on a straight line: correlation, and residual SD in mg/cm3.
LEAST_CORRELATION, WORST_RESIDUAL_MG_CM3 = 0.995, 8.0
# The slope may differ by this share from that of hydroxyapatite at the tube's energy; K2HPO4 and solid rods need it.
SLOPE_SHARE = 0.35
# HU differ between the rods' place under the patient and the spine: over the field of view, water is the same to about
# 5 HU (the limit of acceptance tests).
UNIFORMITY_SD_HU = 3.0


def calibrate(rods_hu: Sequence[float], densities_mg_cm3: Sequence[float], *, kvp: float | None) -> Line:
    """Fit the line through the rods of a phantom.

    Parameters
    ----------
    rods_hu : sequence of float
        Median HU of the even spots under the patient, see `tissue.rods_hu`; there may be more spots than rods.
    densities_mg_cm3 : sequence of float
        Densities of the rods in mg/cm3 HA, at least three.
    kvp : float or None
        Tube voltage, against which the line's slope is checked.

    Returns
    -------
    Line
        To mg/cm3 HA in water, as quantitative CT gives it. Fat in the marrow lowers this density; the SD of the line
        does not include that.

    Raises
    ------
    StudyFailure
        If no choice of the values lies on a straight line of a plausible slope.
    """
    densities = np.sort(np.asarray(densities_mg_cm3, float))
    if not len(densities) <= len(rods_hu) <= MOST_SPOTS:
        raise StudyFailure("no_phantom", f"{len(rods_hu)} even spots under the patient")
    choices = (np.array(rods) for rods in combinations(sorted(rods_hu), len(densities)))
    lines = [fit_line(rods, densities) for rods in choices if np.ptp(rods) > 0]
    best = min(lines, key=lambda line: line.residual_sd, default=None)
    if best is None or not _plausible(best, float(np.std(densities)), kvp):
        raise StudyFailure("no_phantom", f"{len(rods_hu)} even spots under the patient, not on a line")
    return replace(best, residual_sd=float(np.hypot(best.residual_sd, UNIFORMITY_SD_HU * best.slope)))


def _plausible(line: Line, density_sd: float, kvp: float | None) -> bool:
    """Tell whether a line is straight enough, and about as steep as that of hydroxyapatite."""
    usual = 1.0 / in_water(energy_prior_kev(kvp)[0]).hu_per_mg_cm3
    correlation = 1.0 - 0.5 * (line.residual_sd / density_sd) ** 2
    straight = correlation >= LEAST_CORRELATION and line.residual_sd <= WORST_RESIDUAL_MG_CM3
    return straight and abs(line.slope / usual - 1.0) <= SLOPE_SHARE
