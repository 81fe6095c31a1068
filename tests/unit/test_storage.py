"""Archives whose storage fails for a moment, for one file, or as a whole."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ct_files import axial_stack, save_all
from test_convert import headers_of
from test_index import add_study, places, read, run

from trabecula.cohort.linked import Linked
from trabecula.cohort.pseudonym import SYNTHETIC_KEY
from trabecula.cohort.shards import Chosen
from trabecula.convert.shard import convert_shard
from trabecula.errors import ConfigError
from trabecula.runtime import storage


@pytest.fixture(autouse=True)
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the seconds that would have been waited."""
    seconds: list[float] = []
    monkeypatch.setattr("trabecula.runtime.storage.time.sleep", seconds.append)
    return seconds


class Flaky:
    """A function of the operating system that fails for some paths, a number of times each or always."""

    def __init__(self, real: Callable, within: str, *, times: float, code: int = errno.EIO) -> None:
        self._real, self._within, self._times, self._code = real, within, times, code
        self._failed: dict[str, int] = {}

    def __call__(self, path, *args, **kwargs):
        name = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        if self._within in name and self._failed.get(name, 0) < self._times:
            self._failed[name] = self._failed.get(name, 0) + 1
            raise OSError(self._code, os.strerror(self._code), name)
        return self._real(path, *args, **kwargs)


def make_flaky(patch: pytest.MonkeyPatch, *functions: str, within: str, times: float, code: int = errno.EIO) -> None:
    for name in functions:
        patch.setattr(os, name, Flaky(getattr(os, name), within, times=times, code=code))


def test_an_error_that_passes_is_waited_for(waited):
    answers = iter([OSError(errno.EIO, "x"), OSError(errno.ESTALE, "x"), "read"])

    def read_it() -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert storage.patiently(read_it) == "read"
    assert waited == [0.5]


def test_an_error_that_stays_is_raised_after_some_seconds(waited):
    def fail() -> None:
        raise OSError(errno.ETIMEDOUT, "x")

    with pytest.raises(OSError, match="x"):
        storage.patiently(fail)
    assert waited == [0.5, 1, 2, 4]


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "x"), OSError(errno.ENOSPC, "x"), ValueError("x")])
def test_other_errors_are_raised_at_once(waited, error):
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        storage.patiently(fail)
    assert waited == []


def test_an_index_over_flaky_storage_is_that_over_sound_storage(tmp_path, monkeypatch, waited):
    for number in (1, 2):
        add_study(tmp_path / "archive", number)
    sound, flaky = (places(tmp_path / name, tmp_path / "archive") for name in ("sound", "flaky"))
    (tmp_path / "flaky").mkdir()
    run(sound)
    shutil.copytree(sound.private, flaky.private)
    shutil.rmtree(flaky.private / "test")
    with monkeypatch.context() as patch:
        make_flaky(patch, "open", "scandir", within="/archive", times=2, code=errno.ESTALE)
        run(flaky)
    assert waited
    for name in ("studies", "series", "failures"):
        assert read(flaky, name) == read(sound, name)


def test_a_file_on_a_bad_sector_is_a_failure_and_is_read_again_next_time(tmp_path, monkeypatch):
    add_study(tmp_path / "archive", 1)
    add_study(tmp_path / "archive", 2)
    where = places(tmp_path, tmp_path / "archive")
    bad = sorted(file for file in (tmp_path / "archive").rglob("*") if file.is_file())[0]
    with monkeypatch.context() as patch:
        make_flaky(patch, "open", within=str(bad), times=float("inf"))
        run(where)
    assert [(row["reason"], row["n_files"]) for row in read(where, "failures")] == [("unreadable", 1)]
    run(where)
    assert read(where, "failures") == []


def test_an_archive_that_goes_away_stops_the_index(tmp_path, monkeypatch):
    add_study(tmp_path / "archive", 1)
    where = places(tmp_path, tmp_path / "archive")
    line = {"is cut": False}

    def cut(real: Callable, *, by_this: bool) -> Callable:
        def call(path, *args, **kwargs):
            if "/archive" in str(path) and (by_this or line["is cut"]):
                line["is cut"] = True
                raise OSError(errno.ENOTCONN, "Transport endpoint is not connected", str(path))
            return real(path, *args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", cut(os.open, by_this=True))
        patch.setattr(os, "scandir", cut(os.scandir, by_this=False))
        with pytest.raises(ConfigError, match="can't be read now") as raised:
            run(where)
    assert str(tmp_path) not in str(raised.value)
    assert not (where.public / "index/studies.parquet").exists()


def test_an_empty_mount_point_does_not_make_studies_vanish(tmp_path):
    add_study(tmp_path / "archive", 1)
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    before = read(where, "studies")
    shutil.rmtree(tmp_path / "archive")
    (tmp_path / "archive").mkdir()
    with pytest.raises(ConfigError, match="it is empty"):
        run(where)
    assert read(where, "studies") == before


def converted(paths: list[str], archive: Path, out: Path) -> dict:
    options = {"archive": archive, "folder": out, "max_gap_mm": 10, "file_format": "nii"}
    stacks = {"study": Linked(headers_of(paths))}
    (row,) = convert_shard(
        [Chosen("study", "patient", "series", "print")], stacks, cohort="test", key=SYNTHETIC_KEY, **options
    )
    return row


def test_convert_waits_for_its_archive(tmp_path, monkeypatch, waited):
    paths = save_all(axial_stack(), tmp_path / "archive")
    sound = converted(paths, tmp_path / "archive", tmp_path)
    make_flaky(monkeypatch, "open", within="/archive/", times=1)
    assert converted(paths, tmp_path / "archive", tmp_path) == sound
    assert waited == []  # the second attempt comes at once


def test_a_slice_on_a_bad_sector_costs_its_study(tmp_path, monkeypatch):
    paths = save_all(axial_stack(), tmp_path / "archive")
    stack = Linked(headers_of(paths))
    make_flaky(monkeypatch, "open", within=paths[2], times=float("inf"))
    options = {"archive": tmp_path / "archive", "folder": tmp_path, "max_gap_mm": 10, "file_format": "nii"}
    chosen = [Chosen("study", "patient", "series", "print")]
    (row,) = convert_shard(chosen, {"study": stack}, cohort="test", key=SYNTHETIC_KEY, **options)
    assert (row["status"], row["reason"]) == ("failed", "unreadable")
    assert row["detail"] == "Input/output error, also after some seconds"
    assert not list(tmp_path.glob("*.nii"))


def test_convert_stops_where_the_archive_is_away(tmp_path):
    paths = save_all(axial_stack(), tmp_path / "archive")
    stack = Linked(headers_of(paths))
    shutil.rmtree(tmp_path / "archive")
    options = {"archive": tmp_path / "archive", "folder": tmp_path, "max_gap_mm": 10, "file_format": "nii"}
    with pytest.raises(ConfigError, match="can't be read now"):
        list(
            convert_shard(
                [Chosen("study", "patient", "series", "print")],
                {"study": stack},
                cohort="test",
                key=SYNTHETIC_KEY,
                **options,
            )
        )
