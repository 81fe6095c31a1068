"""Train one network, in steps that a kill can't spoil.

Every epoch draws its chance from its own seed and ends with a state on disk, so a
training that was killed and started again ends with the same weights (on a CPU, with the
same number of threads; MONAI's 3D DenseNet is not bit-deterministic on CUDA).
"""

import math
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets.densenet import DenseNet
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trabecula import augment, network
from trabecula.bundle import Roi, Task
from trabecula.log import progress

WARM_UP = 0.05
WEIGHT_DECAY = 0.01
VARIATION = augment.Variation()


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how: the options `train` of the configuration.

    Attributes
    ----------
    name : str
        Name of the bundle.
    network : {"small", "densenet121"}
        Kind of network.
    folds : int
        Folds of the cross-validation.
    epochs, batch_size : int
        Passes over the training part, and regions per step.
    learning_rate : float
        Highest learning rate.
    roi_size, roi_spacing_mm, hu_window
        The network's input, see `bundle.Roi`.
    seed : int
        Of the splits, the first weights, the order and the augmentation.
    device : {"auto", "cpu", "cuda"}
        Where it is trained.
    """

    name: str
    network: str
    folds: int
    epochs: int
    batch_size: int
    learning_rate: float
    roi_size: int
    roi_spacing_mm: float
    hu_window: Sequence[float]
    seed: int
    device: str

    @property
    def roi(self) -> Roi:
        """The network's input."""
        low, high = self.hu_window
        return Roi(self.roi_size, self.roi_spacing_mm, (low, high))


@dataclass(frozen=True)
class Part:
    """Regions with their targets.

    Attributes
    ----------
    rois : (n, size, size, size) array
        Hounsfield units, half precision; may be memory-mapped.
    index : (m,) array
        The regions that belong to this part.
    target : (n,) array
        Target of every region: 0 or 1 for classification, mg/cm3 for regression.
    """

    rois: NDArray[np.float16]
    index: NDArray[np.int64]
    target: NDArray[np.float32]


@dataclass(frozen=True)
class Epoch:
    """What is noted of an epoch: mean losses, and the last learning rate."""

    epoch: int
    learning_rate: float
    training_loss: float
    validation_loss: float


def fit(
    training: Part, validation: Part, *, task: Task, recipe: Recipe, seed: int, device: torch.device, state: Path
) -> tuple[DenseNet, list[Epoch]]:
    """Train a network, or go on where an earlier call was killed.

    Parameters
    ----------
    training, validation : Part
        What is learned from, and what the learning curve is taken on; nothing is chosen by it.
    task : {"classification", "regression"}
        Binary cross-entropy on 0 and 1, or smooth L1 on the standardised target.
    recipe : Recipe
        Network and schedule.
    seed : int
        Of the first weights, the order and the augmentation.
    device : torch.device
        Mixed precision is used on CUDA only.
    state : Path
        File that holds the state after the last whole epoch.

    Returns
    -------
    DenseNet
        In evaluation mode; for regression its output is in mg/cm3.
    list of Epoch
        The learning curve.
    """
    run = _Run.start(training, task=task, recipe=recipe, seed=seed, device=device)
    curve = run.resume(state)
    todo = range(len(curve) + 1, recipe.epochs + 1)
    for epoch in progress(todo, what=state.stem, unit="epochs"):
        curve.append(run.epoch(training, validation, epoch))
        run.save(curve, state)
    return run.finished(), curve


@dataclass(frozen=True)
class _Run:
    """A network in training and what belongs to it."""

    network: DenseNet
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    task: Task
    recipe: Recipe
    seed: int
    device: torch.device
    centre: float
    spread: float

    @classmethod
    def start(cls, training: Part, *, task: Task, recipe: Recipe, seed: int, device: torch.device) -> "_Run":
        torch.manual_seed(seed)
        net = network.placed(network.build(network.describe(recipe.network)), device)
        optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.learning_rate, weight_decay=WEIGHT_DECAY)
        scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
        known = training.target[training.index]
        centre, spread = (float(known.mean()), float(known.std()) or 1.0) if task == "regression" else (0.0, 1.0)
        return cls(net, optimiser, scaler, task, recipe, seed, device, centre, spread)

    def epoch(self, training: Part, validation: Part, epoch: int) -> Epoch:
        """One pass over the training part, and the loss on the validation part."""
        generator = torch.Generator(self.device).manual_seed(epoch_seed(self.seed, epoch))
        batches = _batches(training.index, self.recipe.batch_size, seed=epoch_seed(self.seed, epoch))
        self.network.train()
        total = 0.0
        for step, batch in enumerate(batches, start=(epoch - 1) * len(batches)):
            self._set_learning_rate(step, self.recipe.epochs * len(batches))
            hu, target = self._batch(training, batch)
            varied = augment.vary(hu, spacing_mm=self.recipe.roi.spacing_mm, by=VARIATION, generator=generator)
            loss = self._loss(varied, target)
            self.optimiser.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimiser)
            self.scaler.update()
            total += float(loss.detach()) * len(batch)
        rate = self.optimiser.param_groups[0]["lr"]
        return Epoch(epoch, rate, total / len(training.index), self._validation_loss(validation))

    @torch.inference_mode()
    def _validation_loss(self, validation: Part) -> float:
        self.network.eval()
        total = 0.0
        for start in range(0, len(validation.index), self.recipe.batch_size):
            batch = validation.index[start : start + self.recipe.batch_size]
            total += float(self._loss(*self._batch(validation, batch))) * len(batch)
        return total / len(validation.index)

    def _batch(self, part: Part, batch: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Regions (n, 1, x, y, z) in Hounsfield units and standardised targets (n,), on the device."""
        hu = torch.from_numpy(part.rois[batch]).to(self.device).float()[:, None]
        target = torch.from_numpy((part.target[batch] - self.centre) / self.spread)
        return hu, target.to(self.device, torch.float32)

    def _loss(self, hu: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            output = self.network(network.to_input(hu, self.recipe.roi.hu_window))[:, 0].float()
        if self.task == "regression":
            return functional.smooth_l1_loss(output, target)
        return functional.binary_cross_entropy_with_logits(output, target)

    def _set_learning_rate(self, step: int, steps: int) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, highest=self.recipe.learning_rate)

    def save(self, curve: list[Epoch], state: Path) -> None:
        """Write the state beside, then rename."""
        parts = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "curve": [vars(epoch) for epoch in curve],
        }
        part = state.with_name(f".{state.name}.{os.getpid()}")
        torch.save(parts, part)
        part.replace(state)

    def resume(self, state: Path) -> list[Epoch]:
        """Take up a state, if there is one; a file that is not whole counts as none."""
        try:
            parts = torch.load(state, map_location=self.device, weights_only=True)
        except (FileNotFoundError, EOFError, RuntimeError, pickle.UnpicklingError):
            return []
        self.network.load_state_dict(parts["network"])
        self.optimiser.load_state_dict(parts["optimiser"])
        self.scaler.load_state_dict(parts["scaler"])
        return [Epoch(**epoch) for epoch in parts["curve"]]

    def finished(self) -> DenseNet:
        """The network, with the standardisation of its target undone in the last layer."""
        last = dict(self.network.named_parameters())
        with torch.no_grad():
            last["class_layers.out.weight"].mul_(self.spread)
            last["class_layers.out.bias"].mul_(self.spread).add_(self.centre)
        return self.network.eval()


def learning_rate(step: int, steps: int, *, highest: float) -> float:
    """Learning rate of a step: a linear rise, then half a cosine to zero.

    Parameters
    ----------
    step, steps : int
        Number of this step, from 0, and of all steps.
    highest : float
        Value between rise and fall.
    """
    rise = max(math.ceil(WARM_UP * steps), 1)
    if step < rise:
        return highest * (step + 1) / rise
    return highest * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of one epoch, unrelated to that of the next."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _batches(index: NDArray[np.int64], size: int, *, seed: int) -> list[NDArray[np.int64]]:
    """Shuffled parts of nearly equal size, so that none is too small for batch normalisation."""
    shuffled = np.random.default_rng(seed).permutation(index)
    return np.array_split(shuffled, math.ceil(len(index) / size))
