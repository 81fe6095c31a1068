"""Results whose inputs changed between two runs are made anew, and all others stay as they are."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pydicom
import pytest
from small_site import LAST, Site, same_tables, set_option, tables

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute


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
        (chosen_row["shard"], chosen_row["study_id"]): [
            site.folder / file for row in rows if row["study_id"] == chosen_row["study_id"] for file in row["files"]
        ]
        for chosen_row in rows
        if chosen_row["chosen"]
    }


def remove_empty_folders(archive: Path) -> None:
    """As whoever takes a study out would; a file that went from the depth of a folder is not looked for."""
    for folder in sorted((path for path in archive.glob("**/*") if path.is_dir()), reverse=True):
        with suppress(OSError):
            folder.rmdir()


def test_a_study_that_was_changed_and_one_that_was_removed_touch_no_other(finished, copied):
    files = files_of_studies(copied)
    (_, changed), (shard_of_removed, removed) = min(files), max(files)
    for file in files[min(files)]:
        dataset = pydicom.dcmread(file)
        if "RescaleIntercept" in dataset:
            dataset.RescaleIntercept = float(dataset.RescaleIntercept) + 30
            dataset.save_as(file)
    for file in files[max(files)]:
        file.unlink()
    remove_empty_folders(copied.folder / "hospital/archive")
    converted = {log for log in copied.ran() if log.startswith("hospital/convert/")}
    assert converted <= {f"hospital/convert/{shard}.log" for shard in ("00002", shard_of_removed)}
    assert "hospital/convert/00002.log" in converted

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
            others, now = (rows.filter(pc.invert(pc.is_in(rows["patient_id"], whose))) for rows in (table, after[name]))
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
    metadata = copied.folder / "models/demo/configs/metadata.json"
    metadata.write_text(metadata.read_text() + "\n")
    ran = copied.ran()
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
