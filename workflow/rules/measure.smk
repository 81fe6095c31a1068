rule measure:
    """Measure every vertebra from its cube alone."""
    input:
        cubes="results/{cohort}/crop/{shard}.arrow",
    output:
        table="results/{cohort}/measure/{shard}.parquet",
    log:
        "logs/{cohort}/measure/{shard}.log",
    benchmark:
        "logs/{cohort}/measure/{shard}.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 1
    resources:
        mem_mb=grows(1000),
        runtime=grows(15),
    params:
        code=digest("measure"),
        options=config["measure"],
    script:
        "../../scripts/measure.py"
