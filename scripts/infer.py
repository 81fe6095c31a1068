"""Predict every vertebra of a shard."""

from pathlib import Path

from trabecula.runtime.log import progress, to_log

to_log(snakemake.log[0])

import torch

from trabecula import infer, tables
from trabecula.model import scan_inputs
from trabecula.tables import cubes

torch.set_num_threads(snakemake.threads)
model = infer.load_model(Path(snakemake.input.metadata).parents[1], device=snakemake.params.device)
vertebrae = progress(cubes.read_cubes(snakemake.input.cubes), what="infer", unit="vertebrae")
spacing_mm = cubes.read_spacing_mm(snakemake.input.cubes)
studies = tables.read(snakemake.input.studies, tables.STUDIES).to_pandas()
scans = scan_inputs.scan_facts(studies, tables.read(snakemake.input.crops, tables.CROP).to_pandas())
rows = infer.infer_shard(vertebrae, model, scans, spacing_mm=spacing_mm, batch_size=snakemake.params.batch_size)
tables.write(rows, tables.INFER, snakemake.output.table)
