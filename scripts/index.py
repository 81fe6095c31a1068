"""Find what an archive holds, and list its studies in shards."""

from pathlib import Path

from trabecula.runtime.log import to_log

to_log(snakemake.log[0], private=snakemake.params.private)

from trabecula import index

cohort = index.Cohort(
    name=snakemake.wildcards.cohort,
    synthetic=snakemake.params.synthetic,
    archive=Path(snakemake.params.archive),
    labels=snakemake.input.get("labels"),
    public=Path(snakemake.output.ledger).parents[1],
    private=Path(snakemake.params.private),
    masks=snakemake.params.masks,
)
index.index_cohort(cohort, scheduler=snakemake.params.scheduler, **snakemake.params.options)
