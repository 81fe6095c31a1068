"""Give the Hounsfield units of the synthetic patients' soft tissues, with contrast medium."""

from dataclasses import dataclass

from trabecula.density.attenuation import iodine_hu_per_mg_ml, material_hu

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
    """Give the Hounsfield units of soft tissues at an effective energy and contrast phase."""
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
