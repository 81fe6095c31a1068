"""One word per stage, everywhere; and nothing at the top that the design doesn't name."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ct_files import axial_stack, save_all

from trabecula.runtime import digest

HOME = Path(__file__).parent.parent
FLOW = ["index", "convert", "segment", "crop", "measure", "train", "infer", "aggregate", "evaluate", "report"]
STAGES = ["phantom", *FLOW, "export"]
SCHEMA = yaml.safe_load((HOME / "workflow/schemas/config.schema.yaml").read_text())
TOP = {
    *("Snakefile", "workflow", "scripts", "profiles", "slurm", "envs", "config", "models", "tests", "results", "docs"),
    *(
        "Makefile",
        "README.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "LICENSE",
        "THIRD_PARTY.md",
        "pyproject.toml",
        ".ci",
        ".gitignore",
    ),
}
TEXT = {
    ".py",
    ".smk",
    ".md",
    ".yaml",
    ".yml",
    ".toml",
    ".tsv",
    ".csv",
    ".sh",
    ".rst",
    ".txt",
    ".json",
    ".j2",
    ".sql",
    "",
}


def tracked() -> list[Path]:
    """Files of the repository, in it or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=HOME, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    return [Path(line) for line in listed.stdout.splitlines() if (HOME / line).exists()]


def rules(file: Path) -> dict[str, str]:
    """Text of every rule of a rule file, by name."""
    parts = re.split(r"^(?:rule|checkpoint) (\w+):\n", file.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


ALL_RULES = {
    name: text for file in sorted((HOME / "workflow/rules").glob("*.smk")) for name, text in rules(file).items()
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_one_word(stage):
    assert stage in rules(HOME / f"workflow/rules/{stage}.smk")
    assert (HOME / f"scripts/{stage}.py").is_file()
    package = HOME / "workflow/trabecula" / stage
    assert package.is_dir() or package.with_suffix(".py").is_file()
    assert (HOME / f"tests/unit/test_{stage}.py").is_file() or (HOME / f"tests/unit/{stage}").is_dir()


def test_there_is_no_stage_but_these():
    named = {file.stem for folder in ("workflow/rules", "scripts") for file in (HOME / folder).glob("*.*")}
    assert {name.split("_")[0] for name in named} == {*STAGES, "targets"}


def test_a_section_of_the_configuration_is_called_like_its_stage():
    sections = {name.split("_")[0] for name, part in SCHEMA["properties"].items() if part["type"] == "object"}
    # `aggregate` calibrates, with a section of its own.
    assert sections - {"dask", "calibrate"} <= set(STAGES)


def test_the_snakefile_follows_the_data():
    included = re.findall(r'^include: "workflow/(.*)"$', (HOME / "Snakefile").read_text(), flags=re.MULTILINE)
    assert included == ["common.smk", *(f"rules/{stage}.smk" for stage in STAGES), "rules/targets.smk"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_rule_keeps_to_its_stage(stage):
    text = ALL_RULES[stage]
    assert f'script:\n        "../../scripts/{stage}.py"' in text
    assert f'code=digest("{stage}")' in text
    log, benchmark = (re.search(rf'{part}:\s+"logs/(.*)"', text) for part in ("log", "benchmark"))
    assert log and benchmark
    assert stage in log[1]
    assert stage in benchmark[1]


@pytest.mark.parametrize("name", ALL_RULES)
def test_every_rule_has_what_a_cluster_needs(name):
    text = ALL_RULES[name]
    assert text.lstrip().startswith('"""')
    if "localrule: True" not in text:
        assert re.search(r"mem_mb=grows\(\S+\)", text)
        assert re.search(r"runtime=grows\(\d+\)", text)
        assert 'conda:\n        "../../envs/trabecula.yaml"' in text


@pytest.mark.parametrize("file", sorted((HOME / "scripts").glob("*.py")), ids=lambda file: file.stem)
def test_a_script_reads_calls_and_writes(file):
    branches = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.If, ast.While, ast.Try)
    assert not [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, branches)]
    assert len(file.read_text().splitlines()) <= 40


@pytest.mark.parametrize("name", [name for name, text in ALL_RULES.items() if "script:" in text])
def test_the_digests_of_a_rule_cover_what_its_script_calls(name):
    """Rooms that only log, or write the table that is made, are left out."""
    stages = re.findall(r'digest\("([\w.]+)"\)', ALL_RULES[name])
    covered = {file.relative_to(digest.PACKAGE) for stage in stages for file in digest.sources(stage)}
    (script,) = re.findall(r"scripts/\w+\.py", ALL_RULES[name])
    called = {module for module in imports_of(HOME / script) if module.partition(".")[0] not in ("runtime", "tables")}
    assert {MODULES[module].relative_to(PACKAGE) for module in called} <= covered


def test_the_package_does_not_know_snakemake():
    for file in (HOME / "workflow/trabecula").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) snakemake", file.read_text(), flags=re.MULTILINE), file


def test_the_top_is_as_designed():
    assert {file.parts[0] for file in tracked()} - {"bench"} == TOP
    assert (HOME / "results/.gitkeep").is_file()
    assert (HOME / "slurm").readlink() == Path("profiles/slurm")


def test_no_file_names_a_place_on_one_machine():
    place = re.compile(r"(?<![\w.$}])/(work|root|home|Users)/")
    for file in tracked():
        if file.suffix in TEXT and (HOME / file).is_file():
            found = place.search((HOME / file).read_text(errors="replace"))
            assert not found, f"{file}: {found and found[0]}"


PACKAGE = HOME / "workflow/trabecula"
ROOMS = {"dicom", "nifti", "image", "cohort", "model", "density", "tables", "catalog", "runtime", "errors"}
# The rooms that the driver of a run looks into: nothing but their docstring is read with each of their modules.
LIGHT = {"dicom", "nifti", "image", "cohort", "model", "density", "runtime"}
# A stage that calls another one, which docs/architecture.md explains.
CALLS = {("train_segmenter", "phantom"), ("report", "evaluate")}
HEAVY = {"numpy", "pandas", "pyarrow", "torch", "monai", "scipy", "dask"}


def modules() -> dict[str, Path]:
    """Files of the package by the name under which they are imported, without the package's own."""
    files = {file: file.relative_to(PACKAGE).with_suffix("").parts for file in PACKAGE.rglob("*.py")}
    return {".".join(parts).removesuffix("__init__").rstrip("."): file for file, parts in files.items()}


MODULES = modules()


def imports_of(file: Path) -> set[str]:
    """Modules of the package that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{file}: imports name the whole path"
            names |= {module_of(f"{node.module}.{alias.name}") or module_of(node.module) for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {module_of(alias.name) for alias in node.names}
    return names - {""}


def module_of(name: str) -> str:
    """The package's module of a dotted name, without the package's own; empty where the name is no such module."""
    inside = name.removeprefix("trabecula.")
    return inside if name != inside and inside in MODULES else ""


ARROWS = {name: imports_of(file) for name, file in MODULES.items()}


def test_the_hall_has_these_doors_and_no_other():
    doors = {name.partition(".")[0] for name in MODULES if name}
    assert doors == ROOMS | set(STAGES) | {"train_segmenter"}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_says_what_belongs_in_it(room):
    tree = ast.parse(MODULES[room].read_text())
    assert ast.get_docstring(tree)
    assert room not in LIGHT or len(tree.body) == 1, "what stands here would be loaded with every module of the room"


def test_no_room_imports_a_stage_and_stages_call_no_other():
    calls = {(name.partition(".")[0], other.partition(".")[0]) for name, others in ARROWS.items() for other in others}
    upward = {(room, other) for room, other in calls if room in ROOMS and other not in ROOMS}
    assert not upward
    assert {(one, other) for one, other in calls if one != other and other not in ROOMS} == CALLS


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Names along a circle of imports; empty where there is none."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return []
        done.add(name)
        return next((c for other in sorted(arrows[name]) if (c := walk(other, [*way, name]))), [])

    return next((c for name in sorted(arrows) if (c := walk(name, []))), [])


def test_no_imports_run_in_a_circle():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert not circle(ARROWS)
    rooms: dict[str, set[str]] = {}
    for name, others in ARROWS.items():
        door = name.partition(".")[0]
        rooms.setdefault(door, set()).update({other.partition(".")[0] for other in others} - {door})
    assert not circle(rooms)


def test_what_snakemake_loads_for_every_job_is_light():
    loaded = re.findall(r"^from (trabecula\S*) import (.*)$", (HOME / "workflow/common.smk").read_text(), re.MULTILINE)
    statements = "; ".join(f"from {module} import {names}" for module, names in loaded)
    code = f"import sys; sys.path.insert(0, sys.argv[1]); {statements}; print(*sys.modules)"
    command = [sys.executable, "-c", code, str(HOME / "workflow")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
    assert "trabecula.model.bundle_checks" in done.stdout


# Each takes longer to load than a small study to convert; `pydicom` alone a quarter of a second.
NOT_FOR_PLAIN_FILES = HEAVY | {"pydicom", "nibabel", "requests", "asyncio", "imagecodecs", "jsonschema", "tqdm"}


def test_converting_plain_files_loads_numpy_and_little_else(tmp_path):
    save_all(axial_stack(4), tmp_path / "in")
    code = (
        "import sys; from pathlib import Path; from trabecula.convert.by_hand import convert_folder; "
        "(entry,) = convert_folder(Path(sys.argv[1]), Path(sys.argv[2])); print(entry['status'], *sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "in"), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(HOME / "workflow")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    status, *loaded = done.stdout.split()
    assert status == "ok" and "numpy" in loaded
    assert not (NOT_FOR_PLAIN_FILES - {"numpy"}) & set(loaded)


FUNCTIONS = [
    (f"{name}:{node.lineno} {node.name}", node)
    for name, file in MODULES.items()
    for node in ast.walk(ast.parse(file.read_text()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
]
LONGEST_FUNCTION, MOST_PARAMETERS = 50, 8
# TotalSegmentator calls it in the place of a function of its own.
FOREIGN = "segment.totalsegmentator:{} _predict"
# Names that say nothing of what they hold.
EMPTY_NAMES = {"found", "one", "known", "told", "own", "of", "wanted", "given", "here", "mine"}
# Beginnings that leave out the verb.
ELLIPTIC = {"What", "Whether", "Who", "Whose", "Of"}


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, without its docstring."""
    first, last = function.body[0], function.end_lineno or function.lineno
    docstring = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(function) else 0
    return last - function.lineno + 1 - docstring


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of a function's parameters, without the object itself."""
    listed = function.args
    names = [argument.arg for argument in (*listed.posonlyargs, *listed.args, *listed.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def names_in(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Parameters of a function and what it assigns to."""
    stored = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | set(parameters(function))


def test_functions_are_short():
    assert not [place for place, function in FUNCTIONS if length(function) > LONGEST_FUNCTION]
    many = [(place, node.lineno) for place, node in FUNCTIONS if len(parameters(node)) > MOST_PARAMETERS]
    assert [place for place, line in many] == [FOREIGN.format(line) for _, line in many]


def test_names_hold_a_noun():
    assert not [(place, names) for place, function in FUNCTIONS if (names := names_in(function) & EMPTY_NAMES)]


def test_docstrings_begin_with_what_is_done():
    texts = [
        (f"{name}:{getattr(node, 'name', '')}", ast.get_docstring(node) or "")
        for name, file in MODULES.items()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert not [place for place, text in texts if text.split(maxsplit=1)[:1] and text.split()[0] in ELLIPTIC]
