rule aggregate:
    """Join all shards' tables into the public tables, a file per table and cohort; combine vertebrae into patients."""
    input:
        index_tables=expand(
            "results/{cohort}/index/{table}.parquet",
            cohort=COHORTS,
            table=["series", "studies", "labels", "failures"],
        ),
        convert=of_shards("results/{cohort}/convert/{shard}.parquet"),
        segment=of_shards("results/{cohort}/segment/{shard}.parquet"),
        crop=of_shards("results/{cohort}/crop/{shard}.parquet"),
        cubes=of_shards("results/{cohort}/crop/{shard}.arrow"),
        measure=of_shards("results/{cohort}/measure/{shard}.parquet"),
        infer=of_shards("results/{cohort}/infer/{shard}.parquet"),
        model=BUNDLE,
        verdicts=ancient(VERDICTS or []),
    output:
        # Marked update, so that Snakemake does not delete the old files first: readers may have them open. Each file
        # is replaced by one rename when it is whole.
        tables=update(
            expand(
                "results/tables/{table}/cohort={cohort}/{table}.parquet",
                cohort=COHORTS,
                table=[
                    "series",
                    "studies",
                    "vertebrae",
                    "predictions",
                    "patients",
                    "labels",
                    "failures",
                    "flow",
                ],
            )
        ),
        calibrations=update("results/tables/calibrations/calibrations.parquet"),
        verdicts=update("results/tables/verdicts/verdicts.parquet"),
        runs=update("results/tables/runs/runs.parquet"),
        retries=update(expand("results/{cohort}/retries.tsv", cohort=COHORTS)),
        catalog=update(
            expand(
                "results/tables/{file}",
                file=["views.sql", "trabecula.duckdb", "dictionary.md", "dictionary.csv", "datapackage.json"],
            )
        ),
    log:
        "logs/aggregate.log",
    benchmark:
        "logs/aggregate.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 2
    resources:
        mem_mb=grows(4000),
        runtime=grows(60),
    params:
        code=digest("aggregate"),
        bundle=BUNDLE_CONTENT,
        reviewed=content(VERDICTS),
        options=options("aggregate", "levels", "substitutes", "max_interval_days"),
        thresholds=options("aggregate", "reduced_below_mg_cm3", "osteoporosis_below_mg_cm3"),
        keep_runs=config["aggregate"]["keep_runs"],
        calibration=config["calibrate"],
        cohorts=[dict(name=name, role=cohort.role, synthetic=cohort.synthetic) for name, cohort in COHORTS.items()],
        stages=["convert", "segment", "crop", "cubes", "measure", "infer"],
        digests={
            stage: digest(stage)
            for stage in [
                "index",
                "convert",
                "segment",
                "crop",
                "measure",
                "infer",
                "aggregate",
            ]
        },
        scheduler=config["dask"]["scheduler"],
    script:
        "../../scripts/aggregate.py"
