"""Jobs that run and jobs that do not run again: after a run, after growth, after an edit."""

import shutil

import duckdb
import pyarrow.parquet as pq
import pytest
import yaml
from small_site import LAST, Site, hospital, times

STAGES = ("convert", "segment", "crop", "measure", "infer")
# What the stages up to infer left of the shards that are there from the start.
OLD = [f"results/made/{stage}/**/*" for stage in STAGES] + [f"results/hospital/*/0000{shard}*" for shard in (0, 1)]


def test_a_finished_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in finished.run("--dry-run")


def test_every_study_is_accounted_for(finished):
    with duckdb.connect() as database:
        counted = database.sql(
            f"select cohort, count(*) from '{finished.folder}/results/tables/studies/*/*.parquet' "
            "where status in ('measured', 'failed', 'rejected') group by all order by all"
        ).fetchall()
    assert counted[-1] == ("made", 2)
    assert counted[0][1] >= 4


def test_snakemake_makes_its_own_report(copied):
    copied.run("--report", "snakemake.zip")
    assert (copied.folder / "snakemake.zip").stat().st_size > 10_000


def test_three_more_studies_run_only_new_shards(copied):
    old = times(copied.folder, *OLD)
    unchanged = copied.folder / "results/tables/vertebrae/cohort=made/vertebrae.parquet"
    inode = unchanged.stat().st_ino
    hospital(copied.folder / "more", first_patient=13, patients=3)
    shutil.move(copied.folder / "more/archive", copied.folder / "hospital/archive/more")
    ran = copied.ran()
    new = {f"hospital/{stage}/0000{shard}.log" for stage in STAGES for shard in (2, 3)}
    # Any cohort's study may own the label maps that came with them.
    assert ran == {"hospital/index/index.log", "made/index/index.log"} | new | LAST
    assert old
    assert times(copied.folder, *OLD) == old
    runs = list((copied.folder / "results/runs").iterdir())
    assert len(runs) == 2
    counts = {pq.read_metadata(run / "tables/studies/cohort=hospital/studies.parquet").num_rows for run in runs}
    assert len(counts) == 2
    # A cohort that did not change keeps its file, and the runs share theirs.
    assert unchanged.stat().st_ino == inode
    first, second = (run / "tables/vertebrae/cohort=made/vertebrae.parquet" for run in runs)
    assert first.samefile(second)


def test_a_reviewers_verdict_counts_in_the_next_run(copied):
    place = copied.folder / "results/tables/patients/cohort=made/patients.parquet"
    before = pq.ParquetFile(place).read(["study_id", "levels_used"]).to_pylist()
    study, levels = next((row["study_id"], row["levels_used"]) for row in before if row["levels_used"])
    (copied.folder / "verdicts.csv").write_text(f"study_id,level,verdict,new_level\n{study},{levels[0]},reject,\n")
    settings = copied.folder / "site.yaml"
    chosen = yaml.safe_load(settings.read_text())
    settings.write_text(yaml.safe_dump(chosen | {"aggregate": {"verdicts": "verdicts.csv"}}))
    assert copied.ran() == LAST
    after = {row["study_id"]: row for row in pq.ParquetFile(place).read().to_pylist()}
    assert levels[0] not in after[study]["levels_used"] and after[study]["reviewed"]
    assert "reviewer: reject" in (copied.folder / "results/made/report/gallery/page_0001.html").read_text()


def test_exports_are_made_when_they_are_asked_for(copied):
    assert not list(copied.folder.glob("results/*/export"))
    copied.run("omop", "dicom")
    tables = copied.folder.glob("results/*/export/omop/measurement.csv")
    assert {path.parents[2].name for path in tables} == {"hospital", "made"}
    assert list(copied.folder.glob("results/made/export/dicom/*/*/seg.dcm"))


def test_edited_measure_code_reruns_measure_and_what_follows(copied):
    code = copied.repository / "workflow/trabecula/measure/__init__.py"
    before = code.read_text()
    cubes = times(copied.folder, "results/*/crop/*")
    try:
        code.write_text(before + "\n# edited\n")
        ran = copied.ran()
    finally:
        code.write_text(before)
    shards = {"hospital/measure/00000.log", "hospital/measure/00001.log", "made/measure/00000.log"}
    assert ran == shards | LAST
    assert times(copied.folder, "results/*/crop/*") == cubes


@pytest.mark.parametrize("profile", [[], ["--profile", "slurm"]], ids=["default", "slurm"])
def test_a_fresh_clone_plans(repository, tmp_path, profile):
    clone = Site(tmp_path / "clone", tmp_path / "clone")
    shutil.copytree(repository, clone.folder, symlinks=True)
    shutil.copy(clone.folder / "config/config.yaml", clone.folder / "site.yaml")
    output = clone.run("--dry-run", *profile)
    assert "checkpoint index" in output
    assert "rule aggregate" in output
