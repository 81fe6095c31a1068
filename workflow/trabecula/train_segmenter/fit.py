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
# The network is no longer new when the held-back scans join.
LATE_RATE = 0.5


@dataclass(frozen=True)
class Round:
    """One round of training.

    Attributes
    ----------
    title : str
        Name of the round for the progress bar.
    steps : int
        Training steps.
    batch_size : int
        Patches per step.
    learning_rate : float
        Highest learning rate.
    seed : int
        Seed of every step's draws.
    """

    title: str
    steps: int
    batch_size: int
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Recipe:
    """How the network is trained; the defaults made the shipped one.

    Attributes
    ----------
    sources, held_back : tuple of str
        Names of real scans (`examples.READERS`) that are in the training from the start, and of those that join for
        the late round. Before they join, the network is measured on them as on scans that it has never seen.
    synthetic_patients : int
        Number of synthetic patients.
    steps, late_steps : int
        Training steps without the held-back scans, and then with all scans.
    batch_size : int
        Patches per step.
    learning_rate : float
        Highest learning rate of the schedule.
    seed : int
        Seed of synthetic patients, initial weights and randomisation.
    device : {"cpu", "cuda"}
        Where the network is trained.
    """

    sources: tuple[str, ...] = ("tptbox_vertebra_crop",)
    held_back: tuple[str, ...] = ("totalseg_example",)
    synthetic_patients: int = 96
    steps: int = 3000
    late_steps: int = 1000
    batch_size: int = 2
    learning_rate: float = 0.002
    seed: int = 20240
    device: str = "cpu"

    @property
    def first_round(self) -> Round:
        """The round without the held-back scans."""
        return Round("train segmenter", self.steps, self.batch_size, self.learning_rate, self.seed)

    @property
    def late_round(self) -> Round:
        """The round with all scans."""
        rate = LATE_RATE * self.learning_rate
        return Round("train with all scans", self.late_steps, self.batch_size, rate, self.seed + 1)


def train(network: UNet, examples: Sequence[Example], course: Round, *, device: str, state: Path) -> UNet:
    """Train a network for one round; it goes on from `state` where that exists, and saves there every 50 steps.

    Parameters
    ----------
    network : UNet
        Untrained, or trained on other examples before.
    examples : sequence of Example
        Scans, drawn by their weights.
    course : Round
        How long and how fast it is trained.
    device : {"cpu", "cuda"}
        Where it is trained.
    state : Path
        File for weights, optimiser and losses so far.
    """
    network.to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=course.learning_rate, weight_decay=1e-4)
    losses = _resume(state, network, optimiser)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    chances = np.array([example.weight for example in examples])
    for step in progress(range(len(losses), course.steps), what=course.title, unit="steps"):
        rng = np.random.default_rng((course.seed, step))
        drawn = rng.choice(len(examples), course.batch_size, p=chances / chances.sum())
        pairs = [random_patch(examples[i], rng) for i in drawn]
        inputs, classes = (torch.stack(part).to(device) for part in zip(*pairs, strict=True))
        for group in optimiser.param_groups:
            group["lr"] = course.learning_rate * schedule(step, course.steps)
        optimiser.zero_grad()
        loss = _loss(network(inputs), classes, loss_of)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == course.steps:
            _save(state, {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "losses": losses})
            log.info("%s, step %d: loss %.3f", course.title, step + 1, np.mean(losses[-SAVE_EVERY:]))
    return network.cpu().eval()


def _loss(logits: Tensor, classes: Tensor, loss_of: DiceCELoss) -> Tensor:
    """Sum Dice loss and cross-entropy; where the class is unknown, the prediction is taken as right."""
    unknown = classes == UNKNOWN
    target = torch.where(unknown, 0, classes)
    sure = torch.zeros_like(logits)
    sure[:, 0] = 20.0
    return loss_of(torch.where(unknown, sure, logits), target)


def schedule(step: int, steps: int) -> float:
    """Give the share of the highest learning rate: a linear warm-up, then half a cosine to zero.

    >>> [round(schedule(step, 1000), 2) for step in (0, 24, 500, 1000)]
    [0.02, 0.5, 0.5, 0.0]
    """
    return min((step + 1) / WARM_UP, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _save(path: Path, state: Mapping[str, object]) -> None:
    with whole_file(path) as unfinished:
        torch.save(state, unfinished)


def _resume(path: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> list[float]:
    """Load weights and optimiser from a file of `_save`; give the losses so far, none without such a file."""
    if not path.exists():
        return []
    state = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return state["losses"]


def build(seed: int) -> UNet:
    """Make the untrained network of a seed."""
    torch.manual_seed(seed)
    return spine_network.build_network()
