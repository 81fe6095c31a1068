"""The record of runs: which configuration, code, inputs and model made the tables, and when."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import trabecula
from trabecula.model import bundle

# Packages that results can depend on.
PACKAGES = (
    *("numpy", "scipy", "pandas", "pyarrow", "dask", "duckdb", "pydicom", "SimpleITK", "torch", "monai"),
    *("TotalSegmentator", "snakemake"),
)
# Stands where the configuration names a path or an address.
PLACE = "(place not recorded)"


@dataclass(frozen=True)
class Run:
    """What made a state of the tables.

    Attributes
    ----------
    started : datetime
        When aggregation started, UTC.
    config : str
        The resolved configuration (see `config.fingerprint`).
    code : mapping
        Digest per stage (see `digest.digest`).
    bundle : Bundle
        The model that predicted.
    inputs : mapping
        SHA-256 of the index's tables, by cohort.
    """

    started: datetime
    config: str
    code: Mapping[str, str]
    bundle: bundle.Bundle
    inputs: Mapping[str, str]


def run_id(of: Run, contents: Mapping[str, str]) -> str:
    """Name of a state of the tables: the same configuration, code, model and contents give the same name.

    Parameters
    ----------
    of : Run
    contents : mapping
        SHA-256 of every cohort's tables, by their place among the tables.

    Returns
    -------
    str
        First 16 hexadecimal digits of a SHA-256.
    """
    told = [of.config, _listing(of.code), of.bundle.model_id, _listing(contents)]
    return sha256("\n".join(told).encode()).hexdigest()[:16]


def row(of: Run, *, run_id: str, finished: datetime) -> dict[str, Any]:
    """Row of the table `runs`, of a run whose tables are kept."""
    return {
        "run_id": run_id,
        "started": of.started,
        "finished": finished,
        "version": trabecula.__version__,
        "commit": commit(Path(trabecula.__file__).parents[2]),
        "config_hash": sha256(of.config.encode()).hexdigest(),
        "code": _listing(of.code),
        "model_id": of.bundle.model_id,
        "packages": _listing({name: found for name in PACKAGES if (found := _version(name))}),
        "inputs": _listing(of.inputs),
        "model_sha256": _listing(of.bundle.sha256),
        "kept": True,
    }


# Options that hold a path or an address, even where it has no slash.
PLACES = frozenset(
    ["cohorts", "model", "private", "network", "folder", "masks", "real", "verdicts", "mapping", "scheduler"]
)


def without_places(config: Any) -> Any:
    """A configuration without paths and addresses: folders, files and hosts may name hospitals and people."""
    if isinstance(config, dict):
        return {
            name: PLACE if name in PLACES and isinstance(value, str) else without_places(value)
            for name, value in config.items()
        }
    if isinstance(config, list):
        return [without_places(value) for value in config]
    return PLACE if isinstance(config, str) and _is_place(config) else config


def _is_place(text: str) -> bool:
    return "\\" in text or ("/" in text and not text.startswith("mg/"))


def _listing(of: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(of.items())))


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
