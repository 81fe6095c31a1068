"""Outline and number the vertebrae of a shard's studies."""

from trabecula.runtime.log import to_log

to_log(snakemake.log[0], private=snakemake.params.private)

import tempfile
from functools import partial
from pathlib import Path

from trabecula import tables
from trabecula.model.segmenter_settings import from_params
from trabecula.runtime.log import progress
from trabecula.segment import Job, open_backend, read_archived_studies, segment_shard

cohort, shard = snakemake.wildcards.cohort, snakemake.wildcards.shard
linkage = Path(snakemake.params.private) / cohort / "linkage.parquet"
converted = tables.read(snakemake.input.table, tables.CONVERT).to_pylist()
studies = [study for study in converted if study["status"] == "ok"]
folder = Path(snakemake.output.labels)
folder.mkdir(parents=True, exist_ok=True)

with tempfile.TemporaryDirectory() as scratch:
    job = Job(snakemake.threads, snakemake.resources.mem_mb, Path(scratch))
    backend = open_backend(from_params(snakemake.params.options), job, partial(read_archived_studies, linkage, shard))
    shown = progress(studies, what=f"segment {shard}", unit="studies", total=len(studies))
    rows = segment_shard(shown, backend, ct_folder=Path(snakemake.input.ct), label_folder=folder)
    tables.write(rows, tables.SEGMENT, snakemake.output.table)
