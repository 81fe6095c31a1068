"""What failed for a reason that may pass is tried again, alone; the tables are those of a run from nothing."""

import os
from pathlib import Path

import pyarrow.parquet as pq
from alike import STUDIES, alike_tables
from small_site import LAST, Site, times

from trabecula.image.levels import CODE_OF_LEVEL
from trabecula.image.volume import read_nifti, write_nifti

STAGES = ("convert", "segment", "crop", "measure", "infer")
INDEXED = {"hospital/index/index.log", "made/index/index.log"}
SECOND = ["results/hospital/*/00001*"]  # shard of the hospital
OTHER = [f"results/made/{stage}/*" for stage in STAGES]


def chosen_stacks(site: Site) -> list[dict]:
    """Rows of the private table of the hospital's measured studies, by shard and study."""
    rows = pq.ParquetFile(site.folder / "private/hospital/linkage.parquet").read().to_pylist()
    return sorted((row for row in rows if row["chosen"]), key=lambda row: (row["shard"], row["study_id"]))


def label_map(site: Site, stack: dict) -> Path:
    return site.folder / f"label_maps/{stack['study_uid']}.nii.gz"


def outcomes(site: Site) -> dict[str, tuple]:
    rows = pq.ParquetFile(site.folder / STUDIES).read().to_pylist()
    return {row["study_id"]: (row["stage"], row["reason"]) for row in rows if row["status"] == "failed"}


def jobs(*shards: str) -> set[str]:
    return {f"hospital/{stage}/{shard}.log" for stage in STAGES for shard in shards}


def test_what_comes_late_is_made_alone_and_ends_as_in_a_run_from_nothing(finished, begun):
    half, unmasked, away, sound = chosen_stacks(finished)[:4]
    elsewhere = begun.folder / "elsewhere"
    elsewhere.mkdir()
    late = [begun.folder / file for file in sorted(half["files"])[-8:]]
    for file in late:
        file.rename(elsewhere / file.name)
    label_map(begun, unmasked).rename(elsewhere / "mask.nii.gz")
    begun.run("results/hospital/index/shards.txt")
    folder = (begun.folder / away["files"][0]).parent
    folder.rename(elsewhere / "folder")
    # As if the folder had gone after the run was planned: a new plan would see that it is gone.
    begun.run("--rerun-triggers", "mtime")
    failed = outcomes(begun)
    assert failed[away["study_id"]] == ("convert", "vanished")
    assert failed[unmasked["study_id"]] == ("segment", "mask_missing")
    assert sound["study_id"] not in failed

    (elsewhere / "folder").rename(folder)
    for file in late:
        (elsewhere / file.name).rename(file)
    (elsewhere / "mask.nii.gz").rename(label_map(begun, unmasked))
    os.utime(label_map(begun, unmasked), (1_000_000_000, 1_000_000_000))
    before = times(begun.folder, *SECOND, *OTHER)
    assert before and begun.ran() == INDEXED | jobs("00002", "00003") | LAST
    assert times(begun.folder, *SECOND, *OTHER) == before
    assert not times(begun.folder, "results/hospital/*/00000*")  # everybody left this shard
    alike_tables(begun, finished)
    assert "Nothing to be done" in begun.run("--dry-run")


def test_a_label_map_that_is_replaced_is_read_again_for_its_study_alone(copied):
    stack = chosen_stacks(copied)[0]
    path = label_map(copied, stack)
    volume = read_nifti(path)
    write_nifti(volume.with_array(volume.array * (volume.array != CODE_OF_LEVEL["L1"])), path)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    first = ["results/hospital/*/00000*"]
    before = times(copied.folder, *first, *SECOND, *OTHER)
    assert copied.ran() == INDEXED | jobs("00002") | LAST
    assert times(copied.folder, *first, *SECOND, *OTHER) == before
    rows = pq.ParquetFile(copied.folder / "results/tables/vertebrae/cohort=hospital/vertebrae.parquet").read()
    levels = [row["level"] for row in rows.to_pylist() if row["study_id"] == stack["study_id"]]
    assert "L2" in levels and "L1" not in levels
    assert "Nothing to be done" in copied.run("--dry-run")
