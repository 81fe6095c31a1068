"""Fingerprint of the code that makes a stage's results.

Snakemake notices a changed script, but not a changed module that the script imports. Every rule therefore carries the
digest of its stage's module and of all modules that it imports.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def _files_of(module: str) -> list[Path]:
    """List the source files of ``trabecula.<module>``: a file, or a whole folder with the templates and texts in it."""
    path = PACKAGE.joinpath(*module.split("."))
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    file = path.with_suffix(".py")
    return [file] if file.is_file() else []


@cache
def _imports_of(file: Path) -> set[str]:
    """List the modules of this package that a source file imports, such as ``tables`` or ``train.fit``."""
    modules = set()
    if file.suffix != ".py":
        return modules
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        modules |= {_module_of(name.split(".")[1:]) for name in names if name.startswith(f"{PACKAGE.name}.")}
    return modules


def _module_of(parts: list[str]) -> str:
    """Find the module that an imported name lies in: the longest beginning that is a file or a folder."""
    while parts and not _files_of(".".join(parts)):
        parts = parts[:-1]
    return ".".join(parts)


@cache
def _run_by_import(module: str) -> list[Path]:
    """List the files that importing a module runs: the module or a folder's __init__ and texts, and __init__s above."""
    path = PACKAGE.joinpath(*module.split("."))
    above = [folder / "__init__.py" for folder in path.parents if folder.is_relative_to(PACKAGE)]
    texts = [file for file in sorted(path.rglob("*")) if file.suffix not in (".py", ".pyc")]
    files = [path.with_suffix(".py"), path / "__init__.py", *texts, *above]
    return [file for file in files if file.is_file()]


def sources(stage: str) -> list[Path]:
    """List the source files of a stage: its module, or all of its folder, and all modules of the package they import.

    In a folder that is only imported from, the imported modules count alone, so that an edit of the model card does not
    train the networks again.
    """
    files, todo = set(), list(_files_of(stage))
    while todo:
        file = todo.pop()
        if file not in files:
            files.add(file)
            for module in sorted(_imports_of(file)):
                todo += _run_by_import(module) if module else []
    return sorted(files)


@cache
def digest(stage: str) -> str:
    """Give the first 16 hexadecimal digits of the SHA-256 over a stage's sources (see `sources`)."""
    files = sources(stage)
    if not files:
        raise ModuleNotFoundError(f"no module trabecula.{stage}")
    sha = hashlib.sha256()
    for file in files:
        sha.update(str(file.relative_to(PACKAGE)).encode() + b"\0" + file.read_bytes())
    return sha.hexdigest()[:16]
