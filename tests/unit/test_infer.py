"""Inference: every vertebra that counts, by every network that may see it."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_cohort import known_errors
from toy_spines import SIZE, SPACING_MM, vertebra

from trabecula import infer, tables
from trabecula.errors import ConfigError
from trabecula.model import bundle, network, uncertainty
from trabecula.model.baselines import Baseline
from trabecula.model.bundle import OUTPUTS, SPLITS, TASKS
from trabecula.model.bundle_checks import INFERENCE, METADATA, weight_file
from trabecula.tables.cubes import VertebraCrop
from trabecula.train.cases import Choice
from trabecula.train.fit import Recipe
from trabecula.train.publish import Record, inference_config
from trabecula.train.splits import Protocol

FOLDS = (0, 1)
SCAN_INPUTS = ("kvp", "phase")
OUTPUTS_OF_ALL = [output for task in TASKS for output in OUTPUTS[task]]
SCANS = pd.DataFrame(
    {"kvp": [100.0, None], "phase": ["portal", "native"], "thickness_mm": 2.5}, index=["st-trained", "st-other"]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A bundle of small networks with random weights, and one training patient, in fold 1."""
    folder = tmp_path_factory.mktemp("bundle") / "toy"
    torch.manual_seed(0)
    for task, fold in ((task, fold) for task in TASKS for fold in FOLDS):
        network.save(network.build(network.describe("small", SCAN_INPUTS), task), folder / weight_file(task, fold))
    sha256 = {str(path.relative_to(folder)): bundle.sha256_of(path) for path in folder.rglob("*.safetensors")}
    facts = {
        "name": "toy",
        "model_id": bundle.model_id("toy", sha256),
        "synthetic": True,
        "tasks": list(TASKS),
        "folds": list(FOLDS),
        "network": network.describe("small", SCAN_INPUTS),
        "scan_inputs": list(SCAN_INPUTS),
        "roi_size": 32,
        "roi_spacing_mm": 2.5,
        "hu_window": [-200, 600],
        "baselines": [asdict(Baseline("hu", fold, {"intercept": 1.0}, 5)) for fold in FOLDS],
        "uncertainty": uncertainty.to_facts(known_errors()),
        "sha256": sha256,
        "cube_size": SIZE,
        "cube_spacing_mm": SPACING_MM,
    }
    bundle.write_json(facts, folder / METADATA)
    recipe = Recipe("small", 1, 1, 8, 0.001, 32, 2.5, [-200, 600], SCAN_INPUTS, 1, "cpu")
    protocol = Protocol(len(FOLDS), 0, [0.6, 0.2, 0.2], False, 4, 0.2, 1)
    choice = Choice(["L1", "L2"], [], 180, 120.0)
    record = Record("toy", TASKS, recipe, protocol, choice, frozenset(["toy"]), SIZE, SPACING_MM, "c0de")
    bundle.write_json(inference_config(record), folder / INFERENCE)
    split = {"scheme": "cross-validation", "split": "fold1", "held_out": None, "part": "test"}
    tables.write([split | {"patient_id": "trained"}], tables.SPLITS, folder / SPLITS)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> infer.Model:
    torch.set_num_threads(1)
    return infer.load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def cubes() -> list[VertebraCrop]:
    rng = np.random.default_rng(0)
    levels = ("T10", "T11", "L1", "L6")
    complete = [vertebra(name, level, 150, rng) for name in ("trained", "other") for level in levels]
    return [*complete, vertebra("other", "L2", 150, rng, complete=False)]


def rows(cubes, model, batch_size=3, scans=SCANS) -> list[dict]:
    return list(infer.infer_shard(iter(cubes), model, scans, spacing_mm=SPACING_MM, batch_size=batch_size))


def test_rows_are_complete_and_fit_the_table(cubes, model):
    """Complete vertebrae from T11 down by all tasks and folds; training patients by the fold that never saw them."""
    table = tables.cast(rows(cubes, model), tables.INFER).to_pylist()
    keys = {(row["patient_id"], row["level"], row["task"], row["fold"]) for row in table}
    levels = ("T11", "L1", "L6")
    expected = {("other", level, output, fold) for level in levels for output in OUTPUTS_OF_ALL for fold in FOLDS}
    expected |= {("trained", level, output, 1) for level in levels for output in OUTPUTS_OF_ALL}
    assert keys == expected and len(table) == len(keys)
    assert all(row["in_training"] == (row["patient_id"] == "trained") for row in table)
    assert all(0 <= row["value"] <= 1 for row in table if row["task"].endswith("classification"))
    assert {row["model_id"] for row in table} == {model.bundle.model_id}


def test_twice_is_the_same_and_batches_do_not_matter(cubes, model):
    """Equal runs are equal to the bit; other batches differ by rounding at most."""
    first = rows(cubes, model)
    assert rows(cubes, model) == first
    single = rows(cubes, model, batch_size=1)
    assert [row["value"] for row in single] == pytest.approx([row["value"] for row in first], rel=1e-4, abs=1e-5)


def test_the_scan_is_told(cubes, model):
    """Another voltage gives another value for that scan's vertebrae, and for no other's."""
    changed = SCANS.assign(kvp=[140.0, float("nan")])
    pairs = list(zip(rows(cubes, model), rows(cubes, model, scans=changed), strict=True))
    differs = {row["patient_id"] for row, changed_row in pairs if abs(row["value"] - changed_row["value"]) > 1e-6}
    assert differs == {"trained"}


def test_cubes_are_read_one_batch_at_a_time(cubes, model):
    """Memory stays flat: no more cubes are taken than the batch that is being predicted."""
    taken = []
    cubes = (taken.append(1) or cube for cube in cubes)
    stream = infer.infer_shard(cubes, model, SCANS, spacing_mm=SPACING_MM, batch_size=2)
    next(stream)
    assert len(taken) == 3


def test_an_empty_shard_gives_an_empty_table(model):
    """No vertebra, no row, and the columns all the same."""
    assert tables.cast(rows([], model), tables.INFER).num_rows == 0


def test_tampered_weights_are_not_loaded(folder: Path, tmp_path: Path):
    """A file of another digest is refused before it is opened."""
    copy = tmp_path / "toy"
    shutil.copytree(folder, copy)
    (copy / weight_file("regression", 0)).write_bytes(b"not what it was")
    with pytest.raises(ConfigError, match="regression_fold0"):
        infer.load_model(copy, device="cpu")


def test_a_bundle_with_expressions_is_refused(folder: Path, tmp_path: Path):
    """A text that MONAI would run as code is refused, and neither run nor passed over."""
    copy, trap = tmp_path / "toy", tmp_path / "trap"
    shutil.copytree(folder, copy)
    config = json.loads((copy / INFERENCE).read_text())
    config["inferer"] = f"$open({str(trap)!r}, 'w')"
    (copy / INFERENCE).write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="expression"):
        infer.load_model(copy, device="cpu")
    assert not trap.exists()


def test_a_value_that_is_no_number_is_a_bug(cubes, model):
    """It crashes, rather than being written."""
    broken = network.build(model.bundle.network, "regression").eval()
    torch.nn.init.constant_(dict(broken.named_parameters())["class_layers.out.bias"], float("nan"))
    spoiled = infer.Model(model.bundle, {("regression", 0): broken}, {})
    with pytest.raises(FloatingPointError):
        rows(cubes, spoiled)
