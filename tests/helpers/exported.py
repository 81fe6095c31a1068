"""A small cohort for the exports: public tables with known values, and cubes with known bodies."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.cohort.pseudonym import SYNTHETIC_KEY, pseudonym
from trabecula.export import objects
from trabecula.image.levels import CODE_OF_LEVEL, POSTERIOR
from trabecula.tables.cubes import VertebraCrop

SIZE, SPACING_MM = 24, 1.5
STARTED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
RUN = {"run_id": "0123456789abcdef", "model_id": "toy-1234abcd", "started": STARTED, "finished": STARTED}
LEVELS = {"T12": (4.3, -10.2, 60.7), "L1": (1.1, -11.0, 30.4), "L2": (-2.6, -9.4, 0.2)}


def name(kind: str, number: int) -> str:
    """Make a pseudonym as the index does."""
    return pseudonym(kind, f"{number}", SYNTHETIC_KEY)


@dataclass(frozen=True)
class Cohort:
    """A cohort: rows of the public tables, and the cubes."""

    patients: pa.Table
    studies: pa.Table
    vertebrae: pa.Table
    crops: list[VertebraCrop]

    def write(self, folder: Path) -> dict[str, Path]:
        """Write the tables and give their paths by name."""
        runs = pa.Table.from_pylist([RUN | {"run_id": "older", "started": datetime(2025, 1, 1, tzinfo=UTC)}, RUN])
        by_name = {"patients": self.patients, "studies": self.studies, "vertebrae": self.vertebrae, "runs": runs}
        paths = {table: folder / table / f"cohort=c/{table}.parquet" for table in by_name}
        for table, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(by_name[table], path)
        return paths

    def objects(self, folder: Path, *, synthetic: bool = True) -> list[objects.ScanObjects]:
        """Make the DICOM objects of all scans."""
        paths = self.write(folder)
        study_ids = [crop.study_id for crop in self.crops]
        rows = objects.read_rows(paths["studies"], paths["vertebrae"], study_ids)
        runs = tables.read_columns(paths["runs"])
        return list(objects.make_objects(self.crops, *rows, runs, spacing_mm=SPACING_MM, synthetic=synthetic))


def cohort(n: int = 2, *, seed: int = 0, **changed: Any) -> Cohort:
    """Make n patients with a study and three vertebrae each; `changed` differs in the first patient's L1."""
    rng = np.random.default_rng(seed)
    patients, studies, vertebrae, crops = [], [], [], []
    for i in range(n):
        keys = {"cohort": "c", "patient_id": name("patient", i), "study_id": name("study", i)}
        vbmd = rng.uniform(60, 160)
        patients.append(_patient(keys, vbmd))
        studies.append(_study(keys, name("series", i), vbmd, rng))
        for level, centre_mm in LEVELS.items():
            other = changed if level == "L1" and not i else {}
            vertebrae.append(_vertebra(keys, level, rng) | other)
            crops.append(_crop(keys, level, centre_mm, rng))
    public = (_table(patients, tables.PATIENTS), _table(studies, tables.STUDIES), _table(vertebrae, tables.VERTEBRAE))
    return Cohort(*public, crops)


def _table(rows: list[dict[str, Any]], to: pa.Schema) -> pa.Table:
    loose = pa.schema([field.with_nullable(True) for field in to if field.name != "cohort"])
    listed = [{key: row.get(key, [] if loose.field(key).type == tables.TEXTS else None) for key in loose.names}
              for row in rows]  # fmt: skip
    return pa.Table.from_pylist(listed, schema=loose)


def _patient(keys: dict[str, Any], vbmd: float) -> dict[str, Any]:
    return keys | {"sex": "F", "grade": "normal", "decision": "indeterminate", "vbmd_mg_cm3": vbmd}


def _study(keys: dict[str, Any], series: str, vbmd: float, rng: np.random.Generator) -> dict[str, Any]:
    figures = {"vbmd_mg_cm3": vbmd, "vbmd_low": vbmd - 20, "vbmd_high": vbmd + 20, "probability_reduced": rng.random()}
    figures |= {"trabecular_hu": rng.uniform(50, 200), "levels_used": ["L1", "L2"], "flags": ["thick_slices"]}
    figures |= {"novelty": ["new_device"]}
    facts = {"series_id": series, "sex": "F", "status": "measured", "days_from_first_study": 3, "age_years": 61.5}
    return keys | figures | facts


def _vertebra(keys: dict[str, Any], level: str, rng: np.random.Generator) -> dict[str, Any]:
    figures = {"trabecular_hu_mean": rng.uniform(50, 200), "trabecular_hu_sd": rng.uniform(10, 40)}
    figures |= {"trabecular_volume_mm3": rng.uniform(2e3, 5e3), "body_volume_mm3": rng.uniform(1e4, 3e4)}
    return keys | figures | {"level": level, "level_found": level, "level_uncertain": False, "segmenter": "test 1"}


def _crop(keys: dict[str, Any], level: str, centre_mm: tuple[float, float, float], rng: np.random.Generator):
    """Make a lopsided body with its arch behind it, so that a mirrored or turned body can be detected."""
    i, j, k = np.indices((SIZE, SIZE, SIZE)) - (SIZE - 1) / 2
    body = (i**2 / 64 + (j - 2) ** 2 / 36 + k**2 / 49 < 1) & ~((i > 2) & (k > 2)) & (rng.random(i.shape) > 0.1)
    label = np.where(body, CODE_OF_LEVEL[level], np.where(j < -8, POSTERIOR + CODE_OF_LEVEL[level], 0))
    return VertebraCrop(
        **keys, level=level, level_confidence=0.9, level_uncertain=False, complete=True, centroid_mm=centre_mm,
        segmenter="test 1", ct=np.zeros((SIZE, SIZE, SIZE), np.int16), label=label.astype(np.uint8),
    )  # fmt: skip
