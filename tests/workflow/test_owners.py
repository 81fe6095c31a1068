"""A run leaves alone what is not its own: other people's hidden files, and another working directory's identities."""

from pathlib import Path

from small_site import Site, write_settings

from trabecula.runtime.whole_file import beside

INDEX = "results/a/index/shards.txt"


def files_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_start_keeps_hidden_files_and_a_second_directory_is_turned_away(repository, tmp_path):
    first, second = Site(tmp_path / "first", repository), Site(tmp_path / "second", repository)
    names = [
        *("archive/.foo.123", "archive/.patient.7/.slice.8", ".notes.9", "results/.mine.1"),
        *("private/.bashrc.22", "private/thesis/.figure.3", "private/thesis/files/00000.parquet"),
    ]
    hidden = [first.folder / name for name in names]
    stale = [beside(first.folder / name) for name in ("private/a/linkage.parquet", "results/a/index/studies.parquet")]
    for file in [*hidden, *stale]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    write_settings(first.folder, ["a archive  external"])
    first.run(INDEX)
    assert all(file.exists() for file in hidden)
    assert not any(file.exists() for file in stale)
    identities = files_below(first.folder / "private/a")

    (second.folder / "archive").mkdir(parents=True)
    write_settings(second.folder, ["a archive  external"], private="../first/private")
    output = second.fails(INDEX)
    assert f"belongs to the working directory {first.folder}, whose results would lose" in output
    assert "Traceback" not in output
    assert files_below(first.folder / "private/a") == identities
    write_settings(second.folder, ["b archive  external"], private="../first/private")
    second.run(INDEX.replace("/a/", "/b/"))

    moved = Site(first.folder.rename(tmp_path / "moved"), repository)
    moved.run("--forcerun", "index", "--", INDEX)
