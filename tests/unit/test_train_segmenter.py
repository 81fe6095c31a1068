"""Training of the builtin network: the two rounds, a training that was killed, the card."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_folders import painted_scan

from trabecula import train_segmenter
from trabecula.model import spine_network
from trabecula.train_segmenter import Recipe, examples, fit, train_bundle
from trabecula.train_segmenter.card import CARD
from trabecula.train_segmenter.examples import UNKNOWN, Example, from_synthetic

pytestmark = pytest.mark.slow

SHIPPED = Path(__file__).parents[2] / "models" / "segmenter"
SHORT = Recipe(synthetic_patients=1, steps=2, late_steps=1, batch_size=1)


def example(name: str = examples.SYNTHETIC) -> Example:
    """A painted scan of a few vertebrae, made in no time."""
    return dataclasses.replace(from_synthetic(*painted_scan(), weight=1.0), name=name)


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Painted scans stand for the synthetic patients and for the real scans."""
    monkeypatch.setattr(train_segmenter, "make_synthetic", lambda patients, *, seed: [example()] * patients)
    for name in examples.READERS:
        monkeypatch.setitem(examples.READERS, name, lambda folder: example(folder.name))


def weights(folder: Path) -> bytes:
    return (folder / "models" / "segmenter.safetensors").read_bytes()


@pytest.mark.usefixtures("painted")
def test_scans_that_are_held_back_join_late_and_say_how_the_network_did_before(tmp_path: Path) -> None:
    bundle = tmp_path / "segmenter"
    train_bundle(bundle, real=tmp_path, state=tmp_path / "state.pt", recipe=SHORT)
    before, after = (
        json.loads((folder / "configs" / "metadata.json").read_text())
        for folder in (tmp_path / "segmenter_before", bundle)
    )
    assert before["real"] == ["tptbox_vertebra_crop"] and before["dice_unseen"].keys() == {"totalseg_example"}
    assert after["real"] == ["tptbox_vertebra_crop", "totalseg_example"]
    assert (after["steps"], after["late_steps"], after["synthetic_patients"]) == (2, 1, 1)
    assert weights(bundle) != weights(tmp_path / "segmenter_before")
    card = (bundle / "docs" / "README.md").read_text()
    assert "2 steps of 1 patches, then 1 steps" in card
    assert card.count("| totalseg_example |") == 2 and card.count("| tptbox_vertebra_crop |") == 1
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.usefixtures("painted")
def test_without_real_scans_there_is_one_round(tmp_path: Path) -> None:
    train_bundle(tmp_path / "segmenter", real=None, state=tmp_path / "state.pt", recipe=SHORT)
    metadata = json.loads((tmp_path / "segmenter/configs/metadata.json").read_text())
    assert (metadata["real"], metadata["late_steps"]) == ([], 0)
    assert weights(tmp_path / "segmenter") == weights(tmp_path / "segmenter_before")


def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "SAVE_EVERY", 1)
    whole = fit.train(fit.build(1), [example()], SHORT.first_round, device="cpu", state=tmp_path / "whole.pt")
    patch, steps = fit.random_patch, []

    def killed(scan: Example, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt
        return patch(scan, rng)

    monkeypatch.setattr(fit, "random_patch", killed)
    for _ in range(2):
        network = fit.build(1)
        try:
            fit.train(network, [example()], SHORT.first_round, device="cpu", state=tmp_path / "cut.pt")
        except KeyboardInterrupt:
            continue
    assert len(steps) == 3
    for name, value in whole.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name


def test_the_shipped_network_was_made_by_the_recipe() -> None:
    metadata, recipe = json.loads((SHIPPED / "configs/metadata.json").read_text()), Recipe()
    for name in ("steps", "late_steps", "batch_size", "seed", "synthetic_patients"):
        assert metadata[name] == getattr(recipe, name)
    assert metadata["real"] == [*recipe.sources, *recipe.held_back]


def test_the_shipped_card_says_what_the_card_says() -> None:
    card = (SHIPPED / "docs" / "README.md").read_text()
    for paragraph in CARD.split("\n\n"):
        assert "{" in paragraph or paragraph in card


def test_the_real_scans_are_read(real_data: Path) -> None:
    scans = examples.read_real(real_data, list(examples.READERS))
    assert [scan.name for scan in scans] == list(examples.READERS)
    for scan in scans:
        assert scan.hu.shape == scan.classes.shape
        assert set(np.unique(scan.classes.numpy())) <= {*range(len(spine_network.CLASSES)), UNKNOWN}
        assert len(scan.places[spine_network.BODY])
