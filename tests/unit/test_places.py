"""Folders that the workflow writes to, apart from archives and from other people's files."""

import os
import re
from pathlib import Path

import pytest

from trabecula.errors import ConfigError
from trabecula.runtime import places, stale_files
from trabecula.runtime.whole_file import beside


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    """A working directory below a folder that several share."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def test_no_cohort_can_have_the_name_of_a_place_that_a_rule_writes_to():
    workflow = Path(places.__file__).parents[2]
    texts = "".join(file.read_text() for file in [workflow / "common.smk", *(workflow / "rules").glob("*.smk")])
    folders = set(re.findall(r'"results/(\w+)[/"]', texts))
    assert folders == places.OF_JOBS - {"runs"}  # which aggregate finds beside its tables
    assert folders | set(re.findall(r'"logs/(\w+)/', texts)) <= places.RESERVED


@pytest.mark.parametrize("private", ["private", "../shared", "secret/private", "resultsX", "../work2"])
@pytest.mark.parametrize("archive", ["archive", "../pacs", "results2", "privateer/a", "hospital/results"])
def test_folders_side_by_side_are_accepted(private, archive):
    places.check(Path(private), {"a": Path(archive)})


@pytest.mark.parametrize(
    "private", [".", "..", "/", "results", "results/a/private", "results/..", "logs", "logs/private", "../work"]
)
def test_a_private_folder_that_shares_a_place_with_results_is_refused(private):
    with pytest.raises(ConfigError, match=r"^Option private is .*; give a folder that holds nothing else"):
        places.check(Path(private), {"a": Path("../archive")})


@pytest.mark.parametrize(
    ("archive", "relation"),
    [
        ("private", "is the private folder"),
        ("private/archive", "lies in the private folder"),
        ("private/b/files", "lies in the private folder"),
        (".", "holds the private folder"),
        ("..", "holds the private folder"),
        ("results", "is the folder results"),
        ("results/b/convert", "lies in the folder results"),
        ("logs/a", "lies in the folder logs"),
        ("archive/../results", "is the folder results"),
    ],
)
def test_an_archive_that_shares_a_place_with_what_is_written_is_refused(archive, relation):
    with pytest.raises(ConfigError, match=f"^The archive .* of the cohort b {relation}"):
        places.check(Path("private"), {"a": Path("../archive"), "b": Path(archive)})


@pytest.mark.parametrize("link", ["private", "results", "logs", "private/a", "results/a", "logs/a"])
def test_links_count_as_what_they_lead_to(tmp_path, link):
    (tmp_path / "archive/inside").mkdir(parents=True)
    Path(link).parent.mkdir(exist_ok=True)
    Path(link).symlink_to(tmp_path / "archive/inside")
    with pytest.raises(ConfigError, match="cohort a holds the"):
        places.check(Path("private"), {"a": tmp_path / "archive"})
    Path("archive").symlink_to(tmp_path / "archive/inside/deeper")
    with pytest.raises(ConfigError, match="cohort a lies in the"):
        places.check(Path("private"), {"a": Path("archive")})


def test_a_link_in_a_circle_is_no_crash():
    Path("private").symlink_to("private")
    places.check(Path("private"), {"a": Path("../archive")})


def test_what_other_people_keep_in_the_private_folder_survives():
    """It may hold a home folder's hidden files, an archive of somebody else, or another project's cohort."""
    private = Path("../shared")
    kept = [".foo.123", "other/.x.parquet.77", "other/files/.00000.parquet.9", "a/.hidden.5", "a/files/.npy.12"]
    other_cohort = beside(private / "other/linkage.parquet")
    unfinished = [
        beside(private / "a/files/00000.parquet"),
        beside(private / "a/loose.parquet"),
        beside(private / "key"),
    ]
    unfinished += [beside(Path("results", name, "x")) for name in ("a", "tables", "report")]
    for file in [*(private / name for name in kept), other_cohort, *unfinished]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    removed = sum(stale_files.remove(folder) for folder in places.written(private, ["a"]))
    assert removed + stale_files.remove_beside(private / "key") == len(unfinished)
    left = {Path(place, name) for top in (private, "results") for place, _, names in os.walk(top) for name in names}
    assert left == {*(private / name for name in kept), other_cohort}
