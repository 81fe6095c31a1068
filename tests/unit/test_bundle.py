"""Bundles: what is written is what is read, and nothing else is loaded."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from trabecula import bundle, tables
from trabecula.bundle import METADATA, HuLine, Interval, Roi, weight_file
from trabecula.errors import ConfigError


def metadata(sha256: dict[str, str]) -> dict:
    """The keys of the metadata that are read."""
    return {
        "name": "toy",
        "model_id": bundle.model_id("toy", sha256),
        "synthetic": True,
        "tasks": list(bundle.TASKS),
        "folds": [0, 1],
        "network": {"spatial_dims": 3},
        "roi_size": 32,
        "roi_spacing_mm": 2.0,
        "hu_window": [-200, 600],
        "hu_baseline": [asdict(HuLine(fold, 0.9, 20.0, 8)) for fold in (0, 1)],
        "intervals": bundle.describe_intervals(
            (Interval(0, 12.5, 16), Interval(1, None, 4)), half_width_mg_cm3=11.0, n=20, coverage=0.9
        ),
        "sha256": sha256,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle whose weights are no networks, but have the right digests."""
    made = tmp_path / "toy"
    names = [weight_file(task, fold) for task in bundle.TASKS for fold in (0, 1)]
    for name in names:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(name.encode())
    bundle.write_json(metadata({name: bundle.sha256_of(made / name) for name in names}), made / METADATA)
    tables.write([{"patient_id": "pa1", "fold": 1}], tables.SPLITS, made / bundle.SPLITS)
    return made


def test_what_is_written_is_read(folder: Path):
    """Every fact survives the way to disk and back."""
    found = bundle.read(folder)
    bundle.check_weights(found)
    assert found.roi == Roi(32, 2.0, (-200, 600))
    assert found.hu_baseline[1] == HuLine(1, 0.9, 20.0, 8)
    assert [interval.half_width_mg_cm3 for interval in found.intervals] == [12.5, None]
    assert found.half_width_mg_cm3 == 11.0
    assert found.synthetic and found.folds == (0, 1)
    assert bundle.read_splits(found) == {"pa1": 1}


def test_changed_weights_are_refused(folder: Path):
    """One changed byte in a weight file is noticed, and the message names the file."""
    found = bundle.read(folder)
    name = weight_file("regression", 1)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b"x")
    with pytest.raises(ConfigError, match="regression_fold1"):
        bundle.check_weights(found)
    (folder / name).unlink()
    with pytest.raises(ConfigError, match="regression_fold1"):
        bundle.check_weights(found)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": {}},
        {"folds": [0, 1, 2]},
        {"tasks": ["classification", "../../elsewhere"]},
        {"model_id": "toy-00000000"},
        {"hu_baseline": [{"line": 1}]},
    ],
)
def test_contradicting_metadata_are_refused(folder: Path, change: dict):
    """Metadata that don't cover their weights, or lack what is needed, are refused in a sentence."""
    facts = json.loads((folder / METADATA).read_text()) | change
    bundle.write_json(facts, folder / METADATA)
    with pytest.raises(ConfigError, match="Option model"):
        bundle.read(folder)


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


def test_an_old_bundle_is_replaced_as_a_whole(tmp_path: Path):
    """No file of the old bundle stays behind."""
    old, new = tmp_path / "bundle", tmp_path / "new"
    for folder, file in ((old, "stale"), (new, "fresh")):
        folder.mkdir()
        (folder / file).touch()
    bundle.put_in_place(new, old)
    assert [path.name for path in old.iterdir()] == ["fresh"]
