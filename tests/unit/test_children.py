"""Processes that a job starts end with it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from trabecula.runtime import children
from trabecula.runtime.workers import processes

NOBODY = 65534
JOB = """
import os, sys
sys.path.append(sys.argv[1])
from trabecula.runtime.workers import processes
with processes(2) as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def job(tmp_path):
    """A job whose processes have begun their work, with a folder of its own for temporary files."""
    package = str(Path(children.__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", JOB, package],
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


def test_its_processes_end_when_it_is_killed(job):
    begun = psutil.Process(job.pid).children(recursive=True)
    assert begun
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert all_end(begun)


def test_nothing_of_it_listens_for_others(job):
    job_and_its_processes = [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]
    assert len(job_and_its_processes) == 3
    sockets = [socket for process in job_and_its_processes for socket in process.net_connections("all")]
    assert not sockets


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def can_be_opened(paths: list[str]) -> list[str]:
    """List those of some files that this process can open."""
    opened = []
    for path in paths:
        for way in (os.O_RDONLY, os.O_WRONLY):
            with suppress(OSError):
                os.close(os.open(path, way | os.O_NONBLOCK))
                opened.append(path)
    return opened


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_user_opens_nothing_of_it(job):
    numbers = [job.pid, *(process.pid for process in psutil.Process(job.pid).children(recursive=True))]
    paths = [f"/proc/{process}/{name}" for process in numbers for name in ("environ", "mem")]
    paths += [f"/proc/{process}/fd/{handle}" for process in numbers for handle in os.listdir(f"/proc/{process}/fd")]
    assert set(can_be_opened(paths)) > {f"/proc/{process}/environ" for process in numbers}
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, fork, initializer=become_nobody) as another_user:
        assert another_user.submit(can_be_opened, [f"/proc/{job.pid}/stat"]).result()
        assert another_user.submit(can_be_opened, paths).result() == []


def test_a_process_that_dies_ends_the_work():
    with pytest.raises(BrokenProcessPool), processes(2) as pool:
        pool.submit(os._exit, 1).result(60)


def test_its_processes_end_at_its_end_and_leave_nothing(job, tmp_path):
    begun = psutil.Process(job.pid).children(recursive=True)
    job.stdin.close()
    assert job.wait() == 0
    assert all_end(begun)
    assert not list(tmp_path.iterdir())
