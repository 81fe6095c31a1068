"""Reach a Dask cluster that was started elsewhere."""

import site
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

# The folder that holds this package.
HERE = str(Path(__file__).parent.parent)


@contextmanager
def connect(scheduler: str) -> Iterator[Client]:
    """Client of an existing Dask scheduler; it and its workers are told where this package lies.

    Parameters
    ----------
    scheduler : str
        Address such as ``tcp://127.0.0.1:8786``; its workers see the same files as this process.
    """
    with Client(scheduler) as client:
        # Snakemake puts the package on the path of its own jobs only.
        client.run_on_scheduler(site.addsitedir, HERE)
        client.wait_for_workers(1)
        client.run(site.addsitedir, HERE)
        yield client
