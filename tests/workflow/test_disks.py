"""A disk that is full or read-only leaves nothing half written; the tables end up as those of an undisturbed run."""

import subprocess

from small_site import filled, mounted, root, same_tables, set_option, times


@root
def test_a_results_folder_that_became_read_only_is_left_as_it_is(finished, copied):
    settings, results = copied.folder / "site.yaml", copied.folder / "results"
    before_it = settings.read_text()
    set_option(copied, "measure", erosion_mm=3.5)
    before = times(results, "**/*")
    with mounted("--bind", str(results), at=results):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(results)], check=True)
        output = copied.fails()
    assert "Write-protected output files for rule" in output  # whichever comes first
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
                output = begun.fails("--notemp", file)
            assert f"Error in rule {stage}:" in output, output
            logs = [*begun.folder.glob(f"logs/**/{stage}.log"), *begun.folder.glob(f"logs/**/{stage}/*.log")]
            assert any("No space left on device" in log.read_text() for log in logs), output
            assert times(results, *kinds) == before, stage
            begun.run("--notemp", file, *(SHARDS if stage == "infer" else []))
        begun.run()
        same_tables(begun, finished)
        assert not list(results.rglob(".*.[0-9]*"))
