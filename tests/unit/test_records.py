"""Snakemake's records lie beside the results, whatever was there before; a result without a record is named."""

import os
import shutil
from pathlib import Path

import pytest
from snakemake.persistence.file import FilePersistence

from trabecula.runtime import records

SHARDS = "results/a/index/shards.txt"


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """An empty working directory, which the test works in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keep() -> None:
    records.keep_beside(Path("results"), Path(".snakemake"))


def note(result: str, rule: str = "index") -> None:
    """Record a result, as Snakemake itself does."""
    persistence = FilePersistence()
    persistence._io_write(persistence._metadata_path, {"rule": rule}, result)


def rule_of(result: str) -> str | None:
    """Read a result's record, as Snakemake itself does."""
    record = FilePersistence()._read_record(result)
    return record and record.rule


def make(result: str) -> None:
    Path(result).parent.mkdir(parents=True, exist_ok=True)
    Path(result).touch()


def test_a_removed_folder_of_snakemake_loses_no_record(site):
    keep()
    note(SHARDS)
    shutil.rmtree(".snakemake")
    keep()
    assert rule_of(SHARDS) == "index"


def test_a_copy_of_the_results_carries_the_records(site):
    keep()
    note(SHARDS)
    (site / "elsewhere").mkdir()
    shutil.copytree("results", "elsewhere/results", symlinks=True)
    os.chdir("elsewhere")
    keep()
    assert rule_of(SHARDS) == "index"


def test_a_working_directory_may_be_moved(site):
    (site / "before").mkdir()
    os.chdir("before")
    keep()
    note(SHARDS)
    os.chdir(site)
    (site / "before").rename("after")
    os.chdir("after")
    keep()
    assert rule_of(SHARDS) == "index"


def test_records_of_an_earlier_version_are_moved(site):
    long = f"results/{'a' * 300}/index/shards.txt"
    for result in (SHARDS, long):
        note(result)
    assert not Path(".snakemake/metadata").is_symlink()
    keep()
    assert Path(".snakemake/metadata").is_symlink()
    assert (rule_of(SHARDS), rule_of(long)) == ("index", "index")


@pytest.mark.parametrize(("newer", "time"), [("kept", 2e9), ("moved", 1e9)])
def test_of_two_records_the_newer_one_stays(site, newer, time):
    keep()
    note(SHARDS, "kept")
    [kept] = Path("results/records/metadata").iterdir()
    os.utime(kept, (time, time))
    shutil.rmtree(".snakemake")
    note(SHARDS, "moved")
    [moved] = Path(".snakemake/metadata").iterdir()
    os.utime(moved, (1.5e9, 1.5e9))
    keep()
    assert rule_of(SHARDS) == newer


def test_either_folder_may_lie_on_another_disk(site):
    for name in ("results", ".snakemake"):
        (site / "disk" / name / "deeper").mkdir(parents=True)
        Path(name).symlink_to(site / "disk" / name / "deeper")
    keep()
    note(SHARDS)
    assert len(list((site / "disk/results/deeper/records/metadata").iterdir())) == 1
    keep()
    assert rule_of(SHARDS) == "index"


def test_results_that_were_removed_take_their_records_along(site):
    keep()
    note(SHARDS)
    shutil.rmtree("results")
    keep()
    assert rule_of(SHARDS) is None


def test_where_links_are_refused_the_records_stay_in_their_place(site, monkeypatch):
    note(SHARDS)

    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as without_links:
        without_links.setattr(os, "symlink", refuse)
        with pytest.raises(PermissionError):
            keep()
    assert rule_of(SHARDS) == "index"


@pytest.mark.parametrize("cohort", ["a", "b" * 200])
def test_a_result_without_a_record_is_named(site, cohort):
    keep()
    results = [f"results/{cohort}/index/shards.txt", f"results/{cohort}/convert/00012.parquet"]
    for result in results:
        make(result)
    assert records.unrecorded(Path("results")) == sorted(results)
    note(results[0])
    assert records.unrecorded(Path("results")) == results[1:]
    FilePersistence()._mark_incomplete(results[1], None)
    assert records.unrecorded(Path("results")) == []


def test_no_results_lack_no_record(site):
    assert records.unrecorded(Path("results")) == []
