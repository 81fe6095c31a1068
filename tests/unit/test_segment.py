"""The builtin backend on spines with known truth, synthetic and real."""

from pathlib import Path

import numpy as np
import pytest
from overlap import dice

from trabecula import phantom
from trabecula.errors import StudyFailure
from trabecula.image.levels import CODE_OF_LEVEL
from trabecula.image.volume import Volume
from trabecula.model import spine_network
from trabecula.segment import builtin

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def network():
    """The shipped network."""
    return spine_network.load_bundle(ROOT / "models" / "segmenter", device="cpu")[0]


@pytest.mark.slow
def test_the_shipped_network_outlines_and_names_a_patient_it_never_saw(network) -> None:
    device = next(iter(phantom.DEVICES.values()))
    ct, truth = phantom.render(phantom.sample_patient(4711, 3), device, spacing_mm=(1.5, 1.5, 2.5), seed=3)
    labels, levels = builtin.segment(network, ct, device="cpu")
    assert labels.array.shape == ct.array.shape and labels.array.dtype == np.uint8
    for level in ("L1", "L2", "L3"):
        code = CODE_OF_LEVEL[level]
        assert dice(labels.array == code, truth.array == code) > 0.88, level
    assert {level.name for level in levels} >= {"L1", "L2", "L3"}


def test_a_scan_without_a_spine_says_so(network) -> None:
    water = Volume(np.zeros((60, 60, 40), np.int16), np.diag([3.0, 3, 3, 1]))
    with pytest.raises(StudyFailure, match="no_vertebra"):
        builtin.segment(network, water, device="cpu")


def test_a_job_has_as_many_threads_as_the_option_says() -> None:
    rule = (ROOT / "workflow/rules/segment.smk").read_text().partition("rule train_segmenter")[0]
    assert 'threads: config["segment"]["threads"]' in rule
    assert "Job(snakemake.threads, " in (ROOT / "scripts/segment.py").read_text()


def test_other_weights_than_the_metadata_name_are_refused(tmp_path: Path) -> None:
    network = spine_network.build_network()
    spine_network.save_bundle(network, tmp_path, facts={})
    weights = tmp_path / "models" / "segmenter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(ValueError, match="not those"):
        spine_network.load_bundle(tmp_path, device="cpu")
