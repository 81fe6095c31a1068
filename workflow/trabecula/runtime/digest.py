"""Fingerprint of the code that makes a stage's results.

Snakemake notices a changed script, but not a changed module that the script imports.
Every rule therefore carries the digest of its stage's module and of what that imports.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def _files_of(module: str) -> list[Path]:
    """Source files of ``trabecula.<module>``: one file, or a whole folder with the templates and texts in it."""
    path = PACKAGE.joinpath(*module.split("."))
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    file = path.with_suffix(".py")
    return [file] if file.is_file() else []


@cache
def _imports_of(file: Path) -> set[str]:
    """Modules of this package that a source file names in its imports, such as ``tables`` or ``train.fit``."""
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
        found |= {_module_of(name.split(".")[1:]) for name in names if name.startswith(f"{PACKAGE.name}.")}
    return found


def _module_of(parts: list[str]) -> str:
    """The module that an imported name lies in: the longest beginning that is a file or a folder."""
    while parts and not _files_of(".".join(parts)):
        parts = parts[:-1]
    return ".".join(parts)


@cache
def _own(module: str) -> list[Path]:
    """Files that importing a module runs: its own, or a folder's __init__ and texts, and the __init__s above."""
    path = PACKAGE.joinpath(*module.split("."))
    above = [folder / "__init__.py" for folder in path.parents if folder.is_relative_to(PACKAGE)]
    told = [file for file in sorted(path.rglob("*")) if file.suffix not in (".py", ".pyc")]
    files = [path.with_suffix(".py"), path / "__init__.py", *told, *above]
    return [file for file in files if file.is_file()]


def sources(stage: str) -> list[Path]:
    """Source files of a stage: its module, or all of its folder, and all of the package that these import.

    Of a folder that is only imported from, what is imported counts, so that an edit of the model card does not train
    the networks again.
    """
    files, todo = set(), list(_files_of(stage))
    while todo:
        file = todo.pop()
        if file not in files:
            files.add(file)
            todo += [own for module in sorted(_imports_of(file)) if module for own in _own(module)]
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
