"""The literal Slurm command, on a real cluster of one node that is brought up for it."""

import csv
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_site import LONGEST_S, SEED, TRAIN, environment, write_settings

SCRIPTS = Path(__file__).parent / "slurm"
ON_GPU = {"segment", "train_network", "infer"}
ON_CPU = {"phantom", "index", "convert", "crop", "measure", "train_cases", "train"}
ON_CPU |= {"aggregate", "evaluate", "report", "report_summary"}

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="starting Slurm's daemons needs root"),
    pytest.mark.skipif(
        not all(map(shutil.which, ["sbatch", "slurmctld", "slurmd", "munged"])),
        reason="Slurm is not installed here (Debian: slurm-wlm and munge)",
    ),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Path]:
    """Folder of a running cluster; its daemons end with the test."""
    folder = tmp_path / "cluster"
    try:
        subprocess.run([SCRIPTS / "start.sh", folder], check=True)
        yield folder
    finally:
        subprocess.run([SCRIPTS / "stop.sh", folder], check=True)


def test_the_slurm_profile_runs_a_cohort_to_its_report(cluster, repository, tmp_path):
    clone = shutil.copytree(repository, tmp_path / "clone", symlinks=True)
    write_settings(
        clone,
        ["made phantom/made/archive phantom/made/labels.csv development"],
        model=None,
        index={"shard_size": 6},
        train=TRAIN | {"tasks": ["classification", "regression"], "epochs": 1},
        evaluate={"bootstrap": 100},
        phantom={
            "seed": SEED,
            "cohorts": {"made": {"first_patient": 20, "patients": 12, "devices": ["alpha", "beta"], "matrix": 128}},
        },
    )
    # The command below has no place for options: what it runs is the clone's configuration.
    (clone / "site.yaml").rename(clone / "config/config.yaml")
    profile = clone / "slurm/profile.v9+.yaml"
    profile.write_text(profile.read_text().replace("status-checks: 10", "status-checks: 3"))

    done = subprocess.run(
        "snakemake --cores 32 --profile slurm",
        shell=True,
        cwd=clone,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONGEST_S,
    )
    assert done.returncode == 0, done.stdout
    assert (clone / "results/report/index.html").is_file()
    assert (clone / "results/models/toy/configs/metadata.json").is_file()

    with (cluster / "tasks.tsv").open() as file:
        tasks = list(csv.reader(file, delimiter="\t"))
    stages = {comment.removeprefix("rule_").split("_wildcards_")[0] for *_, comment in tasks}
    assert stages == ON_GPU | ON_CPU
    for _, partition, devices, comment in tasks:
        on_gpu = comment.removeprefix("rule_").split("_wildcards_")[0] in ON_GPU
        assert partition == ("gpu" if on_gpu else "cpu"), comment
        assert bool(devices) == on_gpu, comment
