# config            -> phantom/{cohort}/archive
#                      phantom/{cohort}/labels.csv
#                      phantom/{cohort}/truth.parquet


rule phantom:
    """Write a synthetic DICOM archive with known bone density and its QCT labels."""
    output:
        archive=directory("phantom/{cohort}/archive"),
        labels="phantom/{cohort}/labels.csv",
        truth="phantom/{cohort}/truth.parquet",
    log:
        "logs/{cohort}/phantom.log",
    benchmark:
        "logs/{cohort}/phantom.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 2
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        code=digest("phantom"),
        options=lambda wildcards: config["phantom"]["cohorts"][wildcards.cohort],
        seed=config["phantom"]["seed"],
    script:
        "../../scripts/phantom.py"
