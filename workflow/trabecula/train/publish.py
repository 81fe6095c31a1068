"""Put a bundle together: weights, metadata with the scores, splits, protocol, audit and model card."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.metrics import roc_auc_score

from trabecula import tables
from trabecula.image.padding import PADDING_HU
from trabecula.model import bundle, uncertainty
from trabecula.model.bundle import AUDIT, FOLD, OUTPUTS, PROTOCOL, SCANS, SPLITS, TRAINING
from trabecula.model.bundle_checks import INFERENCE, METADATA, NETWORK_CLASS, side_in_cube, weight_file
from trabecula.model.network import describe
from trabecula.runtime.whole_file import whole_folder
from trabecula.train import card
from trabecula.train.cases import Choice
from trabecula.train.fit import Recipe
from trabecula.train.network import NetworkFiles
from trabecula.train.protocol import fold_lines, out_of_fold, protocol
from trabecula.train.splits import Protocol

PACKAGES = ("crepes", "monai", "numpy", "safetensors", "scikit-learn", "torch")
# Options of the recipe that the metadata list together; those of the network's input have keys of their own.
TRAINING_OPTIONS = ("network", "epochs", "patience", "batch_size", "learning_rate", "seed")


@dataclass(frozen=True)
class Record:
    """How a bundle came about, apart from the patients.

    Attributes
    ----------
    name : str
        The bundle's name.
    tasks : sequence of str
        Tasks of each split's networks, of `bundle.TASKS`.
    recipe : Recipe
        How a network was trained.
    protocol : Protocol
        The splits.
    choice : Choice
        How levels and labels were chosen.
    synthetic : frozenset of str
        Cohorts that are simulated.
    cube_size, cube_spacing_mm
        Voxels along the side of the cubes that regions were cut from, and their distance.
    code : str
        Digest of the code.
    """

    name: str
    tasks: Sequence[str]
    recipe: Recipe
    protocol: Protocol
    choice: Choice
    synthetic: frozenset[str]
    cube_size: int
    cube_spacing_mm: float
    code: str

    @property
    def folds(self) -> range:
        """Give the numbers of the folds, whose networks the bundle carries."""
        return range(self.protocol.folds)


@dataclass(frozen=True)
class Trained:
    """Files of the networks that were trained: ``{folder}/{split}/{task}``, one network for each.

    Attributes
    ----------
    folder : Path
        Beside each ``.safetensors``, ``.parquet`` holds its predictions and ``.curve.parquet`` its learning curve.
    """

    folder: Path

    def files(self, split: str, task: str) -> NetworkFiles:
        """Give the files of one network."""
        stem = f"{self.folder / split / task}"
        return NetworkFiles(Path(f"{stem}.safetensors"), Path(f"{stem}.parquet"), Path(f"{stem}.curve.parquet"))

    def fitted(self, split: str, tasks: Sequence[str]) -> pd.DataFrame:
        """Read the predictions of a split's networks, columns of `tables.FITTED`."""
        parts = [tables.read(self.files(split, task).fitted, tables.FITTED).to_pandas() for task in tasks]
        return pd.concat(parts, ignore_index=True)

    def curves(self, splits: Sequence[str], tasks: Sequence[str]) -> pa.Table:
        """Read the learning curves of all networks."""
        paths = [self.files(split, task).curve for split in splits for task in tasks]
        return tables.read_many(paths, tables.TRAINING)


def write_bundle(
    folder: Path | str, record: Record, cases: pd.DataFrame, splits: pd.DataFrame, audit: pa.Table, trained: Trained
) -> None:
    """Write a bundle, beside its place first; an earlier bundle at its place is replaced.

    Parameters
    ----------
    folder : Path
        The bundle's folder.
    record : Record
        How the bundle came about.
    cases : DataFrame
        Columns of `tables.CASES`.
    splits : DataFrame
        Columns of `tables.SPLITS`.
    audit : table
        Table of the schema AUDIT.
    trained : Trained
        Files of the networks.
    """
    with whole_folder(folder) as unfinished:
        _copy_weights(unfinished, record, trained)
        names = list(dict.fromkeys(splits["split"]))
        fitted = {split: trained.fitted(split, record.tasks) for split in names}
        metadata = describe_bundle(unfinished, record, cases, splits, fitted)
        bundle.write_json(inference_config(record), unfinished / INFERENCE)
        tables.write(tables.from_frame(splits, tables.SPLITS), tables.SPLITS, unfinished / SPLITS)
        rows = protocol(cases, splits, fitted, reduced_below_mg_cm3=record.choice.reduced_below_mg_cm3)
        tables.write(tables.from_frame(rows, tables.PROTOCOL), tables.PROTOCOL, unfinished / PROTOCOL)
        tables.write(trained.curves(names, record.tasks), tables.TRAINING, unfinished / TRAINING)
        tables.write(audit, tables.AUDIT, unfinished / AUDIT)
        digests = sorted(set().union(*cases["slice_digests"]))
        tables.write([{"slice_digest": digest} for digest in digests], tables.SCANS, unfinished / SCANS)
        _write_texts(unfinished, metadata)
        bundle.write_json(metadata, unfinished / METADATA)


def _copy_weights(folder: Path, record: Record, trained: Trained) -> None:
    """Copy the weights of the folds' networks into a bundle."""
    for task, fold in product(record.tasks, record.folds):
        path = folder / weight_file(task, fold)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(trained.files(f"{FOLD}{fold}", task).weights, path)


def _write_texts(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write the model card and the licence into a bundle."""
    (folder / "docs").mkdir()
    (folder / "docs" / "README.md").write_text(card.model_card(metadata), encoding="utf-8")
    (folder / "LICENSE").write_text(card.licence(metadata["cohorts"]), encoding="utf-8")


def describe_bundle(
    folder: Path,
    record: Record,
    cases: pd.DataFrame,
    splits: pd.DataFrame,
    fitted: Mapping[str, pd.DataFrame],
) -> dict[str, Any]:
    """Put the content of `configs/metadata.json` together.

    Parameters
    ----------
    folder : Path
        The bundle's folder, which holds the weights already.
    record, cases, splits
        See `write_bundle`.
    fitted : mapping
        By split, the predictions of its networks for all patients: columns of `tables.FITTED`.
    """
    recipe = record.recipe
    files = [weight_file(task, fold) for task, fold in product(record.tasks, record.folds)]
    sha256 = {name: bundle.sha256_of(folder / name) for name in files}
    held_out = out_of_fold(cases, splits, fitted)
    return {
        "name": record.name,
        "model_id": bundle.model_id(record.name, sha256),
        "synthetic": bool(cases["cohort"].isin(record.synthetic).any()),
        **_monai_keys(recipe),
        "tasks": list(record.tasks),
        "folds": list(record.folds),
        "network": describe(recipe.network, recipe.scan_inputs),
        "scan_inputs": list(recipe.scan_inputs),
        "roi_size": recipe.roi_size,
        "roi_spacing_mm": recipe.roi_spacing_mm,
        "hu_window": list(recipe.hu_window),
        "cube_size": record.cube_size,
        "cube_spacing_mm": record.cube_spacing_mm,
        **asdict(record.choice),
        "training": {option: getattr(recipe, option) for option in TRAINING_OPTIONS},
        "protocol": asdict(record.protocol),
        "cohorts": [summary(group, record.synthetic) for _, group in cases.groupby("cohort")],
        "cross_validation": scores(held_out),
        "baselines": [asdict(line) for line in fold_lines(cases, splits)],
        "uncertainty": uncertainty.to_facts(uncertainty.learn(held_out)),
        "sha256": sha256,
        "packages": {name: version(name) for name in PACKAGES},
        "code": record.code,
    }


def _monai_keys(recipe: Recipe) -> dict[str, Any]:
    """Give the keys that MONAI's bundle specification asks for."""
    channels = describe(recipe.network, recipe.scan_inputs)["in_channels"]
    image = {"type": "image", "format": "hounsfield", "modality": "CT", "num_channels": channels, "dtype": "float32"}
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
    """Write network and preprocessing as a MONAI configuration without expressions, which MONAI can build.

    The image that it starts from is a cube of Hounsfield units around the body, at `cube_spacing_mm`.
    """
    recipe = record.recipe
    network = {"_target_": NETWORK_CLASS, **describe(recipe.network, recipe.scan_inputs)}
    return {
        "network_def": {task: {**network, "out_channels": len(OUTPUTS[task])} for task in record.tasks},
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(recipe, record.cube_spacing_mm)},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "classification": {"_target_": "Activations", "sigmoid": True},
            "regression": {"_target_": "Identity"},
            "joint": {"_target_": "Identity"},
        },
        "weights": {task: [weight_file(task, fold) for fold in record.folds] for task in record.tasks},
    }


def _preprocessing(recipe: Recipe, cube_spacing_mm: float) -> list[dict[str, Any]]:
    """List MONAI's steps from a cube to the network's input, as `network.cut_roi` and `network.to_input` take them."""
    low, high = recipe.hu_window
    side = side_in_cube(recipe.roi_size, recipe.roi_spacing_mm, cube_spacing_mm)
    mode = "area" if side >= recipe.roi_size else "trilinear"
    return [
        {"_target_": "EnsureChannelFirst", "channel_dim": "no_channel"},
        {"_target_": "ResizeWithPadOrCrop", "spatial_size": side, "value": float(PADDING_HU)},
        {"_target_": "Resize", "spatial_size": [recipe.roi_size] * 3, "mode": mode},
        {"_target_": "ScaleIntensityRange", "a_min": low, "a_max": high, "b_min": 0.0, "b_max": 1.0, "clip": True},
    ]


def summary(cases: pd.DataFrame, synthetic: frozenset[str]) -> dict[str, Any]:
    """Summarise a cohort's patients in figures."""
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


def scores(held_out: pd.DataFrame) -> dict[str, Any]:
    """Score the networks and the line from HU out of fold, by patient (see `protocol.out_of_fold`)."""
    truth, reduced = held_out["qct_vbmd_mg_cm3"].to_numpy(), held_out["reduced"].to_numpy(bool)
    return {
        "patients": len(held_out),
        "network": {
            "auc": _number(roc_auc_score(reduced, held_out["logit"]), 4),
            **errors(held_out["regression"].to_numpy(), truth),
        },
        "hu_baseline": {
            "auc": _number(roc_auc_score(reduced, -held_out["hu"]), 4),
            **errors(held_out["hu"].to_numpy(), truth),
        },
    }


def errors(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    """Give mean absolute and root mean square error, bias (mg/cm3) and Pearson's r of (n,) predictions.

    >>> errors(np.array([100.0, 130.0]), np.array([110.0, 130.0]))
    {'mae_mg_cm3': 5.0, 'rmse_mg_cm3': 7.07, 'bias_mg_cm3': -5.0, 'pearson_r': 1.0}
    """
    difference = predicted - truth
    varied = min(predicted.std(), truth.std()) > 0
    return {
        "mae_mg_cm3": _number(np.abs(difference).mean()),
        "rmse_mg_cm3": _number(np.sqrt((difference**2).mean())),
        "bias_mg_cm3": _number(difference.mean()),
        "pearson_r": _number(np.corrcoef(predicted, truth)[0, 1], 4) if varied else None,
    }


def _number(value: float, digits: int = 2) -> float | None:
    """Round a figure; None where it is not finite."""
    return round(float(value), digits) if math.isfinite(value) else None
