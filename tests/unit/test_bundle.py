"""Bundles: what is written is what is read, and nothing else is loaded."""

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_cohort import known_errors
from toy_bundle import CHOICE, CUBES, FOLDS, LINES, write_toy

from trabecula import tables
from trabecula.errors import ConfigError
from trabecula.model import bundle, bundle_checks
from trabecula.model.bundle import Roi
from trabecula.model.bundle_checks import INFERENCE, METADATA, weight_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The bundle that every test starts from."""
    write_toy(tmp_path / "toy")
    return tmp_path / "toy"


def test_what_is_written_is_read(folder: Path):
    """Every fact survives the way to disk and back."""
    bundle_checks.check_bundle(folder, **CUBES)
    toy = bundle.read(folder)
    bundle.check_weights(toy)
    assert toy.roi == Roi(32, 2.0, (-200, 600))
    assert toy.baselines == LINES
    assert toy.uncertainty == known_errors()
    assert toy.synthetic and toy.folds == FOLDS and toy.scan_inputs == ("kvp",)
    assert bundle.read_splits(toy) == {"pa1": 1} and bundle.read_scans(toy) == frozenset()
    tables.write([{"slice_digest": "d1"}, {"slice_digest": "d2"}], tables.SCANS, folder / bundle.SCANS)
    assert bundle.read_scans(toy) == {"d1", "d2"}


def test_changed_weights_are_refused(folder: Path):
    """One changed byte in a weight file is noticed, and the message names the file."""
    toy = bundle.read(folder)
    name = weight_file("regression", 1)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b"x")
    with pytest.raises(ConfigError, match="regression_fold1"):
        bundle.check_weights(toy)
    (folder / name).unlink()
    with pytest.raises(ConfigError, match="regression_fold1"):
        bundle.check_weights(toy)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": {}},
        {"folds": [0, 1, 2]},
        {"tasks": ["classification", "../../elsewhere"]},
        {"model_id": "toy-00000000"},
        {"baselines": [{"line": 1}]},
        {"uncertainty": {"references": [{"fold": 0}]}},
    ],
)
def test_contradicting_metadata_are_refused(folder: Path, change: dict):
    """Metadata that don't cover their weights, or lack what is needed, are refused in a sentence."""
    facts = json.loads((folder / METADATA).read_text()) | change
    bundle.write_json(facts, folder / METADATA)
    with pytest.raises(ConfigError, match="Option model"):
        bundle.read(folder)


def rewrite(path: Path, change) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["models/model.pt", "models/more/model.TS", "extra.pkl", "models/pytorch_model.bin"])
def test_a_pickle_is_refused_and_not_loaded(folder: Path, tmp_path: Path, name: str):
    """The trap springs where it is loaded, and does not when the bundle is refused."""
    trap = tmp_path / "sprung"
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(ConfigError, match=f"{Path(name).name}, in a format that may run code"):
        bundle_checks.check_bundle(folder, **CUBES)
    assert not trap.exists()
    pickle.loads(path.read_bytes())
    assert trap.exists()


@pytest.mark.parametrize("kind", ["pickle", "torch", "truncated", "empty"])
def test_weights_that_are_no_safetensors_are_refused_whatever_they_are_called(folder: Path, kind: str):
    path = folder / weight_file("regression", 1)
    good = path.read_bytes()
    if kind == "torch":
        torch.save({"weight": torch.zeros(3)}, path)
    else:
        path.write_bytes({"pickle": pickle.dumps({"weight": [0.0] * 3}), "truncated": good[:20], "empty": b""}[kind])
    with pytest.raises(ConfigError, match=r"regression_fold1\.safetensors, which is no safetensors file"):
        bundle_checks.check_bundle(folder, **CUBES)


places = st.recursive(
    st.just("$import os"),
    lambda inner: st.lists(inner, min_size=1, max_size=2) | st.builds(lambda x: {"a": 1, "b": x}, inner),
)


@given(places)
def test_expressions_are_found_however_deep(content):
    assert [text for text in bundle_checks._texts(content) if text.startswith("$")]


@pytest.mark.parametrize("name", ["metadata.json", "inference.json", "train.json"])
@pytest.mark.parametrize("content", [{"note": [{"deep": "$__import__('os')"}]}, {"$x": 1}, {"a": "  $b"}])
def test_expressions_are_refused_in_every_configuration(folder: Path, name: str, content: dict):
    path = folder / "configs" / name
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | content))
    with pytest.raises(ConfigError, match=f"run as code, in configs/{name}"):
        bundle_checks.check_bundle(folder, **CUBES)


def test_a_configuration_that_is_no_json_is_refused(folder: Path):
    (folder / "configs" / "logging.conf").write_text("[handlers]\nargs=(sys.stdout,)\n")
    with pytest.raises(ConfigError, match=r"logging\.conf that is JSON"):
        bundle_checks.check_bundle(folder, **CUBES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts["folds"].append(2), "lacks fold 2 of task classification"),
        (lambda facts: facts["sha256"].pop(weight_file("joint", 1)), "lacks fold 1 of task joint"),
        (lambda facts: facts["baselines"].pop(), "does not know all of fold 1"),
        (lambda facts: facts["uncertainty"]["references"].pop(0), "does not know all of fold 0"),
        (lambda facts: facts.update(roi_size=48), "differ about the size of the region"),
        (lambda facts: facts.update(roi_spacing_mm=1.5), "differ about the extent of the region"),
        (lambda facts: facts.update(hu_window=[-100, 600]), "differ about the HU window"),
        (lambda facts: facts["network"].update(growth_rate=13), "differ about the networks"),
        (lambda facts: facts["sha256"].update({"models/other.safetensors": "0"}), "differ about the weights"),
        (lambda facts: facts.pop("uncertainty"), "holds no usable"),
        (lambda facts: facts.update(baselines=3), "holds no usable"),
    ],
)
def test_what_is_missing_or_contradicts_is_refused(folder: Path, change, message: str):
    rewrite(folder / METADATA, change)
    with pytest.raises(ConfigError, match=message):
        bundle_checks.check_bundle(folder, **CUBES)


def test_another_kind_of_network_is_refused(folder: Path):
    rewrite(folder / INFERENCE, lambda facts: facts["network_def"]["joint"].update(_target_="os.system"))
    with pytest.raises(ConfigError, match="differ about the networks"):
        bundle_checks.check_bundle(folder, **CUBES)


@pytest.mark.parametrize("name", [weight_file("classification", 0), str(METADATA), str(INFERENCE)])
def test_a_bundle_without_one_of_its_files_is_refused(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(ConfigError, match="lacks"):
        bundle_checks.check_bundle(folder, **CUBES)


@pytest.mark.parametrize(
    ("size", "spacing_mm", "fits"), [(64, 1.0, True), (63, 1.0, False), (32, 2.0, True), (64, 0.9, False)]
)
def test_a_region_larger_than_the_cubes_is_refused(folder: Path, size: int, spacing_mm: float, fits: bool):
    """The region has 64 mm."""
    if fits:
        bundle_checks.check_bundle(folder, cube_size=size, cube_spacing_mm=spacing_mm, **CHOICE)
    else:
        with pytest.raises(ConfigError, match=r"sees 64 mm.*raise option crop.size to (64|71)"):
            bundle_checks.check_bundle(folder, cube_size=size, cube_spacing_mm=spacing_mm, **CHOICE)


def test_splits_of_a_fold_that_is_not_there_are_refused(folder: Path):
    row = {"scheme": "cross-validation", "split": "fold7", "held_out": None, "patient_id": "pa1", "part": "test"}
    tables.write([row], tables.SPLITS, folder / bundle.SPLITS)
    with pytest.raises(ConfigError, match="patients of fold 7"):
        bundle.read_splits(bundle.read(folder))


def test_splits_with_texts_that_no_training_writes_are_refused(folder: Path):
    table = tables.read(folder / bundle.SPLITS, tables.SPLITS)
    for wrong in ("fold\u00b2", "\0old1", ""):
        rows = [row | {"split": wrong, "scheme": "cross-validation", "part": "test"} for row in table.to_pylist()[:1]]
        tables.write(rows, tables.SPLITS, folder / bundle.SPLITS)
        with pytest.raises(ConfigError, match="no training writes"):
            bundle.read_splits(bundle.read(folder))
    no_text = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff"))
    pq.write_table(
        table[:1].set_column(table.schema.get_field_index("patient_id"), "patient_id", no_text).cast(table.schema),
        folder / bundle.SPLITS,
    )
    with pytest.raises(ConfigError, match="no training writes"):
        bundle.read_splits(bundle.read(folder))


def test_a_folder_without_metadata_is_refused(tmp_path: Path):
    """An empty folder is no bundle."""
    with pytest.raises(ConfigError, match="no usable"):
        bundle.read(tmp_path)


def test_the_model_id_depends_on_weights_alone():
    """Neither the order of the files nor the folder counts; any digest does."""
    assert bundle.model_id("m", {"a": "1", "b": "2"}) == bundle.model_id("m", {"b": "2", "a": "1"})
    assert bundle.model_id("m", {"a": "1", "b": "2"}) != bundle.model_id("m", {"a": "2", "b": "1"})


def test_undefined_numbers_are_not_written(tmp_path: Path):
    """NaN is no JSON."""
    with pytest.raises(ValueError):
        bundle.write_json({"value": float("nan")}, tmp_path / "x.json")


def test_training_on_regions_larger_than_the_cubes_is_refused():
    """A region beyond the cube would be filled with air."""
    cubes = {"cube_size": 64, "cube_spacing_mm": 1.0}
    bundle_checks.check_region(roi_size=32, roi_spacing_mm=2.0, **cubes)
    with pytest.raises(ConfigError, match=r"raise crop\.size to 80"):
        bundle_checks.check_region(roi_size=40, roi_spacing_mm=2.0, **cubes)


@pytest.mark.parametrize("other", [{"reduced_below_mg_cm3": 100.0}, {"levels": ["T12"]}])
def test_a_bundle_for_another_threshold_or_other_levels_is_refused(folder: Path, other: dict):
    """Its decisions and intervals would answer another question than the rest of the tables."""
    bundle_checks.check_bundle(folder, **CUBES)
    with pytest.raises(ConfigError, match=f"aggregate.{next(iter(other))}"):
        bundle_checks.check_bundle(folder, cube_size=64, cube_spacing_mm=1.0, **(CHOICE | other))
