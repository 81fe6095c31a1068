"""Files and memory that a process of the workflow leaves to other users: tests in processes of their own."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trabecula.runtime import privacy

CLOSE = f"import sys; sys.path.append({str(Path(privacy.__file__).parents[2])!r}); "
CLOSE += "from trabecula.runtime.privacy import close_process; close_process(); "


def run(code: str, folder: Path, umask: int = 0o022) -> int:
    """Run Python code in a folder; returns its exit status as a parent sees it."""
    return subprocess.run([sys.executable, "-c", code], cwd=folder, umask=umask, check=False).returncode


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o640, 0o750), (0o002, 0o640, 0o750), (0o077, 0o600, 0o700)]
)
def test_files_are_closed_to_others(tmp_path, umask, file, folder):
    assert run(CLOSE + "open('file', 'w').close(); import os; os.mkdir('folder')", tmp_path, umask) == 0
    assert (tmp_path / "file").stat().st_mode & 0o777 == file
    assert (tmp_path / "folder").stat().st_mode & 0o777 == folder


def test_a_crash_leaves_no_image_of_the_memory(tmp_path):
    crash = "import os; secret = 'k' * 99; os.abort()"
    assert run(CLOSE + crash, tmp_path) == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []
    child = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
    asked = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    printed = subprocess.run([sys.executable, "-c", CLOSE + asked], capture_output=True, text=True, check=True).stdout
    assert printed.strip() in ("(1, 1)", "(0, 0)")


def test_a_process_that_may_not_dump_anyway_is_left_so(tmp_path):
    forbid = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
    assert run(forbid + CLOSE + "assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)", tmp_path) == 0


def test_a_folder_that_was_open_is_closed_to_others(tmp_path):
    for before, after in ((0o775, 0o750), (0o700, 0o700)):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a").chmod(before)
        privacy.close_folder(tmp_path / "a")
        assert (tmp_path / "a").stat().st_mode & 0o777 == after
    privacy.close_folder(tmp_path / "b")
    assert not (tmp_path / "b").exists()
