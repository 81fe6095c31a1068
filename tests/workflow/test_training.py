"""A model trained and evaluated by the workflow, from the archive to the report, on a few synthetic patients."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from kept import kept
from small_site import (
    MASKS,
    MATRIX,
    SEED,
    TRAIN,
    TRAINED,
    Site,
    add_label_maps,
    filled,
    mounted,
    root,
    same_tables,
    times,
    write_settings,
)

NETWORKS = {f"train/fold{fold}/{task}.log" for fold in (0, 1) for task in ("classification", "regression", "joint")}
WEIGHTS = [
    f"results/train/networks/fold{fold}/{task}.safetensors"
    for fold in (0, 1)
    for task in ("classification", "regression", "joint")
]


@pytest.fixture(scope="module")
def trained(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with twelve development patients after its first run: trained, applied, evaluated, reported."""

    def make(folder: Path) -> None:
        add_label_maps(folder, **TRAINED)
        shutil.copytree(repository / "models/segmenter", folder / "models/segmenter")
        write_settings(
            folder,
            ["made phantom/made/archive phantom/made/labels.csv development"],
            model=None,
            index={"shard_size": 6},
            segment=MASKS,
            train=TRAIN,
            evaluate={"bootstrap": 100},
            phantom={"seed": SEED, "cohorts": {"made": TRAINED | {"matrix": MATRIX}}},
        )
        Site(folder, repository).run()

    site = tmp_path_factory.mktemp("training") / "site"
    return Site(shutil.copytree(kept("trained", make), site), repository)


def test_every_network_is_a_job_and_the_bundle_holds_them(trained):
    logs = {str(path.relative_to(trained.folder / "logs")) for path in (trained.folder / "logs/train").rglob("*.log")}
    assert logs == {*NETWORKS, "train/cases.log", "train/train.log"}
    bundle = trained.folder / "results/models/toy"
    assert len(list(bundle.glob("models/*.safetensors"))) == len(NETWORKS)
    assert not list((trained.folder / "results/train").rglob("*.state"))
    protocol = pd.read_parquet(bundle / "protocol.parquet")
    audit = pd.read_parquet(bundle / "audit.parquet")
    assert set(protocol["patient_id"]) == set(audit.loc[audit["status"] == "used", "patient_id"])


def test_training_patients_are_predicted_by_the_fold_that_never_saw_them(trained):
    tables = trained.folder / "results/tables"
    splits = pd.read_parquet(trained.folder / "results/models/toy/splits.parquet")
    tested = splits[splits["part"] == "test"].set_index("patient_id")["split"]
    predictions = pd.read_parquet(tables / "predictions/cohort=made/predictions.parquet")
    out_of_fold = predictions[predictions["in_training"]]
    assert (
        len(out_of_fold) and (("fold" + out_of_fold["fold"].astype(str)) == out_of_fold["patient_id"].map(tested)).all()
    )


def test_a_trained_site_has_nothing_to_do(trained):
    assert "Nothing to be done" in trained.run("--dry-run")


def test_cases_that_are_found_again_train_nothing_again(trained):
    """As when a study that can't be read is tried in every run."""
    ran = trained.ran("--forcerun", "train_cases")
    assert "train/cases.log" in ran
    assert not ran & {*NETWORKS, "train/train.log", "made/infer/00000.log"}
    assert "Nothing to be done" in trained.run("--dry-run")


def test_an_edited_model_card_trains_nothing_again(trained):
    card = trained.repository / "workflow/trabecula/train/card.py"
    before = card.read_text()
    try:
        card.write_text(before + "\n# edited\n")
        ran = trained.ran()
    finally:
        card.write_text(before)
    assert "train/train.log" in ran
    assert not ran & {*NETWORKS, "train/cases.log"}


# A file of each step, in their order.
STEPS = {
    "train_cases": ("results/train/cases.parquet", "logs/train/cases.log"),
    "train_network": ("results/train/networks/fold0/joint.safetensors", "logs/train/fold0/joint.log"),
    "train": ("results/models/toy/configs/metadata.json", "logs/train/train.log"),
}


def whole(results: Path) -> dict[str, int]:
    """Times of change of what a training has made and put into its place."""
    changed = times(results, "train/**/*", "models/**/*")
    return {name: time for name, time in changed.items() if "/." not in name}


@root
def test_a_disk_that_is_full_in_any_step_leaves_nothing_half_written(trained, tmp_path):
    site = replace(trained, folder=tmp_path / "site")
    shutil.copytree(trained.folder, site.folder, ignore=shutil.ignore_patterns("results"))
    results = site.folder / "results"
    with mounted("-t", "tmpfs", "-o", "size=256m", "tmpfs", at=results):
        shutil.copytree(trained.folder / "results", results, dirs_exist_ok=True)
        shutil.rmtree(results / "train")
        shutil.rmtree(results / "models")
        for rule, (file, log) in STEPS.items():
            before = whole(results)
            with filled(results):
                output = site.fails(file)
            assert f"Error in rule {rule}:" in output, output
            assert "No space left on device" in (site.folder / log).read_text()
            assert whole(results) == before, rule
            site.run(file, *(WEIGHTS if rule == "train_network" else []))
        site.run()
        same_tables(site, trained)
        assert not list(results.rglob(".*.[0-9]*"))
        for weights in trained.folder.glob("results/models/toy/models/*.safetensors"):
            assert (results / weights.relative_to(trained.folder / "results")).read_bytes() == weights.read_bytes()


def test_the_bundle_works_where_nothing_of_the_training_is(trained, tmp_path):
    """Another folder, the bundle alone: the same patients are known by their pseudonyms and predicted out of fold."""
    other = Site(tmp_path / "other", trained.repository)
    other.folder.mkdir()
    cohort = {"first_patient": 31, "patients": 2, "devices": ["gamma"], "matrix": 128}
    write_settings(
        other.folder,
        ["fresh phantom/fresh/archive phantom/fresh/labels.csv external"],
        model=str(trained.folder / "results/models/toy"),
        evaluate={"bootstrap": 100},
        phantom={"seed": SEED, "cohorts": {"fresh": cohort}},
    )
    other.run()
    patients = pd.read_parquet(other.folder / "results/tables/patients/cohort=fresh/patients.parquet")
    assert patients["in_training"].tolist().count(True) == 1, "patient 31 was in training, patient 32 was not"
    assert patients["decision"].isin(["normal", "reduced", "indeterminate", "not_evaluable"]).all()
    assert (other.folder / "results/report/index.html").exists()
