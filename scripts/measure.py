"""Measure every vertebra from its cube."""

from trabecula.runtime.log import progress, to_log

to_log(snakemake.log[0])

from trabecula import crop, measure, tables

cubes = progress(crop.read_cubes(snakemake.input.cubes), what="measure", unit="vertebrae")
spacing_mm = crop.read_spacing_mm(snakemake.input.cubes)
rows = measure.measure_shard(cubes, spacing_mm=spacing_mm, **snakemake.params.options)
tables.write(rows, tables.MEASURE, snakemake.output.table)
