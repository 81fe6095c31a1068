"""Write the model bundle: the folds' networks, and the predictions of every network and baseline for every patient."""

from pathlib import Path

from trabecula.runtime.log import to_log

to_log(snakemake.log[0])

from trabecula import tables
from trabecula.train import publish
from trabecula.train.cases import Choice
from trabecula.train.fit import Recipe
from trabecula.train.splits import Protocol

params = snakemake.params
record = publish.Record(
    **params.record,
    choice=Choice(**params.choice),
    recipe=Recipe(**params.recipe),
    protocol=Protocol(**params.protocol),
    synthetic=frozenset(params.synthetic),
    code=params.code,
)
publish.write_bundle(
    Path(snakemake.output.metadata).parents[1],
    record,
    tables.read(snakemake.input.cases, tables.CASES).to_pandas(),
    tables.read(snakemake.input.splits, tables.SPLITS).to_pandas(),
    tables.read(snakemake.input.audit, tables.AUDIT),
    publish.Trained(Path(params.networks)),
)
