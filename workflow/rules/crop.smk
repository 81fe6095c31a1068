rule crop:
    """Cut one cube per vertebra, centred on its body."""
    input:
        ct="results/{cohort}/convert/{shard}",
        labels="results/{cohort}/segment/{shard}",
        table="results/{cohort}/segment/{shard}.parquet",
    output:
        cubes="results/{cohort}/crop/{shard}.arrow",
        table="results/{cohort}/crop/{shard}.parquet",
    log:
        "logs/{cohort}/crop/{shard}.log",
    benchmark:
        "logs/{cohort}/crop/{shard}.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 1
    resources:
        mem_mb=grows(3000),
        runtime=grows(30),
    params:
        code=digest("crop"),
        options=config["crop"],
    script:
        "../../scripts/crop.py"
