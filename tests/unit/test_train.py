"""Training: honest splits, states that survive a kill, bundles that hold what they promise."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from monai.bundle.config_parser import ConfigParser
from toy_spines import SPACING_MM, Cohort, converted, write_cohort

from trabecula import tables
from trabecula.cohort.current import read_current_studies
from trabecula.errors import ConfigError
from trabecula.model import bundle, network
from trabecula.model.bundle import TASKS, Roi
from trabecula.model.bundle_checks import weight_file
from trabecula.tables.cubes import read_cubes
from trabecula.train import audit, card, cases, fit, publish, rois, splits
from trabecula.train import network as job
from trabecula.train.data import Data, load, read_data
from trabecula.train.transforms import Variation, variation

RECIPE = fit.Recipe(
    network="small",
    epochs=2,
    patience=5,
    batch_size=8,
    learning_rate=0.003,
    roi_size=32,
    roi_spacing_mm=2.5,
    hu_window=[-200, 600],
    scan_inputs=["kvp", "phase"],
    seed=3,
    device="cpu",
)
PROTOCOL = splits.Protocol(
    folds=2,
    random_repeats=1,
    random_fractions=[0.6, 0.2, 0.2],
    leave_one_device_out=True,
    min_device_patients=4,
    validation_fraction=0.35,
    seed=3,
)
CHOICE = cases.Choice(["L1", "L2"], ["L3", "T12"], 180, 120.0)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    return write_cohort(tmp_path_factory.mktemp("cohort"), 16, labelled=14)


def prepare(cohort: Cohort, folder: Path) -> pd.DataFrame:
    """Write what the rule train_cases writes, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = cases.read_sources(**cohort.files)
    patients = cases.find_cases(sources, order=["toy"], choice=CHOICE)
    tables.write(tables.from_frame(patients, tables.CASES), tables.CASES, folder / "cases.parquet")
    rows = audit.audit(sources, patients, order=["toy"], choice=CHOICE)
    tables.write(tables.from_frame(rows, tables.AUDIT), tables.AUDIT, folder / "audit.parquet")
    renamed = cases.renamed_levels(sources.vertebrae)
    current = read_current_studies(cohort.studies)
    path = folder / "rois.arrow"
    rois.write_regions(cohort.cubes, patients, current=current, roi=RECIPE.roi, path=path, renamed=renamed)
    division = splits.divide(patients, PROTOCOL)
    tables.write(tables.from_frame(division, tables.SPLITS), tables.SPLITS, folder / "splits.parquet")
    return patients


def train_one(folder: Path, into: Path, split: str, task: bundle.Task, recipe: fit.Recipe = RECIPE) -> None:
    """Train a network as the rule train_network does."""
    into.mkdir(parents=True, exist_ok=True)
    job.train_network(
        job.Prepared(folder / "rois.arrow", folder / "cases.parquet", folder / "splits.parquet"),
        publish.Trained(into.parent).files(into.name, task),
        split=split,
        task=task,
        recipe=recipe,
        workers=0,
    )


def publish_into(folder: Path, prepared: Path, *, synthetic: list[str]) -> None:
    """Write a bundle as the rule train does."""
    record = publish.Record("toy", TASKS, RECIPE, PROTOCOL, CHOICE, frozenset(synthetic), 40, SPACING_MM, "c0de")
    publish.write_bundle(
        folder,
        record,
        tables.read(prepared / "cases.parquet", tables.CASES).to_pandas(),
        tables.read(prepared / "splits.parquet", tables.SPLITS).to_pandas(),
        tables.read(prepared / "audit.parquet", tables.AUDIT),
        publish.Trained(prepared / "networks"),
    )


@pytest.fixture(scope="module")
def prepared(cohort: Cohort, tmp_path_factory) -> Path:
    """All networks of the toy cohort."""
    folder = tmp_path_factory.mktemp("train")
    prepare(cohort, folder)
    names = dict.fromkeys(tables.read(folder / "splits.parquet", tables.SPLITS)["split"].to_pylist())
    for split in names:
        for task in TASKS:
            train_one(folder, folder / "networks" / split, split, task, replace(RECIPE, epochs=1))
    return folder


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory) -> Path:
    """The bundle of the toy cohort."""
    folder = tmp_path_factory.mktemp("models") / "toy"
    publish_into(folder, prepared, synthetic=["toy"])
    return folder


# --- cases and regions -----------------------------------------------------------------------------


def test_cases_are_the_labelled_patients_with_their_chosen_levels(cohort: Cohort):
    """No patient without a label; levels as for results; the scan's facts beside them."""
    rows = cases.find_cases(cases.read_sources(**cohort.files), order=["toy"], choice=CHOICE)
    assert sorted(rows["patient_id"]) == sorted(cohort.vbmd_mg_cm3)[:14]
    assert rows["levels"].tolist() == [["L1", "L2"]] * 14
    assert rows["qct_vbmd_mg_cm3"].tolist() == pytest.approx([cohort.vbmd_mg_cm3[p] for p in rows["patient_id"]])
    assert rows["reduced"].tolist() == [value < 120 for value in rows["qct_vbmd_mg_cm3"]]
    assert set(rows["kvp"]) == {100.0, 120.0} and set(rows["phase"]) == {"native", "portal"}


def test_a_scan_under_two_patients_trains_once_and_stands_on_one_side(cohort: Cohort, tmp_path: Path):
    whole = {name: tables.read(name, tables.CONVERT) for name in cohort.converts}
    twin, labelled = "pa0015", "pa0002"  # in different shards; the twin of a labelled patient has no label
    rows = {name: [row for row in table.to_pylist() if row["patient_id"] != twin] for name, table in whole.items()}
    rows[cohort.converts[1]].append(converted(twin, f"of {labelled}"))
    rows[cohort.converts[1]] = [
        converted("pa0003", "of pa0001") if row["patient_id"] == "pa0003" else row for row in rows[cohort.converts[1]]
    ]
    copies = [str(tmp_path / f"toy/convert/{Path(name).name}") for name in cohort.converts]
    for name, copy in zip(cohort.converts, copies, strict=True):
        tables.write(rows[name], tables.CONVERT, copy)
    files: dict[str, Any] = cohort.files | {"converts": copies}
    sources = cases.read_sources(**files)
    patients = cases.find_cases(sources, order=["toy"], choice=CHOICE)
    assert sorted(patients["patient_id"]) == sorted({*list(cohort.vbmd_mg_cm3)[:14]} - {"pa0003"})
    audited = audit.audit(sources, patients, order=["toy"], choice=CHOICE).set_index("patient_id")
    assert audited["reason"].dropna().to_dict() == {"pa0003": "same_scan", "pa0014": "no_label", twin: "no_label"}
    assert set(splits.divide(patients, PROTOCOL)["patient_id"]) == set(patients["patient_id"])


def test_regions_are_those_of_the_cubes_and_stay_in_the_file(cohort: Cohort, tmp_path: Path):
    """Each region is the cut of its own cube, and a view of the mapped file: no copy is held."""
    patients = prepare(cohort, tmp_path)
    regions = rois.Regions(tmp_path / "rois.arrow")
    assert len(regions) == 2 * len(patients)
    cubes = {(crop.patient_id, crop.level): crop for path in cohort.cubes for crop in read_cubes(path)}
    for i, (patient, level) in enumerate(regions.keys[["patient_id", "level"]].to_numpy(str)):
        region = network.cut_roi(cubes[patient, level].ct, spacing_mm=SPACING_MM, roi=RECIPE.roi)
        np.testing.assert_array_equal(regions[i][0].numpy(), region)
    # Regions of one shard lie one after the other in the same memory.
    step = regions[1].data_ptr() - regions[0].data_ptr()
    assert step == 32**3 * 2
    assert regions[0].untyped_storage().data_ptr() == regions[1].untyped_storage().data_ptr()


def test_a_chosen_vertebra_without_a_cube_is_a_bug(cohort: Cohort, tmp_path: Path):
    patients = prepare(cohort, tmp_path)
    with pytest.raises(AssertionError, match="have no cube"):
        current = read_current_studies(cohort.studies)
        path = tmp_path / "other.arrow"
        rois.write_regions(cohort.cubes[:1], patients, current=current, roi=RECIPE.roi, path=path, renamed={})
    assert not (tmp_path / "other.arrow").exists()


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
    assert (cut[2:18, 2:18, 2:18] == 0).all() and (cut == network.PADDING_HU).sum() == 20**3 - 16**3


def test_the_scan_is_told_in_channels_of_one_value():
    """Voltage, phase and thickness in their order; what is unknown is 0."""
    scans = pd.DataFrame(
        {"kvp": [80.0, None], "phase": ["arterial", "unknown"], "thickness_mm": [5.0, None], "other": [1, 2]}
    )
    channels = network.scan_channels(scans, ["thickness_mm", "phase", "kvp"])
    np.testing.assert_array_equal(channels, [[1, 0, 1, -2], [0, 0, 0, 0]])
    assert network.describe("small", ["thickness_mm", "phase", "kvp"])["in_channels"] == 5
    hu = torch.tensor([-300.0, 200.0, 700.0]).view(1, 1, 3, 1, 1)
    seen = network.to_input(hu, torch.from_numpy(channels[:1]), (-200, 600))
    torch.testing.assert_close(
        seen[0, :, :, 0, 0], torch.tensor([[0, 0.5, 1], [1] * 3, [0] * 3, [1] * 3, [-2] * 3]).float()
    )


STILL = Variation(*[0.0] * 8)


def test_mirroring_is_left_to_right_alone():
    """With all else off, a region is either itself or mirrored along its first axis."""
    hu = torch.rand(1, 8, 8, 8)
    change = variation(STILL, spacing_mm=2).set_random_state(seed=0)
    varied = [torch.as_tensor(change(hu)) for _ in range(16)]
    same = [torch.allclose(region, hu, atol=1e-3) for region in varied]
    mirrored = [torch.allclose(region, hu.flip(1), atol=1e-3) for region in varied]
    assert all(a != b for a, b in zip(same, mirrored, strict=True)) and any(same) and any(mirrored)


def test_variation_keeps_a_uniform_region_within_the_devices_range():
    """It stays uniform up to noise, its value within offset and slope."""
    largest = replace(Variation(), noise_hu=0.0)
    change = variation(largest, spacing_mm=2).set_random_state(seed=0)
    varied = torch.stack([torch.as_tensor(change(torch.full((1, 20, 20, 20), 200.0))) for _ in range(32)])
    # MONAI's smoothing takes what lies outside for 0 HU, which reaches four standard deviations inwards.
    inner = varied[:, :, 4:16, 4:16, 4:16]
    off = (inner.mean((1, 2, 3, 4)) - 200).abs()
    assert inner.std((1, 2, 3, 4)).max() < 0.1
    assert off.max() < largest.offset_hu + largest.slope * 200 + 0.1 and off.std() > 1


@pytest.mark.parametrize(("field", "axis"), [("kernel_mm", 1), ("slice_mm", 3)])
def test_kernels_blur_in_the_slice_and_thick_slices_along_the_patient(field, axis):
    """A region of thin sheets loses contrast only across the smoothed direction."""
    along = torch.zeros(1, 16, 16, 16).movedim(axis, 0)
    along[::2] = 100.0
    change = variation(replace(STILL, **{field: 4.0}), spacing_mm=2).set_random_state(seed=1)
    spread = [float(torch.as_tensor(change(along.movedim(0, axis)))[0, 4:12, 4:12, 4:12].std()) for _ in range(8)]
    other = variation(replace(STILL, **{"slice_mm" if axis == 1 else "kernel_mm": 4.0}), spacing_mm=2)
    kept = [float(torch.as_tensor(other(along.movedim(0, axis)))[0, 4:12, 4:12, 4:12].std()) for _ in range(8)]
    assert min(spread) < 25 and min(kept) > 45


def test_a_regions_variation_is_its_own(cohort: Cohort, tmp_path: Path):
    """The same seed gives the same region whatever batch and order it comes in; another epoch's seed another."""
    data = regions_of(cohort, tmp_path, scan_inputs=["kvp"])
    options = {"spacing_mm": 2.5, "device": torch.device("cpu"), "workers": 0}
    first = next(iter(load(data, [np.array([5, 2, 7])], seed=4, **options)))[0]
    again = [next(iter(load(data, [np.array([i])], seed=4, **options)))[0][0] for i in (2, 7)]
    torch.testing.assert_close(torch.stack(again), first[1:])
    other = next(iter(load(data, [np.array([5, 2, 7])], seed=5, **options)))[0]
    assert not torch.allclose(other, first)


def regions_of(cohort: Cohort, folder: Path, *, scan_inputs) -> Data:
    """The toy cohort's regions with their targets."""
    return read_data(folder / "rois.arrow", prepare(cohort, folder), scan_inputs=scan_inputs)


# --- training --------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.slow
@pytest.mark.parametrize(("task", "epochs_before_kill"), [("joint", 1), ("regression", 2)])
def test_a_killed_training_ends_with_the_same_weights(cohort, tmp_path, monkeypatch, task, epochs_before_kill):
    """Killed after an epoch and started again: weights, predictions and curve are the same to the bit."""
    prepare(cohort, tmp_path)
    recipe = replace(RECIPE, epochs=3)
    train_one(tmp_path, tmp_path / "whole", "fold1", task, recipe)
    done, save = [], fit._Run.save

    def save_and_die(*arguments):
        save(*arguments)
        done.append(1)
        if len(done) == epochs_before_kill:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(fit._Run, "save", save_and_die)
        with pytest.raises(Killed):
            train_one(tmp_path, tmp_path / "killed", "fold1", task, recipe)
    assert [path.name for path in (tmp_path / "killed").iterdir()] == [f"{task}.state"]
    monkeypatch.setattr(fit._Run, "save", lambda *a: (done.append(1), save(*a)))
    train_one(tmp_path, tmp_path / "killed", "fold1", task, recipe)
    assert len(done) == recipe.epochs
    files = sorted((tmp_path / "whole").iterdir())
    assert [path.name for path in files] == [path.name for path in sorted((tmp_path / "killed").iterdir())]
    assert len(files) == 3
    for path in files:
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes(), path.name


def state_after_one_epoch(data: Data, state: Path, monkeypatch) -> None:
    """Leave the state that a training killed in its second epoch leaves."""
    save = fit._Run.save

    def save_and_die(*arguments):
        save(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(fit._Run, "save", save_and_die)
        with pytest.raises(Killed):
            fit.fit(data, np.arange(16), np.arange(16, 24), task="regression", recipe=RECIPE, state=state)


@pytest.mark.slow
@pytest.mark.parametrize("spoil", ["torn", "other_seed", "other_patients", "none"])
def test_only_a_whole_state_of_the_same_making_is_taken_up(cohort, tmp_path, monkeypatch, spoil):
    """A torn state, one of another seed or of other patients is trained anew, not believed."""
    data = regions_of(cohort, tmp_path, scan_inputs=RECIPE.scan_inputs)
    state = tmp_path / "x.state"
    state_after_one_epoch(data, state, monkeypatch)
    recipe, train = RECIPE, np.arange(16)
    if spoil == "torn":
        state.write_bytes(state.read_bytes()[:1000])
    elif spoil == "other_seed":
        recipe = replace(RECIPE, seed=4)
    elif spoil == "other_patients":
        train = np.arange(14)
    saved, save = [], fit._Run.save
    monkeypatch.setattr(fit._Run, "save", lambda *a: (saved.append(1), save(*a)))
    fit.fit(data, train, np.arange(16, 24), task="regression", recipe=recipe, state=state)
    assert len(saved) == (1 if spoil == "none" else 2)


@pytest.mark.slow
def test_training_ends_early_and_keeps_the_best_epoch(cohort, tmp_path, monkeypatch):
    """Without a lower validation loss it ends after `patience` epochs, with the weights of the best."""
    data = regions_of(cohort, tmp_path, scan_inputs=RECIPE.scan_inputs)
    losses, weights = iter([0.9, 0.5, 0.7, 0.6, 0.8, 0.1]), []

    def loss(run: fit._Run, validation: np.ndarray) -> float:
        weights.append({name: value.clone() for name, value in run.network.state_dict().items()})
        return next(losses)

    monkeypatch.setattr(fit._Run, "_validation_loss", loss)
    recipe = replace(RECIPE, epochs=6, patience=3)
    net, curve = fit.fit(
        data, np.arange(16), np.arange(16, 24), task="classification", recipe=recipe, state=tmp_path / "x.state"
    )
    assert [epoch.validation_loss for epoch in curve] == [0.9, 0.5, 0.7, 0.6, 0.8]
    assert fit.best_of(curve) == 2
    torch.testing.assert_close(net.state_dict(), weights[1])


def test_the_learning_rate_rises_and_falls():
    """Linear to the highest, then down to zero."""
    rates = [fit.learning_rate(step, 100, highest=1.0) for step in range(101)]
    assert max(rates) == 1.0 and rates[0] == pytest.approx(0.2) and rates[100] == pytest.approx(0)
    assert rates.index(1.0) == 4 and (np.diff(rates[5:]) <= 0).all()


@pytest.mark.slow
def test_a_network_learns(tmp_path: Path):
    """On cylinders whose HU tell their vBMD, a few epochs do better than the mean, and rank the classes."""
    folder = tmp_path / "train"
    prepare(write_cohort(tmp_path, 36, seed=1), folder)
    train_one(folder, tmp_path / "out", "random0", "joint", replace(RECIPE, epochs=25, patience=25, scan_inputs=[]))
    fitted = tables.read(tmp_path / "out" / "joint.parquet", tables.FITTED).to_pandas()
    patients = pd.read_parquet(folder / "cases.parquet").set_index("patient_id")
    division = pd.read_parquet(folder / "splits.parquet").query("split == 'random0' and part == 'test'")
    tested = fitted[fitted["patient_id"].isin(division["patient_id"])]
    for name, rows in tested.groupby("task"):
        truth = patients.loc[rows["patient_id"], "qct_vbmd_mg_cm3"].to_numpy()
        if str(name).endswith("regression"):
            assert np.abs(rows["value"] - truth).mean() < 0.6 * np.abs(truth - truth.mean()).mean()
        else:
            assert np.corrcoef(rows["value"], truth)[0, 1] < -0.5


def test_networks_have_seeds_of_their_own():
    seeds = {
        job.network_seed(3, f"{scheme}{k}", task)
        for scheme in ("fold", "random", "device")
        for k in range(12)
        for task in TASKS
    }
    assert len(seeds) == 3 * 12 * len(TASKS)


# --- the bundle ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_bundle_holds_all_that_is_promised(trained: Path, cohort: Cohort):
    """Files, splits, curves, protocol, audit, and a card that says synthetic."""
    toy = bundle.read(trained)
    bundle.check_weights(toy)
    assert toy.synthetic and toy.model_id.startswith("toy-") and toy.tasks == TASKS
    fold_of = bundle.read_splits(toy)
    assert sorted(fold_of) == sorted(cohort.vbmd_mg_cm3)[:14] and set(fold_of.values()) == {0, 1}
    assert bundle.read_scans(toy) == {f"of {patient}" for patient in fold_of}
    curves = tables.read(trained / bundle.TRAINING, tables.TRAINING).to_pandas()
    names = {"fold0", "fold1", "random0", "device0", "device1"}
    assert set(curves["split"]) == names and len(curves) == len(TASKS) * len(names) and curves["kept"].all()
    protocol = tables.read(trained / bundle.PROTOCOL, tables.PROTOCOL).to_pandas()
    assert set(protocol["predictor"]) >= {"network", "joint", "hu", "hu_device", "threshold_135"}
    assert (protocol.groupby(["split", "predictor"])["patient_id"].nunique() == 14).all()
    assert len(tables.read(trained / bundle.AUDIT, tables.AUDIT)) >= 14
    text = (trained / "docs" / "README.md").read_text()
    assert "**Synthetic.**" in text and "n = 14 (synthetic)" in text and "{" not in text
    assert "Apache-2.0" in (trained / "LICENSE").read_text()


def test_publishing_twice_gives_the_same_files(trained: Path, prepared: Path, tmp_path: Path):
    publish_into(tmp_path / "toy", prepared, synthetic=["toy"])
    files = [path.relative_to(trained) for path in trained.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert (tmp_path / "toy" / path).read_bytes() == (trained / path).read_bytes(), path


def test_out_of_fold_predictions_are_in_the_protocol(trained: Path, prepared: Path):
    """A patient's prediction is the mean over levels of the network that did not see them, as in its own file."""
    protocol = tables.read(trained / bundle.PROTOCOL, tables.PROTOCOL).to_pandas()
    rows = protocol.query("scheme == 'cross-validation' and part == 'test' and predictor == 'network'")
    assert len(rows) == 14
    for row in rows.itertuples():
        fitted = pd.read_parquet(prepared / "networks" / row.split / "regression.parquet")
        assert row.vbmd_mg_cm3 == pytest.approx(fitted.query("patient_id == @row.patient_id")["value"].mean())


def test_baselines_never_see_the_test_part(trained: Path):
    """In every split, the line from HU is the one that least squares gives on train and validation."""
    protocol = tables.read(trained / bundle.PROTOCOL, tables.PROTOCOL).to_pandas()
    for _, rows in protocol[protocol["predictor"] == "hu"].groupby("split"):
        seen = rows[rows["part"] != "test"]
        line = np.polyfit(seen["trabecular_hu"], seen["qct_vbmd_mg_cm3"], 1)
        np.testing.assert_allclose(rows["vbmd_mg_cm3"], np.polyval(line, rows["trabecular_hu"]), atol=1e-6)


def test_a_site_bundle_does_not_say_synthetic(prepared: Path, tmp_path: Path):
    """Real patients: no such warning, and no licence is given away."""
    publish_into(tmp_path / "toy", prepared, synthetic=[])
    assert not bundle.read(tmp_path / "toy").synthetic
    assert "ynthetic" not in (tmp_path / "toy" / "docs" / "README.md").read_text()
    assert "no licence is granted" in (tmp_path / "toy" / "LICENSE").read_text()


def test_only_purely_simulated_models_are_given_away():
    """A single cohort of real patients removes the licence; a single simulated cohort adds the warning."""
    cohorts = [{"synthetic": True}, {"synthetic": False}]
    assert "no licence is granted" in card.licence(cohorts)
    assert "trained in part on simulated CT" in card.warning(cohorts)
    assert "in part" not in card.warning(cohorts[:1]) and not card.warning(cohorts[1:])


def test_monai_builds_the_same_from_the_configuration(trained: Path, cohort: Cohort):
    """Network and preprocessing of configs/inference.json, built by MONAI, predict what the workflow predicts."""
    config = json.loads((trained / "configs" / "inference.json").read_text())
    assert "$" not in json.dumps(config)
    parser = ConfigParser(config)
    net, steps = (parser.get_parsed_content(name) for name in ("network_def::regression", "preprocessing"))
    name = weight_file("regression", 1)
    net.load_state_dict(safetensors.torch.load_file(trained / name))
    crop = next(read_cubes(cohort.cubes[0]))
    scan = torch.tensor([[0.5, 1.0, 0.0]])
    channels = scan[:, :, None, None, None].expand(-1, -1, 32, 32, 32)
    with torch.inference_mode():
        image = torch.as_tensor(steps(crop.ct.astype(np.float32)))[None]
        theirs = float(net.eval()(torch.cat([image, channels], dim=1)))
    toy = bundle.read(trained)
    region = torch.from_numpy(network.cut_roi(crop.ct, spacing_mm=SPACING_MM, roi=toy.roi))[None, None]
    ours = network.load(toy.network, "regression", trained / name, torch.device("cpu"))
    value = network.predict(ours, region, scan, task="regression", roi=toy.roi)["regression"]
    assert value[0] == pytest.approx(theirs, abs=0.05)


def test_a_bundle_is_replaced_whole(trained: Path, prepared: Path, tmp_path: Path):
    """A new bundle replaces all of the old one, also a file that the new one does not have."""
    shutil.copytree(trained, tmp_path / "toy")
    (tmp_path / "toy" / "models" / "old.safetensors").write_bytes(b"old")
    publish_into(tmp_path / "toy", prepared, synthetic=["toy"])
    assert not (tmp_path / "toy" / "models" / "old.safetensors").exists()
    assert not [path for path in tmp_path.iterdir() if path.name != "toy"]


def test_a_training_that_diverged_is_said_in_a_sentence(cohort, tmp_path, monkeypatch):
    """No epoch has a loss: nothing is kept, and what to change is named."""
    data = regions_of(cohort, tmp_path, scan_inputs=RECIPE.scan_inputs)
    monkeypatch.setattr(fit._Run, "_validation_loss", lambda *_: float("nan"))
    with pytest.raises(ConfigError, match="learning_rate"):
        fit.fit(data, np.arange(16), np.arange(16, 24), task="regression", recipe=RECIPE, state=tmp_path / "x.state")


def test_an_epoch_without_a_loss_is_not_the_best():
    curve = [fit.Epoch(k, 0.1, 1.0, loss) for k, loss in enumerate([float("nan"), 0.5, 0.4], start=1)]
    assert fit.best_of(curve) == 3
