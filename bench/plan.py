"""Measure the cost of planning a cohort: ``snakemake -n`` over an invented index, beside one job per study.

The look for changes in the archive, which every plan begins with, is measured by itself over a tree of small files.

Run it as ``PYTHONPATH=workflow python bench/plan.py``; see bench/README.md.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import measure

HOME = Path(__file__).parent.parent
SHARD_SIZE = 64
ADDED = 1_000
TARGET_CPU_S, TARGET_MB = 20, 400
TARGET_N = 100_000
WATCHED_FILES, SERIES_FILES = 200_000, 200
STAGES = ("convert", "segment", "crop", "measure", "infer")
# `snakemake --touch` notes a job as done without running it, and waits a moment for each.
TOUCH = (
    "import sys; from snakemake.executors import touch; from snakemake.cli import main; "
    "touch.Executor.SLEEPING_TIME = 0; main(sys.argv[1:])"
)


def snakemake(site: Path, *arguments: str) -> list[str]:
    """Give the command that runs the workflow in a site's folder."""
    return [sys.executable, "-m", "snakemake", *_options(site), *arguments]


def _options(site: Path) -> list[str]:
    return [
        "-s",
        str(HOME / "Snakefile"),
        "--directory",
        str(site),
        "--configfile",
        str(site / "site.yaml"),
        "-c",
        "32",
    ]


def make_site(site: Path, studies: int, shard_size: int) -> None:
    """Lay out the files that a plan looks at: the archive's folders, and the lists and tables of a finished index."""
    for number in range(studies):
        (site / f"archive/patient{number:06d}/study/series").mkdir(parents=True)
    (site / "cohorts.tsv").write_text("cohort\tarchive\tlabels\trole\nlarge\tarchive\t\tscreening\n")
    (site / "site.yaml").write_text(f"cohorts: cohorts.tsv\nindex: {{shard_size: {shard_size}}}\n")
    index = site / "results/large/index"
    index.mkdir(parents=True)
    for name in ("series", "studies", "labels", "failures"):
        (index / f"{name}.parquet").touch()
    (index / "ledger.tsv").touch()
    add_shards(site, range(-(-studies // shard_size)), shard_size)
    # The key that the fingerprint stands for.
    sys.path.insert(0, str(HOME / "workflow"))
    from trabecula.cohort.pseudonym import fingerprint, read_or_make_key

    (index / "key.txt").write_text(fingerprint(read_or_make_key(site / "private/key")) + "\n")


def add_shards(site: Path, numbers: Iterable[int], shard_size: int) -> None:
    """Write the lists of some shards, and add their names to the list of shards."""
    folder, listing = site / "results/large/shards", site / "results/large/index/shards.txt"
    folder.mkdir(exist_ok=True)
    names = [f"{number:05d}" for number in numbers]
    for name in names:
        (folder / f"{name}.tsv").write_text(
            "study_id\tpatient_id\tseries_id\tfingerprint\n" + "st\tpa\tse\tf\n" * shard_size
        )
    with listing.open("a") as file:
        file.writelines(f"{name}\n" for name in names)


def outputs(listing: str) -> Iterator[str]:
    """List the files that the jobs of a plan will make, without temporary folders."""
    for line in re.findall(r"^    output: (.+)$", listing, flags=re.MULTILINE):
        yield from (path for path in line.split(", ") if not re.search(r"/(convert|segment)/\d{5}$", path))


def finish(site: Path) -> None:
    """Make all planned files, empty, and note all jobs as done."""
    listed = subprocess.run(
        snakemake(site, "-n"), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    for path in map(site.joinpath, outputs(listed.stdout)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir(exist_ok=True)
    touch = [sys.executable, "-c", TOUCH, *_options(site), "--touch", "--forceall"]
    subprocess.run(touch, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def planned(site: Path) -> dict[str, int]:
    """Count the planned jobs by rule."""
    command = snakemake(site, "-n", "--quiet", "rules")
    listing = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return {
        rule: int(count)
        for rule, count in re.findall(r"^(\w+) +(\d+)$", listing, flags=re.MULTILINE)
        if rule != "total"
    }


def cost(site: Path) -> measure.Cost:
    """Measure the cost of a plan."""
    return measure.cost_of([snakemake(site, "-n", "--quiet", "rules")])


def row(plan: str, n: int, jobs: int, plan_cost: measure.Cost) -> list[str]:
    """Write a row of the table."""
    return [
        plan,
        f"{n:,}",
        f"{jobs:,}",
        f"{plan_cost.cpu_s:.1f}",
        f"{plan_cost.wall_s:.1f}",
        f"{plan_cost.peak_mb:.0f}",
    ]


def measure_growth(site: Path, n: int) -> tuple[list[list[str]], str]:
    """Plan a finished cohort, and again after more studies came; give the table's rows and a note on the jobs."""
    finish(site)
    rows = [row("all finished", n, sum(planned(site).values()), cost(site))]
    shards, more = -(-n // SHARD_SIZE), -(-ADDED // SHARD_SIZE)
    add_shards(site, range(shards, shards + more), SHARD_SIZE)
    jobs = planned(site)
    rows.append(row(f"{ADDED:,} studies added", n + ADDED, sum(jobs.values()), cost(site)))
    by_stage = ", ".join(f"{stage} {jobs.get(stage, 0)}" for stage in STAGES)
    return rows, f"- Jobs for the {more} shards that were added: {by_stage}; and what follows all shards."


def make_archive(archive: Path, files: int) -> None:
    """Write small files five folders deep, as many in a folder as a series has slices."""
    for number in range(files // SERIES_FILES):
        series = archive / f"2026/{number % 12 + 1:02d}/patient{number:06d}/study/series"
        series.mkdir(parents=True)
        for slice_number in range(SERIES_FILES):
            (series / f"1.2.840.99999.{number:06d}.{slice_number:05d}.dcm").write_bytes(b"slice")


def watch_cost(archive: Path, watch: str) -> measure.Cost:
    """Measure the look for changes in a process of its own."""
    code = f"from trabecula.runtime.signature import signature; signature({str(archive)!r}, watch={watch!r})"
    return measure.cost_of([[sys.executable, "-c", code]])


def measure_watch(folder: Path) -> list[str]:
    """Walk an archive's files and folders, and give the costs per million files."""
    archive = folder / "watched"
    make_archive(archive, WATCHED_FILES)
    rows = []
    for watch in ("full", "folders"):
        watch_cost(archive, watch)  # once before, so that nothing waits for the disk
        costs = sorted(watch_cost(archive, watch).cpu_s for _ in range(3))
        rows.append([watch, f"{WATCHED_FILES:,}", f"{costs[1]:.2f}", f"{costs[1] * 1e6 / WATCHED_FILES:.1f}"])
    return measure.table(["index.watch", "files", "CPU s", "CPU s per million files"], rows)


def report(folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Lay out cohorts of growing size, plan them, and write the costs."""
    rows, notes = [], []
    for n in sorted({*arguments.studies, TARGET_N}):
        site = folder / f"shards{n}"
        print(f"{n:,} studies in shards of {SHARD_SIZE}", file=sys.stderr)
        make_site(site, n, SHARD_SIZE)
        rows.append(row("indexed, nothing else done", n, sum(planned(site).values()), cost(site)))
        if n == TARGET_N:
            more_rows, note = measure_growth(site, n)
            rows += more_rows
            notes.append(note)
    for n in arguments.per_study:
        site = folder / f"single{n}"
        print(f"{n:,} studies, a job for each", file=sys.stderr)
        make_site(site, n, 1)
        rows.append(row("peer: a job per study and stage", n, sum(planned(site).values()), cost(site)))
    head = ["plan", "studies", "jobs", "CPU s", "wall s", "peak MB"]
    target = f"- Target for {TARGET_N:,} studies: under {TARGET_CPU_S} s of CPU and {TARGET_MB} MB."
    return [*measure.table(head, rows), "", target, *notes, "", *measure_watch(folder)]


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    sizes = [25_000, 50_000, 100_000, 200_000, 400_000]
    parser.add_argument("--studies", type=int, nargs="*", default=sizes, help="sizes of cohorts in shards")
    parser.add_argument("--per-study", type=int, nargs="*", default=[6_250, 12_500, 25_000], help="sizes for the peer")
    parser.add_argument("--out", type=Path, help="file for the report, too")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        lines = ["# bench/plan", "", *report(Path(folder), arguments)]
    measure.publish([*lines, *measure.machine(["snakemake"])], arguments.out)


if __name__ == "__main__":
    main()
