rule evaluate:
    """Judge the network and the HU baseline against QCT, and count what became of every study."""
    input:
        patients=expand("results/tables/patients/cohort={cohort}/patients.parquet", cohort=COHORTS),
        series=expand("results/tables/series/cohort={cohort}/series.parquet", cohort=COHORTS),
        studies=expand("results/tables/studies/cohort={cohort}/studies.parquet", cohort=COHORTS),
    output:
        metrics="results/evaluate/metrics.parquet",
        roc="results/evaluate/roc.parquet",
        agreement="results/evaluate/agreement.parquet",
        comparison="results/evaluate/comparison.parquet",
        flow="results/evaluate/flow.parquet",
        left_out="results/evaluate/left_out.parquet",
    log:
        "logs/evaluate.log",
    benchmark:
        "logs/evaluate.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 1
    resources:
        mem_mb=grows(2000),
        runtime=grows(15),
    params:
        code=digest("evaluate"),
        options=config["evaluate"],
        cut=config["aggregate"]["reduced_below_mg_cm3"],
    script:
        "../../scripts/evaluate.py"
