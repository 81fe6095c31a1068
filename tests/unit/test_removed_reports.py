"""The report of a cohort that is no longer listed goes, and nothing else does."""

from pathlib import Path

import pytest

from trabecula import report


def write(results: Path, *files: str) -> None:
    for file in files:
        (results / file).parent.mkdir(parents=True, exist_ok=True)
        (results / file).write_text("x")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def own(cohort: str) -> list[str]:
    """Names of files that the workflow writes for a cohort."""
    names = [*report.REPORT_FILES, "gallery/page_0001.html", "gallery/cards.js", "gallery/images/north/st1.webp"]
    stages = ["index/ledger.tsv", "crop/00000.arrow", "shards/00000.tsv"]
    return [*(f"{cohort}/report/{name}" for name in names), *(f"{cohort}/{name}" for name in stages)]


def remove(results: Path, *cohorts: str) -> list[str]:
    return report.remove_reports(results, cohorts=cohorts, files=report.REPORT_FILES)


@pytest.fixture
def results(tmp_path) -> Path:
    folder = tmp_path / "results"
    write(folder, *own("north"), *own("south"), "report/index.html", "tables/runs/runs.parquet", "runs/a/tables/x")
    return folder


def test_the_report_of_a_removed_cohort_goes_and_its_scans_stay(results, caplog):
    caplog.set_level("INFO")
    before = files(results)
    assert remove(results, "north") == ["south"]
    assert before - files(results) == {name for name in own("south") if name.startswith("south/report/")}
    assert not (results / "south/report").exists()
    assert "report of cohort south is removed" in caplog.text
    assert remove(results, "north") == []


def test_the_reports_of_listed_cohorts_and_the_summary_stay(results):
    before = files(results)
    assert remove(results, "north", "south") == []
    assert files(results) == before


def test_what_others_put_there_stays(results, tmp_path):
    write(results, "south/report/notes of the meeting.docx", "elsewhere/report/index.html", "elsewhere/report/flow.svg")
    write(tmp_path, "outside/report/index.html", "outside/index/ledger.tsv", "linked/index.html")
    (results / "outside").symlink_to(tmp_path / "outside")
    write(results, "west/index/ledger.tsv")
    (results / "west/report").symlink_to(tmp_path / "linked")
    assert remove(results, "north") == ["south"]
    left = files(results / "south/report") | {str(file) for file in files(results / "elsewhere")}
    assert left == {"notes of the meeting.docx", "report/index.html", "report/flow.svg"}
    assert files(tmp_path / "outside") == {"report/index.html", "index/ledger.tsv"}
    assert files(tmp_path / "linked") == {"index.html"}
