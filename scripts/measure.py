"""Measure every vertebra from its cube."""

from trabecula.runtime.log import progress, to_log

to_log(snakemake.log[0])

from trabecula import measure, tables
from trabecula.tables import cubes

crops = progress(cubes.read_cubes(snakemake.input.cubes), what="measure", unit="vertebrae")
spacing_mm = cubes.read_spacing_mm(snakemake.input.cubes)
rows = measure.measure_shard(crops, spacing_mm=spacing_mm, **snakemake.params.options)
tables.write(rows, tables.MEASURE, snakemake.output.table)
