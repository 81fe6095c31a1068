"""Train the network of one split and task, and let it predict every development patient."""

from pathlib import Path

from trabecula.runtime.log import to_log

to_log(snakemake.log[0])

import torch

from trabecula.train import network
from trabecula.train.fit import Recipe

torch.set_num_threads(snakemake.threads)
network.train_network(
    snakemake.input.rois,
    snakemake.input.cases,
    snakemake.input.splits,
    split=snakemake.wildcards.split,
    task=snakemake.wildcards.task,
    recipe=Recipe(**snakemake.params.recipe),
    workers=snakemake.threads - 1,
    weights=Path(snakemake.output.weights),
    fitted=Path(snakemake.output.fitted),
    curve=Path(snakemake.output.curve),
)
