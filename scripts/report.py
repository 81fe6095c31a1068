"""Write a cohort's page for people, its checklists, its figures, and the gallery of pictures."""

from pathlib import Path

from trabecula.runtime.log import to_log

to_log(snakemake.log[0])

from trabecula import evaluate, report, tables
from trabecula.model import bundle

files, made, params = snakemake.input, snakemake.output, snakemake.params
model = bundle.read(Path(files.model).parents[1])
statistics = {name: tables.read(files[name], schema) for name, schema in evaluate.STATISTICS.items()}
named = ("patients", "studies", "vertebrae", "failures", "flow", "runs")
results = report.Results(
    **{name: tables.read(files[name], tables.PUBLIC[name]) for name in named},
    verdicts=report.verdicts_of(tables.read(files.verdicts, tables.VERDICTS), params.cohort),
    statistics=report.of_cohort(statistics, params.cohort, params.role),
    training=report.read_training(model),
    bundle=model,
)
report.write_gallery(results, files.crops, files.measures, made.gallery, per_page=params.per_page)
composed = report.compose(results, cohort=params.cohort, title=params.title, **params.cuts)
for name, svg in composed.figures.items():
    report.write(svg, made[name])
report.write(composed.checklists, made.checklists)
report.write(composed.page, made.page)
