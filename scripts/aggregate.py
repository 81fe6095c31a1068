"""Join all shards' tables into the public tables, describe them, and publish them as a run."""

from pathlib import Path

from trabecula.runtime.log import to_log

to_log(snakemake.log[0])

from trabecula import aggregate
from trabecula.density import calibrate
from trabecula.density.thresholds import Thresholds
from trabecula.runtime.config import fingerprint

files, params = snakemake.input, snakemake.params
inputs = aggregate.Inputs(
    cohorts=[aggregate.Cohort(**cohort) for cohort in params.cohorts],
    index=files.index_tables,
    shards=aggregate.list_shards(**{stage: files[stage] for stage in params.stages}),
    model=Path(files.model).parents[1],
    verdicts=Path(files.verdicts) if files.verdicts else None,
)
runtime = aggregate.Runtime(
    results=Path(snakemake.output.runs).parents[2],
    scheduler=params.scheduler,
    threads=snakemake.threads,
    keep_runs=params.keep_runs,
    config=fingerprint(snakemake.config),
    code=params.digests,
)
rules = aggregate.Rules(thresholds=Thresholds(**params.thresholds), **params.options)
aggregate.run(inputs, rules, calibrate.Options(**params.calibration), runtime)
