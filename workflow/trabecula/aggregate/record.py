"""The record of runs: the configuration, code, inputs and model that made the tables, and when."""

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
    """Inputs, configuration, code and model that made a state of the tables.

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


def run_id(run: Run, contents: Mapping[str, str]) -> str:
    """Name a state of the tables: the same configuration, code, model and contents give the same name.

    Parameters
    ----------
    run : Run
        What made the tables.
    contents : mapping
        SHA-256 of every cohort's tables, by their place among the tables.

    Returns
    -------
    str
        First 16 hexadecimal digits of a SHA-256.
    """
    parts = [run.config, _sorted_json(run.code), run.bundle.model_id, _sorted_json(contents)]
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def row(run: Run, *, run_id: str, finished: datetime) -> dict[str, Any]:
    """Make the row of the table `runs` for a run whose tables are kept."""
    return {
        "run_id": run_id,
        "started": run.started,
        "finished": finished,
        "version": trabecula.__version__,
        "commit": commit(Path(trabecula.__file__).parents[2]),
        "config_hash": sha256(run.config.encode()).hexdigest(),
        "code": _sorted_json(run.code),
        "model_id": run.bundle.model_id,
        "packages": _sorted_json({name: release for name in PACKAGES if (release := _version(name))}),
        "inputs": _sorted_json(run.inputs),
        "model_sha256": _sorted_json(run.bundle.sha256),
        "kept": True,
    }


# Options that hold a path or an address, even where it has no slash.
PLACES = frozenset(
    ["cohorts", "model", "private", "network", "folder", "masks", "real", "verdicts", "mapping", "scheduler"]
)


def without_places(config: Any) -> Any:
    """Replace paths and addresses of a configuration by `PLACE`: folders, files and hosts may name people.

    >>> without_places({"aggregate": {"verdicts": "dr_house.csv", "keep_runs": 3}})
    {'aggregate': {'verdicts': '(place not recorded)', 'keep_runs': 3}}
    """
    if isinstance(config, dict):
        return {
            name: PLACE if name in PLACES and isinstance(value, str) else without_places(value)
            for name, value in config.items()
        }
    if isinstance(config, list):
        return [without_places(value) for value in config]
    return PLACE if isinstance(config, str) and _is_place(config) else config


def _is_place(text: str) -> bool:
    """Tell whether a text holds a path or an address; units such as mg/cm3 do not count."""
    return "\\" in text or ("/" in text and not text.startswith("mg/"))


def _sorted_json(texts: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(texts.items())))


def now() -> datetime:
    """Give the time in UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def commit(checkout: Path) -> str | None:
    """Ask git for the commit of a checkout; None where the folder isn't the top of a repository, or git is missing."""
    command = ["git", "-C", str(checkout), "rev-parse", "--show-prefix", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    prefix, head, *_ = done.stdout.split("\n")
    return head if prefix == "" else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
