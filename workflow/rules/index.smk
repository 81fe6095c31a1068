from trabecula.cohort.retries import read_retries
from trabecula.runtime.signature import signature, signature_of_files


def index_inputs(wildcards):
    """Input function: give the file of labels and, as a result that is made before, a synthetic archive."""
    cohort = COHORTS[wildcards.cohort]
    if cohort.synthetic:
        return {"archive": str(cohort.archive)} | ({"labels": str(cohort.labels)} if cohort.labels else {})
    return {"labels": ancient(str(cohort.labels))} if cohort.labels else {}


def labels_content(wildcards):
    """Give a digest of a site's labels; those of a synthetic cohort are a result, which counts by its time."""
    cohort = COHORTS[wildcards.cohort]
    return None if cohort.synthetic else content(cohort.labels)


@cache
def watched(archive):
    """Walk an archive once per plan, whatever the number of cohorts and of plans after a checkpoint."""
    return signature(archive, watch=config["index"]["watch"])


def archive_signature(wildcards):
    """Give a text that changes with a site's archive, so that Snakemake notices it; jobs, which plan nothing, need none."""
    cohort = COHORTS[wildcards.cohort]
    return watched(cohort.archive) if workflow.is_main_process and not cohort.synthetic else None


# Label maps that the user has, and a text that changes with them; jobs, which plan nothing, need none.
MASKS = SEGMENT.pattern if SEGMENT.backend == "masks" else None
MASKS_SIGNATURE = signature_of_files(MASKS) if MASKS and workflow.is_main_process else None


# Options of the scan and of the choice of series; how the archive is watched decides only when the index runs.
INDEX = {name: value for name, value in config["index"].items() if name != "watch"}


def retries_asked_for(wildcards):
    """Give the number of times that aggregate asked to try failed studies again; a new request makes the index anew."""
    return read_retries(Path("results", wildcards.cohort, "retries.tsv")).number


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
        options=INDEX | {"max_gap_mm": config["convert"]["max_gap_mm"]},
        archive=lambda wildcards: str(COHORTS[wildcards.cohort].archive),
        signature=archive_signature,
        labels=labels_content,
        retries=retries_asked_for,
        masks=lambda wildcards: MASKS,
        masks_signature=MASKS_SIGNATURE,
        synthetic=lambda wildcards: COHORTS[wildcards.cohort].synthetic,
        private=config["private"],
        scheduler=config["dask"]["scheduler"],
    script:
        "../../scripts/index.py"
