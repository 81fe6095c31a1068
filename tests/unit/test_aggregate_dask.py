"""Aggregate on a Dask cluster of other processes: the same bytes as in threads, also when a worker dies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from distributed import Client
from small_cohort import Study, good, write_bundle, write_cohort
from test_aggregate import LABELS, STUDIES, digests, run

from trabecula.aggregate import out_of_core
from trabecula.aggregate.out_of_core import buckets, shard_files
from trabecula.model import bundle

N_WORKERS = 2
WAIT_S = 60.0


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen]:
    """Start a process of Dask's that cannot import the package by itself; it is ended at the end."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
    started = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Start a scheduler and two workers on loopback, as three processes; gives the scheduler's address."""
    scheduler_file = folder / "scheduler.json"
    host = ["--host", "127.0.0.1"]
    with ExitStack() as stack:
        options = ["--port", "0", "--no-dashboard", "--no-jupyter", "--scheduler-file", str(scheduler_file)]
        stack.enter_context(process("dask_scheduler", *host, *options))
        wait_for(scheduler_file.exists)
        options = ["--no-nanny", "--no-dashboard", "--nthreads", "1", "--scheduler-file", str(scheduler_file)]
        for i in range(N_WORKERS):
            scratch = ["--local-directory", str(folder / f"worker{i}")]
            stack.enter_context(process("dask_worker", *host, *options, *scratch))
        with Client(scheduler_file=str(scheduler_file)) as client:
            client.wait_for_workers(N_WORKERS, timeout=WAIT_S)
        yield json.loads(scheduler_file.read_text())["address"]


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait until something holds, but not for ever."""
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A cohort in five shards, aggregated in threads."""
    folder = tmp_path_factory.mktemp("run") / "results"
    splits = {"trained": 1}
    model = bundle.read(write_bundle(folder.parent / "model", splits)).model_id
    more = [Study(f"more{i}", f"more{i}", vertebrae=good("L1", "L2"), shard=f"0000{2 + i}") for i in range(3)]
    write_cohort(folder, "dev", [*STUDIES, *more], LABELS, model, splits)
    write_cohort(folder, "ext", [Study("nothing", "nothing", fails=("index", "not_ct"))], [], model, {})
    run(folder)
    return folder


@pytest.fixture
def many_tasks(monkeypatch) -> None:
    """A batch per shard and a bucket per four patients: enough tasks for two workers."""
    monkeypatch.setattr(shard_files, "SHARDS_PER_BATCH", 1)
    monkeypatch.setattr(buckets, "PATIENTS_PER_BUCKET", 4)


@pytest.mark.slow
@pytest.mark.usefixtures("many_tasks")
def test_workers_in_other_processes_give_the_same_bytes(results, tmp_path):
    with cluster(tmp_path) as scheduler:
        run(results, tmp_path / "results", scheduler)
    assert digests(tmp_path / "results" / "tables") == digests(results / "tables")


def dies_once(task: Callable, marker: Path) -> Callable:
    """Wrap a task so that the worker that does it first is killed when it has written its files."""

    # A function within a function is sent as it is: workers don't know this module.
    def run_task(*arguments, **options):
        result = task(*arguments, **options)
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return result
        os.kill(os.getpid(), signal.SIGKILL)

    return run_task


@pytest.mark.slow
@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize("task", ["join_shards", "write_density_tables"])
def test_a_worker_that_is_killed_in_the_middle_changes_nothing(results, tmp_path, monkeypatch, task):
    marker = tmp_path / "killed"
    monkeypatch.setattr(out_of_core, task, dies_once(getattr(out_of_core, task), marker))
    with cluster(tmp_path) as scheduler:
        run(results, tmp_path / "results", scheduler)
        assert marker.exists()
        with Client(scheduler) as client:
            assert len(client.scheduler_info()["workers"]) == N_WORKERS - 1
    assert digests(tmp_path / "results" / "tables") == digests(results / "tables")
