"""Put a bundle together: what is known of its training, its scores, and its model card."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from trabecula import bundle, card, tables
from trabecula.bundle import METADATA, SPLITS, TASKS, TRAINING, HuLine, Task, weight_file
from trabecula.conformal import COVERAGE, half_width, intervals
from trabecula.fit import Epoch, Recipe
from trabecula.network import AIR_HU, describe

PACKAGES = ("monai", "numpy", "safetensors", "scikit-learn", "torch")


@dataclass(frozen=True)
class Record:
    """How a bundle came about, apart from the patients.

    Attributes
    ----------
    recipe : Recipe
        What was trained, and how.
    choice : mapping
        How levels and labels were chosen: the options of `cases.find_cases`.
    synthetic : frozenset of str
        Cohorts that are simulated.
    cube_spacing_mm : float
        Distance between the voxels of the cubes that regions were cut from.
    code : str
        Digest of the code.
    """

    recipe: Recipe
    choice: Mapping[str, Any]
    synthetic: frozenset[str]
    cube_spacing_mm: float
    code: str


def write_bundle(
    folder: Path,
    record: Record,
    cases: pd.DataFrame,
    curves: Mapping[tuple[Task, int], Sequence[Epoch]],
    lines: Sequence[HuLine],
) -> None:
    """Write all of a bundle but its weights, which lie there already.

    Parameters
    ----------
    folder : Path
        The bundle's folder.
    record : Record
        How it came about.
    cases : DataFrame
        See `cases.find_cases`, with fold and the out-of-fold predictions classification and regression.
    curves : mapping
        Learning curve by task and fold.
    lines : sequence of HuLine
        The HU baseline of each fold.
    """
    metadata = describe_bundle(folder, record, cases, lines)
    bundle.write_json(inference_config(record), folder / "configs" / "inference.json")
    folds = cases.drop_duplicates("patient_id")[["patient_id", "fold"]].sort_values("patient_id")
    tables.write(folds.to_dict("records"), tables.SPLITS, folder / SPLITS)
    rows = [{"task": task, "fold": fold, **asdict(epoch)} for (task, fold), curve in curves.items() for epoch in curve]
    tables.write(rows, tables.TRAINING, folder / TRAINING)
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "README.md").write_text(card.model_card(metadata), encoding="utf-8")
    (folder / "LICENSE").write_text(card.licence(metadata["cohorts"]), encoding="utf-8")
    # Last, since the folder counts as a bundle from here on.
    bundle.write_json(metadata, folder / METADATA)


def describe_bundle(folder: Path, record: Record, cases: pd.DataFrame, lines: Sequence[HuLine]) -> dict[str, Any]:
    """Everything that `configs/metadata.json` says; see `write_bundle` for the parameters."""
    recipe = record.recipe
    folds = list(range(recipe.folds))
    sha256 = {name: bundle.sha256_of(folder / name) for name in (weight_file(t, k) for t in TASKS for k in folds)}
    fold = cases["fold"].to_numpy(np.int64)
    residuals = (cases["regression"] - cases["qct_vbmd_mg_cm3"]).to_numpy(np.float64)
    return {
        "name": recipe.name,
        "model_id": bundle.model_id(recipe.name, sha256),
        "synthetic": bool(cases["cohort"].isin(record.synthetic).any()),
        **_monai_keys(),
        "tasks": list(TASKS),
        "folds": folds,
        "network": describe(recipe.network),
        "roi_size": recipe.roi_size,
        "roi_spacing_mm": recipe.roi_spacing_mm,
        "hu_window": list(recipe.hu_window),
        "cube_spacing_mm": record.cube_spacing_mm,
        **record.choice,
        "training": {key: getattr(recipe, key) for key in ("network", "epochs", "batch_size", "learning_rate", "seed")},
        "cohorts": [summary(group, record.synthetic) for _, group in cases.groupby("cohort")],
        "cross_validation": scores(cases, lines),
        "hu_baseline": [asdict(line) for line in lines],
        "intervals": bundle.describe_intervals(
            intervals(residuals, fold), half_width_mg_cm3=half_width(residuals), n=len(residuals), coverage=COVERAGE
        ),
        "sha256": sha256,
        "packages": {name: version(name) for name in PACKAGES},
        "code": record.code,
    }


def _monai_keys() -> dict[str, Any]:
    """The keys that MONAI's bundle specification asks for."""
    image = {"type": "image", "format": "hounsfield", "modality": "CT", "num_channels": 1, "dtype": "float32"}
    return {
        "version": "1.0.0",
        "changelog": {"1.0.0": "first version"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"safetensors": version("safetensors")},
        "task": "Bone density of a vertebral body",
        "description": "Reduced density (probability) and vBMD (mg/cm3 HA) from CT around a vertebral body",
        "intended_use": "Research; not a medical device",
        "network_data_format": {
            "inputs": {"image": {**image, "value_range": [0, 1], "is_patch_data": False}},
            "outputs": {"pred": {"type": "scalar", "num_channels": 1, "dtype": "float32"}},
        },
    }


def inference_config(record: Record) -> dict[str, Any]:
    """Network and preprocessing as a MONAI configuration without expressions: what it names can be built by MONAI.

    The image that it starts from is a cube of Hounsfield units around the body, at `cube_spacing_mm`.
    """
    recipe = record.recipe
    low, high = recipe.hu_window
    side = max(round(recipe.roi_size * recipe.roi_spacing_mm / record.cube_spacing_mm), 1)
    steps = [
        {"_target_": "EnsureChannelFirst", "channel_dim": "no_channel"},
        {"_target_": "ResizeWithPadOrCrop", "spatial_size": side, "value": AIR_HU},
        {
            "_target_": "Resize",
            "spatial_size": [recipe.roi_size] * 3,
            "mode": "area" if side >= recipe.roi_size else "trilinear",
        },
        {"_target_": "ScaleIntensityRange", "a_min": low, "a_max": high, "b_min": 0.0, "b_max": 1.0, "clip": True},
    ]
    return {
        "network_def": {"_target_": "monai.networks.nets.DenseNet", **describe(recipe.network)},
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "classification": {"_target_": "Activations", "sigmoid": True},
            "regression": {"_target_": "Identity"},
        },
        "weights": {task: [weight_file(task, fold) for fold in range(recipe.folds)] for task in TASKS},
    }


def summary(cases: pd.DataFrame, synthetic: frozenset[str]) -> dict[str, Any]:
    """A cohort's patients in figures."""
    name, vbmd = cases["cohort"].iloc[0], cases["qct_vbmd_mg_cm3"]
    return {
        "cohort": name,
        "synthetic": name in synthetic,
        "patients": len(cases),
        "regions": int(cases["levels"].map(len).sum()),
        "reduced": int(cases["reduced"].sum()),
        "vbmd_mean_mg_cm3": _number(vbmd.mean()),
        "vbmd_sd_mg_cm3": _number(vbmd.std()),
        "age_mean_years": _number(cases["age_years"].astype(float).mean()),
        "women": int((cases["sex"] == "F").sum()),
        "devices": int(cases["device_key"].nunique()),
    }


def scores(cases: pd.DataFrame, lines: Sequence[HuLine]) -> dict[str, Any]:
    """Out-of-fold figures of the networks and of the HU baseline, by patient."""
    of_fold = {line.fold: line for line in lines}
    used = [of_fold[fold] for fold in cases["fold"]]
    hu = cases["trabecular_hu"].to_numpy(np.float64)
    by_hu = np.array([line.slope for line in used]) * hu + np.array([line.intercept for line in used])
    truth, reduced = cases["qct_vbmd_mg_cm3"].to_numpy(), cases["reduced"].to_numpy(bool)
    return {
        "patients": len(cases),
        "network": {
            "auc": _number(roc_auc_score(reduced, cases["classification"]), 4),
            **errors(cases["regression"].to_numpy(), truth),
        },
        "hu_baseline": {"auc": _number(roc_auc_score(reduced, -by_hu), 4), **errors(by_hu, truth)},
    }


def errors(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    """Mean absolute and root mean square error, bias (mg/cm3) and Pearson's r of (n,) predictions."""
    difference = predicted - truth
    varied = min(predicted.std(), truth.std()) > 0
    return {
        "mae_mg_cm3": _number(np.abs(difference).mean()),
        "rmse_mg_cm3": _number(np.sqrt((difference**2).mean())),
        "bias_mg_cm3": _number(difference.mean()),
        "pearson_r": _number(np.corrcoef(predicted, truth)[0, 1], 4) if varied else None,
    }


def _number(value: float, digits: int = 2) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None
