"""Cost of applying a bundle to a shard, in one process and in one per patient.

Run it as ``PYTHONPATH=workflow python bench/infer.py``; see bench/README.md.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import measure
from measure import Contender, Cost, Figures, child

SCRIPT = __file__
TARGETS = {"times": 5.0}
LEVELS = ("T11", "T12", "L1", "L2", "L3", "L4", "L5")  # all that are predicted
SIZE, SPACING_MM = 64, 1.0


def write_shard(path: str, first: str, patients: str) -> None:
    """Write a file of cubes as `crop` does, of noise, for patients from a number on."""
    import numpy as np

    from trabecula.tables.cubes import VertebraCrop, open_cubes

    rng = np.random.default_rng(int(first))
    with open_cubes(path, size=SIZE, spacing_mm=SPACING_MM) as write:
        for i in range(int(first), int(first) + int(patients)):
            ct = rng.normal(100, 50, (len(LEVELS), *[SIZE] * 3)).astype(np.int16)
            label = np.zeros([SIZE] * 3, np.uint8)
            write(
                VertebraCrop(
                    "bench", f"pa{i}", f"st{i}", level, 1.0, False, True, (0.0, 0.0, 0.0), "bench", ct[k], label
                )
                for k, level in enumerate(LEVELS)
            )


def apply() -> Callable[..., int]:
    """Do what the stage's script does: load the bundle, predict, write the table; give the number of predictions."""
    import pandas as pd
    import torch

    from trabecula import infer, tables
    from trabecula.tables import cubes

    def work(model: str, shard: str, batch_size: str, out: str) -> int:
        torch.set_num_threads(1)
        loaded = infer.load_model(Path(model), device="auto")
        studies = sorted({crop.study_id for crop in cubes.read_cubes(shard)})
        scans = pd.DataFrame({"kvp": 120.0, "phase": "portal", "thickness_mm": 1.0}, index=studies)
        rows = infer.infer_shard(
            cubes.read_cubes(shard), loaded, scans, spacing_mm=SPACING_MM, batch_size=int(batch_size)
        )
        predictions = list(rows)
        tables.write(predictions, tables.INFER, out)
        return len(predictions)

    return work


def folds() -> Callable[[str], int]:
    """Count the networks of a bundle."""
    from trabecula.model import bundle

    def work(model: str) -> int:
        facts = bundle.read(model)
        return len(facts.tasks) * len(facts.folds)

    return work


def times_of(figures: Figures, n: int) -> Figures:
    """Scale figures to n times as many processes, one after the other."""
    return Figures([Cost(c.cpu_s * n, c.work_s * n, c.wall_s * n, c.peak_mb, c.imports_mb) for c in figures.runs])


def shard(folder: Path, options: argparse.Namespace) -> list[str]:
    """Measure one process for all patients, and one process each for some of them, scaled up to all."""
    whole = folder / "shard.arrow"
    measure.ask(child(SCRIPT, "write_shard", whole, 0, options.patients))
    singles = [folder / f"{i}.arrow" for i in range(options.alone)]
    for i, path in enumerate(singles):
        measure.ask(child(SCRIPT, "write_shard", path, i, 1))
    measure.warm(folder)

    def command(path: Path) -> list[str]:
        return child(SCRIPT, "apply", options.model, path, options.batch_size, path.with_suffix(".parquet"))

    names = ["one process", "one process per patient"]
    contenders = [Contender(names[0], [command(whole)]), Contender(names[1], [command(path) for path in singles])]
    costs = measure.measured(contenders, options.repeats)
    costs[names[1]] = times_of(costs[names[1]], options.patients / options.alone)
    networks = measure.ask(child(SCRIPT, "folds", options.model))
    regions = options.patients * len(LEVELS)
    rows = []
    for name, figures in costs.items():
        times = measure.ratio(figures, costs[names[0]], whole=True)
        speed = regions / figures.wall_s
        rows.append([name, figures.cpu(), f"{figures.wall_s:.1f}", f"{speed:.1f}", f"{speed * networks:.0f}"])
        rows[-1] += [f"{times:.1f}", figures.peak()]
    head = ["shard", "CPU s", "wall s", "regions/s", "predictions/s", "times one process, CPU", "peak MB (imports)"]
    return [
        f"## {options.patients} patients with {len(LEVELS)} regions each, {networks} networks of {options.model}, "
        f"batches of {options.batch_size}",
        "",
        *measure.table(head, rows),
        "",
        f"One process per patient was run for {options.alone} patients and taken times "
        f"{options.patients / options.alone:g}. A shard should be at least {TARGETS['times']:g} times faster.",
        "",
    ]


LOADERS: dict[str, measure.Loader] = {"write_shard": lambda: write_shard, "apply": apply, "folds": folds}


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default=str(Path(__file__).parents[1] / "models" / "demo"), help="the bundle")
    parser.add_argument("--patients", type=int, default=64, help="patients of the shard")
    parser.add_argument("--alone", type=int, default=4, help="patients that get a process of their own")
    parser.add_argument("--batch-size", type=int, default=16, help="regions per step")
    parser.add_argument("--repeats", type=int, default=3, help="runs of both")
    parser.add_argument("--out", type=Path, help="file for the report, too")
    options = parser.parse_args()
    measure.on_one_core()
    lines = ["# bench/infer", ""]
    with tempfile.TemporaryDirectory() as folder:
        lines += shard(Path(folder), options)
    lines += measure.machine(["torch", "monai", "pyarrow", "numpy"])
    measure.publish(lines, options.out)


if __name__ == "__main__" and not measure.is_child(LOADERS):
    main()
