"""Write a Segmentation and a structured report for every scan of a shard."""

from pathlib import Path

from trabecula.runtime.log import progress, to_log

to_log(snakemake.log[0])

import logging

from trabecula import tables
from trabecula.export import objects
from trabecula.tables import cubes

# highdicom would log every attribute that it copies.
logging.getLogger("highdicom").setLevel(logging.WARNING)
files = snakemake.input
study_ids = objects.studies_of_shard(files.studies, files.cubes)
scans = objects.make_objects(
    (crop for crop in cubes.read_cubes(files.cubes) if crop.study_id in study_ids),
    *objects.read_rows(files.studies, files.vertebrae, study_ids),
    tables.read_columns(files.runs),
    spacing_mm=cubes.read_spacing_mm(files.cubes),
    synthetic=snakemake.params.synthetic,
)
objects.write_objects(progress(scans, what="export", unit="scans"), Path(snakemake.output.folder))
