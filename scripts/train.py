"""Train the networks on the development cohorts and write the model bundle."""

from pathlib import Path

from trabecula.log import to_log

to_log(snakemake.log[0])

import torch

from trabecula import train
from trabecula.fit import Recipe

torch.set_num_threads(snakemake.threads)
train.train_bundle(
    train.Sources(**snakemake.input),
    Path(snakemake.output.metadata).parents[1],
    recipe=Recipe(**snakemake.params.options),
    choice=snakemake.params.choice,
    synthetic=snakemake.params.synthetic,
    code=snakemake.params.code,
)
