"""Join all shards' tables into the public tables, describe them, and publish them as a run."""

from pathlib import Path

from trabecula.runtime.log import to_log

to_log(snakemake.log[0])

from trabecula import aggregate
from trabecula.density import calibrate
from trabecula.runtime.config import fingerprint

files, params = snakemake.input, snakemake.params
aggregate.run(
    [aggregate.Cohort(**cohort) for cohort in params.cohorts],
    files.index_tables,
    aggregate.of_paths(**{stage: files[stage] for stage in params.stages}),
    Path(files.model).parents[1],
    Path(snakemake.output.runs).parents[2],
    aggregate.Rules(**params.options),
    calibrate.Options(**params.calibration),
    reviewed=Path(files.verdicts) if files.verdicts else None,
    scheduler=params.scheduler,
    threads=snakemake.threads,
    keep_runs=params.keep_runs,
    config=fingerprint(snakemake.config),
    code=params.digests,
)
