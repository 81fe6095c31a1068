"""What a study costs through the whole workflow: its work, what comes on top, memory and disk.

Run it as ``PYTHONPATH=workflow python bench/throughput.py``; see bench/README.md.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import measure

HOME = Path(__file__).parent.parent
SCRIPT = __file__
SEED = 7
STAGES = ("index", "convert", "segment", "crop", "measure", "infer", "aggregate", "evaluate", "report")
TARGET_SHARE = 0.10
WATCH_S = 0.5


@dataclass(frozen=True)
class Job:
    """What one job took, as its process said at its end.

    Attributes
    ----------
    stage : str
        Name of its script.
    cpu_s : float
        User and system time, with its children.
    start_s : float
        Part of it before the first line of the script, and for imports.
    system_s : float
        Part of the rest that the kernel took: reading and writing, and memory that is handed out.
    waited_s : float
        Time that passed without either.
    peak_mb : float
        Largest resident memory.
    """

    stage: str
    cpu_s: float
    start_s: float
    system_s: float
    waited_s: float
    peak_mb: float


@dataclass(frozen=True)
class Run:
    """A run of the workflow to its reports.

    Attributes
    ----------
    jobs : list of Job
        Every job that it ran.
    driver_s : float
        CPU time of Snakemake itself and of the shells that it starts.
    peak_bytes, final_bytes : dict
        Largest and last size of the results by folder ("all": at one moment together).
    """

    jobs: Sequence[Job]
    driver_s: float
    peak_bytes: dict[str, int]
    final_bytes: dict[str, int]

    def of(self, stage: str) -> list[Job]:
        """Jobs of a stage."""
        return [job for job in self.jobs if job.stage == stage]

    @property
    def cpu_s(self) -> float:
        """CPU time of all of it."""
        return self.driver_s + sum(job.cpu_s for job in self.jobs)


# --- sites ------------------------------------------------------------------------------------------------


def make_archive() -> measure.Loader:
    """Loader of what writes an archive, in a process of its own."""
    from trabecula.phantom import write_archive

    def work(folder: str, patients: str, matrix: str) -> None:
        write_archive(
            Path(folder),
            seed=SEED,
            patients=int(patients),
            devices=["alpha", "beta"],
            matrix=int(matrix),
            workers=len(os.sched_getaffinity(0)),
        )

    return work  # type: ignore[return-value]


def make_site(site: Path, archive: Path, shard_size: int) -> None:
    """A folder in which the workflow runs over an archive."""
    site.mkdir()
    (site / "cohorts.tsv").write_text(
        f"cohort\tarchive\tlabels\trole\nbench\t{archive}/archive\t{archive}/labels.csv\texternal\n"
    )
    (site / "site.yaml").write_text(f"cohorts: cohorts.tsv\nindex: {{shard_size: {shard_size}}}\n")


class Disk(threading.Thread):
    """Watches how large the folders of a run's results get."""

    def __init__(self, results: Path) -> None:
        super().__init__(daemon=True)
        self.peak: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self._results, self._ended = results, threading.Event()

    def run(self) -> None:
        """Look until the end."""
        while not self._ended.wait(WATCH_S):
            self._look()

    def end(self) -> None:
        """Look for the last time."""
        self._ended.set()
        self.join()
        self._look()

    def _look(self) -> None:
        self.last = sizes(self._results)
        for name, size in self.last.items():
            self.peak[name] = max(self.peak.get(name, 0), size)


def sizes(results: Path) -> dict[str, int]:
    """Bytes on disk under each stage's folder of a cohort's results, and of all results together."""
    found: dict[str, int] = {"all": 0}
    for top, _, names in os.walk(results):
        parts = Path(top).relative_to(results).parts
        stage = parts[1] if len(parts) > 1 and parts[0] == "bench" else "tables and report"
        for name in names:
            try:
                size = os.lstat(os.path.join(top, name)).st_blocks * 512
            except FileNotFoundError:
                continue
            found[stage] = found.get(stage, 0) + size
            found["all"] += size
    return found


def run(site: Path) -> Run:
    """Run the workflow on one core, and gather what its processes say."""
    said, scratch = site / "said", site / "scratch"
    said.mkdir()
    scratch.mkdir()
    command = [sys.executable, "-m", "snakemake", "-s", str(HOME / "Snakefile"), "--directory", str(site)]
    command += ["--configfile", str(site / "site.yaml"), "--cores", "1"]
    path = os.pathsep.join([str(HOME / "bench/hook"), os.environ.get("PYTHONPATH", "")])
    disk = Disk(site / "results")
    disk.start()
    environment = os.environ | {"PYTHONPATH": path, "TRABECULA_BENCH": str(said), "TMPDIR": str(scratch)}
    with (site / "run.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    disk.end()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError((site / "run.log").read_text()[-4000:])
    left = sorted(path.name for path in scratch.rglob("*") if path.is_file())
    if left:
        raise RuntimeError(f"Temporary files were left: {left[:5]}")
    jobs = [job for file in said.glob("*.json") if (job := _job(json.loads(file.read_text()))) is not None]
    total = usage.ru_utime + usage.ru_stime
    return Run(jobs, total - sum(job.cpu_s for job in jobs), disk.peak, disk.last)


def _job(told: dict) -> Job | None:
    """A job from what its process told; None for a process of another kind, which its parent counts."""
    name = re.search(r"/\.snakemake/scripts/\w+\.(\w+)\.py$", " ".join(told["program"]))
    if name is None:
        return None
    cpu_s = told["own_s"] + told["children_s"]
    start_s = told["start_s"] + told["imports_s"]
    waited_s = max(0.0, told["wall_s"] + told["start_s"] - cpu_s)
    return Job(name[1], cpu_s, start_s, told["system_s"], waited_s, told["peak_mb"])


# --- report -----------------------------------------------------------------------------------------------


def stages_of(one: Run) -> Iterable[str]:
    """Names of the stages that ran, in their order."""
    return (stage for stage in STAGES if one.of(stage))


def by_stage(one: Run, studies: int) -> list[str]:
    """Table: what each stage took, per study."""
    rows = []
    for stage in stages_of(one):
        jobs = one.of(stage)
        cpu, start, system, waited = (
            sum(getattr(job, name) for job in jobs) for name in ("cpu_s", "start_s", "system_s", "waited_s")
        )
        rate = f"{3600 * studies / cpu:,.0f}"
        rows.append([stage, len(jobs), *(f"{x:.1f}" for x in (cpu, start, system, waited)), rate])
    rows.append(["Snakemake", "", f"{one.driver_s:.1f}", f"{one.driver_s:.1f}", "", "", ""])
    rows.append(["all", len(one.jobs), f"{one.cpu_s:.1f}", "", "", "", f"{3600 * studies / one.cpu_s:,.0f}"])
    head = [
        "stage",
        "jobs",
        "CPU s",
        "of it start and imports",
        "of it kernel",
        "waited s",
        "studies per hour and core",
    ]
    return measure.table(head, rows)


def shares(one: Run) -> tuple[float, float]:
    """Part of all CPU time that is start, imports and Snakemake; and the same with all that the kernel took."""
    on_top = one.driver_s + sum(job.start_s for job in one.jobs)
    return on_top / one.cpu_s, (on_top + sum(job.system_s for job in one.jobs)) / one.cpu_s


def by_shard(runs: dict[int, Run], studies: dict[int, int]) -> list[str]:
    """Table: CPU time per study, and the largest memory of a job, by size of the shards."""
    rows = []
    for stage in STAGES:
        if all(one.of(stage) for one in runs.values()):
            cpu = (f"{sum(job.cpu_s for job in one.of(stage)) / studies[n]:.2f}" for n, one in runs.items())
            peak = (f"{max(job.peak_mb for job in one.of(stage)):.0f}" for one in runs.values())
            rows.append([stage, *cpu, *peak])
    rows.append(["all", *(f"{one.cpu_s / studies[n]:.2f}" for n, one in runs.items()), *[""] * len(runs)])
    head = ["stage", *(f"CPU s per study, shards of {n}" for n in runs), *(f"peak MB, shards of {n}" for n in runs)]
    return measure.table(head, rows)


def on_disk(one: Run, studies: int) -> list[str]:
    """Table: bytes per study."""
    rows = [
        [name, f"{one.peak_bytes[name] / studies / 1e6:.2f}", f"{one.final_bytes.get(name, 0) / studies / 1e6:.2f}"]
        for name in sorted(one.peak_bytes)
    ]
    return measure.table(["folder", "at most, MB per study", "in the end, MB per study"], rows)


def report(folder: Path, given: argparse.Namespace) -> list[str]:
    """Make the archives, run the workflow over them, and say what it took."""
    runs, studies = {}, {}
    for size in given.shards:
        n = given.studies if size == max(given.shards) else given.peer
        archive = folder / f"archive{n}"
        if not archive.exists():
            print(f"archive of {n} studies", file=sys.stderr)
            measure.ask(measure.child(SCRIPT, "archive", archive, n, given.matrix))
        print(f"{n} studies in shards of {size}", file=sys.stderr)
        site = folder / f"site{size}"
        make_site(site, archive, size)
        runs[size], studies[size] = run(site), n
        shutil.rmtree(site)
    largest = max(runs)
    share, with_kernel = shares(runs[largest])
    lines = [
        f"{studies[largest]} synthetic studies of {given.matrix} x {given.matrix} in shards of {largest}, on one core:",
        "",
        *by_stage(runs[largest], studies[largest]),
        "",
        f"- Start, imports and Snakemake: {100 * share:.1f} % of the CPU time (target: {100 * TARGET_SHARE:.0f} % with "
        f"shards of 64); with all time in the kernel {100 * with_kernel:.1f} %.",
        "",
        *by_shard(runs, studies),
        "",
        *on_disk(runs[largest], studies[largest]),
        "",
    ]
    if 1 in runs:
        ratio = (runs[1].cpu_s / studies[1]) / (runs[largest].cpu_s / studies[largest])
        lines.append(f"- One process per study and stage: {ratio:.2f} times the CPU time per study.")
    return lines


def main() -> None:
    """Measure and say so."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--studies", type=int, default=64, help="studies of the archive")
    parser.add_argument("--peer", type=int, default=8, help="studies of the archive for smaller shards")
    parser.add_argument("--shards", type=int, nargs="*", default=[64, 8, 1], help="sizes of shards")
    parser.add_argument("--matrix", type=int, default=512, help="rows and columns of a slice")
    parser.add_argument("--out", type=Path, help="file for the report, too")
    given = parser.parse_args()
    measure.on_one_core()
    with tempfile.TemporaryDirectory() as folder:
        lines = ["# bench/throughput", "", *report(Path(folder), given)]
    measure.publish([*lines, *measure.machine(["snakemake", "torch", "SimpleITK"])], given.out)


if __name__ == "__main__" and not measure.is_child({"archive": make_archive}):
    main()
