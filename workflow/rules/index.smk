from trabecula.runtime.signature import signature


def index_inputs(wildcards):
    """Input function: give the inputs that Snakemake tracks by itself, a synthetic archive and a file of labels."""
    cohort = COHORTS[wildcards.cohort]
    labels = {"labels": str(cohort.labels)} if cohort.labels else {}
    return labels | ({"archive": str(cohort.archive)} if cohort.synthetic else {})


def archive_signature(wildcards):
    """Give a text that changes when files come or go, so that Snakemake notices the growth of a site's archive."""
    cohort = COHORTS[wildcards.cohort]
    return None if cohort.synthetic else signature(cohort.archive)


checkpoint index:
    """Find what the archive holds, choose a series per study, and list the studies in shards."""
    input:
        unpack(index_inputs),
    output:
        series=update("results/{cohort}/index/series.parquet"),
        studies=update("results/{cohort}/index/studies.parquet"),
        labels=update("results/{cohort}/index/labels.parquet"),
        failures=update("results/{cohort}/index/failures.parquet"),
        key=update("results/{cohort}/index/key.txt"),
        ledger=update("results/{cohort}/index/ledger.tsv"),
        shards=update("results/{cohort}/index/shards.txt"),
    log:
        "logs/{cohort}/index/index.log",
    benchmark:
        "logs/{cohort}/index/index.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: config["index"]["workers"]
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        code=digest("index"),
        options=config["index"] | {"max_gap_mm": config["convert"]["max_gap_mm"]},
        archive=lambda wildcards: str(COHORTS[wildcards.cohort].archive),
        signature=archive_signature,
        synthetic=lambda wildcards: COHORTS[wildcards.cohort].synthetic,
        private=config["private"],
        scheduler=config["dask"]["scheduler"],
    script:
        "../../scripts/index.py"
