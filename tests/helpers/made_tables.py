"""Public tables made by hand; a column that a row does not name is NULL or holds the plainest value."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.density.thresholds import Thresholds

# Patients whose second scan is of another device, or of an unknown one.
MOVED, UNKNOWN = (10, 20, 30, 41), 21


def plain(schema: pa.Schema) -> dict[str, Any]:
    """Give a row of a schema without content."""
    by_type = {pa.string(): "x", pa.bool_(): False, pa.int32(): 0, pa.float64(): 0.0, tables.TEXTS: []}
    row = {field.name: None if field.nullable else by_type.get(field.type, 0) for field in schema}
    for field in schema:
        values = tables.values_of(field)
        if values and row[field.name] == "x":
            row[field.name] = next(iter(values))
    return row


def write_tables(folder: Path, **rows: Iterable[dict[str, Any]]) -> Path:
    """Write all public tables, in their partitions; those not given are empty."""
    for name, schema in tables.PUBLIC.items():
        table = tables.cast([plain(schema) | row for row in rows.get(name, ())], schema)
        if name in tables.WHOLE:
            tables.write(table, schema, folder / name / f"{name}.parquet")
            continue
        for cohort in ("north", "south"):
            part = table.filter(pc.field("cohort") == cohort).drop_columns("cohort")
            path = folder / name / f"cohort={cohort}" / f"{name}.parquet"
            path.parent.mkdir(parents=True)
            pq.write_table(part.cast(tables.in_partition(schema)), path)
    return folder


def made_cohorts(seed: int = 7) -> dict[str, list[dict[str, Any]]]:
    """Make rows of two cohorts: 50 patients each with two scans, some failed, some labelled.

    The second scan of four patients is of another device, with far other values; of one patient its device is unknown.
    """
    draw = np.random.default_rng(seed)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in tables.PUBLIC}
    for cohort in ("north", "south"):
        for i in range(50):
            key = {"cohort": cohort, "patient_id": f"{cohort}{i:02d}"}
            vbmd, measured = float(draw.uniform(40, 200)), i % 9 != 0
            sex, device, age = ("F", "M", None)[i % 3 if i < 40 else 0], f"maker {i % 2}", float(draw.uniform(40, 90))
            facts = {"sex": sex, "device_key": device, "age_years": age}
            for scan, days in enumerate((0, int(draw.choice([10, 20, 400])) if i < 8 else 15)):
                study = key | facts | {"study_id": f"{cohort}{i:02d}.{scan}", "days_from_first_study": days}
                moved = scan == 1 and i in MOVED
                study |= {"device_key": "another"} if moved else {"device_key": None} if scan and i == UNKNOWN else {}
                fate = {"status": "measured"} if measured else {"status": "failed", "stage": "segment"}
                fate |= {} if measured else {"reason": "no_vertebra"}
                change = {"vbmd_mg_cm3": vbmd + float(draw.normal(0, 5)) + 30 * moved}
                change |= {"vbmd_hu_mg_cm3": vbmd + 1.0 * scan}
                rows["studies"].append(study | fate | (change if measured else {}))
                levels = ("L1", "L2", "L3") if measured else ()
                for level in levels:
                    hu = {"trabecular_hu_mean": float(draw.uniform(50, 200)), "complete": True, "level_found": level}
                    ids = key | {"study_id": study["study_id"], "level": level}
                    rows["vertebrae"].append(ids | hu)
                if not measured:
                    lost = key | {"study_id": study["study_id"], "stage": "segment", "reason": "no_vertebra"}
                    rows["failures"].append(lost)
            result = _result(i, vbmd, draw, f"{cohort}{i:02d}.0") if measured else _lost()
            rows["patients"].append(key | facts | result)
        counts = (("found", None, 50), ("measured", None, 44), ("measured", "no_vertebra", 6))
        for position, (step, reason, n) in enumerate(counts):
            count = {"position": position, "unit": "patients", "step": step, "reason": reason, "n": n}
            rows["flow"].append({"cohort": cohort} | count)
    return rows


def _result(i: int, vbmd: float, draw: np.random.Generator, study_id: str) -> dict[str, Any]:
    hu = vbmd + float(draw.normal(0, 25))
    grade = Thresholds().grade(vbmd)
    unsure = i % 10 == 1
    return {
        "study_id": study_id,
        "model_id": "m",
        "vbmd_mg_cm3": vbmd,
        "hu_baseline_vbmd_mg_cm3": hu,
        "qct_vbmd_mg_cm3": vbmd + float(draw.normal(3, 8)) if i % 4 else None,
        "grade": grade,
        "decision": "indeterminate" if unsure else "normal" if grade == "normal" else "reduced",
        "decision_reason": "near_cut" if unsure else None,
        "levels_used": ["L1", "L2"],
    }


def _lost() -> dict[str, Any]:
    return {"decision": "not_evaluable", "decision_reason": "no_vertebra"}
