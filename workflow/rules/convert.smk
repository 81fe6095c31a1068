rule convert:
    """Turn the chosen series into volumes in Hounsfield units, or refuse them with a reason."""
    input:
        shard=shard_list,
    output:
        ct=temp(directory("results/{cohort}/convert/{shard}")),
        table="results/{cohort}/convert/{shard}.parquet",
    log:
        "logs/{cohort}/convert/{shard}.log",
    benchmark:
        "logs/{cohort}/convert/{shard}.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 1
    resources:
        mem_mb=grows(1500),
        runtime=grows(60),
    params:
        code=digest("convert"),
        options=config["convert"],
        private=config["private"],
        synthetic=lambda wildcards: COHORTS[wildcards.cohort].synthetic,
    script:
        "../../scripts/convert.py"
