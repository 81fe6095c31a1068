"""An archive of which a part is damaged: each damaged study has its reason, each sound one its result.

`make damage` does it with a thousand studies.
"""

import os
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from damage import NAMELESS, WAYS, apply, primary_of
from small_site import LONGEST_S, SEED, Site, write_settings

from trabecula.phantom import write_archive
from trabecula.phantom.devices import DEVICES
from trabecula.phantom.dicom import make_uid
from trabecula.phantom.population import sample_patient
from trabecula.pseudonym import pseudonym

STUDIES = int(os.environ.get("TRABECULA_DAMAGE_STUDIES", len(WAYS) + len(NAMELESS) + 3))
DEVICE = "alpha"
KINDS = [*WAYS, *NAMELESS]
DAMAGED = max(len(KINDS), STUDIES // 20)


def study_id(index: int, key: bytes) -> str:
    """Pseudonym of a synthetic patient's study."""
    uid = make_uid("trabecula", SEED, index, DEVICES[DEVICE].model)
    return pseudonym("study", f"{sample_patient(SEED, index).patient_id}\\{uid}", key)


@pytest.fixture(scope="module")
def damaged(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, dict[int, object], Counter[str]]:
    """A site that has run, what was done to which patient's study, and how many files bear no identity any more."""
    site = Site(tmp_path_factory.mktemp("damaged"), repository)
    hospital = site.folder / "hospital"
    workers = len(os.sched_getaffinity(0))
    write_archive(hospital, seed=SEED, patients=STUDIES, devices=[DEVICE], matrix=96, workers=workers)
    done, nameless = {}, Counter()
    for number in range(DAMAGED):
        index, kind = number * (STUDIES // DAMAGED), KINDS[number % len(KINDS)]
        files = primary_of(hospital / "archive", seed=SEED, index=index, model=DEVICES[DEVICE].model)
        done[index] = kind
        if isinstance(kind, str):
            change, left = NAMELESS[kind]
            change(files)
            nameless[kind] += left or len(files)
        else:
            apply(kind, files)
    write_settings(
        site.folder,
        ["hospital hospital/archive hospital/labels.csv external"],
        index={"shard_size": 64},
        evaluate={"bootstrap": 100},
    )
    process = site.start()
    said, _ = process.communicate(timeout=LONGEST_S + 10 * STUDIES)
    assert process.returncode == 0, said
    return site, done, nameless


def table(site: Site, name: str) -> pd.DataFrame:
    return pd.read_parquet(site.folder / f"results/tables/{name}/cohort=hospital/{name}.parquet")


def test_every_damaged_study_is_a_failure_with_its_reason(damaged):
    site, done, _ = damaged
    key = (site.folder / "private/key").read_bytes()
    failures = table(site, "failures")
    of_studies = failures[failures["study_id"].notna() & failures["series_id"].isna() & failures["n_files"].isna()]
    assert of_studies["study_id"].is_unique
    told = {row.study_id: (row.stage, row.reason) for row in of_studies.itertuples()}
    expected = {
        study_id(index, key): (kind.stage, kind.reason) for index, kind in done.items() if not isinstance(kind, str)
    }
    assert {study: told.get(study) for study in expected} == expected


def test_files_without_an_identity_are_counted_once(damaged):
    site, _, nameless = damaged
    failures = table(site, "failures")
    files = failures[failures["n_files"].notna() & failures["reason"].isin(list(nameless))]
    # The sound archive holds a text file here and there, too.
    texts = sum(1 for file in (site.folder / "hospital/archive").rglob("README.txt"))
    assert files.groupby("reason")["n_files"].sum().to_dict() == dict(nameless) | {
        "not_dicom": nameless["not_dicom"] + texts
    }


def test_every_sound_study_is_measured_and_nothing_is_counted_twice(damaged):
    site, done, _ = damaged
    key = (site.folder / "private/key").read_bytes()
    studies, patients = table(site, "studies"), table(site, "patients")
    sound = {study_id(index, key) for index in range(STUDIES) if index not in done}
    assert set(studies.loc[studies["status"] == "measured", "study_id"]) == sound
    assert studies["study_id"].is_unique and patients["patient_id"].is_unique
    seen = STUDIES - sum(isinstance(kind, str) for kind in done.values())
    assert len(studies) == len(patients) == seen
    assert set(patients["study_id"].dropna()) == sound


def test_nothing_was_written_outside_the_results(damaged):
    site, _, _ = damaged
    made = {"hospital", "results", "logs", "private", ".snakemake", "site.yaml", "cohorts.tsv"}
    assert {path.name for path in site.folder.iterdir()} == made
