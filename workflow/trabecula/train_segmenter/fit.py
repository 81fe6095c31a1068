"""Train the builtin spine network on random patches, resumably.

Every step draws from its own random generator, seeded by the run's seed and the step's number: a run that was
killed and taken up again goes on exactly as if it had not been.
"""

import io
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from monai.networks.nets.unet import UNet
from torch import Tensor

from trabecula.model import spine_network
from trabecula.runtime.log import progress
from trabecula.runtime.whole_file import whole_file
from trabecula.train_segmenter.examples import UNKNOWN, Example
from trabecula.train_segmenter.randomise import random_patch

log = logging.getLogger(__name__)

SAVE_EVERY = 50
WARM_UP = 50


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    steps : int
        Training steps.
    batch_size : int
        Patches per step.
    learning_rate : float
        Highest learning rate.
    seed : int
        Of the initial weights and of every step's draws.
    """

    steps: int
    batch_size: int
    learning_rate: float
    seed: int


def train(network: UNet, examples: Sequence[Example], recipe: Recipe, *, device: str, state: Path, what: str) -> UNet:
    """Train a network; resumes from `state` where it exists and saves there every 50 steps.

    Parameters
    ----------
    network : UNet
        Untrained, or trained on other examples before.
    examples : sequence of Example
        Drawn by their weights.
    recipe : Recipe
        How.
    device : {"cpu", "cuda"}
        Where.
    state : Path
        File for weights, optimiser and losses so far.
    what : str
        Name of the training for the progress bar.
    """
    network.to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=1e-4)
    losses = _resume(state, network, optimiser)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    chances = np.array([example.weight for example in examples])
    for step in progress(range(len(losses), recipe.steps), what=what, unit="steps"):
        rng = np.random.default_rng((recipe.seed, step))
        drawn = rng.choice(len(examples), recipe.batch_size, p=chances / chances.sum())
        pairs = [random_patch(examples[i], rng) for i in drawn]
        inputs, classes = (torch.stack(part).to(device) for part in zip(*pairs, strict=True))
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, recipe.steps)
        optimiser.zero_grad()
        loss = _loss(network(inputs), classes, loss_of)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps:
            _save(state, {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "losses": losses})
            log.info("%s, step %d: loss %.3f", what, step + 1, np.mean(losses[-SAVE_EVERY:]))
    return network.cpu().eval()


def _loss(logits: Tensor, classes: Tensor, loss_of: DiceCELoss) -> Tensor:
    """Dice and cross-entropy over known voxels: where the class is unknown, the prediction is taken as right."""
    unknown = classes == UNKNOWN
    target = torch.where(unknown, 0, classes)
    sure = torch.zeros_like(logits)
    sure[:, 0] = 20.0
    return loss_of(torch.where(unknown, sure, logits), target)


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine to zero."""
    return min((step + 1) / WARM_UP, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _save(path: Path, state: Mapping[str, object]) -> None:
    with whole_file(path) as unfinished:
        torch.save(state, unfinished)


def _resume(path: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> list[float]:
    if not path.exists():
        return []
    state = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return state["losses"]


def build(seed: int) -> UNet:
    """The untrained network of a seed."""
    torch.manual_seed(seed)
    return spine_network.build_network()
