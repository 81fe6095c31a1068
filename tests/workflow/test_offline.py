"""The workflow needs no network and uses none: the site that all tests look at was run without."""

import subprocess
import sys

import pytest

CONNECT = "import socket; socket.create_connection(({!r}, {}), timeout=5)"


def can_connect(within: tuple[str, ...], host: str, port: int) -> str:
    """Try a connection from within, and give the last line of its error; an empty text where it succeeds."""
    command = [*within, sys.executable, "-c", CONNECT.format(host, port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip().rpartition("\n")[2]


def test_the_workflow_runs_without_a_network(finished, without_network):
    """Runs with a network, as after each kill, are held to have the same tables."""
    if not without_network:
        pytest.skip("making a network namespace needs root")
    assert "Network is unreachable" in can_connect(without_network, "192.0.2.1", 80)  # for documentation (RFC 5737)
    assert "Connection refused" in can_connect(without_network, "127.0.0.1", 9)
    assert (finished.folder / "results/hospital/report/index.html").is_file()
