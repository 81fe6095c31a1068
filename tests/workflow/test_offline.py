"""The workflow needs no network and uses none."""

import subprocess
import sys
from dataclasses import replace

import pytest
from small_site import same_tables

# Begins in a network namespace of its own, where all that there is is a loopback that is still down: SIOCSIFFLAGS with
# IFF_UP and IFF_RUNNING, see netdevice(7).
LOOPBACK_ALONE = """
import fcntl, os, socket, struct, sys
with socket.socket() as one:
    fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
os.execvp(sys.argv[1], sys.argv[1:])
"""
WITHIN = ("unshare", "--net", sys.executable, "-c", LOOPBACK_ALONE)
CONNECT = "import socket; socket.create_connection(({!r}, {}), timeout=5)"


def can_connect(host: str, port: int) -> str:
    """What a connection from within says, in its last line; nothing where it succeeds."""
    command = [*WITHIN, sys.executable, "-c", CONNECT.format(host, port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip().rpartition("\n")[2]


def test_the_workflow_runs_without_a_network(finished, begun):
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("making a network namespace needs root")
    assert "Network is unreachable" in can_connect("192.0.2.1", 80)  # an address for documentation (RFC 5737)
    assert "Connection refused" in can_connect("127.0.0.1", 9)
    begun = replace(begun, within=WITHIN)
    begun.run()
    same_tables(begun, finished)
    assert (begun.folder / "results/hospital/report/index.html").is_file()
