"""Dask tasks in threads or processes of this job, or on a cluster that was started elsewhere."""

import logging
import os
import site
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dask.base import compute
from dask.delayed import delayed
from distributed import Client, WorkerPlugin
from distributed.deploy.subprocess import SubprocessCluster

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
def cluster(processes: int) -> Iterator[Client]:
    """Start a cluster of processes that end with this process, also where it is killed, and leave no file.

    Parameters
    ----------
    processes : int
        Number of workers, each with one thread.
    """
    os.environ |= {"PYTHONPATH": HERE, "DASK_LOGGING__DISTRIBUTED": "warning"}
    # Not LocalCluster: its processes import the main script anew, which under Snakemake would run the job again.
    with (
        # Processes that are ended leave their files.
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        SubprocessCluster(
            host="127.0.0.1",
            dashboard_address=None,  # pyright: ignore[reportArgumentType] (it may be None by its docstring)
            n_workers=processes,
            threads_per_worker=1,
            scheduler_kwargs={
                "scheduler_file": f"{scratch}/scheduler.json",
                "local_directory": scratch,
                "preload": [_ending(scratch)],
            },
            worker_kwargs={"local_directory": scratch, "preload_nanny": [_ending(scratch)]},
            silence_logs=logging.CRITICAL,  # a failed task's arguments, which are paths, stay out of the log
        ) as started,
        Client(started) as client,
    ):
        yield client


def _ending(folder: str) -> str:
    """Write the module that a cluster's processes load first, so that they end with this process; give its path."""
    path = Path(folder) / "ending.py"
    path.write_text(f"from trabecula.runtime.children import end_with\n\nend_with({os.getpid()})\n")
    return str(path)


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
