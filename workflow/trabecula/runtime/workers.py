"""Dask tasks in threads or processes of this job, or on a cluster that was started elsewhere."""

import multiprocessing
import os
import site
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dask.base import compute
from dask.delayed import delayed
from distributed import Client, WorkerPlugin

from trabecula.runtime.children import end_with

# The folder that holds this package.
HERE = str(Path(__file__).parents[2])

# Runs tasks, and gives their results in the tasks' order.
Compute = Callable[[Iterable[Callable[[], Any]]], list[Any]]


@contextmanager
def connect(scheduler: str) -> Iterator[Client]:
    """Connect to an existing Dask scheduler, and put this package on the path of the scheduler and its workers.

    Parameters
    ----------
    scheduler : str
        Address such as ``tcp://127.0.0.1:8786``; its workers see the same files as this process.
    """
    with Client(scheduler) as client:
        # Snakemake puts the package on the path of its own jobs only.
        client.run_on_scheduler(site.addsitedir, HERE)
        client.register_plugin(_package_path())
        client.wait_for_workers(1)
        yield client


def _package_path() -> WorkerPlugin:
    """Make a plugin that puts the package on the path of workers, also of those that join or restart later."""

    # A class within a function is sent as it is; any other would be looked up in the package.
    class PackagePath(WorkerPlugin):
        name = "trabecula"

        def setup(self, worker: object) -> None:
            site.addsitedir(HERE)

    return PackagePath()


@contextmanager
def processes(number: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes that work for this one, and end with it, also where it is killed.

    Tasks and results pass through pipes, which no other process can open. A cluster of Dask's would listen at ports,
    where any user of the machine could send it code.

    Parameters
    ----------
    number : int
        Number of processes.
    """
    # Forked, since a spawned process would run the main script anew, and under Snakemake that is the job.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(number, fork, initializer=end_with, initargs=(os.getpid(),)) as pool:
        yield pool


@contextmanager
def workers(scheduler: str | None, threads: int) -> Iterator[Compute]:
    """Run tasks in threads of this process, or on the workers of an existing scheduler.

    Threads, since Arrow reads and joins without holding Python's lock most of the time, and a cluster of processes
    takes longer to start than hundreds of shards to read. A worker that dies has its tasks done again by others.

    Parameters
    ----------
    scheduler : str or None
        See `connect`; None: this process.
    threads : int
        Number of threads of this process.
    """
    if scheduler is None:
        yield partial(_compute, scheduler="threads", num_workers=threads)
    else:
        with connect(scheduler) as client:
            yield partial(_compute, scheduler=client)


def _compute(tasks: Iterable[Callable[[], Any]], **options: Any) -> list[Any]:
    """Run tasks by Dask with these options, and give their results in the tasks' order."""
    return list(compute(*[delayed(task, traverse=False)() for task in tasks], **options))
