"""Compare the networks and the baselines with QCT; describe density in every cohort."""

from pathlib import Path

from trabecula.runtime.log import to_log

to_log(snakemake.log[0])

from trabecula import evaluate, tables
from trabecula.density.thresholds import Thresholds
from trabecula.model import bundle

model = bundle.read(Path(snakemake.input.model).parents[1])
names = ("patients", "studies", "vertebrae", "predictions", "labels")
public = evaluate.read_tables({name: snakemake.input[name] for name in names})
evidence = evaluate.Evidence(
    **public,
    protocol=evaluate.read_protocol(model),
    lines=model.baselines,
    folds=bundle.held_out(bundle.read_splits(model), [public["studies"]]),
)
results = evaluate.statistics(evidence, Thresholds(**snakemake.params.vbmd), **snakemake.params.options)

for name, schema in evaluate.STATISTICS.items():
    tables.write(results[name], schema, snakemake.output[name])
