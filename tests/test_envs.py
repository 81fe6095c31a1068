"""The locks, what is made from them, and the script that installs them."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import trabecula

HOME = Path(__file__).parent.parent
GENERATOR = runpy.run_path(str(HOME / "envs/generate.py"))
RUNTIME, DEV = (GENERATOR["pins"](GENERATOR[lock]) for lock in ("LOCK", "DEV_LOCK"))
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())


def pinned(lock: dict[str, str]) -> dict[str, str]:
    return {canonicalize_name(name): number for name, number in lock.items()}


def lines_of(lock: str) -> list[str]:
    lines = (HOME / "envs" / lock).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_locks_hold_nothing_but_exact_versions_that_any_machine_can_resolve():
    assert lines_of("requirements.txt") == [f"{name}=={number}" for name, number in RUNTIME.items()]
    assert lines_of("requirements-dev.txt") == [
        "-r requirements.txt",
        *(f"{name}=={number}" for name, number in DEV.items()),
    ]
    assert not [number for number in (RUNTIME | DEV).values() if "+" in number], "a build such as +cpu is one machine's"
    assert not pinned(RUNTIME).keys() & pinned(DEV).keys()


@pytest.mark.parametrize(
    ("wanted", "lock"), [(PROJECT["project"]["dependencies"], RUNTIME), (PROJECT["dependency-groups"]["dev"], DEV)]
)
def test_locks_hold_what_the_project_asks_for(wanted, lock):
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned(lock)[canonicalize_name(requirement.name)])


def test_what_is_tested_here_is_what_the_locks_say():
    locked = RUNTIME | DEV
    assert {name: version(name).split("+")[0] for name in locked} == locked


def test_the_conda_environment_equals_the_lock():
    text = GENERATOR["CONDA"].read_text()
    assert text == GENERATOR["conda_yaml"](RUNTIME), "run `make generated`"
    assert yaml.safe_load(text)["dependencies"][-1]["pip"] == lines_of("requirements.txt")


ALONE = """
import importlib.abc, runpy, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"{name} is not in the lock", name=name)

sys.meta_path.insert(0, Refuse())
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def imports_without(refused: set[str]) -> subprocess.CompletedProcess[str]:
    """Import every module of the package in a Python that does not find some top-level modules."""
    return subprocess.run(
        [sys.executable, "-c", ALONE.replace("REFUSED", repr(refused)), HOME / "envs/imports.py"],
        env=os.environ | {"PYTHONPATH": str(HOME / "workflow")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_every_stage_imports_with_only_what_the_lock_lists():
    locked = pinned(RUNTIME).keys()
    others = {
        module
        for module, owners in packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & locked
    } - sys.stdlib_module_names
    assert "pytest" in others
    assert "pyarrow" not in others
    done = imports_without(others)
    assert done.returncode == 0, done.stderr
    assert "pyarrow is not in the lock" in imports_without({"pyarrow"}).stderr


@pytest.mark.parametrize("recipe", ["Dockerfile", "apptainer.def"])
def test_a_container_holds_the_lock_and_what_a_run_needs_and_nothing_else(recipe):
    text = (HOME / "envs" / recipe).read_text()
    assert re.search(r"^(FROM|From:) python:3\.11-slim$", text, flags=re.MULTILINE)
    assert re.findall(r"pip install .*", text) == [
        "pip install --no-cache-dir --requirement /opt/trabecula/envs/requirements.txt"
    ]
    assert not re.search(r"apt|curl|wget|conda|download", text.replace("apptainer", ""))
    for name in ("Snakefile", "config", "envs", "models", "profiles", "scripts", "workflow"):
        assert re.search(rf"^\s*(COPY )?{name} .*/opt/trabecula/", text, flags=re.MULTILINE), name
    assert "snakemake" in text.splitlines()[-1]


def test_the_page_of_licences_is_up_to_date():
    page = GENERATOR["THIRD_PARTY"].read_text()
    assert page == GENERATOR["third_party"](RUNTIME, DEV), "run `make generated`"
    assert not re.search("not stated|UNKNOWN|private", page)
    # Code under the GPL or AGPL would bind what is built on it; the LGPL does not bind who only imports it.
    bound = [line for line in page.splitlines() if re.search(r"(?<!L)GPL", line)]
    assert [line.split()[1] for line in bound] == ["docutils"], bound


def test_the_version_is_said_once():
    assert PROJECT["project"]["version"] == trabecula.__version__
    assert f"## {trabecula.__version__}" in (HOME / "CHANGELOG.md").read_text()


def install(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a folder with a lock that names nothing."""
    shutil.copytree(HOME / "envs", folder / "envs", dirs_exist_ok=True)
    (folder / "envs/requirements.txt").write_text("# nothing\n")
    command = ["sh", folder / "envs/install.sh", "envs/requirements.txt"]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_an_environment_is_made_once_and_again_after_it_was_moved(tmp_path):
    first = install(tmp_path / "a", PYTHON=sys.executable)
    assert first.returncode == 0, first.stderr
    assert "Making .venv" in first.stdout
    assert "Installing" in first.stdout
    again = install(tmp_path / "a", PYTHON=sys.executable)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    (tmp_path / "a").rename(tmp_path / "b")
    moved = install(tmp_path / "b", PYTHON=sys.executable)
    assert moved.returncode == 0, moved.stderr
    assert "Making .venv" in moved.stdout


def test_a_python_that_does_not_fit_is_refused_in_one_sentence(tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    refused = install(tmp_path, PYTHON=str(old))
    assert refused.returncode == 1
    assert refused.stderr == (
        "Python 3.11 or 3.12 was not found: install one, or name it with make PYTHON=/path/to/python3.\n"
    )
    assert not (tmp_path / ".venv").exists()
