"""Draw the synthetic patients: age, sex, size, bone density and peculiarities.

Sources
-------
Trabecular vBMD of the lumbar spine: Riggs et al., J Bone Miner Res 2004;19:1945-54
(doi:10.1359/jbmr.040916), 373 women and 323 men: falls by 55 % in women and 46 % in men
from 20 to 90 years, from young adulthood on; Riggs et al., J Bone Miner Res 2008;23:205-14
(doi:10.1359/jbmr.071020): faster around the menopause, about 40 % of the life-long loss before 50.
Young women: 171 mg/ml in the third decade (Buchanan et al., J Bone Miner Res 1988). SD 27 mg/cm³.
Women have more than men at 40-60 years and not afterwards: Rühling et al.,
Front Endocrinol 2024 (doi:10.3389/fendo.2024.1352048).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from trabecula.density.attenuation import mean_marrow_fat

Sex = Literal["F", "M"]
Coverage = Literal["abdomen_pelvis", "upper_abdomen", "lumbar"]

VBMD_SD_MG_CM3 = 27.0
_AGES_YEARS = (20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0)
_VBMD_MG_CM3 = {
    "F": (175.0, 170.0, 158.0, 140.0, 114.0, 96.0, 85.0, 79.0),
    "M": (171.0, 161.0, 148.0, 136.0, 123.0, 111.0, 101.0, 92.0),
}
# Relative to L1-L2; thoracic bodies are denser, L3 is the least dense.
_LEVEL_FACTOR = {
    "T6": 1.24, "T7": 1.22, "T8": 1.20, "T9": 1.17, "T10": 1.13, "T11": 1.08, "T12": 1.05,
    "L1": 1.01, "L2": 0.99, "L3": 0.96, "L4": 0.98, "L5": 1.03, "L6": 1.05,
}  # fmt: skip


def mean_vbmd_mg_cm3(age_years: ArrayLike, sex: Sex) -> NDArray[np.float64]:
    """Give the population mean of trabecular vBMD of L1-L2, mg/cm³ HA, constant beyond 20 and 90 years.

    >>> float(mean_vbmd_mg_cm3(55, "F"))
    127.0
    """
    return np.interp(np.asarray(age_years, float), _AGES_YEARS, _VBMD_MG_CM3[sex])


@dataclass(frozen=True)
class Fracture:
    """A compressed vertebral body: heights relative to the intact body."""

    anterior: float
    middle: float
    posterior: float


@dataclass(frozen=True)
class Patient:
    """One synthetic person on the day of the scan.

    Attributes
    ----------
    index : int
        Number of the patient in the endless population of a seed.
    seed : int
        For the details of the anatomy that no attribute here spells out.
    patient_id, name, birth_date
        Invented identity: the hospital's, to be hidden by the workflow.
    skeletal_scale : float
        Size of bones relative to an average man.
    bmi_kg_m2 : float
        Body mass index; sets the outline and the fat.
    vbmd_mg_cm3 : mapping from level to float
        True mean trabecular density of each body, mg/cm³ HA.
    marrow_fat, muscle_fat : float
        Fat fractions of the lumbar marrow and the back muscles.
    lumbar_count : int
        4, 5 or 6 lumbar vertebrae.
    lordosis : float
        Strength of the sagittal curves relative to the average.
    scoliosis_mm : float
        Largest sideways deviation of the spine, signed.
    osteophytes : float
        Mean length of marginal osteophytes in mm.
    fractures : mapping from level to Fracture
    screws, cement : tuple of levels
        Levels with pedicle screws and with bone cement.
    aortic_calcification : float
        Share of the aortic wall that is calcified.
    phase_draw : float
        Uniform in 0 to 1; the device's share of contrast scans turns it into a phase.
    coverage : str
        What the scan shows.
    study_date : date
    """

    index: int
    seed: int
    patient_id: str
    name: str
    birth_date: date
    study_date: date
    age_years: float
    sex: Sex
    skeletal_scale: float
    bmi_kg_m2: float
    vbmd_mg_cm3: Mapping[str, float]
    marrow_fat: float
    muscle_fat: float
    lumbar_count: int
    lordosis: float
    scoliosis_mm: float
    osteophytes: float
    fractures: Mapping[str, Fracture]
    screws: tuple[str, ...]
    cement: tuple[str, ...]
    aortic_calcification: float
    phase_draw: float
    coverage: Coverage

    @property
    def levels(self) -> tuple[str, ...]:
        """List the levels from T6 down to the last lumbar vertebra."""
        return levels_of(self.lumbar_count)


def levels_of(lumbar_count: int) -> tuple[str, ...]:
    """List the levels from T6 downwards for a number of lumbar vertebrae.

    >>> levels_of(4)[-5:]
    ('T12', 'L1', 'L2', 'L3', 'L4')
    """
    return (*(f"T{i}" for i in range(6, 13)), *(f"L{i}" for i in range(1, lumbar_count + 1)))


def _choose(rng: Generator, options: dict[str, float]) -> str:
    return str(rng.choice(list(options), p=list(options.values())))


def _level_vbmd(rng: Generator, levels: tuple[str, ...], lumbar_mean: float) -> dict[str, float]:
    spread = {level: float(np.exp(rng.normal(0.0, 0.035))) for level in levels}
    return {level: max(20.0, lumbar_mean * _LEVEL_FACTOR[level] * spread[level]) for level in levels}


def _fractures(rng: Generator, vbmd: Mapping[str, float]) -> dict[str, Fracture]:
    """Draw compressed bodies: the weaker and the nearer to T12-L1, the likelier."""
    fractures = {}
    for level, density in vbmd.items():
        weak = 1.0 / (1.0 + np.exp((density - 62.0) / 12.0))
        site = {"T11": 1.2, "T12": 1.8, "L1": 1.8, "L2": 1.0}.get(level, 0.6)
        anterior, dip = rng.uniform(0.5, 0.8), rng.uniform(0.0, 0.12)
        if rng.random() < 0.16 * weak * site + 0.003:
            posterior = min(1.0, anterior + rng.uniform(0.1, 0.35))
            fractures[level] = Fracture(anterior, anterior + 0.5 * (posterior - anterior) - dip, posterior)
    return fractures


def _identity(rng: Generator, index: int, age_years: float) -> tuple[str, str, date, date]:
    study = date(2021, 1, 1) + timedelta(days=int(rng.integers(0, 1400)))
    birth = study - timedelta(days=int(age_years * 365.2425))
    syllables = ("ka", "lo", "mi", "ne", "ru", "sa", "ti", "vo", "ze", "bra")
    first_name = "".join(rng.choice(syllables, 3)).capitalize()
    return f"SYN-{index:07d}", f"SyntheticPerson{index:05d}^{first_name}", birth, study


def sample_patient(seed: int, index: int) -> Patient:
    """Draw a patient; the same for a seed and index, however many others are drawn."""
    rng = np.random.default_rng([seed, index, 0x7AB])
    sex: Sex = "F" if rng.random() < 0.55 else "M"
    age = float(np.clip(rng.normal(61.0, 14.0), 21.0, 92.0))
    patient_id, name, birth, study = _identity(rng, index, age)
    lumbar_count = int(_choose(rng, {"5": 0.92, "4": 0.04, "6": 0.04}))
    z_density = rng.normal()
    lumbar_mean = max(22.0, float(mean_vbmd_mg_cm3(age, sex)) + VBMD_SD_MG_CM3 * z_density)
    vbmd = _level_vbmd(rng, levels_of(lumbar_count), lumbar_mean)
    fractures = _fractures(rng, vbmd)
    vbmd = {level: value * (1.2 if level in fractures else 1.0) for level, value in vbmd.items()}
    lumbar = [f"L{i}" for i in range(1, lumbar_count + 1)]
    operated = lumbar[-2:] if rng.random() < 0.03 else []
    cemented = [level for level in fractures if rng.random() < 0.2]
    return Patient(
        index=index,
        seed=int(rng.integers(2**31)),
        patient_id=patient_id,
        name=name,
        birth_date=birth,
        study_date=study,
        age_years=age,
        sex=sex,
        skeletal_scale=float((0.90 if sex == "F" else 1.0) * rng.normal(1.0, 0.045)),
        bmi_kg_m2=float(np.clip(rng.normal(26.5, 4.0), 18.0, 38.0)),
        vbmd_mg_cm3=vbmd,
        # Marrow fat rises as bone is lost (Griffith 2012), beyond what age explains.
        marrow_fat=float(np.clip(mean_marrow_fat(age, sex) - 0.02 * z_density + rng.normal(0, 0.06), 0.12, 0.8)),
        muscle_fat=float(np.clip(0.04 + 0.0035 * (age - 30) + rng.normal(0, 0.06), 0.02, 0.45)),
        lumbar_count=lumbar_count,
        lordosis=float(np.clip(rng.normal(0.9, 0.2), 0.4, 1.4)),
        scoliosis_mm=float(rng.normal(0.0, 14.0) if rng.random() < 0.12 else rng.normal(0.0, 2.0)),
        osteophytes=float(max(0.0, (age - 45.0) * 0.05 + rng.normal(0.0, 0.8))),
        fractures=fractures,
        screws=tuple(operated),
        cement=tuple(cemented),
        aortic_calcification=float(np.clip((age - 55.0) * 0.012 + rng.normal(0.0, 0.12), 0.0, 0.6)),
        phase_draw=float(rng.random()),
        coverage=_choose(rng, {"abdomen_pelvis": 0.72, "upper_abdomen": 0.16, "lumbar": 0.12}),  # type: ignore[arg-type]
    )
