"""Write a cohort's report: the page, the checklists, the figures, and the gallery of images."""

from pathlib import Path

from trabecula.runtime.log import to_log

to_log(snakemake.log[0])

from trabecula import evaluate, report, tables
from trabecula.density.thresholds import Thresholds
from trabecula.model import bundle

files, output, params = snakemake.input, snakemake.output, snakemake.params
model = bundle.read(Path(files.model).parents[1])
statistics = {name: tables.read(files[name], schema) for name, schema in evaluate.STATISTICS.items()}
names = ("patients", "studies", "vertebrae", "failures", "flow", "runs")
results = report.Results(
    **{name: tables.read(files[name], tables.PUBLIC[name]) for name in names},
    verdicts=report.verdicts_of(tables.read(files.verdicts, tables.VERDICTS), params.cohort),
    statistics=report.of_cohort(statistics, params.cohort, params.role),
    training=report.read_training(model),
    bundle=model,
    roles={params.cohort: params.role},
)
report.write_gallery(results, files.crops, files.measures, output.gallery, patients_per_page=params.patients_per_page)
thresholds = Thresholds(**params.thresholds)
composed = report.compose(results, cohort=params.cohort, title=params.title, thresholds=thresholds)
for name, svg in composed.figures.items():
    report.write(svg, output[name])
report.write(composed.checklists, output.checklists)
report.write(composed.page, output.page)
