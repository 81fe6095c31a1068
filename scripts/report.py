"""Write the page for people, its figures, and the gallery of pictures."""

from pathlib import Path

from trabecula.log import to_log

to_log(snakemake.log[0])

from trabecula import bundle, evaluate, report, tables

read, files = tables.read_many, snakemake.input
model = bundle.read(Path(files.model).parents[1])
results = report.Results(
    patients=read(files.patients, tables.PATIENTS),
    studies=read(files.studies, tables.STUDIES),
    vertebrae=read(files.vertebrae, tables.VERTEBRAE),
    failures=read(files.failures, tables.FAILURES),
    runs=tables.read(files.runs, tables.RUNS),
    statistics={name: tables.read(files[name], schema) for name, schema in evaluate.STATISTICS.items()},
    training=report.read_training(model),
    bundle=model,
)
report.write_gallery(results, files.crops, files.measures, snakemake.output.gallery, per_page=snakemake.params.per_page)
made = report.compose(results, title=snakemake.params.title, **snakemake.params.cuts)
for name, svg in made.figures.items():
    report.write(svg, snakemake.output[name])
report.write(made.page, snakemake.output.page)
