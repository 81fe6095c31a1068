"""Training: fair folds, states that survive a kill, honest figures."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle.config_parser import ConfigParser
from toy_spines import SPACING_MM, Cohort, write_cohort

from trabecula import augment, bundle, card, conformal, fit, network, tables, train
from trabecula.bundle import TASKS, Roi, weight_file
from trabecula.cases import assign_folds, hu_lines
from trabecula.cubes import read_cubes
from trabecula.errors import ConfigError

RECIPE = fit.Recipe(
    name="toy",
    network="small",
    folds=2,
    epochs=2,
    batch_size=8,
    learning_rate=0.003,
    roi_size=32,
    roi_spacing_mm=2.5,
    hu_window=[-200, 600],
    seed=3,
    device="cpu",
)
CHOICE = {
    "levels": ["L1", "L2"],
    "substitutes": ["L3", "T12"],
    "max_interval_days": 180,
    "reduced_below_mg_cm3": 120.0,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    return write_cohort(tmp_path_factory.mktemp("cohort"), 14, labelled=12)


def run(cohort: Cohort, folder: Path, recipe: fit.Recipe = RECIPE) -> None:
    train.train_bundle(cohort.sources, folder, recipe=recipe, choice=CHOICE, synthetic=["toy"], code="c0de")


@pytest.fixture(scope="module")
def trained(cohort: Cohort, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "toy"
    run(cohort, folder)
    return folder


# --- folds and cases -------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.lists(st.booleans(), min_size=10, max_size=60), st.integers(2, 5), st.integers(0, 9))
def test_folds_share_out_patients_and_classes_evenly(reduced, folds, seed):
    """Every patient is in one fold; of each class the folds hold as many as can be, give or take one."""
    names = [f"pa{i}" for i in range(len(reduced))]
    if min(sum(reduced), len(reduced) - sum(reduced)) < folds:
        with pytest.raises(ConfigError, match=r"train\.folds"):
            assign_folds(names, reduced, folds=folds, seed=seed)
        return
    fold_of = assign_folds(names, reduced, folds=folds, seed=seed)
    assert set(fold_of) == set(names)
    for wanted in (True, False):
        members = [fold_of[name] for name, low in zip(names, reduced, strict=True) if low == wanted]
        counts = np.bincount(members, minlength=folds)
        assert counts.max() - counts.min() <= 1 and len(counts) == folds


def test_a_patient_of_two_cohorts_is_in_one_fold():
    """Folds are by patient, wherever the patient stands, and do not depend on the rows' order."""
    names, reduced = ["a", "b", "c", "d", "a"], [True, False, True, False, True]
    fold_of = assign_folds(names, reduced, folds=2, seed=1)
    assert sorted(fold_of) == ["a", "b", "c", "d"]
    assert fold_of == assign_folds(names[::-1], reduced[::-1], folds=2, seed=1)


def test_cases_are_the_labelled_patients_with_their_chosen_levels(cohort: Cohort):
    """No patient without a label; levels as for results."""
    cases = train.read_cases(cohort.sources, folds=2, seed=3, **CHOICE)
    assert sorted(cases["patient_id"]) == sorted(cohort.vbmd_mg_cm3)[:12]
    assert cases["levels"].tolist() == [["L1", "L2"]] * 12
    assert cases["qct_vbmd_mg_cm3"].tolist() == pytest.approx([cohort.vbmd_mg_cm3[p] for p in cases["patient_id"]])
    assert cases["reduced"].tolist() == [value < 120 for value in cases["qct_vbmd_mg_cm3"]]


def test_too_few_patients_are_said_in_a_sentence(tmp_path: Path):
    """A cohort that can't be split stops with what to change."""
    small = write_cohort(tmp_path, 6, labelled=2)
    with pytest.raises(ConfigError, match="add labelled patients"):
        run(small, tmp_path / "toy")


def test_the_hu_line_leaves_its_fold_out():
    """Spoiled values in a fold do not reach the line that predicts this fold."""
    hu = np.arange(10.0)
    cases = pd.DataFrame({"trabecular_hu": hu, "qct_vbmd_mg_cm3": 2 * hu + 5})
    fold = np.arange(10) % 2
    cases.loc[fold == 1, "qct_vbmd_mg_cm3"] = 77.0
    line = hu_lines(cases, fold)[1]
    assert (line.fold, line.n) == (1, 5)
    assert (line.slope, line.intercept) == pytest.approx((2, 5))


@given(st.integers(9, 300))
def test_half_widths_cover_as_promised(n):
    """At least 90 % of n + 1 exchangeable residuals lie within: k-th smallest, k >= 0.9 (n + 1)."""
    residuals = np.random.default_rng(n).normal(size=n)
    width = conformal.half_width(residuals)
    assert width is not None
    covered = (np.abs(residuals) <= width).sum()
    assert 0.9 * (n + 1) <= covered < 0.9 * (n + 1) + 1


def test_half_widths_of_few_residuals_are_undefined():
    """With 8 residuals no finite width covers 90 %."""
    assert conformal.half_width(np.ones(8)) is None


def test_own_residuals_are_not_in_the_interval():
    """A fold's half width comes from the others."""
    fold = np.repeat([0, 1], 20)
    first, second = conformal.intervals(np.where(fold == 0, 1.0, 5.0), fold)
    assert (first.half_width_mg_cm3, second.half_width_mg_cm3, first.n) == (5.0, 1.0, 20)


# --- the network's input ---------------------------------------------------------------------------


def test_coarser_voxels_are_means():
    """32 voxels of 2 mm from 64 of 1 mm are block means."""
    ct = np.random.default_rng(0).integers(-1000, 1000, (64, 64, 64)).astype(np.int16)
    cut = network.cut_roi(ct, spacing_mm=1.0, roi=Roi(32, 2.0, (-200, 600)))
    blocks = ct.reshape(32, 2, 32, 2, 32, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(cut, blocks, atol=0.5)


def test_a_region_larger_than_the_cube_has_air_around_it():
    """The cube stays in the middle."""
    cut = network.cut_roi(np.zeros((16,) * 3, np.int16), spacing_mm=1.0, roi=Roi(20, 1.0, (-200, 600)))
    assert cut.shape == (20, 20, 20)
    assert (cut[2:18, 2:18, 2:18] == 0).all() and (cut == network.AIR_HU).sum() == 20**3 - 16**3


@pytest.mark.parametrize("seed", range(3))
def test_rotations_are_rotations(seed):
    """Orthogonal, with determinant 1."""
    turns = augment.rotations(torch.rand(4, 3, generator=torch.Generator().manual_seed(seed)) * 6)
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand(4, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(4))


def test_mirroring_is_left_to_right_alone():
    """With all else off, a region is either itself or mirrored along its first axis."""
    hu = torch.rand(16, 1, 8, 8, 8)
    still = augment.Variation(0, 0, 0, 0, 0, 0, 0)
    varied = augment.vary(hu, spacing_mm=2, by=still, generator=torch.Generator().manual_seed(0))
    same = torch.isclose(varied, hu, atol=1e-4).flatten(1).all(1)
    mirrored = torch.isclose(varied, hu.flip(2), atol=1e-4).flatten(1).all(1)
    assert (same ^ mirrored).all() and same.any() and mirrored.any()


def test_variation_keeps_the_mean_within_the_devices_range():
    """A uniform region stays uniform up to noise, its value within offset and slope."""
    hu = torch.full((32, 1, 8, 8, 8), 200.0)
    varied = augment.vary(hu, spacing_mm=2, by=augment.Variation(), generator=torch.Generator().manual_seed(0))
    change = (varied.mean((1, 2, 3, 4)) - 200).abs()
    assert change.max() < 10 + 0.03 * 200 + 4 and change.std() > 1


# --- training --------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL."""


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "models").iterdir())}


@pytest.mark.parametrize("epochs_before_kill", [1, 4])
def test_a_killed_training_ends_with_the_same_bundle(cohort, trained, tmp_path, monkeypatch, epochs_before_kill):
    """Killed after an epoch, in the middle of a fold or between folds, and started again: every file is the same."""
    folder, done, save = tmp_path / "toy", [], fit._Run.save

    def save_and_die(*arguments):
        save(*arguments)
        done.append(1)
        if len(done) == epochs_before_kill:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(fit._Run, "save", save_and_die)
        with pytest.raises(Killed):
            run(cohort, folder)
        assert not folder.exists()
    monkeypatch.setattr(fit._Run, "save", lambda *a: (done.append(1), save(*a)))
    run(cohort, folder)
    assert len(done) == len(TASKS) * RECIPE.folds * RECIPE.epochs
    for path in (path for path in trained.rglob("*") if path.is_file()):
        assert (folder / path.relative_to(trained)).read_bytes() == path.read_bytes(), path.name


def test_a_torn_state_counts_as_none(tmp_path: Path, cohort, trained):
    """A state that is not whole is trained anew, not believed."""
    folder = tmp_path / "toy"
    shutil.copytree(trained.with_name("toy.training"), tmp_path / "toy.training")
    for state in (tmp_path / "toy.training").rglob("regression_fold1.pt"):
        state.write_bytes(state.read_bytes()[:1000])
    run(cohort, folder)
    assert weights(folder) == weights(trained)


def test_states_of_another_recipe_are_not_taken_up(tmp_path: Path, cohort, trained):
    """Another seed gives other weights, although states lie there; the old states go."""
    folder = tmp_path / "toy"
    shutil.copytree(trained.with_name("toy.training"), tmp_path / "toy.training")
    run(cohort, folder, replace(RECIPE, seed=4, epochs=1))
    assert weights(folder) != weights(trained)
    assert len(list((tmp_path / "toy.training").glob("state-*"))) == 1


def test_the_learning_rate_rises_and_falls():
    """Linear to the highest, then down to zero."""
    rates = [fit.learning_rate(step, 100, highest=1.0) for step in range(101)]
    assert max(rates) == 1.0 and rates[0] == pytest.approx(0.2) and rates[100] == pytest.approx(0)
    assert rates.index(1.0) == 4 and (np.diff(rates[5:]) <= 0).all()


def test_regression_learns(tmp_path: Path):
    """On cylinders whose HU tell their vBMD, a few epochs do better than the mean."""
    cohort = write_cohort(tmp_path, 36, seed=1)
    cases = train.read_cases(cohort.sources, folds=3, seed=3, **CHOICE)
    recipe = replace(RECIPE, epochs=10, learning_rate=0.005)
    samples = train.read_samples(cohort.sources.cubes, cases, recipe=recipe, file=tmp_path / "rois.npy")
    held_out = samples.part(0, "regression", held_out=True)
    trained, curve = fit.fit(
        samples.part(0, "regression", held_out=False),
        held_out,
        task="regression",
        recipe=recipe,
        seed=1,
        device=torch.device("cpu"),
        state=tmp_path / "state.pt",
    )
    assert [epoch.epoch for epoch in curve] == list(range(1, 11))
    truth = held_out.target[held_out.index]
    predicted = network.predict(trained, samples.rois, held_out.index, task="regression", roi=recipe.roi)
    assert np.abs(predicted - truth).mean() < 0.6 * np.abs(truth - truth.mean()).mean()


# --- the bundle ------------------------------------------------------------------------------------


def test_a_bundle_holds_all_that_is_promised(trained: Path, cohort: Cohort):
    """Files, splits, curves, and a card that says synthetic."""
    found = bundle.read(trained)
    bundle.check_weights(found)
    assert found.synthetic and found.model_id.startswith("toy-")
    splits = bundle.read_splits(found)
    assert sorted(splits) == sorted(cohort.vbmd_mg_cm3)[:12] and set(splits.values()) == {0, 1}
    curves = tables.read(trained / bundle.TRAINING, tables.TRAINING).to_pandas()
    assert len(curves) == len(TASKS) * RECIPE.folds * RECIPE.epochs
    text = (trained / "docs" / "README.md").read_text()
    assert "**Synthetic.**" in text and "n = 12 (synthetic)" in text and "{" not in text
    assert "Apache-2.0" in (trained / "LICENSE").read_text()
    assert all(line.n == 6 for line in found.hu_baseline)


def test_a_site_bundle_does_not_say_synthetic(cohort: Cohort, tmp_path: Path):
    """Real patients: no such warning, and no licence is given away."""
    recipe = replace(RECIPE, epochs=1)
    train.train_bundle(cohort.sources, tmp_path / "toy", recipe=recipe, choice=CHOICE, synthetic=[], code="c0de")
    assert not bundle.read(tmp_path / "toy").synthetic
    assert "ynthetic" not in (tmp_path / "toy" / "docs" / "README.md").read_text()
    assert "no licence is granted" in (tmp_path / "toy" / "LICENSE").read_text()


def test_only_purely_simulated_models_are_given_away():
    """One cohort of real patients is enough for no licence; one simulated one is enough for the warning."""
    cohorts = [{"synthetic": True}, {"synthetic": False}]
    assert "no licence is granted" in card.licence(cohorts)
    assert "trained in part on simulated CT" in card.warning(cohorts)
    assert "in part" not in card.warning(cohorts[:1]) and not card.warning(cohorts[1:])


def test_monai_builds_the_same_from_the_configuration(trained: Path, cohort: Cohort):
    """Network and preprocessing of configs/inference.json, built by MONAI, predict what the workflow predicts."""
    config = json.loads((trained / "configs" / "inference.json").read_text())
    assert "$" not in json.dumps(config)
    parser = ConfigParser(config)
    net, prepare = parser.get_parsed_content("network_def"), parser.get_parsed_content("preprocessing")
    name = weight_file("regression", 1)
    net.load_state_dict(safetensors.torch.load_file(trained / name))
    crop = next(read_cubes(cohort.sources.cubes[0]))
    with torch.inference_mode():
        theirs = float(net.eval()(prepare(crop.ct.astype(np.float32))[None]))
    roi = bundle.read(trained).roi
    rois = network.cut_roi(crop.ct, spacing_mm=SPACING_MM, roi=roi)[None]
    ours = network.load(network.describe("small"), trained / name, torch.device("cpu"))
    value = network.predict(ours, rois, np.array([0]), task="regression", roi=roi)
    assert value[0] == pytest.approx(theirs, abs=0.05)
