"""Model bundles that are not used: what could run code, what is incomplete, and what contradicts itself.

Everything is looked at as text and bytes; nothing of a bundle is loaded before it has passed. Only the standard
library is needed, so that a run can refuse a bundle before its first job.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from trabecula.errors import ConfigError

METADATA, INFERENCE = Path("configs", "metadata.json"), Path("configs", "inference.json")
# Formats that torch, pickle or joblib read, all of which may hold code.
PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ts", ".bin", ".ckpt", ".joblib"})
# What cures most faults.
ANEW = "give a bundle that this version of the workflow wrote, or train it again"
# Longest header that the safetensors format allows.
_LONGEST_HEADER = 100_000_000


def refuse(folder: Path | str, *, cube_size: int, cube_spacing_mm: float, choice: Mapping[str, Any]) -> None:
    """Refuse a bundle that is not safe, not whole, or not made for cubes of this size or results of this kind.

    Parameters
    ----------
    folder : Path or str
        The bundle.
    cube_size, cube_spacing_mm
        Voxels along the side of the archive's cubes, and their distance.
    choice : mapping
        The configuration's section `aggregate`.

    Raises
    ------
    ConfigError
        See `refuse_content`; or if the networks see more than the cubes hold, or were trained for other levels or
        another cut of reduced density than results are made with.
    """
    refuse_content(folder)
    facts = _json(Path(folder), METADATA)
    seen_mm, held_mm = facts["roi_size"] * facts["roi_spacing_mm"], cube_size * cube_spacing_mm
    if round(seen_mm / cube_spacing_mm) > cube_size:
        _refuse(
            folder,
            f"sees {seen_mm:g} mm around a vertebra, and the archive's cubes have {held_mm:g} mm; "
            f"raise option crop.size to {round(seen_mm / cube_spacing_mm)}, or use another bundle",
        )
    _refuse_choice(folder, facts, choice)


def _refuse_choice(folder: Path | str, facts: Mapping[str, Any], choice: Mapping[str, Any]) -> None:
    for option in ("reduced_below_mg_cm3", "levels"):
        if facts.get(option) != choice[option]:
            _refuse(
                folder,
                f"was trained with aggregate.{option} {facts.get(option)}, and the configuration has {choice[option]}; "
                "set it to the bundle's, or train a model for yours",
            )


def refuse_region(train: Mapping[str, Any], crop: Mapping[str, Any]) -> None:
    """Refuse to train on regions that the cubes do not hold; see the sections `train` and `crop` of the configuration.

    Raises
    ------
    ConfigError
        If the region is larger than the cube.
    """
    seen_mm, held_mm = train["roi_size"] * train["roi_spacing_mm"], crop["size"] * crop["spacing_mm"]
    needed = round(seen_mm / crop["spacing_mm"])
    if needed > crop["size"]:
        raise ConfigError(
            f"Section train: regions of {seen_mm:g} mm (roi_size, roi_spacing_mm) are larger than the cubes of "
            f"{held_mm:g} mm; raise crop.size to {needed}, or lower them."
        )


def refuse_content(folder: Path | str) -> None:
    """Refuse a bundle that is not safe or not whole, whatever the archive.

    Raises
    ------
    ConfigError
        If there is a file in a format that may hold code, a configuration that is no JSON or holds an expression
        (``$``), a weight file that is no safetensors, a missing fold, or an inference.json that contradicts
        metadata.json about the networks, their weights or what they see.
    """
    folder = Path(folder)
    _refuse_pickles(folder)
    configs = {path: _json(folder, path.relative_to(folder)) for path in _files(folder / "configs")}
    for path, content in configs.items():
        for text in _texts(content):
            if text.lstrip().startswith("$"):
                _refuse(folder, f"holds an expression that would be run as code, in {path.relative_to(folder)}")
    facts, inference = _json(folder, METADATA), _json(folder, INFERENCE)
    try:
        _refuse_missing_folds(folder, facts)
        told = _contradiction(facts, inference)
    except (KeyError, TypeError, AttributeError, ArithmeticError):
        _refuse(
            folder,
            f"holds no usable {METADATA} and {INFERENCE}; {ANEW}",
        )
    if told:
        _refuse(folder, f"contradicts itself: {INFERENCE} and {METADATA} differ about {told}; fetch the bundle again")


def _refuse(folder: Path | str, why: str) -> NoReturn:
    raise ConfigError(f"Option model: bundle {Path(folder).name} {why}.")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _refuse_pickles(folder: Path) -> None:
    """Files that loading could run, and weights that are not what their name says."""
    for path in _files(folder):
        name = path.relative_to(folder)
        if path.suffix.lower() in PICKLES:
            _refuse(folder, f"holds {name}, in a format that may run code; convert it to safetensors, and take it out")
        if name.parts[0] == "models" and not _is_safetensors(path):
            _refuse(folder, f"holds {name}, which is no safetensors file; fetch the bundle again, or convert it")


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins with the header of the format: its length, and a JSON object of that length."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if path.suffix != ".safetensors" or length > min(_LONGEST_HEADER, path.stat().st_size - 8):
            return False
        try:
            return isinstance(json.loads(file.read(length)), dict)
        except ValueError:
            return False


def _json(folder: Path, name: Path) -> Any:
    """Content of a JSON file of a bundle."""
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        _refuse(
            folder,
            f"lacks a {name} that is JSON; {ANEW}",
        )


def _texts(content: Any) -> Iterator[str]:
    """All texts and names in a JSON document, however deep."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for name, value in content.items():
            yield name
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)


def _refuse_missing_folds(folder: Path, facts: Mapping[str, Any]) -> None:
    """Every task has a network for every fold, and every fold its line and its limits."""
    folds = set(facts["folds"])
    for task in facts["tasks"]:
        for fold in sorted(folds):
            name = f"models/{task}_fold{fold}.safetensors"
            if name not in facts["sha256"] or not (folder / name).is_file():
                _refuse(folder, f"lacks fold {fold} of task {task} ({name}); fetch the bundle again")
    judged = {one["fold"] for one in facts["uncertainty"]["references"]} - {None}
    lined = {line["fold"] for line in facts["baselines"]}
    for known in (judged, lined):
        if known != folds:
            odd = ", ".join(map(str, sorted(known ^ folds)))
            _refuse(folder, f"is incomplete: {METADATA} does not know all of fold {odd}; fetch the bundle again")


def _contradiction(facts: Mapping[str, Any], inference: Mapping[str, Any]) -> str | None:
    """What the two files differ about, in words; None where they agree."""
    steps = {step["_target_"]: step for step in inference["preprocessing"]["transforms"]}
    window, side = steps["ScaleIntensityRange"], steps["Resize"]["spatial_size"]
    cut = round(facts["roi_size"] * facts["roi_spacing_mm"] / facts["cube_spacing_mm"])
    agree = {
        "the networks": {task: _network(one) for task, one in inference["network_def"].items()}
        == {task: {"_target_": "monai.networks.nets.DenseNet", **facts["network"]} for task in facts["tasks"]},
        "the size of the region": side == [facts["roi_size"]] * 3,
        "the extent of the region": steps["ResizeWithPadOrCrop"]["spatial_size"] == max(cut, 1),
        "the HU window": [window["a_min"], window["a_max"]] == facts["hu_window"],
        "the weights": sorted(name for names in inference["weights"].values() for name in names)
        == sorted(facts["sha256"]),
    }
    return next((what for what, agrees in agree.items() if not agrees), None)


def _network(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that all tasks' networks share."""
    return {name: value for name, value in arguments.items() if name != "out_channels"}
