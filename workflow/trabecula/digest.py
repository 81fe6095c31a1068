"""Fingerprint of the code that makes a stage's results.

Snakemake notices a changed script, but not a changed module that the script imports.
Every rule therefore carries the digest of its stage's module and of what that imports.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent


def _files_of(module: str) -> list[Path]:
    """Source files of ``trabecula.<module>``: one file, or a whole folder with the templates in it."""
    path = PACKAGE.joinpath(*module.split("."))
    if path.is_dir():
        return sorted(file for ending in ("*.py", "templates/*") for file in path.rglob(ending))
    file = path.with_suffix(".py")
    return [file] if file.is_file() else []


def _imports_of(file: Path) -> set[str]:
    """Modules of this package that a source file names in its imports, top folder only."""
    found = set()
    if file.suffix != ".py":
        return found
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith(f"{PACKAGE.name}.")}
    return found


def sources(stage: str) -> list[Path]:
    """Source files of a stage: its module, and all of the package that it imports, also indirectly."""
    todo, done, files = [stage], set(), set()
    while todo:
        module = todo.pop()
        if module in done:
            continue
        done.add(module)
        for file in _files_of(module):
            files.add(file)
            todo += sorted(_imports_of(file))
    return sorted(files)


@cache
def digest(stage: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 over a stage's sources (see `sources`)."""
    files = sources(stage)
    if not files:
        raise ModuleNotFoundError(f"no module trabecula.{stage}")
    sha = hashlib.sha256()
    for file in files:
        sha.update(str(file.relative_to(PACKAGE)).encode() + b"\0" + file.read_bytes())
    return sha.hexdigest()[:16]
