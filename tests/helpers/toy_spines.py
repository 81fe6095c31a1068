"""A toy cohort on disk, as the stages before training leave it: cylinders whose HU follow their vBMD."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trabecula import tables
from trabecula.image.levels import CODE_OF_LEVEL
from trabecula.tables.cubes import VertebraCrop, open_cubes

SIZE, SPACING_MM = 40, 2.0
LEVELS = ("T10", "T12", "L1", "L2", "L3")


@dataclass(frozen=True)
class Cohort:
    """Files of a toy cohort by stage, and its patients' true vBMD (mg/cm3)."""

    converts: list[str]
    cubes: list[str]
    crops: list[str]
    measures: list[str]
    studies: list[str]
    labels: list[str]
    vbmd_mg_cm3: dict[str, float]

    @property
    def files(self) -> dict[str, Any]:
        """Give the files that `cases.read_sources` reads."""
        return {name: getattr(self, name) for name in ("converts", "cubes", "crops", "measures", "studies", "labels")}


def body_mask() -> np.ndarray:
    """Make a (SIZE, SIZE, SIZE) mask of a cylinder around the axis from foot to head."""
    x, y, z = np.meshgrid(*[(np.arange(SIZE) - (SIZE - 1) / 2) * SPACING_MM] * 3, indexing="ij")
    return (np.hypot(x, y) < 20) & (abs(z) < 14)


def vertebra(patient: str, level: str, hu: float, rng: np.random.Generator, *, complete: bool = True) -> VertebraCrop:
    """Make a cylinder of bone in soft tissue, with noise."""
    body = body_mask()
    ct = np.where(body, hu, 40.0) + rng.normal(0, 15, body.shape)
    return VertebraCrop(
        cohort="toy",
        patient_id=patient,
        study_id=f"st-{patient}",
        level=level,
        level_confidence=0.9,
        level_uncertain=False,
        complete=complete,
        centroid_mm=(0.0, 0.0, 0.0),
        segmenter="toy",
        ct=ct.round().astype(np.int16),
        label=(body * CODE_OF_LEVEL[level]).astype(np.uint8),
    )


def write_cohort(folder: Path, patients: int, *, seed: int = 0, labelled: int | None = None) -> Cohort:
    """Write cubes (two shards), measurements, studies and labels of a toy cohort.

    Parameters
    ----------
    folder : Path
        Where the files go.
    patients, seed : int
        Number of patients, and seed.
    labelled : int, optional
        Patients with a QCT value; all by default.
    """
    rng = np.random.default_rng(seed)
    names = [f"pa{i:04d}" for i in range(patients)]
    vbmd = dict(zip(names, rng.normal(120, 35, patients).clip(30, 250).tolist(), strict=True))
    shards = [names[::2], names[1::2]]
    converts, cubes, crops, measures = [], [], [], []
    for number, members in enumerate(shards):
        converts.append(str(folder / f"toy/convert/{number:05d}.parquet"))
        cubes.append(str(folder / f"toy/crop/{number:05d}.arrow"))
        crops.append(str(folder / f"toy/crop/{number:05d}.parquet"))
        measures.append(str(folder / f"toy/measure/{number:05d}.parquet"))
        rows = []
        with open_cubes(cubes[-1], size=SIZE, spacing_mm=SPACING_MM) as write:
            for name in members:
                vertebrae = [
                    vertebra(name, level, 0.9 * vbmd[name] + 30, rng, complete=level != "L3") for level in LEVELS
                ]
                write(vertebrae)
                rows += [measurement(crop_of_level) for crop_of_level in vertebrae]
        tables.write(rows, tables.MEASURE, measures[-1])
        tables.write([crop(name, number) for number, name in enumerate(members)], tables.CROP, crops[-1])
        tables.write([converted(name) for name in members], tables.CONVERT, converts[-1])
    studies = [study(name) | {"shard": f"{number % 2:05d}"} for number, name in enumerate(names)]
    tables.write(studies, tables.STUDIES, folder / "studies.parquet")
    labels = [label(name, vbmd[name]) for name in names[:labelled]]
    tables.write(labels, tables.LABELS, folder / "labels.parquet")
    index = [str(folder / "studies.parquet")], [str(folder / "labels.parquet")]
    return Cohort(converts, cubes, crops, measures, *index, vbmd)


def row(schema, **values) -> dict:
    """Make a row of a table; columns without a value are NULL."""
    return dict.fromkeys(schema.names) | values


def measurement(crop: VertebraCrop) -> dict:
    """Make the row of `measure` for a toy vertebra."""
    mean = float(crop.ct[crop.label > 0].mean()) if crop.complete else None
    keys = {"cohort": "toy", "patient_id": crop.patient_id, "study_id": crop.study_id, "level": crop.level}
    return row(tables.MEASURE, **keys, trabecular_hu_mean=mean, flags=[] if crop.complete else ["incomplete"])


def converted(name: str, *digests: str) -> dict:
    """Make the row of `convert` for a toy scan, with digests of its own unless others are given."""
    keys = {"cohort": "toy", "patient_id": name, "study_id": f"st-{name}", "series_id": f"se-{name}"}
    values = {"status": "ok", "n_slices": 90, "slice_digests": list(digests) or [f"of {name}"]}
    return row(tables.CONVERT, **keys, **values, repairs=[], flags=[])


def crop(name: str, number: int) -> dict:
    """Make the row of `crop` for a toy scan; every other scan has contrast medium in the aorta."""
    keys = {"cohort": "toy", "patient_id": name, "study_id": f"st-{name}"}
    return row(tables.CROP, **keys, status="ok", n_vertebrae=len(LEVELS), blood_hu=150.0 if number % 2 else 40.0)


def study(name: str) -> dict:
    """Make a study of the index; two devices take turns."""
    keys = {"cohort": "toy", "patient_id": name, "study_id": f"st-{name}"}
    device = int(name.removeprefix("pa")) // 2 % 2
    facts = {"days_from_first_study": 0, "age_years": 60.0 + device, "sex": "F", "device_key": f"toy {device}"}
    facts |= {"kvp": 120.0 - 20 * device, "thickness_mm": 2.5, "spacing_mm": 2.5}
    return row(
        tables.STUDIES,
        **keys,
        **facts,
        repairs=[],
        flags=[],
        levels_used=[],
        novelty=[],
        earlier_ids=[],
        status="accepted",
    )


def label(name: str, vbmd_mg_cm3: float) -> dict:
    """Make a QCT label of the mean of L1 and L2."""
    values = {"level": "L1-L2", "vbmd_mg_cm3": vbmd_mg_cm3, "days_from_first_study": 3, "status": "used"}
    return row(tables.LABELS, cohort="toy", line=2, patient_id=name, unit_given="mg/cm3 HA", faults=[], **values)
