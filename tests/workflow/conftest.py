"""A small site on which the workflow is run once; tests look at it, or work on a copy."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from kept import kept
from small_site import MASKS, MATRIX, SEED, WITHOUT_NETWORK, Site, add_label_maps, hospital, write_settings


@pytest.fixture(scope="session")
def repository(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of what of the repository a run needs."""
    copy = tmp_path_factory.mktemp("repository")
    for name in ("workflow", "scripts", "config", "envs", "models", "profiles"):
        shutil.copytree(home / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(home / "Snakefile", copy)
    (copy / "slurm").symlink_to("profiles/slurm")
    return copy


@pytest.fixture(scope="session")
def without_network() -> tuple[str, ...]:
    """Command before a command that takes the network away from it; nothing where that needs more rights."""
    may = subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True, check=False).returncode == 0
    return WITHOUT_NETWORK if may else ()


@pytest.fixture(scope="session")
def finished(repository: Path, without_network: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with a hospital's archive of four patients and a synthetic cohort of two, after its first run.

    The run has no network. The site holds its own models, so that it may stand, and be run again, anywhere.
    """

    def make(folder: Path) -> None:
        hospital(folder / "hospital", first_patient=9, patients=4)
        synthetic = {"first_patient": 1000, "patients": 2, "devices": ["gamma"]}
        add_label_maps(folder, **synthetic)
        shutil.copytree(repository / "models", folder / "models")
        write_settings(
            folder,
            [
                "hospital hospital/archive hospital/labels.csv external",
                "made phantom/made/archive phantom/made/labels.csv external",
            ],
            index={"shard_size": 2},
            segment=MASKS,
            evaluate={"bootstrap": 100},
            phantom={"seed": SEED, "cohorts": {"made": synthetic | {"matrix": MATRIX}}},
        )
        Site(folder, repository, without_network).run()

    site = tmp_path_factory.mktemp("finished") / "site"
    return Site(shutil.copytree(kept("finished", make), site, symlinks=True), repository)


@pytest.fixture
def copied(finished: Site, tmp_path: Path) -> Site:
    """A copy of the finished site, with its times, that a test may change."""
    return replace(finished, folder=shutil.copytree(finished.folder, tmp_path / "site", symlinks=True))


@pytest.fixture
def begun(finished: Site, tmp_path: Path) -> Site:
    """A site with the archive of the finished one, on which nothing has run yet."""
    site = replace(finished, folder=tmp_path / "site")
    site.folder.mkdir()
    for name in ("site.yaml", "cohorts.tsv", "hospital", "label_maps", "models", "private/key"):
        copy = shutil.copytree if (finished.folder / name).is_dir() else shutil.copy
        (site.folder / name).parent.mkdir(exist_ok=True)
        copy(finished.folder / name, site.folder / name)
    return site
