"""The record of runs: which configuration, code and model made the tables, and when."""

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa

import trabecula
from trabecula import tables

# Packages that results can depend on.
PACKAGES = ("numpy", "scipy", "pandas", "pyarrow", "dask", "pydicom", "SimpleITK", "torch", "monai", "TotalSegmentator")


def run_row(
    *, started: datetime, finished: datetime, config: str, code: Mapping[str, str], model_id: str
) -> dict[str, Any]:
    """Row of the table `runs`.

    Parameters
    ----------
    started, finished : datetime
        When aggregation started and finished, UTC.
    config : str
        The resolved configuration (see `config.fingerprint`).
    code : mapping
        Digest per stage (see `digest.digest`).
    model_id : str
        The model that predicted.
    """
    config_hash, listing = sha256(config.encode()).hexdigest(), json.dumps(dict(sorted(code.items())))
    return {
        "run_id": sha256(f"{config_hash}\n{listing}\n{model_id}".encode()).hexdigest()[:16],
        "started": started,
        "finished": finished,
        "version": trabecula.__version__,
        "commit": commit(Path(trabecula.__file__).parents[2]),
        "config_hash": config_hash,
        "code": listing,
        "model_id": model_id,
        "packages": json.dumps({name: found for name in PACKAGES if (found := _version(name))}),
    }


def with_run(earlier: pa.Table, row: Mapping[str, Any]) -> pa.Table:
    """Earlier runs and this one, in the order of their end; a run with the same id is replaced."""
    rows = [one for one in earlier.to_pylist() if one["run_id"] != row["run_id"]]
    return tables.cast(sorted([*rows, row], key=lambda one: (one["finished"], one["run_id"])), tables.RUNS)


def now() -> datetime:
    """Time in UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def commit(checkout: Path) -> str | None:
    """Commit of a checkout; None where the folder isn't the top of a repository, or git is missing."""
    try:
        asked = ["git", "-C", str(checkout), "rev-parse", "--show-prefix", "HEAD"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout.split("\n")
    except (OSError, subprocess.SubprocessError):
        return None
    return answer[1] if answer[0] == "" else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
