"""Write a cohort's results as CSV files in the form of OMOP tables."""

from pathlib import Path

from trabecula.runtime.log import to_log

to_log(snakemake.log[0])

from trabecula.export import concepts, omop

files = snakemake.input
sources = omop.Sources(*(Path(files[name]) for name in ("patients", "studies", "vertebrae", "runs")))
mapping = concepts.read_mapping(snakemake.params.mapping)
omop.write_omop(sources, Path(snakemake.output.folder), mapping=mapping, synthetic=snakemake.params.synthetic)
