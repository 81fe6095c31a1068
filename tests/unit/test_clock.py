"""Times of files that were written while the clock was wrong."""

import os
import time
from pathlib import Path

from trabecula.runtime import clock

DAY_NS = 86_400 * 10**9


def write(path: Path, days_ahead: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    moment_ns = time.time_ns() + round(days_ahead * DAY_NS)
    os.utime(path, ns=(moment_ns, moment_ns))
    return path


def test_files_from_the_future_come_to_now_in_their_order(tmp_path):
    last, first, same = (write(tmp_path / f"results/{name}", days) for name, days in (("c", 9), ("a", 2), ("b", 2)))
    shared_ns = first.stat().st_mtime_ns
    os.utime(same, ns=(shared_ns, shared_ns))
    assert clock.mend(tmp_path / "results") == 3
    assert first.stat().st_mtime_ns == same.stat().st_mtime_ns < last.stat().st_mtime_ns <= time.time_ns()
    assert clock.mend(tmp_path / "results") == 0


def test_other_times_stay(tmp_path):
    files = [write(tmp_path / f"{days}", days) for days in (-400, -0.01, 0.02)]
    before = [file.stat().st_mtime_ns for file in files]
    assert clock.mend(tmp_path) == 0
    assert [file.stat().st_mtime_ns for file in files] == before


def test_mended_files_are_newer_than_all_that_was_right(tmp_path):
    right, wrong = write(tmp_path / "right", -0.001), write(tmp_path / "wrong", 3)
    clock.mend(tmp_path)
    assert wrong.stat().st_mtime_ns > right.stat().st_mtime_ns


def test_a_link_is_mended_and_not_what_it_leads_to(tmp_path):
    target = write(tmp_path / "elsewhere/file", 5)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/link").symlink_to(target)
    before = target.stat().st_mtime_ns
    clock.mend(tmp_path / "results")
    assert target.stat().st_mtime_ns == before


def test_no_results_yet_is_no_error(tmp_path):
    assert clock.mend(tmp_path / "results") == 0
