"""A model bundle: the folder that holds trained networks and all that must be known of them.

The layout is that of a MONAI bundle. A bundle is only ever read as data: no expression of a `configs/` file is run, and
weights are safetensors, which hold no code.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from trabecula import tables
from trabecula.errors import ConfigError
from trabecula.model.baselines import NO_FOLD, Baseline
from trabecula.model.bundle_checks import METADATA, weight_file
from trabecula.model.uncertainty import Uncertainty, from_facts

Task = Literal["classification", "regression", "joint"]
TASKS: tuple[Task, ...] = ("classification", "regression", "joint")
# Outputs of each task's network, in their order; the names stand in the table `predictions`.
OUTPUTS: dict[str, tuple[str, ...]] = {
    "classification": ("classification",),
    "regression": ("regression",),
    "joint": ("joint_classification", "joint_regression"),
}

SPLITS = Path("splits.parquet")
TRAINING = Path("training.parquet")
PROTOCOL = Path("protocol.parquet")
AUDIT = Path("audit.parquet")
SCANS = Path("scans.parquet")
# The scheme of splits whose folds the bundle carries, the part of a split that its networks never see, and how each
# fold's split is named: the fold's number follows.
CROSS_VALIDATION, TEST, FOLD = "cross-validation", "test", "fold"


@dataclass(frozen=True)
class Roi:
    """The region that a network sees, centred on the vertebral body and aligned to the patient.

    Attributes
    ----------
    size : int
        Voxels along each side.
    spacing_mm : float
        Distance between neighbouring voxels.
    hu_window : (low, high)
        Hounsfield units that become 0 and 1; values outside are clipped.
    """

    size: int
    spacing_mm: float
    hu_window: tuple[float, float]


@dataclass(frozen=True)
class Bundle:
    """A bundle's facts, as the stages need them.

    Attributes
    ----------
    folder : Path
        The bundle's folder.
    name, model_id : str
        Its name, and the name with the first digits of the weights' SHA-256.
    synthetic : bool
        Trained on simulated patients.
    tasks : tuple of str
        Of `TASKS`.
    folds : tuple of int
        Numbers of the folds.
    network : mapping
        Arguments of MONAI's DenseNet.
    roi : Roi
        The network's input.
    scan_inputs : tuple of str
        Scan facts given to the networks beside the voxels, of kvp, phase and thickness_mm.
    baselines : tuple of Baseline
        Straight lines from HU, age and sex to vBMD, one per name and fold.
    uncertainty : Uncertainty
        Temperature, intervals and limits, from out-of-fold predictions.
    sha256 : mapping
        SHA-256 of each weight file, by its path in the bundle.
    """

    folder: Path
    name: str
    model_id: str
    synthetic: bool
    tasks: tuple[str, ...]
    folds: tuple[int, ...]
    network: Mapping[str, Any]
    roi: Roi
    scan_inputs: tuple[str, ...]
    baselines: tuple[Baseline, ...]
    uncertainty: Uncertainty
    sha256: Mapping[str, str]


def fold_number(split: str) -> int:
    """Read the fold's number from the name of its split; a name without a number raises ValueError.

    >>> fold_number("fold3")
    3
    """
    return int(split.removeprefix(FOLD))


def sha256_of(path: Path) -> str:
    """Give the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_id(name: str, sha256: Mapping[str, str]) -> str:
    """Give a bundle's name with 8 hexadecimal digits that change when any of its weights changes.

    Parameters
    ----------
    name : str
        The bundle's name.
    sha256 : mapping
        SHA-256 of each weight file, by its path in the bundle.
    """
    listing = "".join(f"{sha256[path]}  {path}\n" for path in sorted(sha256))
    return f"{name}-{hashlib.sha256(listing.encode()).hexdigest()[:8]}"


def read(folder: Path | str) -> Bundle:
    """Read a bundle's metadata; weights are not opened (see `check_weights`).

    Raises
    ------
    ConfigError
        If the folder holds no bundle of this workflow, or its model id is not that of its weights' digests.
    """
    folder = Path(folder)
    try:
        facts = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        bundle = _from_facts(folder, facts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"Option model: {folder.name} holds no usable {METADATA}; give a bundle that this workflow wrote."
        ) from error
    _check_listing(bundle)
    return bundle


def _from_facts(folder: Path, facts: Mapping[str, Any]) -> Bundle:
    """Make a bundle from the content of its metadata."""
    low, high = facts["hu_window"]
    return Bundle(
        folder=folder,
        name=facts["name"],
        model_id=facts["model_id"],
        synthetic=facts["synthetic"],
        tasks=tuple(facts["tasks"]),
        folds=tuple(facts["folds"]),
        network=facts["network"],
        roi=Roi(facts["roi_size"], facts["roi_spacing_mm"], (low, high)),
        scan_inputs=tuple(facts["scan_inputs"]),
        baselines=tuple(Baseline(**line) for line in facts["baselines"]),
        uncertainty=from_facts(facts["uncertainty"]),
        sha256=facts["sha256"],
    )


def _check_listing(bundle: Bundle) -> None:
    """Check that the digests cover just the weights that will be loaded, and that the model id stands for them."""
    files = {weight_file(task, fold) for task in bundle.tasks for fold in bundle.folds}
    tasks_exist = set(bundle.tasks) <= set(TASKS)
    if not tasks_exist or set(bundle.sha256) != files or bundle.model_id != model_id(bundle.name, bundle.sha256):
        raise ConfigError(
            f"Option model: {METADATA} of {bundle.folder.name} contradicts itself about its weights; "
            "fetch the bundle again."
        )


def check_weights(bundle: Bundle) -> None:
    """Compare every weight file with its SHA-256 in the metadata.

    Raises
    ------
    ConfigError
        If a file is missing or differs; names it.
    """
    for name, digest in bundle.sha256.items():
        path = bundle.folder / name
        if not path.is_file() or sha256_of(path) != digest:
            raise ConfigError(
                f"Option model: {name} of bundle {bundle.folder.name} is missing or is not the file that "
                f"{METADATA} names; fetch the bundle again."
            )


def read_splits(bundle: Bundle) -> dict[str, int]:
    """Read the patients of the training (pseudonyms), each with the fold that never saw them.

    Raises
    ------
    ConfigError
        If the table can't be used, or a fold's networks are not in the bundle: no other network may predict that
        fold's patients.
    """
    table = tables.read(bundle.folder / SPLITS, tables.SPLITS)
    try:
        table.validate(full=True)  # also notices bytes that are no text
        tested = [row for row in table.to_pylist() if row["scheme"] == CROSS_VALIDATION and row["part"] == TEST]
        fold_of = {row["patient_id"]: fold_number(row["split"]) for row in tested}
    except ValueError as error:
        raise ConfigError(
            f"Option model: {SPLITS} of bundle {bundle.folder.name} holds texts that no training writes; "
            "fetch the bundle again."
        ) from error
    for fold in sorted(set(fold_of.values()) - set(bundle.folds)):
        raise ConfigError(
            f"Option model: {SPLITS} of bundle {bundle.folder.name} names patients of fold {fold}, whose networks it "
            "lacks; fetch the bundle again."
        )
    return fold_of


def read_scans(bundle: Bundle) -> frozenset[str]:
    """Read the digests of the slices that the networks were trained on; none where the bundle does not name them."""
    path = bundle.folder / SCANS
    return frozenset(tables.read(path, tables.SCANS)["slice_digest"].to_pylist()) if path.exists() else frozenset()


def held_out(fold_of: Mapping[str, int], studies: Iterable[pa.Table]) -> dict[str, int]:
    """Give every patient whom the training knew, also under an earlier pseudonym, the fold that never saw them.

    Parameters
    ----------
    fold_of : mapping
        Fold of each patient of the training (see `read_splits`).
    studies : iterable of Table
        Columns patient_id and earlier_ids, as in the table `studies`.

    Returns
    -------
    dict
        The same, with the patients whose id was corrected; `NO_FOLD` where every network may have seen the patient.

    >>> studies = pa.table({"patient_id": ["pa3", "pa4"], "earlier_ids": [["pa1"], ["pa1", "pa2"]]})
    >>> held_out({"pa1": 0, "pa2": 1}, [studies])
    {'pa1': 0, 'pa2': 1, 'pa3': 0, 'pa4': -1}
    """
    names_of: dict[str, set[str]] = defaultdict(set)
    for table in studies:
        for patient, earlier in zip(*(table[name].to_pylist() for name in ("patient_id", "earlier_ids")), strict=True):
            if earlier:
                names_of[patient].update((patient, *earlier))
    folds_held_out = dict(fold_of)
    for patient, names in sorted(names_of.items()):
        folds = {fold_of[name] for name in names if name in fold_of}
        if folds:
            folds_held_out[patient] = folds.pop() if len(folds) == 1 else NO_FOLD
    return folds_held_out


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write readable JSON; a value that JSON does not know (NaN) raises ValueError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
