"""Join all shards' tables into the public tables, and describe them."""

from pathlib import Path

from trabecula.log import to_log

to_log(snakemake.log[0])

from trabecula import aggregate, calibrate, catalog
from trabecula.config import fingerprint

files, params = snakemake.input, snakemake.params
aggregate.run(
    [aggregate.Cohort(**cohort) for cohort in params.cohorts],
    files.index_tables,
    aggregate.of_paths(**{stage: files[stage] for stage in params.stages}),
    Path(files.model).parents[1],
    Path(snakemake.output.runs).parents[1],
    aggregate.Rules(**params.options),
    calibrate.Options(**params.calibration),
    scheduler=params.scheduler,
    threads=snakemake.threads,
    config=fingerprint(snakemake.config),
    code=params.digests,
)
catalog.write(snakemake.output.views, snakemake.output.database, snakemake.output.dictionary)
