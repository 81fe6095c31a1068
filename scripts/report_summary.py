"""Write the summary over all cohorts, and remove the reports of cohorts that are no longer listed."""

from pathlib import Path

from trabecula.runtime.log import to_log

to_log(snakemake.log[0])

from trabecula import evaluate, report, tables
from trabecula.density.thresholds import Thresholds
from trabecula.model import bundle

files, params = snakemake.input, snakemake.params
model = bundle.read(Path(files.model).parents[1])
statistics = {name: tables.read(files[name], schema) for name, schema in evaluate.STATISTICS.items()}
names = ("patients", "studies", "vertebrae", "failures", "flow")
results = report.Results(
    **{name: tables.read_many(files[name], tables.PUBLIC[name]) for name in names},
    verdicts=tables.read(files.verdicts, tables.VERDICTS),
    runs=tables.read(files.runs, tables.RUNS),
    statistics=report.pooled(statistics),
    training=report.read_training(model),
    bundle=model,
    roles=params.roles,
)
by_cohort = {name: report.of_cohort(statistics, name, role) for name, role in params.roles.items()}
page = report.compose_summary(results, by_cohort, title=params.title, thresholds=Thresholds(**params.thresholds))
report.write(page, snakemake.output.page)
report.remove_reports(Path(snakemake.output.page).parents[1], cohorts=params.roles, files=report.REPORT_FILES)
