"""Unfinished files that a killed job leaves beside the places of its results."""

import os

from trabecula.runtime import stale_files
from trabecula.runtime.whole_file import beside


def test_half_written_files_and_folders_are_removed_and_nothing_else(tmp_path):
    results = tmp_path / "results"
    kept = [results / "a/00000.parquet", results / "a/.hidden", results / "a/.snakemake_timestamp", results / "b.1"]
    kept += [results / "a/.foo.123", results / ".foo.9/page", results / "a/x.1.trabecula-unfinished"]
    for file in [*kept, beside(results / "a/00000.parquet"), beside(results / "gallery") / "page.html"]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert stale_files.remove(results) == 2
    found = {os.path.join(place, name) for place, _, names in os.walk(results) for name in names}
    assert found == {str(file) for file in kept}
    assert stale_files.remove(results) == 0


def test_no_results_yet_is_no_error(tmp_path):
    assert stale_files.remove(tmp_path / "results") == 0
