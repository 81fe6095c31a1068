"""Cohorts without any accepted study, a person in two cohorts, studies that go, and cohorts that go."""

import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
from small_site import MASKS, Site, hospital, write_settings

COHORTS = {
    "hospital": "hospital/archive hospital/labels.csv external",
    "again": "hospital/archive  screening",
    "refused": "refused/archive hospital/labels.csv development",
    "empty": "empty/archive  external",
}


def write_cohorts(site: Site, *names: str) -> None:
    write_settings(
        site.folder,
        [f"{name} {COHORTS[name]}" for name in names],
        model=str(site.repository / "models/demo"),
        segment=MASKS,
        evaluate={"bootstrap": 100},
    )


def a_few_slices(source: Path, copy: Path) -> None:
    """Copy an archive with three files of each folder, too few for any volume."""
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        place = copy / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if len(list(place.parent.iterdir())) < 3:
            shutil.copy(file, place)


def rows(site: Site, table: str, cohort: str) -> list[dict]:
    return pq.ParquetFile(site.folder / f"results/tables/{table}/cohort={cohort}/{table}.parquet").read().to_pylist()


def page(site: Site, cohort: str = "") -> str:
    """Give the text of a cohort's page, or of the summary."""
    text = (site.folder / "results" / cohort / "report/index.html").read_text()
    return re.sub(
        r"\s+", " ", re.sub(r"<[^>]+>", "", re.sub(r"<(style|script|svg).*?</\1>", "", text, flags=re.DOTALL))
    )


def test_cohorts_without_an_accepted_study_have_their_report_and_go_with_it(repository, tmp_path):
    site = Site(tmp_path / "site", repository)
    hospital(site.folder / "hospital", first_patient=9, patients=2)
    a_few_slices(site.folder / "hospital/archive", site.folder / "refused/archive")
    (site.folder / "empty/archive").mkdir(parents=True)

    write_cohorts(site, "refused", "empty")
    site.run()
    assert "No CT study was found" in page(site, "empty") and "No patient was measured" in page(site, "refused")
    assert not rows(site, "studies", "empty") and not rows(site, "patients", "empty")
    refused = rows(site, "studies", "refused")
    assert len(refused) == 2 and all(row["reason"] for row in refused)
    assert "2 CT studies of 2 patients were found" in page(site)

    write_cohorts(site, *COHORTS)
    site.run()
    assert "2 CT studies of 2 patients were found" in page(site)
    assert "2 patients and 2 studies stand in several cohorts" in page(site)
    for cohort in COHORTS:
        assert cohort in page(site)

    shutil.rmtree(sorted((site.folder / "hospital/archive").iterdir())[0])
    (site.folder / "results/empty/report/notes.txt").write_text("Ask the archive.")
    write_cohorts(site, "hospital", "refused")
    output = site.run()
    sentence = "Of 2 studies that were ever accepted, 1 (50 %) is no longer in the archive and is not counted."
    assert f"Warning: Cohort hospital: {sentence}" in output
    assert sentence in page(site, "hospital") and "1 CT study of 1 patient was found" in page(site, "hospital")
    assert sorted(row["reason"] or "" for row in rows(site, "studies", "hospital")) == ["", "vanished"]
    assert len(rows(site, "patients", "hospital")) == 1
    results = site.folder / "results"
    assert not (results / "again/report").exists() and (results / "again/crop").is_dir()
    assert [path.name for path in (results / "empty/report").iterdir()] == ["notes.txt"]
    assert sorted(path.name for path in (results / "tables/studies").iterdir()) == ["cohort=hospital", "cohort=refused"]
