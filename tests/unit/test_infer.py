"""Inference: every vertebra that counts, by every network that may see it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_spines import SPACING_MM, vertebra

from trabecula import bundle, infer, network, tables
from trabecula.bundle import METADATA, SPLITS, TASKS, weight_file
from trabecula.cubes import VertebraCrop
from trabecula.errors import ConfigError

FOLDS = (0, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A bundle of small networks with random weights, and one training patient, in fold 1."""
    made = tmp_path_factory.mktemp("bundle") / "toy"
    torch.manual_seed(0)
    for name in (weight_file(task, fold) for task in TASKS for fold in FOLDS):
        network.save(network.build(network.describe("small")), made / name)
    sha256 = {str(path.relative_to(made)): bundle.sha256_of(path) for path in made.rglob("*.safetensors")}
    facts = {
        "name": "toy",
        "model_id": bundle.model_id("toy", sha256),
        "synthetic": True,
        "tasks": list(TASKS),
        "folds": list(FOLDS),
        "network": network.describe("small"),
        "roi_size": 32,
        "roi_spacing_mm": 2.5,
        "hu_window": [-200, 600],
        "hu_baseline": [],
        "intervals": bundle.describe_intervals((), half_width_mg_cm3=None, n=0, coverage=0.9),
        "sha256": sha256,
    }
    bundle.write_json(facts, made / METADATA)
    tables.write([{"patient_id": "trained", "fold": 1}], tables.SPLITS, made / SPLITS)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> infer.Model:
    torch.set_num_threads(1)
    return infer.load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def cubes() -> list[VertebraCrop]:
    rng = np.random.default_rng(0)
    found = [vertebra(name, level, 150, rng) for name in ("trained", "other") for level in ("T10", "T11", "L1", "L6")]
    return [*found, vertebra("other", "L2", 150, rng, complete=False)]


def rows(cubes, model, batch_size=3) -> list[dict]:
    return list(infer.infer_shard(iter(cubes), model, spacing_mm=SPACING_MM, batch_size=batch_size))


def test_rows_are_complete_and_fit_the_table(cubes, model):
    """Complete vertebrae from T11 down, all tasks; all folds, or for a training patient the one that never saw him."""
    table = tables.cast(rows(cubes, model), tables.INFER).to_pylist()
    keys = {(row["patient_id"], row["level"], row["task"], row["fold"]) for row in table}
    levels = ("T11", "L1", "L6")
    expected = {("other", level, task, fold) for level in levels for task in TASKS for fold in FOLDS}
    expected |= {("trained", level, task, 1) for level in levels for task in TASKS}
    assert keys == expected and len(table) == len(keys)
    assert all(row["in_training"] == (row["patient_id"] == "trained") for row in table)
    assert all(0 <= row["value"] <= 1 for row in table if row["task"] == "classification")
    assert {row["model_id"] for row in table} == {model.bundle.model_id}


def test_twice_is_the_same_and_batches_do_not_matter(cubes, model):
    """Equal runs are equal to the bit; other batches differ by rounding at most."""
    first = rows(cubes, model)
    assert rows(cubes, model) == first
    single = rows(cubes, model, batch_size=1)
    assert [row["value"] for row in single] == pytest.approx([row["value"] for row in first], rel=1e-4, abs=1e-5)


def test_cubes_are_read_one_batch_at_a_time(cubes, model):
    """Memory stays flat: no more cubes are taken than the batch that is being predicted."""
    taken = []
    stream = infer.infer_shard((taken.append(1) or cube for cube in cubes), model, spacing_mm=SPACING_MM, batch_size=2)
    next(stream)
    assert len(taken) == 3


def test_an_empty_shard_gives_an_empty_table(model):
    """No vertebra, no row, and the columns all the same."""
    assert tables.cast(rows([], model), tables.INFER).num_rows == 0


def test_tampered_weights_are_not_loaded(folder: Path, tmp_path: Path):
    """A file of another digest is refused before it is opened."""
    copy = tmp_path / "toy"
    for path in (path for path in folder.rglob("*") if path.is_file()):
        (copy / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (copy / path.relative_to(folder)).write_bytes(path.read_bytes())
    (copy / weight_file("regression", 0)).write_bytes(b"not what it was")
    with pytest.raises(ConfigError, match="regression_fold0"):
        infer.load_model(copy, device="cpu")


def test_expressions_of_a_foreign_bundle_are_not_run(folder: Path, tmp_path: Path):
    """`configs/inference.json` of a bundle is never opened, whatever stands in it."""
    trap = tmp_path / "trap"
    config = folder / "configs" / "inference.json"
    config.write_text(json.dumps({"network_def": f"$open({str(trap)!r}, 'w')"}))
    infer.load_model(folder, device="cpu")
    config.unlink()
    assert not trap.exists()


def test_a_value_that_is_no_number_is_a_bug(cubes, model):
    """It crashes, rather than being written."""
    broken = network.build(model.bundle.network).eval()
    torch.nn.init.constant_(dict(broken.named_parameters())["class_layers.out.bias"], float("nan"))
    spoiled = infer.Model(model.bundle, {("regression", 0): broken}, {})
    with pytest.raises(FloatingPointError):
        rows(cubes, spoiled)
