"""Fixtures and settings of all tests: where the repository and the real data are, and how Hypothesis searches."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

HOME = Path(__file__).parent.parent
# Long files, which start first so that none is left for the end.
LONG = (
    "test_slurm",
    "test_kills",
    "test_training",
    "test_changes",
    "test_damage",
    "test_disks",
    "test_runs",
    "test_real",
    "test_segment_backends",
    "test_publish",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first; the others keep their order."""
    place = {name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


# The same examples everywhere and no deadline: a slow machine is not a failure.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture(scope="session")
def home() -> Path:
    """Root of the repository."""
    return HOME


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real CT that is not part of the repository; the test skips where it is absent."""
    folder = Path(os.environ.get("TRABECULA_TEST_DATA", HOME.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip("no real CT here: TRABECULA_TEST_DATA names no folder")
    return folder
