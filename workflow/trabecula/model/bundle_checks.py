"""Checks that a model bundle is safe, whole and free of contradictions, before anything of it is loaded.

Every file is read as text or bytes. Only the standard library is needed, so that a run can stop before its first job
when a bundle fails a check.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from trabecula.errors import ConfigError

METADATA, INFERENCE = Path("configs", "metadata.json"), Path("configs", "inference.json")
# The one kind of network that bundles hold.
NETWORK_CLASS = "monai.networks.nets.DenseNet"
# Formats that torch, pickle or joblib read, all of which may hold code.
PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ts", ".bin", ".ckpt", ".joblib"})
# What cures most faults.
ANEW = "give a bundle that this version of the workflow wrote, or train it again"
# Longest header that the safetensors format allows.
_LONGEST_HEADER = 100_000_000


def weight_file(task: str, fold: int) -> str:
    """Give the path of a network's weights in its bundle.

    >>> weight_file("regression", 1)
    'models/regression_fold1.safetensors'
    """
    return f"models/{task}_fold{fold}.safetensors"


def side_in_cube(roi_size: int, roi_spacing_mm: float, cube_spacing_mm: float) -> int:
    """Count the cube's voxels along each side of the region that a network sees, at least one.

    >>> side_in_cube(32, 2.0, 1.0)
    64
    """
    return max(round(roi_size * roi_spacing_mm / cube_spacing_mm), 1)


def check_bundle(
    folder: Path | str,
    *,
    cube_size: int,
    cube_spacing_mm: float,
    levels: Sequence[str],
    reduced_below_mg_cm3: float,
) -> None:
    """Check that a bundle is safe and whole, and made for cubes of this size and results of this kind.

    Parameters
    ----------
    folder : Path or str
        The bundle.
    cube_size, cube_spacing_mm
        Voxels along the side of the archive's cubes, and their distance.
    levels, reduced_below_mg_cm3
        Options of section `aggregate`: the levels that results stand on, and the vBMD below which density is reduced.

    Raises
    ------
    ConfigError
        See `check_content`; or if the networks see more than the cubes hold, or were trained for other levels or
        another threshold of reduced density than results are made with.
    """
    check_content(folder)
    facts = _json(Path(folder), METADATA)
    needed = side_in_cube(facts["roi_size"], facts["roi_spacing_mm"], cube_spacing_mm)
    if needed > cube_size:
        _fail(
            folder,
            f"sees {facts['roi_size'] * facts['roi_spacing_mm']:g} mm around a vertebra, and the archive's cubes have "
            f"{cube_size * cube_spacing_mm:g} mm; raise option crop.size to {needed}, or use another bundle",
        )
    for option, value in (("reduced_below_mg_cm3", reduced_below_mg_cm3), ("levels", levels)):
        if facts.get(option) != value:
            _fail(
                folder,
                f"was trained with aggregate.{option} {facts.get(option)}, and the configuration has {value}; "
                "set it to the bundle's, or train a model for yours",
            )


def check_region(*, roi_size: int, roi_spacing_mm: float, cube_size: int, cube_spacing_mm: float) -> None:
    """Check that the cubes hold the regions that networks are to be trained on.

    Parameters
    ----------
    roi_size, roi_spacing_mm
        Options of section `train`: voxels along the side of a region, and their distance.
    cube_size, cube_spacing_mm
        Options size and spacing_mm of section `crop`: the same of the cubes.

    Raises
    ------
    ConfigError
        If the region is larger than the cube.
    """
    needed = side_in_cube(roi_size, roi_spacing_mm, cube_spacing_mm)
    if needed > cube_size:
        raise ConfigError(
            f"Section train: regions of {roi_size * roi_spacing_mm:g} mm (roi_size, roi_spacing_mm) are larger than "
            f"the cubes of {cube_size * cube_spacing_mm:g} mm; raise crop.size to {needed}, or lower them."
        )


def check_content(folder: Path | str) -> None:
    """Check that a bundle is safe and whole, whatever the archive.

    Raises
    ------
    ConfigError
        If there is a file in a format that may hold code, a configuration that is no JSON or holds an expression
        (``$``), a weight file that is no safetensors, a missing fold, or an inference.json that contradicts
        metadata.json about the networks, their weights or what they see.
    """
    folder = Path(folder)
    _check_formats(folder)
    _check_expressions(folder)
    facts, inference = _json(folder, METADATA), _json(folder, INFERENCE)
    try:
        _check_folds(folder, facts)
        subject = _contradiction(facts, inference)
    except (KeyError, TypeError, AttributeError, ArithmeticError):
        _fail(folder, f"holds no usable {METADATA} and {INFERENCE}; {ANEW}")
    if subject:
        _fail(folder, f"contradicts itself: {INFERENCE} and {METADATA} differ about {subject}; fetch the bundle again")


def _fail(folder: Path | str, fault: str) -> NoReturn:
    """Raise a ConfigError that names the bundle and its fault."""
    raise ConfigError(f"Option model: bundle {Path(folder).name} {fault}.")


def _files(folder: Path) -> list[Path]:
    """List the files of a folder and of all folders in it."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _check_formats(folder: Path) -> None:
    """Check that no file is in a format that may run code, and that weights are what their name says."""
    for path in _files(folder):
        name = path.relative_to(folder)
        if path.suffix.lower() in PICKLES:
            _fail(folder, f"holds {name}, in a format that may run code; convert it to safetensors, and take it out")
        if name.parts[0] == "models" and not _is_safetensors(path):
            _fail(folder, f"holds {name}, which is no safetensors file; fetch the bundle again, or convert it")


def _is_safetensors(path: Path) -> bool:
    """Tell whether a file begins with the header of the format: its length, and a JSON object of that length."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if path.suffix != ".safetensors" or length > min(_LONGEST_HEADER, path.stat().st_size - 8):
            return False
        try:
            return isinstance(json.loads(file.read(length)), dict)
        except ValueError:
            return False


def _check_expressions(folder: Path) -> None:
    """Check that every configuration is JSON, and that MONAI would run nothing in it as code."""
    # All of them are read first, so that a file that is no JSON is the first fault to be named.
    configs = {path: _json(folder, path.relative_to(folder)) for path in _files(folder / "configs")}
    for path, content in configs.items():
        if any(text.lstrip().startswith("$") for text in _texts(content)):
            _fail(folder, f"holds an expression that would be run as code, in {path.relative_to(folder)}")


def _json(folder: Path, name: Path) -> Any:
    """Read a JSON file of a bundle."""
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        _fail(folder, f"lacks a {name} that is JSON; {ANEW}")


def _texts(content: Any) -> Iterator[str]:
    """Yield all texts and names in a JSON document, however deep.

    >>> list(_texts({"a": ["b", {"c": 1}]}))
    ['a', 'b', 'c']
    """
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for name, value in content.items():
            yield name
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)


def _check_folds(folder: Path, facts: Mapping[str, Any]) -> None:
    """Check that every task has a network for every fold, and every fold its baselines and its uncertainty."""
    folds = set(facts["folds"])
    for task in facts["tasks"]:
        for fold in sorted(folds):
            name = weight_file(task, fold)
            if name not in facts["sha256"] or not (folder / name).is_file():
                _fail(folder, f"lacks fold {fold} of task {task} ({name}); fetch the bundle again")
    folds_of_references = {reference["fold"] for reference in facts["uncertainty"]["references"]} - {None}
    folds_of_baselines = {line["fold"] for line in facts["baselines"]}
    for listed in (folds_of_references, folds_of_baselines):
        if listed != folds:
            odd = ", ".join(map(str, sorted(listed ^ folds)))
            _fail(folder, f"is incomplete: {METADATA} does not know all of fold {odd}; fetch the bundle again")


def _contradiction(facts: Mapping[str, Any], inference: Mapping[str, Any]) -> str | None:
    """Name the first thing that metadata.json and inference.json differ about; None where they agree."""
    steps = {step["_target_"]: step for step in inference["preprocessing"]["transforms"]}
    window, resized = steps["ScaleIntensityRange"], steps["Resize"]["spatial_size"]
    side = side_in_cube(facts["roi_size"], facts["roi_spacing_mm"], facts["cube_spacing_mm"])
    networks = {task: _shared_arguments(network) for task, network in inference["network_def"].items()}
    weights = [name for names in inference["weights"].values() for name in names]
    agree = {
        "the networks": networks == {task: {"_target_": NETWORK_CLASS, **facts["network"]} for task in facts["tasks"]},
        "the size of the region": resized == [facts["roi_size"]] * 3,
        "the extent of the region": steps["ResizeWithPadOrCrop"]["spatial_size"] == side,
        "the HU window": [window["a_min"], window["a_max"]] == facts["hu_window"],
        "the weights": sorted(weights) == sorted(facts["sha256"]),
    }
    return next((subject for subject, agrees in agree.items() if not agrees), None)


def _shared_arguments(network: Mapping[str, Any]) -> dict[str, Any]:
    """Give the arguments that all tasks' networks share: all but the number of outputs."""
    return {name: value for name, value in network.items() if name != "out_channels"}
