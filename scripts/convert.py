"""Turn a shard's series into NIfTI files."""

from pathlib import Path

from trabecula.runtime.log import to_log

to_log(snakemake.log[0], private=snakemake.params.private)

from trabecula.cohort.pseudonym import key_of
from trabecula.convert.shard import write_shard

cohort = snakemake.wildcards.cohort
write_shard(
    Path(snakemake.input.shard),
    Path(snakemake.params.private) / cohort / "linkage.parquet",
    cohort=cohort,
    key=key_of(Path(snakemake.params.private), synthetic=snakemake.params.synthetic),
    folder=Path(snakemake.output.ct),
    table=Path(snakemake.output.table),
    **snakemake.params.options,
)
