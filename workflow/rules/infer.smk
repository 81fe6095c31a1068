rule infer:
    """Predict every vertebra of a shard with the model bundle."""
    input:
        cubes="results/{cohort}/crop/{shard}.arrow",
        crops="results/{cohort}/crop/{shard}.parquet",
        # This table grows with the archive, but its rows on this shard's studies change only with the shard, or with the
        # code that takes them from headers.
        studies=ancient("results/{cohort}/index/studies.parquet"),
        metadata=BUNDLE,
    output:
        table="results/{cohort}/infer/{shard}.parquet",
    log:
        "logs/{cohort}/infer/{shard}.log",
    benchmark:
        "logs/{cohort}/infer/{shard}.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 1
    resources:
        mem_mb=grows(3000),
        runtime=grows(30),
    params:
        code=digest("infer"),
        scan_inputs=[digest("model.scan_inputs"), digest("index.facts")],
        bundle=BUNDLE_CONTENT,
        batch_size=config["infer"]["batch_size"],
        device=config["infer"]["device"],
    script:
        "../../scripts/infer.py"
