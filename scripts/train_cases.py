"""Link labels to scans, cut the patients' regions, and divide the patients."""

from pathlib import Path

from trabecula.runtime.log import to_log

to_log(snakemake.log[0])

from trabecula import tables
from trabecula.cohort.current import read_current_studies
from trabecula.model.bundle import Roi
from trabecula.train import audit, cases, rois, splits

files, params = snakemake.input, snakemake.params
shards = files.converts, files.cubes, files.crops, files.measures
sources = cases.read_sources(*shards, files.studies, files.labels, reviewed=files.verdicts or None)
choice, protocol = cases.Choice(**params.choice), splits.Protocol(**params.protocol)
patients = cases.find_cases(sources, order=params.order, choice=choice)
audited = audit.audit(sources, patients, order=params.order, choice=choice)
tables.write(tables.from_frame(audited, tables.AUDIT), tables.AUDIT, snakemake.output.audit)
audit.check_cases(patients, audited, folds=protocol.folds)
tables.write(tables.from_frame(patients, tables.CASES), tables.CASES, snakemake.output.cases)

renamed = cases.renamed_levels(sources.vertebrae)
rois.write_regions(
    files.cubes,
    patients,
    current=read_current_studies(files.studies),
    roi=Roi(*params.roi),
    path=snakemake.output.rois,
    renamed=renamed,
)

division = splits.divide(patients, protocol, splits.read_earlier(snakemake.output.splits, sources.studies))
tables.write(tables.from_frame(division, tables.SPLITS), tables.SPLITS, snakemake.output.splits)
Path(snakemake.output.names).write_text("\n".join(dict.fromkeys(division["split"])) + "\n")
written = snakemake.output
cases.write_digests(written.digests, [written.cases, written.rois, written.splits, written.audit])
