"""Whatever breaks in between, the tables end up as those of a run that nothing disturbed."""

import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pydicom
import pytest
import yaml
from small_site import LAST, LONGEST_S, Site, filled, mounted, root, same_tables, tables, times

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute

KILLS = 20


def set_option(site: Site, section: str, **options: object) -> None:
    """Change options of a section in the site's configuration."""
    path = site.folder / "site.yaml"
    chosen = yaml.safe_load(path.read_text())
    chosen[section] = chosen.get(section, {}) | options
    path.write_text(yaml.safe_dump(chosen))


# --- killed ---------------------------------------------------------------------------------------------


def jobs_of(driver: int) -> list[int]:
    """Processes that run a script of the workflow for a driver."""
    found, parents = [], {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(") ", 1)[1].split()[1])
                if b".snakemake/scripts" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue

    def is_below(process: int) -> bool:
        while process > 1:
            if process == driver:
                return True
            process = parents.get(process, 0)
        return False

    return [process for process in found if is_below(process)]


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
    assert not list(begun.folder.glob("results/**/.*.[0-9]*"))


def test_a_second_driver_is_turned_away_and_harms_nothing(finished, copied):
    set_option(copied, "evaluate", bootstrap=101)
    first = copied.start()
    while not list(copied.folder.glob(".snakemake/locks/*")):
        assert first.poll() is None
        time.sleep(0.1)
    assert "cannot be locked" in copied.fails()
    said, _ = first.communicate(timeout=LONGEST_S)
    assert first.returncode == 0, said
    same_tables(copied, finished)


# --- disks ----------------------------------------------------------------------------------------------


@root
def test_a_results_folder_that_became_read_only_is_left_as_it_is(finished, copied):
    settings, results = copied.folder / "site.yaml", copied.folder / "results"
    before_it = settings.read_text()
    set_option(copied, "measure", erosion_mm=3.5)
    before = times(results, "**/*")
    with mounted("--bind", str(results), at=results):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(results)], check=True)
        said = copied.fails()
    assert "Write-protected output files for rule" in said  # whichever comes first
    assert times(results, "**/*") == before
    settings.write_text(before_it)
    copied.run()
    same_tables(copied, finished)


# A file of each stage, in the stages' order; the tables need all shards.
FILES = {
    "index": "results/hospital/index/studies.parquet",
    "convert": "results/hospital/convert/00000.parquet",
    "segment": "results/hospital/segment/00000.parquet",
    "crop": "results/hospital/crop/00000.arrow",
    "measure": "results/hospital/measure/00000.parquet",
    "infer": "results/hospital/infer/00000.parquet",
    "aggregate": "results/tables/patients/cohort=hospital/patients.parquet",
    "evaluate": "results/evaluate/metrics.parquet",
    "report": "results/hospital/report/index.html",
}
SHARDS = [
    f"results/{shard}.parquet"
    for stage in ("measure", "infer")
    for shard in (f"hospital/{stage}/00001", f"made/{stage}/00000")
]


@root
def test_a_disk_that_is_full_in_any_stage_leaves_nothing_half_written(finished, begun):
    results = begun.folder / "results"
    kinds = ("**/*.parquet", "**/*.arrow", "**/*.html")
    with mounted("-t", "tmpfs", "-o", "size=64m", "tmpfs", at=results):
        for stage, file in FILES.items():
            before = times(results, *kinds)
            with filled(results):
                said = begun.fails("--notemp", file)
            assert f"Error in rule {stage}:" in said, said
            logs = [*begun.folder.glob(f"logs/**/{stage}.log"), *begun.folder.glob(f"logs/**/{stage}/*.log")]
            assert any("No space left on device" in log.read_text() for log in logs), said
            assert times(results, *kinds) == before, stage
            begun.run("--notemp", file, *(SHARDS if stage == "infer" else []))
        begun.run()
        same_tables(begun, finished)
        assert not list(results.rglob(".*.[0-9]*"))


# --- what changed between two runs ----------------------------------------------------------------------


@pytest.mark.parametrize("days", [-2, 2])
def test_a_clock_that_was_wrong_in_the_first_run_changes_no_table(finished, copied, days):
    for file in [*copied.folder.glob("results/**/*"), *copied.folder.glob(".snakemake/**/*")]:
        state = file.stat()
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + days * 86_400 * 10**9))
    set_option(copied, "evaluate", bootstrap=101)
    copied.run()
    same_tables(copied, finished)
    assert "Nothing to be done" in copied.run("--dry-run")


def files_of_studies(site: Site) -> dict[tuple[str, str], list[Path]]:
    """Files of all series of the hospital's measured studies, by shard and study."""
    rows = pq.ParquetFile(site.folder / "private/hospital/linkage.parquet").read().to_pylist()
    return {
        (one["shard"], one["study_id"]): [
            site.folder / file for row in rows if row["study_id"] == one["study_id"] for file in row["files"]
        ]
        for one in rows
        if one["chosen"]
    }


def remove_empty_folders(archive: Path) -> None:
    """As whoever takes a study out would; a file that went from the depth of a folder is not looked for."""
    for folder in sorted((path for path in archive.glob("**/*") if path.is_dir()), reverse=True):
        with suppress(OSError):
            folder.rmdir()


def test_a_study_that_was_changed_and_one_that_was_removed_touch_no_other(finished, copied):
    files = files_of_studies(copied)
    (_, changed), (_, removed) = min(files), max(files)
    for file in files[min(files)]:
        dataset = pydicom.dcmread(file)
        if "RescaleIntercept" in dataset:
            dataset.RescaleIntercept = float(dataset.RescaleIntercept) + 30
            dataset.save_as(file)
    for file in files[max(files)]:
        file.unlink()
    remove_empty_folders(copied.folder / "hospital/archive")
    copied.run()

    before, after = tables(finished.folder), tables(copied.folder)
    assert before.keys() == after.keys()
    place = "results/tables/studies/cohort=hospital/studies.parquet"
    status = {row["study_id"]: (row["status"], row["reason"]) for row in after[place].to_pylist()}
    assert status[changed] == ("measured", None)
    assert status[removed][0] != "measured"
    touched = {row["patient_id"] for row in before[place].to_pylist() if row["study_id"] in (changed, removed)}
    whose = pa.array(touched)
    for name, table in before.items():
        if "patient_id" in table.column_names:
            others, now = (one.filter(pc.invert(pc.is_in(one["patient_id"], whose))) for one in (table, after[name]))
            # In the last digits a network's values depend on how many vertebrae it is given at once.
            pd.testing.assert_frame_equal(now.to_pandas(), others.to_pandas(), check_dtype=False, rtol=1e-6, obj=name)

    vertebrae = "results/tables/vertebrae/cohort=hospital/vertebrae.parquet"
    hu = {(row["study_id"], row["level"]): row["trabecular_hu_mean"] for row in before[vertebrae].to_pylist()}
    new = {(row["study_id"], row["level"]): row["trabecular_hu_mean"] for row in after[vertebrae].to_pylist()}
    assert removed not in {study for study, _ in new}
    shifts = [new[key] - value for key, value in hu.items() if key[0] == changed and value is not None and key in new]
    assert shifts and all(25 < shift < 35 for shift in shifts)


@pytest.mark.parametrize("name", ["measure/00000.parquet", "crop/00001.arrow", "index/studies.parquet"])
def test_a_damaged_result_is_named_and_made_anew_once_it_is_deleted(finished, copied, name):
    path = copied.folder / "results/hospital" / name
    state = path.stat()
    path.write_bytes(path.read_bytes()[: state.st_size // 2])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # as if nothing had happened
    assert f"results/hospital/{name} is damaged" in copied.fails("--forcerun", "aggregate")
    path.unlink()
    copied.run()
    same_tables(copied, finished)


def test_a_replaced_bundle_reruns_what_stands_on_it(copied):
    metadata = copied.repository / "models/demo/configs/metadata.json"
    before = metadata.read_text()
    try:
        metadata.write_text(before + "\n")
        ran = copied.ran()
    finally:
        metadata.write_text(before)
    assert ran == {"hospital/infer/00000.log", "hospital/infer/00001.log", "made/infer/00000.log"} | LAST


MEASURED = ("hospital/measure/00000", "hospital/measure/00001", "made/measure/00000")


@pytest.mark.parametrize(
    ("section", "option", "value", "rerun"),
    [
        (
            "measure",
            "erosion_mm",
            3.5,
            {"hospital/measure/00000.log", "hospital/measure/00001.log", "made/measure/00000.log"},
        ),
        ("evaluate", "bootstrap", 101, set()),
    ],
)
def test_a_changed_option_reruns_what_depends_on_it(copied, section, option, value, rerun):
    set_option(copied, section, **{option: value})
    ran = copied.ran()
    assert ran == rerun | (LAST if rerun else LAST - {"aggregate.log"})
    assert "Nothing to be done" in copied.run("--dry-run")
