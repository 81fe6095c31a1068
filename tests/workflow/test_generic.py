"""The template for other schedulers, with three shell commands in the place of PBS."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from small_site import LONGEST_S, SEED, environment, write_settings

# They know as much of PBS as the profile uses. A job of `index` is killed the first time, without a word to Snakemake.
QSUB = """#!/bin/sh
number=$(($(ls SPOOL/*.asked 2>/dev/null | wc -l) + 1))
echo "$*" > SPOOL/$number.asked
for script; do :; done
case "$* $(ls SPOOL)" in
    *"-N index"*killed*) kill=no ;;
    *"-N index"*) kill=yes ;;
esac
if [ "$kill" = yes ]; then
    : > SPOOL/killed
    echo 271 > SPOOL/$number.exit
else
    setsid sh -c "sh $script; echo \\$? > SPOOL/$number.exit" > SPOOL/$number.log 2>&1 &
fi
echo $number.server
"""
QSTAT = """#!/bin/sh
for job; do :; done
[ -e SPOOL/${job%.server}.asked ] || exit 153
if [ -e SPOOL/${job%.server}.exit ]; then
    printf 'Job Id: %s\\n    job_state = F\\n    Exit_status = %s\\n' "$job" "$(cat SPOOL/${job%.server}.exit)"
else
    printf 'Job Id: %s\\n    job_state = R\\n' "$job"
fi
"""


@pytest.fixture
def scheduler(tmp_path: Path) -> Path:
    """Folder with the commands, and in spool/ what became of the jobs."""
    spool = tmp_path / "scheduler/spool"
    spool.mkdir(parents=True)
    for name, text in {"qsub": QSUB, "qstat": QSTAT}.items():
        command = spool.parent / name
        command.write_text(text.replace("SPOOL", str(spool)))
        command.chmod(0o755)
    return spool.parent


def test_the_template_submits_asks_and_tries_again(scheduler, repository, tmp_path):
    write_settings(
        tmp_path,
        ["made phantom/made/archive phantom/made/labels.csv external"],
        phantom={
            "seed": SEED,
            "cohorts": {"made": {"first_patient": 1000, "patients": 1, "devices": ["gamma"], "matrix": 128}},
        },
    )
    (tmp_path / "profiles").symlink_to(repository / "profiles")
    variables = environment()
    done = subprocess.run(
        f"snakemake -s {repository}/Snakefile --configfile site.yaml --cores 32 --profile profiles/generic"
        " --until index",
        shell=True,
        cwd=tmp_path,
        env=variables | {"PATH": os.pathsep.join([str(scheduler), variables["PATH"]])},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    asked = [(scheduler / f"spool/{number}.asked").read_text() for number in (1, 2, 3)]
    assert "-N phantom -j oe" in asked[0]
    assert "-q cpu -l select=1:ncpus=2:mem=4000mb:ngpus=0 -l walltime=240:00" in asked[1]
    assert "-q cpu -l select=1:ncpus=2:mem=8000mb:ngpus=0 -l walltime=480:00" in asked[2]
    assert not (scheduler / "spool/4.asked").exists()


@pytest.mark.parametrize("name", ["slurm", "generic"])
def test_the_profiles_send_the_same_rules_to_the_gpus(home, name):
    profile = yaml.safe_load((home / f"profiles/{name}/profile.v9+.yaml").read_text())
    assert profile["set-resources"].keys() == {"segment", "train_network", "infer", "train_segmenter"}
