"""A bundle whose weight files hold no networks, but have the right digests."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from small_cohort import known_errors

from trabecula import tables
from trabecula.model import bundle, network, uncertainty
from trabecula.model.baselines import Baseline
from trabecula.model.bundle_checks import INFERENCE, METADATA, weight_file
from trabecula.train.cases import Choice
from trabecula.train.fit import Recipe
from trabecula.train.publish import Record, inference_config
from trabecula.train.splits import Protocol

FOLDS = (0, 1)
LINES = tuple(Baseline("hu", fold, {"hu": 0.9, "intercept": 20.0}, 8) for fold in FOLDS)
RECIPE = Recipe("small", 1, 1, 4, 0.01, 32, 2.0, (-200, 600), ("kvp",), 0, "cpu")
CHOICE = {"levels": ["L1", "L2"], "reduced_below_mg_cm3": 120.0}
CUBES = {"cube_size": 64, "cube_spacing_mm": 1.0, **CHOICE}
PROTOCOL = Protocol(2, 0, (0.6, 0.2, 0.2), False, 10, 0.2, 0)
RECORD = Record("toy", bundle.TASKS, RECIPE, PROTOCOL, Choice(["L1", "L2"], [], 180, 120.0), frozenset(), 64, 1.0, "0")


def metadata(sha256: dict[str, str]) -> dict:
    """Make the keys of the metadata that are read."""
    return {
        "name": "toy",
        "model_id": bundle.model_id("toy", sha256),
        "synthetic": True,
        "tasks": list(bundle.TASKS),
        "folds": list(FOLDS),
        "network": network.describe("small", ["kvp"]),
        **CHOICE,
        "roi_size": 32,
        "roi_spacing_mm": 2.0,
        "hu_window": [-200, 600],
        "scan_inputs": ["kvp"],
        "cube_spacing_mm": 1.0,
        "baselines": [asdict(line) for line in LINES],
        "uncertainty": uncertainty.to_facts(known_errors()),
        "sha256": sha256,
    }


def write_toy(folder: Path) -> None:
    """Write the bundle into a folder."""
    names = [weight_file(task, fold) for task in bundle.TASKS for fold in FOLDS]
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_file({"weight": np.full(3, i, np.float32)}, folder / name)
    bundle.write_json(metadata({name: bundle.sha256_of(folder / name) for name in names}), folder / METADATA)
    bundle.write_json(inference_config(RECORD), folder / INFERENCE)
    tested = {"scheme": "cross-validation", "split": "fold1", "held_out": None, "patient_id": "pa1", "part": "test"}
    others = [tested | {"split": "fold0", "part": "train"}, tested | {"scheme": "random", "split": "random0"}]
    tables.write([tested, *others], tables.SPLITS, folder / bundle.SPLITS)
