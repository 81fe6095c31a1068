"""Measure the cost of aggregating a large archive, beside DuckDB and polars, which do only the core of it.

Run it as ``PYTHONPATH=workflow python bench/aggregate.py``; see bench/README.md.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
from measure import Contender, child

SCRIPT = __file__
MODEL = Path(__file__).parents[1] / "models" / "demo"
COHORT, LEVELS = "bench", ("T12", "L1", "L2", "L3", "L4", "L5")
WANTED, SUBSTITUTES = ("L1", "L2"), ("L3", "T12", "L4", "T11")
# Folds that predict, of those of the model: as for the patients of its training.
N_FOLDS = 1
STAGES = ("convert", "segment", "crop", "measure", "infer")
TARGETS = {"cpu_s": 30.0, "peak_mb": 1500.0, "times": 10.0}


# --- the shards' files ------------------------------------------------------------------------------------


def filled(schema: Any, n: int, **values: Any) -> Any:
    """Make a table of n rows: columns with values (one for all rows, or one per row), else a figure, NULL, or False."""
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(n)
    columns = []
    for field in schema:
        value = values.get(field.name)
        if field.name in values and (isinstance(value, (list, np.ndarray)) and len(value) == n):
            columns.append(pa.array(value, field.type))
        elif field.name in values:
            columns.append(pa.array([value] * n, field.type))
        elif pa.types.is_list(field.type):
            columns.append(pa.array([[]] * n, field.type))
        elif pa.types.is_floating(field.type):
            columns.append(pa.array(rng.normal(100.0, 30.0, n).round(3), field.type))
        else:
            columns.append(pa.array([None if field.nullable else False] * n, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def write_archive(folder: str, patients: str, per_shard: str) -> int:
    """Write the tables of index and shards for patients with a study and six vertebrae each.

    Returns
    -------
    int
        Number of the shards' files.
    """
    import hashlib

    import numpy as np
    import pyarrow as pa

    from trabecula import tables

    n, k = int(patients), int(per_shard)
    names = [hashlib.sha256(str(i).encode()).hexdigest()[:24] for i in range(n)]
    cohort = Path(folder) / COHORT
    key = {"cohort": COHORT, "patient_id": [f"p{name}" for name in names], "study_id": [f"s{name}" for name in names]}
    shown = {"kvp": 120.0, "manufacturer": "M", "model": "X", "kernel": "B", "thickness_mm": 1.0, "spacing_mm": 1.0}
    series = {"series_id": [f"e{name}" for name in names], "modality": "CT", "n_slices": 300, "stack": 0, "n_odd": 0}
    series |= {"series_uid": "2.25.1", "accepted": True, "n_damaged": 0, **shown, **key}
    refused = series | {"series_id": [f"f{name}" for name in names], "accepted": False, "reason": "not_chosen"}
    stacks = pa.concat_tables([filled(tables.SERIES, n, **values) for values in (series, refused)])
    tables.write(stacks, tables.SERIES, cohort / "index" / "series.parquet")
    shard = np.argsort(np.argsort(names)) // k
    study = {"series_id": series["series_id"], "shard": [f"{i:05d}" for i in shard], "status": "accepted", "sex": "F"}
    study |= {"age_years": np.random.default_rng(0).uniform(30, 90, n), "days_from_first_study": 0, **shown, **key}
    facts = dict.fromkeys(column.name for column in tables.SCAN_FACTS)
    result = dict.fromkeys(name for name in tables.STUDIES.names if name.startswith(("vbmd", "hu_b", "prob", "trab")))
    rows = filled(tables.STUDIES, n, **facts, **result, contrast_probability=None, device_key="M X 120 B", **study)
    tables.write(rows, tables.STUDIES, cohort / "index" / "studies.parquet")
    for name in ("labels", "failures"):
        tables.write([], tables.PUBLIC[name], cohort / "index" / f"{name}.parquet")
    order = np.argsort(names)
    for first in range(0, n, k):
        _write_shard(cohort, f"{first // k:05d}", [names[i] for i in order[first : first + k]])
    return (len(STAGES) + 1) * -(-n // k)


def _write_shard(cohort: Path, shard: str, names: list[str]) -> None:
    """Write a shard's tables of all stages."""
    import numpy as np

    from trabecula import tables
    from trabecula.model import bundle

    model, k, rng = bundle.read(MODEL), len(LEVELS), np.random.default_rng(int(shard))
    n = len(names)
    plain = {"cohort": COHORT, "status": "ok", "segmenter": "bench", "level_confidence": 0.9, "level_uncertain": False}
    study = plain | {"patient_id": [f"p{name}" for name in names], "study_id": [f"s{name}" for name in names]}
    vertebra = plain | {name: np.repeat(study[name], k) for name in ("patient_id", "study_id")}
    vertebra["level"] = list(LEVELS) * n
    tissues = {"air_hu": rng.normal(-998, 1, n), "fat_hu": rng.normal(-90, 5, n), "muscle_hu": rng.normal(50, 4, n)}
    crop = {"n_vertebrae": k, "picture": None, "blood_hu": rng.normal(42, 5, n), **tissues}
    series = {"series_id": [f"e{name}" for name in names]}
    written = {
        "convert": filled(tables.CONVERT, n, **study, **series),
        "segment": filled(tables.SEGMENT, n * k, **vertebra),
        "crop": filled(tables.CROP, n, **study, **crop),
        "measure": filled(tables.MEASURE, n * k, **vertebra, genant_grade=0),
    }
    tasks = [name for task in model.tasks for name in bundle.OUTPUTS[task]]
    folds = model.folds[:N_FOLDS]
    n_each = len(tasks) * len(folds)
    value = rng.normal(110, 30, (n * k, len(tasks), len(folds)))
    chance = [i for i, task in enumerate(tasks) if task.endswith("classification")]
    value[:, chance] = rng.uniform(0.01, 0.99, value[:, chance].shape)
    keys = {name: np.repeat(vertebra[name], n_each) for name in ("patient_id", "study_id", "level")}
    output = {"task": np.tile(np.repeat(tasks, len(folds)), n * k), "fold": np.tile(folds, n * k * len(tasks))}
    output |= {"cohort": COHORT, "model_id": model.model_id, "in_training": False, "value": value.ravel()}
    written["infer"] = filled(tables.INFER, n * k * n_each, **keys, **output)
    for stage, rows in written.items():
        tables.write(rows, rows.schema, cohort / stage / f"{shard}.parquet")
    _write_cubes(cohort / "crop" / f"{shard}.arrow", vertebra, n * k)


def _write_cubes(path: Path, vertebra: dict[str, Any], n: int) -> None:
    """Write the cubes of n vertebrae, which are empty and small."""
    import numpy as np
    import pyarrow as pa

    from trabecula import tables

    schema = tables.crop_schema(2, 1.0)
    facts = filled(
        pa.schema([field for field in schema if field.name not in ("ct", "label")]), n, **vertebra, complete=True
    )
    zeros = [np.zeros((n, 2, 2, 2), kind) for kind in (np.int16, np.uint8)]
    cubes = [pa.FixedShapeTensorArray.from_numpy_ndarray(cube) for cube in zeros]
    rows = pa.Table.from_arrays([*facts.columns, *cubes], schema=schema)
    with pa.ipc.new_file(path, schema) as writer:
        writer.write_table(rows)


# --- contenders -------------------------------------------------------------------------------------------


def ours() -> Callable[..., int]:
    """Do the same as the script of the stage."""
    from trabecula import aggregate
    from trabecula.density import calibrate
    from trabecula.density.thresholds import Thresholds

    def work(folder: str, out: str, method: str) -> int:
        results = Path(folder)
        stems = sorted(path.stem for path in (results / COHORT / "convert").glob("*.parquet"))
        paths = {stage: [f"{folder}/{COHORT}/{stage}/{stem}.parquet" for stem in stems] for stage in STAGES}
        paths["cubes"] = [f"{folder}/{COHORT}/crop/{stem}.arrow" for stem in stems]
        inputs = aggregate.Inputs(
            cohorts=[aggregate.Cohort(COHORT, "screening", True)],
            index=[str(path) for path in (results / COHORT / "index").glob("*.parquet")],
            shards=aggregate.list_shards(**paths),
            model=MODEL,
            verdicts=None,
        )
        rules = aggregate.Rules(WANTED, SUBSTITUTES, Thresholds(), max_interval_days=180)
        threads = len(os.sched_getaffinity(0))
        runtime = aggregate.Runtime(Path(out), scheduler=None, threads=threads, keep_runs=1, config="{}", code={})
        aggregate.run(inputs, rules, calibrate.Options(method, 10, [], "mg/cm3 HA"), runtime)
        return len(stems)

    return work


def duck() -> Callable[..., int]:
    """Sort all vertebrae and predictions by patient with DuckDB, and join a mean per patient with the index's facts."""
    import duckdb

    def work(folder: str, out: str) -> int:
        at, into = f"{folder}/{COHORT}", Path(out)
        with duckdb.connect() as connection:
            connection.execute(f"SET threads = {len(os.sched_getaffinity(0))}; SET preserve_insertion_order = false")
            connection.execute(f"CREATE VIEW vertebrae AS SELECT * EXCLUDE picture FROM '{at}/measure/*.parquet'")
            connection.execute(f"CREATE VIEW predictions AS SELECT * FROM '{at}/infer/*.parquet'")
            connection.execute(f"CREATE VIEW studies AS SELECT * FROM '{at}/index/studies.parquet'")
            for name in ("vertebrae", "predictions"):
                connection.execute(
                    f"COPY (FROM {name} ORDER BY patient_id, study_id, level) TO '{into / name}' {_ZSTD}"
                )
            connection.execute(f"COPY ({MEANS}) TO '{into / 'patients'}' {_ZSTD}")
        return len(list(into.iterdir()))

    return work


_ZSTD = "(FORMAT parquet, COMPRESSION zstd)"
MEANS = f"""
WITH of_vertebra AS (
    SELECT study_id, level, task, avg(value) AS value FROM predictions WHERE level IN {WANTED} GROUP BY ALL
), of_study AS (
    SELECT study_id, avg(value) FILTER (task = 'regression') AS vbmd_mg_cm3,
           avg(value) FILTER (task = 'classification') AS probability FROM of_vertebra GROUP BY ALL
), hu AS (
    SELECT study_id, avg(trabecular_hu_mean) AS trabecular_hu FROM vertebrae WHERE level IN {WANTED} GROUP BY ALL
)
SELECT * FROM studies LEFT JOIN of_study USING (study_id) LEFT JOIN hu USING (study_id) ORDER BY patient_id
"""


def pole() -> Callable[..., int]:
    """Do the same as `duck` with polars."""
    import polars as pl

    def work(folder: str, out: str) -> int:
        at, into = Path(folder) / COHORT, Path(out)
        vertebrae = pl.read_parquet(at / "measure" / "*.parquet", columns=_without_picture())
        predictions = pl.read_parquet(at / "infer" / "*.parquet")
        for name, rows in {"vertebrae": vertebrae, "predictions": predictions}.items():
            rows.sort("patient_id", "study_id", "level").write_parquet(into / name, compression="zstd")
        of_levels = predictions.filter(pl.col("level").is_in(WANTED))
        value = of_levels.group_by("study_id", "level", "task").agg(pl.col("value").mean())
        mean = value.group_by("study_id", "task").agg(pl.col("value").mean()).pivot("task", index="study_id")
        hu = vertebrae.filter(pl.col("level").is_in(WANTED)).group_by("study_id")
        hu = hu.agg(pl.col("trabecular_hu_mean").mean())
        studies = pl.read_parquet(at / "index" / "studies.parquet")
        joined = studies.join(mean, on="study_id", how="left").join(hu, on="study_id", how="left", suffix="_mean")
        joined.sort("patient_id").write_parquet(into / "patients", compression="zstd")
        return len(list(into.iterdir()))

    return work


def _without_picture() -> list[str]:
    from trabecula import tables

    return [name for name in tables.MEASURE.names if name != "picture"]


LOADERS: dict[str, measure.Loader] = {
    "write_archive": lambda: write_archive,
    "ours": ours,
    "DuckDB": duck,
    "polars": pole,
}


def report(folder: Path, options: argparse.Namespace) -> list[str]:
    """Measure one archive, and report it in lines of Markdown."""
    archive, out = folder / "results", folder / "out"
    n_files = measure.ask(child(SCRIPT, "write_archive", archive, options.patients, options.studies_per_shard))
    measure.warm(archive)
    contenders = [Contender(f"ours, {m}", [child(SCRIPT, "ours", archive, out, m)], out) for m in options.methods]
    peers = [name for name in ("duckdb", "polars") if measure.is_installed(name)]
    names = {"duckdb": "DuckDB", "polars": "polars"}
    contenders += [Contender(names[name], [child(SCRIPT, names[name], archive, out)], out) for name in peers]
    measured = measure.measured(contenders, options.repeats)
    rows = []
    for name, figures in measured.items():
        times = [f"{measure.ratio(figures, measured[names[peer]], whole=True):.1f}" for peer in peers]
        rows.append([name, figures.cpu(), figures.work(), f"{figures.wall_s:.1f}", *times, figures.peak()])
    head = [
        "contender",
        "CPU s",
        "without imports",
        "wall s",
        *(f"times {names[p]}" for p in peers),
        "peak MB (imports)",
    ]
    return [
        f"## {options.patients} patients with {len(LEVELS)} vertebrae each, in {n_files} files",
        "",
        *measure.table(head, rows),
        "",
        f"Ours should take at most {TARGETS['cpu_s']:g} s of CPU and {TARGETS['peak_mb']:g} MB for 100,000 patients, "
        f"and at most {TARGETS['times']:g} times what the others take. Ours checks every file's schema and every key, "
        "follows all studies, and writes tables, codes, catalog and the record of the run; the others read the "
        "measurements and predictions, take means, and write three files.",
        "",
    ]


def main() -> None:
    """Measure and print the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--patients", type=int, default=100_000, help="patients, of one study each")
    parser.add_argument("--studies-per-shard", type=int, default=64, help="64 as the workflow's; 200 gives 3,000 files")
    parser.add_argument("--methods", nargs="+", default=["none", "phantomless"], help="calibrations of ours")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each")
    parser.add_argument("--out", type=Path, help="file for the report, too")
    options = parser.parse_args()
    lines = ["# bench/aggregate", ""]
    with tempfile.TemporaryDirectory() as folder:
        lines += report(Path(folder), options)
    lines += measure.machine(["pyarrow", "pandas", "dask", "duckdb", "polars"])
    measure.publish(lines, options.out)


if __name__ == "__main__" and not measure.is_child(LOADERS):
    main()
