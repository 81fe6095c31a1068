"""Processes of a pool end with the job that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from trabecula import children

JOB = """
import multiprocessing, os, sys
sys.path.append(sys.argv[1])
from concurrent.futures import ProcessPoolExecutor
from trabecula.children import end_with
context = multiprocessing.get_context("fork")
with ProcessPoolExecutor(1, context, initializer=end_with, initargs=(os.getpid(),)) as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    sys.stdin.read()
"""


def is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_a_pool_ends_with_a_job_that_is_killed():
    package = str(Path(children.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", JOB, package], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout
        worker = int(job.stdout.readline())
        assert is_there(worker)
        os.kill(job.pid, signal.SIGKILL)
        job.wait()
    latest = time.monotonic() + 20
    while is_there(worker):
        assert time.monotonic() < latest
        time.sleep(0.05)
