"""Cut one cube per vertebra, study by study."""

from functools import partial
from pathlib import Path

from trabecula.runtime.log import progress, to_log

to_log(snakemake.log[0])

from trabecula import crop, tables

segmented = tables.read(snakemake.input.table, tables.SEGMENT)
read = partial(crop.read_study, Path(snakemake.input.ct), Path(snakemake.input.labels))
studies = crop.crop_shard(segmented, read, **snakemake.params.options)
crop.write_crops(
    progress(studies, what="crop", unit="studies"),
    snakemake.output.cubes,
    snakemake.output.table,
    **snakemake.params.options,
)
