"""Train the builtin spine network."""

from trabecula.runtime.log import to_log

to_log(snakemake.log[0])

from hashlib import sha256
from pathlib import Path

import torch

from trabecula.train_segmenter import train_bundle

torch.set_num_threads(snakemake.threads)
bundle = Path(snakemake.output.metadata).parents[1]
real = snakemake.params.options["real"]
# A training with other data or other code starts anew, and not from the state of this training.
name = sha256(repr((snakemake.params.code, real)).encode()).hexdigest()[:16]
train_bundle(bundle, real=Path(real) if real else None, state=bundle.with_suffix(f".{name}.pt"))
