"""Keep what takes long to make: all workers share it, and later sessions too while the code behind it is the same."""

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock

from trabecula.runtime.whole_file import whole_folder

HOME = Path(__file__).parents[2]
KEPT = HOME / "scratch/tests"
# Files and folders that decide what a run of the workflow gives.
WORKFLOW = (
    *("Snakefile", "workflow", "scripts", "config", "models"),
    *("envs/requirements.txt", "tests/helpers/small_site.py"),
)


def digest_of(sources: Iterable[str]) -> str:
    """Give 16 hexadecimal digits of a SHA-256 over files and folders of the repository, without compiled code."""
    sha = hashlib.sha256()
    for source in sources:
        place = HOME / source
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file() and "__pycache__" not in file.parts:
                sha.update(str(file.relative_to(HOME)).encode() + b"\0" + file.read_bytes())
    return sha.hexdigest()[:16]


def kept(name: str, make: Callable[[Path], None], sources: Iterable[str] = WORKFLOW) -> Path:
    """Give a folder that `make` fills, made anew when its sources have changed; nobody may write to it."""
    folder = KEPT / f"{name}-{digest_of(sources)}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with FileLock(KEPT / f"{name}.lock"):
        if not folder.is_dir():
            for older in KEPT.glob(f"{name}-*"):
                shutil.rmtree(older, ignore_errors=True)
            with whole_folder(folder) as unfinished:
                make(unfinished)
    return folder
