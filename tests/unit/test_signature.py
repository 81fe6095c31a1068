"""An archive's signature changes with all that the index would read anew, and with nothing else."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trabecula.runtime.signature import Watch, signature

WATCHES: list[Watch] = ["full", "folders"]
# Folders of the archives, as hospitals lay them out: by patient, by day, or deeper still.
DEEP = ["P1/ST1/SE1", "2026/11/17/P1/ST1", "2026/11/17/P2/ST1/SE1/part/again"]


@pytest.fixture(params=DEEP)
def series(request, tmp_path: Path) -> Path:
    """A series of three slices at some depth of an archive."""
    folder = tmp_path / "archive" / request.param
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.dcm").write_bytes(b"slice")
        os.utime(folder / f"{number}.dcm", ns=(10**18, 10**18 + number))
    set_back(tmp_path / "archive")
    return folder


def set_back(archive: Path) -> None:
    """Date all folders back, since a clock of a file system ticks only every few milliseconds."""
    for folder in (archive, *(path for path in archive.rglob("*") if path.is_dir())):
        os.utime(folder, ns=(10**18, 10**18))


def add_slice(series: Path) -> None:
    (series / "3.dcm").touch()


def remove_slice(series: Path) -> None:
    (series / "1.dcm").unlink()


def rename_slice(series: Path) -> None:
    (series / "1.dcm").rename(series / "one.dcm")


def add_series(series: Path) -> None:
    (series.parent / "SE2").mkdir()


def complete_slice(series: Path) -> None:
    with (series / "1.dcm").open("ab") as file:
        file.write(b"rest")


def replace_by_an_older_file(series: Path) -> None:
    (series / "1.dcm").write_bytes(b"other")
    os.utime(series / "1.dcm", ns=(10**17, 10**17))


def swap_two_times(series: Path) -> None:
    for number in (0, 1):
        os.utime(series / f"{number}.dcm", ns=(10**18, 10**18 + 1 - number))


IN_FOLDERS = [add_slice, remove_slice, rename_slice, add_series]
IN_FILES = [complete_slice, replace_by_an_older_file, swap_two_times]


@pytest.mark.parametrize("change", IN_FOLDERS + IN_FILES)
def test_the_full_walk_sees_every_change_at_any_depth(tmp_path, series, change):
    before = signature(tmp_path / "archive", watch="full")
    assert signature(tmp_path / "archive", watch="full") == before
    change(series)
    assert signature(tmp_path / "archive", watch="full") != before


@pytest.mark.parametrize("change", IN_FOLDERS)
def test_folders_show_what_comes_and_goes_at_any_depth(tmp_path, series, change):
    before = signature(tmp_path / "archive", watch="folders")
    change(series)
    assert signature(tmp_path / "archive", watch="folders") != before


@pytest.mark.parametrize("change", IN_FILES)
def test_folders_do_not_show_what_changes_in_its_place(tmp_path, series, change):
    before = signature(tmp_path / "archive", watch="folders")
    change(series)
    assert signature(tmp_path / "archive", watch="folders") == before


def test_a_copy_with_all_times_has_the_same_signature_though_its_folders_are_listed_otherwise(tmp_path, series):
    copy = tmp_path / "copy"
    for path in reversed(sorted(path for path in (tmp_path / "archive").rglob("*") if path.is_file())):
        place = copy / path.relative_to(tmp_path / "archive")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
    assert signature(copy, watch="full") == signature(tmp_path / "archive", watch="full")


@settings(max_examples=30, deadline=None)
@given(names=st.lists(st.binary(min_size=1, max_size=8).filter(lambda name: not set(name) & {0, 47}), unique=True))
@pytest.mark.parametrize("watch", WATCHES)
def test_any_names_that_a_file_system_takes_are_walked(tmp_path_factory, watch, names):
    archive = os.fsencode(tmp_path_factory.mktemp("archive"))
    before = signature(Path(os.fsdecode(archive)), watch="full")
    names = [name for name in names if name not in (b".", b"..")]
    for number, name in enumerate(names):
        if number % 2:
            os.mkdir(archive + b"/" + name)
        else:
            with open(archive + b"/" + name, "wb"):
                pass
    assert (signature(Path(os.fsdecode(archive)), watch="full") != before) == bool(names)


@pytest.mark.parametrize("watch", WATCHES)
def test_a_file_moved_into_the_neighbouring_folder_is_seen(tmp_path, watch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a/1.dcm").write_bytes(b"slice")
    set_back(tmp_path)
    before = signature(tmp_path, watch=watch)
    (tmp_path / "a/1.dcm").rename(tmp_path / "b/1.dcm")
    assert signature(tmp_path, watch=watch) != before


@pytest.mark.parametrize("watch", WATCHES)
def test_a_folder_that_links_to_its_parent_is_walked_once(tmp_path, series, watch):
    (series / "again").symlink_to(tmp_path / "archive")
    (series / "nowhere").symlink_to(tmp_path / "nowhere")
    assert len(signature(tmp_path / "archive", watch=watch)) == 32


@pytest.mark.parametrize("watch", WATCHES)
def test_a_folder_that_cannot_be_opened_stops_no_plan_and_is_seen_when_it_opens(tmp_path, series, watch, monkeypatch):
    opened = os.open

    def refuse(path, *arguments, **options):
        if os.fsdecode(path) == str(series):
            raise PermissionError(13, "closed")
        return opened(path, *arguments, **options)

    with monkeypatch.context() as closed:
        closed.setattr(os, "open", refuse)
        while_closed = signature(tmp_path / "archive", watch=watch)
        assert signature(tmp_path / "archive", watch=watch) == while_closed
    assert signature(tmp_path / "archive", watch=watch) != while_closed


@pytest.mark.parametrize("watch", WATCHES)
@pytest.mark.parametrize("name", [".snapshot", "@eaDir"])
def test_snapshots_and_thumbnails_of_the_storage_do_not_count(tmp_path, series, watch, name):
    (series / name / "hourly").mkdir(parents=True)
    before = signature(tmp_path / "archive", watch=watch)
    (series / name / "hourly/1.dcm").touch()
    (series / name / "daily").mkdir()
    assert signature(tmp_path / "archive", watch=watch) == before


@pytest.mark.parametrize("watch", WATCHES)
def test_an_archive_that_is_gone_has_a_signature_of_its_own(tmp_path, series, watch):
    assert signature(tmp_path / "gone", watch=watch) != signature(tmp_path / "archive", watch=watch)
