"""Write the synthetic archive of a cohort, its QCT labels and its truth."""

from trabecula.runtime.log import to_log

to_log(snakemake.log[0])

from pathlib import Path

from trabecula.phantom import write_archive

write_archive(
    Path(snakemake.output.labels).parent,
    seed=snakemake.params.seed,
    workers=snakemake.threads,
    **snakemake.params.options,
)
