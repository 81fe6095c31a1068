# Exports are made only on request: snakemake omop, snakemake dicom.


rule export:
    """Write a cohort's results as CSV files in the form of OMOP tables."""
    input:
        patients="results/tables/patients/cohort={cohort}/patients.parquet",
        studies="results/tables/studies/cohort={cohort}/studies.parquet",
        vertebrae="results/tables/vertebrae/cohort={cohort}/vertebrae.parquet",
        runs="results/tables/runs/runs.parquet",
        mapping=ancient(config["export"]["mapping"] or []),
    output:
        folder=directory("results/{cohort}/export/omop"),
    log:
        "logs/{cohort}/export.log",
    benchmark:
        "logs/{cohort}/export.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 1
    resources:
        mem_mb=grows(2000),
        runtime=grows(30),
    params:
        code=digest("export"),
        mapping=config["export"]["mapping"],
        concepts=lambda wildcards: content(config["export"]["mapping"]),
        synthetic=lambda wildcards: COHORTS[wildcards.cohort].synthetic,
    script:
        "../../scripts/export.py"


rule export_dicom:
    """Write a Segmentation and a structured report for every scan of a shard."""
    input:
        cubes="results/{cohort}/crop/{shard}.arrow",
        studies="results/tables/studies/cohort={cohort}/studies.parquet",
        vertebrae="results/tables/vertebrae/cohort={cohort}/vertebrae.parquet",
        runs="results/tables/runs/runs.parquet",
    output:
        folder=directory("results/{cohort}/export/dicom/{shard}"),
    log:
        "logs/{cohort}/export_dicom/{shard}.log",
    benchmark:
        "logs/{cohort}/export_dicom/{shard}.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 1
    resources:
        mem_mb=grows(2000),
        runtime=grows(30),
    params:
        code=digest("export"),
        synthetic=lambda wildcards: COHORTS[wildcards.cohort].synthetic,
    script:
        "../../scripts/export_dicom.py"


rule omop:
    """Write the OMOP tables of all cohorts."""
    input:
        expand("results/{cohort}/export/omop", cohort=COHORTS),
    localrule: True


rule dicom:
    """Write the DICOM objects of all cohorts."""
    input:
        of_shards("results/{cohort}/export/dicom/{shard}"),
    localrule: True
