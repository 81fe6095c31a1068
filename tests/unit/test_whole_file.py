"""Files and folders that stand in their place whole or not at all."""

import pytest

from trabecula.runtime.whole_file import UNFINISHED, beside, whole_file, whole_folder


def test_a_file_is_there_when_it_is_whole(tmp_path):
    path = tmp_path / "new/table.parquet"
    with whole_file(path) as unfinished:
        assert UNFINISHED.fullmatch(unfinished.name)
        unfinished.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_after_an_error_the_old_file_stands_alone(tmp_path):
    path = tmp_path / "table.parquet"
    path.write_text("old")
    with pytest.raises(OSError, match="disk"), whole_file(path) as unfinished:
        unfinished.write_text("half")
        raise OSError("disk is full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_of_the_same_number_left_is_not_gone_on_with(tmp_path):
    path = tmp_path / "table.parquet"
    beside(path).write_text("half")
    with whole_file(path) as unfinished:
        assert not unfinished.exists()
        unfinished.write_text("whole")
    assert path.read_text() == "whole"


def test_a_folder_replaces_what_lies_there(tmp_path):
    path = tmp_path / "bundle"
    for name in ("stale", "fresh"):
        with whole_folder(path) as unfinished:
            (unfinished / name).touch()
    assert [file.name for file in path.iterdir()] == ["fresh"]
    with pytest.raises(ValueError, match="bad"), whole_folder(path) as unfinished:
        (unfinished / "half").touch()
        raise ValueError("bad")
    assert [file.name for file in path.iterdir()] == ["fresh"]
    assert list(tmp_path.iterdir()) == [path]
