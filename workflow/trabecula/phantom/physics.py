"""Hounsfield units of tissues from tabulated X-ray attenuation.

A scan of a given tube voltage is treated as monochromatic at an effective energy. Mass
attenuation comes from the Elam tables (Elam, Ravel, Sieber, Radiat Phys Chem 2002) through
xraydb, tissue compositions and densities are those of ICRU Report 44.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xraydb
from numpy.typing import ArrayLike, NDArray

EFFECTIVE_ENERGY_KEV = {80: 54.0, 100: 61.0, 120: 68.0, 140: 75.0}
HYDROXYAPATITE_DENSITY_MG_CM3 = 3160.0

# Material: density in g/cm³, mass fraction of each element.
MATERIALS: dict[str, tuple[float, dict[str, float]]] = {
    "water": (1.0, {"H": 0.1119, "O": 0.8881}),
    "fat": (0.95, {"H": 0.114, "C": 0.598, "N": 0.007, "O": 0.278, "Na": 0.001, "S": 0.001, "Cl": 0.001}),
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


@lru_cache
def mass_attenuation_cm2_g(material: str, energy_kev: float) -> float:
    """Mass attenuation coefficient of a material, in cm²/g."""
    fractions = MATERIALS[material][1]
    return sum(float(xraydb.mu_elam(el, energy_kev * 1e3)) * share for el, share in fractions.items())


@lru_cache
def material_hu(material: str, energy_kev: float) -> float:
    """Hounsfield units of a pure material at its own density."""
    attenuation = MATERIALS[material][0] * mass_attenuation_cm2_g(material, energy_kev)
    return 1000.0 * (attenuation / mass_attenuation_cm2_g("water", energy_kev) - 1.0)


@lru_cache
def iodine_hu_per_mg_ml(energy_kev: float) -> float:
    """Rise in Hounsfield units per mg/ml of dissolved iodine."""
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
        """Hounsfield units at a mineral density in mg/cm³ HA."""
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


# Iodine in mg/ml by contrast phase; chosen to give the usual portal-venous aorta of about 150 HU at 120 kVp.
IODINE_MG_ML: dict[str, dict[str, float]] = {
    "native": {},
    "arterial": {"aorta": 9.5, "vein": 1.5, "kidney": 5.0, "liver": 0.6, "spleen": 3.0, "muscle": 0.2, "marrow": 0.4},
    "portal": {"aorta": 3.8, "vein": 3.6, "kidney": 4.8, "liver": 1.9, "spleen": 2.5, "muscle": 0.5, "marrow": 0.7},
}


@dataclass(frozen=True)
class TissueHu:
    """Hounsfield units of every soft tissue of one scan."""

    fat: float
    muscle: float
    skin: float
    aorta: float
    vein: float
    liver: float
    kidney: float
    spleen: float
    bowel: float
    fluid: float
    disc: float


def tissue_hu(energy_kev: float, phase: str) -> TissueHu:
    """Hounsfield units of soft tissues at an effective energy and contrast phase."""
    iodine, per_mg = IODINE_MG_ML[phase], iodine_hu_per_mg_ml(energy_kev)

    def enhanced(material: str, organ: str) -> float:
        return material_hu(material, energy_kev) + per_mg * iodine.get(organ, 0.0)

    return TissueHu(
        fat=material_hu("fat", energy_kev),
        muscle=enhanced("muscle", "muscle") + 8.0,
        skin=material_hu("muscle", energy_kev) - 10.0,
        aorta=enhanced("blood", "aorta") - 14.0,
        vein=enhanced("blood", "vein") - 14.0,
        liver=enhanced("liver", "liver"),
        kidney=enhanced("kidney", "kidney") - 8.0,
        spleen=enhanced("liver", "spleen") - 8.0,
        bowel=enhanced("muscle", "muscle") - 12.0,
        fluid=12.0,
        disc=enhanced("muscle", "none") + 32.0,
    )
