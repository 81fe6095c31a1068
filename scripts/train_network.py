"""Train the network of one split and task, and let it predict every development patient."""

from pathlib import Path

from trabecula.runtime.log import to_log

to_log(snakemake.log[0])

import torch

from trabecula.train import network
from trabecula.train.fit import Recipe

torch.set_num_threads(snakemake.threads)
files, made = snakemake.input, snakemake.output
network.train_network(
    network.Prepared(files.rois, files.cases, files.splits),
    network.NetworkFiles(Path(made.weights), Path(made.fitted), Path(made.curve)),
    split=snakemake.wildcards.split,
    task=snakemake.wildcards.task,
    recipe=Recipe(**snakemake.params.recipe),
    workers=snakemake.threads - 1,
)
