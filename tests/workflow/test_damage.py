"""An archive of which a part is damaged: each damaged study has its reason, each sound one its result.

`make damage` does it with a thousand studies.
"""

import csv
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
from damage import DISGUISES, NAMELESS, WAYS, Way, apply, disguise, primary_of
from small_site import LONGEST_S, SEED, Site, write_settings

from trabecula.cohort.pseudonym import pseudonym, study_identity
from trabecula.phantom import write_archive
from trabecula.phantom.devices import DEVICES
from trabecula.phantom.dicom import make_uid
from trabecula.phantom.population import sample_patient

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute

STUDIES = int(os.environ.get("TRABECULA_DAMAGE_STUDIES", len(WAYS) + len(NAMELESS) + len(DISGUISES) + 1))
DEVICE = "alpha"
KINDS: list[Way | str] = [*WAYS, *NAMELESS]
DAMAGED = max(len(KINDS), STUDIES // 20)


@dataclass(frozen=True)
class Damaged:
    """A site after its run.

    Attributes
    ----------
    site : Site
        The site.
    done : dict
        What was done to the study of which patient: a way of damage, or the reason of its files.
    nameless : Counter
        How many files bear no identity any more, by reason.
    disguised : dict
        Id that some patients with sound studies were given. Their studies' UIDs are replaced, since they are none.
    """

    site: Site
    done: dict[int, Way | str]
    nameless: Counter[str]
    disguised: dict[int, str]

    def study_id(self, index: int) -> str:
        """Pseudonym of a patient's study."""
        if index in self.disguised:
            stacks = pq.ParquetFile(self.site.folder / "private/hospital/linkage.parquet").read().to_pylist()
            (study,) = {stack["study_id"] for stack in stacks if stack["patient"] == self.disguised[index]}
            return study
        identity = sample_patient(SEED, index).patient_id, make_uid("trabecula", SEED, index, DEVICES[DEVICE].model)
        key = (self.site.folder / "private/key").read_bytes()
        return pseudonym("study", study_identity(*identity), key)

    def table(self, name: str) -> pd.DataFrame:
        """A public table."""
        return pd.read_parquet(self.site.folder / f"results/tables/{name}/cohort=hospital/{name}.parquet")


@pytest.fixture(scope="module")
def damaged(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    """Studies at even distances are damaged, the last ones disguised, and the workflow has run with its exports."""
    site = Site(tmp_path_factory.mktemp("damaged"), repository)
    hospital, model = site.folder / "hospital", DEVICES[DEVICE].model
    archive, workers = hospital / "archive", len(os.sched_getaffinity(0))
    write_archive(hospital, seed=SEED, patients=STUDIES, devices=[DEVICE], matrix=96, workers=workers)
    outcome = Damaged(site, {}, Counter(), {})
    for number in range(DAMAGED):
        index, kind = number * ((STUDIES - len(DISGUISES)) // DAMAGED), KINDS[number % len(KINDS)]
        files = primary_of(archive, seed=SEED, index=index, model=model)
        outcome.done[index] = kind
        if isinstance(kind, str):
            change, left = NAMELESS[kind]
            change(files)
            outcome.nameless[kind] += left or len(files)
        else:
            apply(kind, files)
    for number in range(len(DISGUISES)):
        index = STUDIES - 1 - number
        files = primary_of(archive, seed=SEED, index=index, model=model)
        outcome.disguised[index] = disguise(files, archive, number)
    write_settings(
        site.folder,
        ["hospital hospital/archive hospital/labels.csv external"],
        index={"shard_size": 64},
        evaluate={"bootstrap": 100},
    )
    process = site.start("all", "omop", "dicom")
    output, _ = process.communicate(timeout=LONGEST_S + 10 * STUDIES)
    assert process.returncode == 0, output
    return outcome


def test_every_damaged_study_is_a_failure_with_its_reason(damaged):
    failures = damaged.table("failures")
    of_studies = failures[failures["study_id"].notna() & failures["series_id"].isna() & failures["n_files"].isna()]
    assert of_studies["study_id"].is_unique
    failure_of = {row.study_id: (row.stage, row.reason) for row in of_studies.itertuples()}
    ways = {damaged.study_id(index): kind for index, kind in damaged.done.items() if isinstance(kind, Way)}
    assert {study: failure_of.get(study) for study in ways} == {
        study: (way.stage, way.reason) for study, way in ways.items()
    }


def test_files_without_an_identity_are_counted_once(damaged):
    failures, expected = damaged.table("failures"), damaged.nameless.copy()
    files = failures[failures["n_files"].notna() & failures["reason"].isin(list(expected))]
    # The sound archive holds a text file here and there, too.
    expected["not_dicom"] += sum(1 for _ in (damaged.site.folder / "hospital/archive").rglob("README.txt"))
    assert files.groupby("reason")["n_files"].sum().to_dict() == dict(expected)


def test_every_sound_study_is_measured_and_nothing_is_counted_twice(damaged):
    studies, patients = damaged.table("studies"), damaged.table("patients")
    sound = {damaged.study_id(index) for index in range(STUDIES) if index not in damaged.done}
    assert set(studies.loc[studies["status"] == "measured", "study_id"]) == sound
    assert studies["study_id"].is_unique and patients["patient_id"].is_unique
    assert len(studies) == len(patients) == STUDIES - sum(isinstance(kind, str) for kind in damaged.done.values())
    assert set(patients["study_id"].dropna()) == sound


def test_nothing_was_written_outside_the_results_and_nothing_was_run(damaged):
    expected = {"hospital", "results", "logs", "private", ".snakemake", "site.yaml", "cohorts.tsv"}
    assert {path.name for path in damaged.site.folder.iterdir()} == expected
    assert not list(damaged.site.folder.rglob("pwned"))


def texts_of(site: Site) -> Iterator[tuple[Path, str]]:
    """Every text of the public tables, and every cell of the CSV files."""
    for file in (site.folder / "results").rglob("*.parquet"):
        for column in pq.ParquetFile(file).read().itercolumns():
            kind = column.type.value_type if pa.types.is_list(column.type) else column.type
            if pa.types.is_string(kind):
                values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
                yield from ((file, text) for text in values.unique().to_pylist() if text is not None)
    for file in (site.folder / "results").rglob("*.csv"):
        with file.open(newline="") as opened:
            yield from ((file, cell) for row in csv.reader(opened) for cell in row)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_no_text_of_a_header_is_a_formula_or_moves_a_cursor(damaged):
    texts = list(texts_of(damaged.site))
    assert any("HYPERLINK" in text for _, text in texts)
    begins = [(file, text) for file, text in texts if text.startswith(("=", "+", "-", "@")) and text != "-"]
    assert not [(file, text) for file, text in begins if not is_number(text)]
    # The public description of tables and the record of a run are written by the workflow, on several lines.
    assert not [(file, text) for file, text in texts if not text.replace("\n", " ").isprintable()]


def test_no_text_of_a_header_is_markup(damaged):
    pages = list((damaged.site.folder / "results").rglob("*.html"))
    assert pages and any("HYPERLINK" in page.read_text() for page in pages)
    assert not [page for page in pages if "<script>alert" in page.read_text()]
