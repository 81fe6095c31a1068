"""Measure the cost of a study through the whole workflow: work, overhead, memory and disk.

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
    """Cost of one job, as its process reported at its end.

    Attributes
    ----------
    stage : str
        Name of its script.
    cpu_s : float
        User and system time, with its children.
    start_s : float
        Part of `cpu_s` before the first line of the script, and for imports.
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

    def jobs_of(self, stage: str) -> list[Job]:
        """List the jobs of a stage."""
        return [job for job in self.jobs if job.stage == stage]

    @property
    def cpu_s(self) -> float:
        """Give the CPU time of Snakemake and all jobs."""
        return self.driver_s + sum(job.cpu_s for job in self.jobs)


# --- sites ------------------------------------------------------------------------------------------------


def make_archive() -> measure.Loader:
    """Load the function that writes an archive, for a process of its own."""
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
    """Make a folder in which the workflow runs over an archive."""
    site.mkdir()
    (site / "cohorts.tsv").write_text(
        f"cohort\tarchive\tlabels\trole\nbench\t{archive}/archive\t{archive}/labels.csv\texternal\n"
    )
    (site / "site.yaml").write_text(f"cohorts: cohorts.tsv\nindex: {{shard_size: {shard_size}}}\n")


class Disk(threading.Thread):
    """A thread that watches how large the folders of a run's results get."""

    def __init__(self, results: Path) -> None:
        super().__init__(daemon=True)
        self.peak: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self._results, self._ended = results, threading.Event()

    def run(self) -> None:
        """Look again and again until the end."""
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
    """Sum the bytes on disk under each stage's folder of a cohort's results, and of all results together."""
    sizes_of: dict[str, int] = {"all": 0}
    for top, _, names in os.walk(results):
        parts = Path(top).relative_to(results).parts
        stage = parts[1] if len(parts) > 1 and parts[0] == "bench" else "tables and report"
        for name in names:
            try:
                size = os.lstat(os.path.join(top, name)).st_blocks * 512
            except FileNotFoundError:
                continue
            sizes_of[stage] = sizes_of.get(stage, 0) + size
            sizes_of["all"] += size
    return sizes_of


def run(site: Path) -> Run:
    """Run the workflow on one core, and gather the reports of its processes."""
    reports, scratch = site / "reports", site / "scratch"
    reports.mkdir()
    scratch.mkdir()
    command = [sys.executable, "-m", "snakemake", "-s", str(HOME / "Snakefile"), "--directory", str(site)]
    command += ["--configfile", str(site / "site.yaml"), "--cores", "1"]
    path = os.pathsep.join([str(HOME / "bench/hook"), os.environ.get("PYTHONPATH", "")])
    disk = Disk(site / "results")
    disk.start()
    environment = os.environ | {"PYTHONPATH": path, "TRABECULA_BENCH": str(reports), "TMPDIR": str(scratch)}
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
    jobs = [job for file in reports.glob("*.json") if (job := _job(json.loads(file.read_text()))) is not None]
    total = usage.ru_utime + usage.ru_stime
    return Run(jobs, total - sum(job.cpu_s for job in jobs), disk.peak, disk.last)


def _job(report: dict) -> Job | None:
    """Make a job from its process's report; None for a process of another kind, which its parent counts."""
    name = re.search(r"/\.snakemake/scripts/\w+\.(\w+)\.py$", " ".join(report["program"]))
    if name is None:
        return None
    cpu_s = report["own_s"] + report["children_s"]
    start_s = report["start_s"] + report["imports_s"]
    waited_s = max(0.0, report["wall_s"] + report["start_s"] - cpu_s)
    return Job(name[1], cpu_s, start_s, report["system_s"], waited_s, report["peak_mb"])


# --- report -----------------------------------------------------------------------------------------------


def stages_of(run: Run) -> Iterable[str]:
    """List the names of the stages that ran, in their order."""
    return (stage for stage in STAGES if run.jobs_of(stage))


def by_stage(run: Run, studies: int) -> list[str]:
    """Write a table of the cost of each stage."""
    rows = []
    for stage in stages_of(run):
        jobs = run.jobs_of(stage)
        cpu, start, system, waited = (
            sum(getattr(job, name) for job in jobs) for name in ("cpu_s", "start_s", "system_s", "waited_s")
        )
        rate = f"{3600 * studies / cpu:,.0f}"
        rows.append([stage, len(jobs), *(f"{x:.1f}" for x in (cpu, start, system, waited)), rate])
    rows.append(["Snakemake", "", f"{run.driver_s:.1f}", f"{run.driver_s:.1f}", "", "", ""])
    rows.append(["all", len(run.jobs), f"{run.cpu_s:.1f}", "", "", "", f"{3600 * studies / run.cpu_s:,.0f}"])
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


def shares(run: Run) -> tuple[float, float]:
    """Give the share of CPU time for start, imports and Snakemake, without and with all of the kernel's time."""
    on_top = run.driver_s + sum(job.start_s for job in run.jobs)
    return on_top / run.cpu_s, (on_top + sum(job.system_s for job in run.jobs)) / run.cpu_s


def by_shard(runs: dict[int, Run], studies: dict[int, int]) -> list[str]:
    """Write a table of CPU time per study, and the largest memory of a job, by size of the shards."""
    rows = []
    for stage in STAGES:
        jobs_of = {n: run.jobs_of(stage) for n, run in runs.items()}
        if all(jobs_of.values()):
            cpu = (f"{sum(job.cpu_s for job in jobs) / studies[n]:.2f}" for n, jobs in jobs_of.items())
            peak = (f"{max(job.peak_mb for job in jobs):.0f}" for jobs in jobs_of.values())
            rows.append([stage, *cpu, *peak])
    rows.append(["all", *(f"{run.cpu_s / studies[n]:.2f}" for n, run in runs.items()), *[""] * len(runs)])
    head = ["stage", *(f"CPU s per study, shards of {n}" for n in runs), *(f"peak MB, shards of {n}" for n in runs)]
    return measure.table(head, rows)


def on_disk(run: Run, studies: int) -> list[str]:
    """Write a table of bytes per study."""
    rows = [
        [name, f"{run.peak_bytes[name] / studies / 1e6:.2f}", f"{run.final_bytes.get(name, 0) / studies / 1e6:.2f}"]
        for name in sorted(run.peak_bytes)
    ]
    return measure.table(["folder", "at most, MB per study", "in the end, MB per study"], rows)


def run_all(folder: Path, arguments: argparse.Namespace) -> tuple[dict[int, Run], dict[int, int]]:
    """Make the archives, and run the workflow over them; give the runs and the numbers of studies by size of shard."""
    runs, studies = {}, {}
    for size in arguments.shards:
        n = arguments.studies if size == max(arguments.shards) else arguments.peer
        archive = folder / f"archive{n}"
        if not archive.exists():
            print(f"archive of {n} studies", file=sys.stderr)
            measure.ask(measure.child(SCRIPT, "archive", archive, n, arguments.matrix))
        print(f"{n} studies in shards of {size}", file=sys.stderr)
        site = folder / f"site{size}"
        make_site(site, archive, size)
        runs[size], studies[size] = run(site), n
        shutil.rmtree(site)
    return runs, studies


def report(runs: dict[int, Run], studies: dict[int, int], matrix: int) -> list[str]:
    """Write the costs of the runs, all with slices of `matrix` rows and columns."""
    largest = max(runs)
    share, with_kernel = shares(runs[largest])
    lines = [
        f"{studies[largest]} synthetic studies of {matrix} x {matrix} in shards of {largest}, on one core:",
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
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--studies", type=int, default=64, help="studies of the archive")
    parser.add_argument("--peer", type=int, default=8, help="studies of the archive for smaller shards")
    parser.add_argument("--shards", type=int, nargs="*", default=[64, 8, 1], help="sizes of shards")
    parser.add_argument("--matrix", type=int, default=512, help="rows and columns of a slice")
    parser.add_argument("--out", type=Path, help="file for the report, too")
    arguments = parser.parse_args()
    measure.on_one_core()
    with tempfile.TemporaryDirectory() as folder:
        runs, studies = run_all(Path(folder), arguments)
    lines = ["# bench/throughput", "", *report(runs, studies, arguments.matrix)]
    measure.publish([*lines, *measure.machine(["snakemake", "torch", "SimpleITK"])], arguments.out)


if __name__ == "__main__" and not measure.is_child({"archive": make_archive}):
    main()
