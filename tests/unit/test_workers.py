"""Work of a job on a Dask cluster that was started elsewhere, secured as docs/threats.md asks."""

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ct_files import axial_stack, save_all
from dask import config

from trabecula.index import scan

WAIT_S = 60.0
OPENSSL = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory) -> dict[str, str]:
    """Settings of Dask by which all parts of a cluster show one certificate and trust nobody else."""
    folder = tmp_path_factory.mktemp("secrets")
    key, certificate = str(folder / "key.pem"), str(folder / "certificate.pem")
    subprocess.run([*OPENSSL, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    settings = {"require-encryption": "true", "tls.ca-file": certificate}
    for part in ("scheduler", "worker", "client"):
        settings |= {f"tls.{part}.key": key, f"tls.{part}.cert": certificate}
    return {f"distributed.comm.{name}": value for name, value in settings.items()}


def in_environment(settings: dict[str, str]) -> dict[str, str]:
    names = {name: f"DASK_{name.replace('.', '__').replace('-', '_').upper()}" for name in settings}
    return {names[name]: value for name, value in settings.items()}


@pytest.fixture(scope="module")
def scheduler(secrets, tmp_path_factory) -> Iterator[str]:
    """Address of a scheduler with a worker, in processes of their own."""
    folder = tmp_path_factory.mktemp("cluster")
    file = folder / "scheduler.json"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | in_environment(secrets)
    options = ["--protocol", "tls", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    with ExitStack() as stack:
        for arguments in (["dask_scheduler", "--port", "0"], ["dask_worker", "--no-nanny", "--nthreads", "1"]):
            command = [sys.executable, "-m", f"distributed.cli.{arguments[0]}", *arguments[1:], *options]
            with (folder / f"{arguments[0]}.log").open("w") as log:
                started = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
            stack.callback(started.wait)
            stack.callback(started.kill)
            latest = time.monotonic() + WAIT_S
            while not file.exists():
                assert time.monotonic() < latest, (folder / "dask_scheduler.log").read_text()
                time.sleep(0.05)
        yield json.loads(file.read_text())["address"]


def scanned(archive: Path, memory: Path, scheduler: str | None) -> list[dict]:
    scan.scan(archive, memory, workers=1, scheduler=scheduler, archives=False)
    records = [row for path in scan.parts(memory) for row in pq.read_table(path).to_pylist()]
    return sorted(records, key=lambda row: row["path"])


@pytest.mark.slow
def test_headers_read_on_a_secured_cluster_are_those_read_here(scheduler, secrets, tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "BATCH", 3)
    save_all(axial_stack(20), tmp_path / "archive")
    assert scheduler.startswith("tls://")
    with config.set(secrets):
        records = scanned(tmp_path / "archive", tmp_path / "there", scheduler)
    assert len(records) == 20 and records == scanned(tmp_path / "archive", tmp_path / "here", None)


@pytest.mark.slow
def test_a_secured_cluster_answers_nobody_without_its_certificate(scheduler):
    place = scheduler.removeprefix("tls://").split(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        pytest.raises(OSError, match=r"certificate required|reset|closed|EOF|Broken pipe"),
        socket.create_connection((place[0], int(place[1])), timeout=WAIT_S) as connection,
        context.wrap_socket(connection) as wrapped,
    ):
        wrapped.sendall(b"\0" * 64)
        if not wrapped.recv(1):
            raise ConnectionError("closed")
