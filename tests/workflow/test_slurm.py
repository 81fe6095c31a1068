"""The literal Slurm command on a real cluster of four nodes that is brought up for it, and what breaks on clusters."""

import csv
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_site import (
    LONGEST_S,
    MASKS,
    MATRIX,
    SEED,
    TRAIN,
    TRAINED,
    add_label_maps,
    environment,
    tables,
    write_settings,
)

SCRIPTS = Path(__file__).parent / "slurm"
# Cores, memory (MB) and time (minutes) that a rule asks for at first; all grow but the cores.
ON_GPU = {
    "segment": (1, 4000, 240),
    "train_network": (1, 8000, 720),
    "infer": (1, 3000, 30),
}
ON_CPU = {
    "phantom": (2, 4000, 240),
    "index": (2, 4000, 240),
    "convert": (1, 1500, 60),
    "crop": (1, 3000, 30),
    "measure": (1, 1000, 15),
    "train_cases": (1, 4000, 60),
    "train": (1, 4000, 30),
    "aggregate": (2, 4000, 60),
    "evaluate": (1, 2000, 15),
    "report": (1, 3000, 30),
    "report_summary": (1, 3000, 30),
}

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="starting Slurm's daemons needs root"),
    pytest.mark.skipif(
        not all(map(shutil.which, ["sbatch", "slurmctld", "slurmd", "munged"])),
        reason="Slurm is not installed here (Debian: slurm-wlm and munge)",
    ),
]


@dataclass(frozen=True)
class Task:
    """A task as the cluster started it (see slurm/start.sh)."""

    job: str
    partition: str
    node: str
    restarts: int
    asked: tuple[int, int, int]
    devices: str
    rule: str


@dataclass(frozen=True)
class Cluster:
    """A running cluster: the folder of its configuration, logs and process ids."""

    folder: Path

    def tasks(self) -> list[Task]:
        """Every task that was started so far for a rule, in order."""
        try:
            with (self.folder / "tasks.tsv").open() as file:
                lines = list(csv.reader(file, delimiter="\t"))
        except FileNotFoundError:
            return []
        return [
            Task(
                job,
                partition,
                node,
                int(restarts),
                (int(cores), int(memory), int(minutes)),
                devices,
                comment.removeprefix("rule_").split("_wildcards_")[0],
            )
            for job, partition, node, restarts, cores, memory, minutes, devices, comment in lines
            if comment.startswith("rule_")
        ]

    def lose(self, node: str, job: str) -> None:
        """Kill a node's daemon and all processes of a job that runs there, at once, as when its power fails."""
        daemon = int((self.folder / f"slurmd.{node}.pid").read_text())
        parents = {child: parent for child, parent, _ in processes()}
        steps = {number for number, _, title in processes() if title.startswith(f"slurmstepd: [{job}.")}
        assert steps

        def ends(process: int) -> bool:
            while process in parents:
                if process in steps:
                    return True
                process = parents[process]
            return False

        for process in [daemon, *(child for child in parents if ends(child))]:
            os.kill(process, signal.SIGKILL)


def processes() -> Iterator[tuple[int, int, str]]:
    """Number, parent and command line of every process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(") ", 1)[1].split()[1])
                yield int(entry.name), parent, (entry / "cmdline").read_text().replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError):
                continue


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster; its daemons end with the last test."""
    folder = tmp_path_factory.mktemp("cluster")
    try:
        subprocess.run([SCRIPTS / "start.sh", folder], check=True)
        yield Cluster(folder)
    finally:
        subprocess.run([SCRIPTS / "stop.sh", folder], check=True)


def start(clone: Path, arguments: str = "") -> subprocess.Popen[str]:
    """Start the literal command in a clone of the repository."""
    return subprocess.Popen(
        f"snakemake --cores 32 --profile slurm{arguments}",
        shell=True,
        cwd=clone,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the repository after a run of its small cohort on the cluster."""
    clone = shutil.copytree(repository, tmp_path_factory.mktemp("slurm") / "clone", symlinks=True)
    add_label_maps(clone, **TRAINED)
    write_settings(
        clone,
        ["made phantom/made/archive phantom/made/labels.csv development"],
        model=None,
        index={"shard_size": 6},
        segment=MASKS,
        train=TRAIN | {"tasks": ["classification", "regression"], "epochs": 1},
        evaluate={"bootstrap": 100},
        phantom={
            "seed": SEED,
            "cohorts": {"made": TRAINED | {"matrix": MATRIX}},
        },
    )
    # The command has no place for options: what it runs is the clone's configuration.
    (clone / "site.yaml").rename(clone / "config/config.yaml")
    profile = clone / "profiles/slurm/profile.v9+.yaml"
    profile.write_text(profile.read_text().replace("status-checks: 10", "status-checks: 3"))
    process = start(clone)
    output, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, output
    return clone


def test_the_slurm_profile_runs_a_cohort_to_its_report(cluster, undisturbed):
    assert (undisturbed / "results/report/index.html").is_file()
    assert (undisturbed / "results/models/toy/configs/metadata.json").is_file()
    tasks = cluster.tasks()
    assert {task.rule for task in tasks} == {*ON_GPU, *ON_CPU}
    for task in tasks:
        on_gpu = task.rule in ON_GPU
        assert task.partition == ("gpu" if on_gpu else "cpu"), task
        assert bool(task.devices) == on_gpu, task
        assert task.asked == (ON_GPU if on_gpu else ON_CPU)[task.rule], task


# --- what breaks on clusters ----------------------------------------------------------------------------


class Run:
    """A run of the workflow on the cluster that predicts every vertebra anew, in a copy of the undisturbed clone."""

    def __init__(self, cluster: Cluster, undisturbed: Path, folder: Path) -> None:
        self.cluster, self.undisturbed = cluster, undisturbed
        self.clone = shutil.copytree(undisturbed, folder, symlinks=True)
        self.before = len(cluster.tasks())

    def set_first(self, resource: str, old: int, new: int) -> None:
        """Change what the first attempt at infer asks for."""
        rule = self.clone / "workflow/rules/infer.smk"
        text = rule.read_text()
        assert f"{resource}=grows({old})" in text
        rule.write_text(text.replace(f"{resource}=grows({old})", f"{resource}=grows({new})"))

    def start(self) -> None:
        """Start the run."""
        self.process = start(self.clone, " --forcerun infer --until aggregate")

    def tasks(self) -> list[Task]:
        """Tasks of infer that this run has started."""
        return [task for task in self.cluster.tasks()[self.before :] if task.rule == "infer"]

    def first(self) -> Task:
        """Wait for the first task of infer."""
        while not self.tasks():
            assert self.process.poll() is None
            time.sleep(0.1)
        return self.tasks()[0]

    def ends_well(self) -> str:
        """Wait for the run's end, and compare its tables with those of the undisturbed run; returns what it said."""
        output, _ = self.process.communicate(timeout=LONGEST_S)
        assert self.process.returncode == 0, output
        expected, actual = tables(self.undisturbed), tables(self.clone)
        assert expected.keys() == actual.keys()
        for name, table in expected.items():
            assert actual[name].equals(table), name
        return output


@pytest.fixture
def run(cluster: Cluster, undisturbed: Path, tmp_path: Path) -> Run:
    """A run that has not begun."""
    return Run(cluster, undisturbed, tmp_path / "clone")


def test_a_job_out_of_memory_gets_more(run):
    run.set_first("mem_mb", 3000, 500)
    run.start()
    run.ends_well()
    assert sorted({task.asked[1] for task in run.tasks()}) == [500, 1000]
    kept = run.clone.glob(".snakemake/slurm_logs/**/*.log")  # those of jobs that failed
    assert any("exceeded memory limit" in log.read_text() for log in kept)


def test_a_job_out_of_time_gets_more(run):
    run.set_first("runtime", 30, 1)
    run.start()
    stuck = run.first()
    subprocess.run(["scancel", "--signal=STOP", stuck.job], check=True)  # as if its storage did not answer
    assert "'TIMEOUT'" in run.ends_well()
    assert sorted({task.asked[2] for task in run.tasks()}) == [1, 2]


def test_a_job_that_was_preempted_runs_again(run):
    run.start()
    victim = run.first()
    subprocess.run(
        ["sbatch", "--partition=urgent", f"--nodelist={victim.node}", "--exclusive", "--wrap=sleep 1"],
        cwd=run.clone,
        check=True,
    )
    run.ends_well()
    assert [task.restarts for task in run.tasks() if task.job == victim.job] == [0, 1]


def test_a_job_whose_node_is_lost_runs_elsewhere(run):
    run.start()
    victim = run.first()
    run.cluster.lose(victim.node, victim.job)
    try:
        run.ends_well()
        again = [task for task in run.tasks() if task.job == victim.job]
        assert [task.restarts for task in again] == [0, 1]
        assert again[1].node != victim.node
    finally:
        subprocess.run(["slurmd", "-N", victim.node], check=True)
