"""What all tests share: where the repository and the real data are, and how Hypothesis searches."""

import os
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

HOME = Path(__file__).parent.parent
# Long files, which start first so that none is left for the end.
LONG = (
    "test_faults",
    "test_slurm",
    "test_training",
    "test_damage",
    "test_runs",
    "test_identity",
    "test_offline",
    "test_real",
)
# Files whose tests look at the same finished run.
TOGETHER = {
    "tests/workflow/test_identity.py": "tests/workflow/test_runs.py",
    "tests/workflow/test_offline.py": "tests/workflow/test_runs.py",
}


class ByFile(LoadFileScheduling):
    """Tests of a file go to one worker, so that what they share is made once; and so do files that share a run."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return TOGETHER.get(file, file)


def pytest_xdist_make_scheduler(config: pytest.Config, log) -> ByFile:
    """Divide the tests between the workers."""
    return ByFile(config, log)


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
