"""Processes that a job starts end with it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from trabecula.runtime import children

POOL = """
import multiprocessing, os, sys
sys.path.append(sys.argv[1])
from concurrent.futures import ProcessPoolExecutor
from trabecula.runtime.children import end_with
context = multiprocessing.get_context("fork")
with ProcessPoolExecutor(1, context, initializer=end_with, initargs=(os.getpid(),)) as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    sys.stdin.read()
"""
CLUSTER = """
import os, sys
sys.path.append(sys.argv[1])
from trabecula.runtime.workers import cluster
with cluster(1) as client:
    print(client.submit(os.getpid).result(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=[POOL, CLUSTER], ids=["pool", "cluster"])
def job(request, tmp_path):
    """A job whose processes have begun their work, with a folder of its own for temporary files."""
    package = str(Path(children.__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", request.param, package],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout
        assert psutil.pid_exists(int(started.stdout.readline()))
        yield started


def is_there(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def all_end(processes: list[psutil.Process]) -> bool:
    latest = time.monotonic() + 20
    while any(is_there(process) for process in processes):
        if time.monotonic() > latest:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.slow
def test_its_processes_end_when_it_is_killed(job):
    begun = psutil.Process(job.pid).children(recursive=True)
    assert begun
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert all_end(begun)


def test_its_processes_end_at_its_end_and_leave_nothing(job, tmp_path):
    begun = psutil.Process(job.pid).children(recursive=True)
    job.stdin.close()
    assert job.wait() == 0
    assert all_end(begun)
    assert not list(tmp_path.iterdir())
