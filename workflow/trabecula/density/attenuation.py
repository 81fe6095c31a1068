"""Hounsfield units of tissues from tabulated X-ray attenuation.

A scan of a given tube voltage is treated as monochromatic at an effective energy. Mass
attenuation comes from the Elam tables (Elam, Ravel, Sieber, Radiat Phys Chem 2002) through
xraydb, tissue compositions and densities are those of ICRU Report 44; lean and rich adipose
tissue are types 1 and 3 of Woodard and White, Br J Radiol 1986 (doi:10.1259/0007-1285-59-708-1209).

Marrow fat: Baum et al., Front Endocrinol 2018 (doi:10.3389/fendo.2018.00141): 32 ± 8 % (men) and
27 ± 6 % (women) in the twenties; Griffith et al., J Magn Reson Imaging 2012 (doi:10.1002/jmri.23619):
a steep rise in women of 55-65, after which they have about 10 % more than men.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import xraydb
from numpy.typing import ArrayLike, NDArray

EFFECTIVE_ENERGY_KEV = {80: 54.0, 100: 61.0, 120: 68.0, 140: 75.0}
HYDROXYAPATITE_DENSITY_MG_CM3 = 3160.0
_AGES_YEARS = (20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0)
_MARROW_FAT = {
    "F": (0.25, 0.27, 0.31, 0.38, 0.48, 0.55, 0.58, 0.60),
    "M": (0.30, 0.34, 0.37, 0.40, 0.43, 0.46, 0.49, 0.51),
}

# Material: density in g/cm³, mass fraction of each element.
MATERIALS: dict[str, tuple[float, dict[str, float]]] = {
    "water": (1.0, {"H": 0.1119, "O": 0.8881}),
    "fat": (0.95, {"H": 0.114, "C": 0.598, "N": 0.007, "O": 0.278, "Na": 0.001, "S": 0.001, "Cl": 0.001}),
    "lean_fat": (
        0.97,
        {"H": 0.112, "C": 0.517, "N": 0.013, "O": 0.355, "Na": 0.001, "S": 0.001, "Cl": 0.001},
    ),
    "rich_fat": (
        0.93,
        {"H": 0.116, "C": 0.681, "N": 0.002, "O": 0.198, "Na": 0.001, "S": 0.001, "Cl": 0.001},
    ),
    "muscle": (
        1.05,
        {"H": 0.102, "C": 0.143, "N": 0.034, "O": 0.710, "Na": 0.001, "P": 0.002, "S": 0.003, "Cl": 0.001, "K": 0.004},
    ),
    "blood": (
        1.06,
        {
            "H": 0.102, "C": 0.110, "N": 0.033, "O": 0.745, "Na": 0.001, "P": 0.001, "S": 0.002, "Cl": 0.003,
            "K": 0.002, "Fe": 0.001,
        },
    ),
    "red_marrow": (
        1.03,
        {"H": 0.105, "C": 0.414, "N": 0.034, "O": 0.439, "P": 0.001, "S": 0.002, "Cl": 0.002, "K": 0.002, "Fe": 0.001},
    ),
    "yellow_marrow": (
        0.98,
        {"H": 0.115, "C": 0.644, "N": 0.007, "O": 0.231, "Na": 0.001, "S": 0.001, "Cl": 0.001},
    ),
    "liver": (
        1.06,
        {"H": 0.102, "C": 0.139, "N": 0.030, "O": 0.716, "Na": 0.002, "P": 0.003, "S": 0.003, "Cl": 0.002, "K": 0.003},
    ),
    "kidney": (
        1.05,
        {
            "H": 0.103, "C": 0.132, "N": 0.030, "O": 0.724, "Na": 0.002, "P": 0.002, "S": 0.002, "Cl": 0.002,
            "K": 0.002, "Ca": 0.001,
        },
    ),
    "hydroxyapatite": (3.16, {"H": 0.00201, "O": 0.41407, "P": 0.18498, "Ca": 0.39895}),
    "iodine": (4.93, {"I": 1.0}),
}  # fmt: skip


@cache
def mass_attenuation_cm2_g(material: str, energy_kev: float) -> float:
    """Compute the mass attenuation coefficient of a material, in cm²/g.

    >>> round(mass_attenuation_cm2_g("water", 68.0), 3)
    0.195
    """
    fractions = MATERIALS[material][1]
    return sum(float(xraydb.mu_elam(element, energy_kev * 1e3)) * share for element, share in fractions.items())


@cache
def material_hu(material: str, energy_kev: float) -> float:
    """Compute the Hounsfield units of a pure material at its own density.

    >>> material_hu("water", 68.0), round(material_hu("fat", 68.0))
    (0.0, -79)
    """
    attenuation = MATERIALS[material][0] * mass_attenuation_cm2_g(material, energy_kev)
    return 1000.0 * (attenuation / mass_attenuation_cm2_g("water", energy_kev) - 1.0)


@cache
def iodine_hu_per_mg_ml(energy_kev: float) -> float:
    """Compute the rise in Hounsfield units per mg/ml of dissolved iodine.

    >>> iodine_hu_per_mg_ml(54.0) > iodine_hu_per_mg_ml(68.0) > 20
    True
    """
    return mass_attenuation_cm2_g("iodine", energy_kev) / mass_attenuation_cm2_g("water", energy_kev)


@dataclass(frozen=True)
class Spongiosa:
    """Trabecular bone as a linear function of its mineral.

    Attributes
    ----------
    marrow_hu : float
        Hounsfield units of the marrow alone.
    hu_per_mg_cm3 : float
        Rise per mg/cm³ of hydroxyapatite that displaces marrow.
    """

    marrow_hu: float
    hu_per_mg_cm3: float

    def hu(self, vbmd_mg_cm3: ArrayLike) -> NDArray[np.float64]:
        """Compute the Hounsfield units at a mineral density in mg/cm³ HA."""
        return np.asarray(self.marrow_hu + self.hu_per_mg_cm3 * np.asarray(vbmd_mg_cm3))


def spongiosa(energy_kev: float, *, marrow_fat: float, iodine_mg_ml: float = 0.0) -> Spongiosa:
    """Mix red and yellow marrow and let mineral displace them.

    Parameters
    ----------
    energy_kev : float
        Effective energy.
    marrow_fat : float
        Share of yellow marrow by volume, 0 to 1.
    iodine_mg_ml : float
        Contrast medium in red marrow (yellow marrow is hardly perfused).
    """
    red = material_hu("red_marrow", energy_kev) + iodine_mg_ml * iodine_hu_per_mg_ml(energy_kev)
    marrow = (1.0 - marrow_fat) * red + marrow_fat * material_hu("yellow_marrow", energy_kev)
    mineral = material_hu("hydroxyapatite", energy_kev)
    return Spongiosa(marrow, (mineral - marrow) / HYDROXYAPATITE_DENSITY_MG_CM3)


def in_water(energy_kev: float) -> Spongiosa:
    """Describe hydroxyapatite in water, as in the rods of a calibration phantom."""
    return Spongiosa(0.0, material_hu("hydroxyapatite", energy_kev) / HYDROXYAPATITE_DENSITY_MG_CM3)


def mean_marrow_fat(age_years: ArrayLike, sex: str) -> NDArray[np.float64]:
    """Look up the population mean of the fat fraction of lumbar marrow, 0 to 1, by age and sex (F, M).

    >>> float(mean_marrow_fat(70, "F"))
    0.55
    """
    return np.interp(np.asarray(age_years, float), _AGES_YEARS, _MARROW_FAT[sex])
