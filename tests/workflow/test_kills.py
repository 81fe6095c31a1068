"""However often a run is killed, the tables end up as those of a run that nothing disturbed."""

import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from small_site import LONGEST_S, same_tables, set_option

KILLS = 20


def jobs_of(driver: int) -> list[int]:
    """Processes that run a script of the workflow for a driver."""
    jobs, parents = [], {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(") ", 1)[1].split()[1])
                if b".snakemake/scripts" in (entry / "cmdline").read_bytes():
                    jobs.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue

    def is_below(process: int) -> bool:
        while process > 1:
            if process == driver:
                return True
            process = parents.get(process, 0)
        return False

    return [process for process in jobs if is_below(process)]


def kill(process: subprocess.Popen[str], victim: str) -> bool:
    """SIGKILL the driver alone, one of its jobs, or the driver with all that it started; False without one."""
    if victim == "group":
        os.killpg(process.pid, signal.SIGKILL)
    elif victim == "driver":
        process.kill()  # its jobs go on, beside those of the next driver
    else:
        for job in jobs_of(process.pid)[:1]:
            os.kill(job, signal.SIGKILL)
            return True
        return False
    return True


def test_a_run_killed_twenty_times_ends_with_the_tables_of_an_undisturbed_one(finished, begun):
    chance, killed = random.Random(20), 0
    while killed < KILLS:
        process = begun.start("--rerun-incomplete")
        for victim in ("job", chance.choice(["driver", "group"])):
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=chance.uniform(2, 8))
                break  # it came to its end before it could be killed
            killed += kill(process, victim)
        process.wait()
        assert process.stdout
        process.stdout.close()  # jobs that go on hold its other end
        begun.run("--unlock")
        if process.returncode == 0:  # begin once more
            same_tables(begun, finished)
            shutil.rmtree(begun.folder / "results")
    begun.run()
    same_tables(begun, finished)
    assert not list(begun.folder.glob("**/*.trabecula-unfinished"))


def test_a_second_driver_is_turned_away_and_harms_nothing(finished, copied):
    set_option(copied, "evaluate", bootstrap=101)
    first = copied.start()
    while not list(copied.folder.glob(".snakemake/locks/*")):
        assert first.poll() is None
        time.sleep(0.1)
    assert "cannot be locked" in copied.fails()
    output, _ = first.communicate(timeout=LONGEST_S)
    assert first.returncode == 0, output
    same_tables(copied, finished)
