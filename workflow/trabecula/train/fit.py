"""Train one network, in steps that a kill can't spoil.

Every region's variation is drawn from a seed of its own in every epoch, and every epoch ends with a state on disk. So a
training that was killed and started again ends with the same weights (on a CPU, with the same number of threads;
MONAI's 3D DenseNet is not bit-deterministic on CUDA).
"""

import hashlib
import io
import json
import math
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets.densenet import DenseNet
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trabecula.errors import ConfigError
from trabecula.model import network
from trabecula.model.bundle import OUTPUTS, Roi, Task
from trabecula.runtime.digest import digest
from trabecula.runtime.log import progress
from trabecula.runtime.whole_file import whole_file
from trabecula.train.data import VARIATION, Data, load, seed_of, shuffled

# Share of the steps in which the learning rate rises.
WARM_UP = 0.05
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: options of the configuration's section `train`.

    Attributes
    ----------
    network : {"small", "densenet121"}
        Kind of network.
    epochs, patience : int
        Passes over the training part, at most; training ends after `patience` of them without a lower validation loss.
    batch_size : int
        Regions per step.
    learning_rate : float
        Highest learning rate.
    roi_size, roi_spacing_mm, hu_window
        The network's input, see `bundle.Roi`.
    scan_inputs : sequence of str
        Scan facts given to the network, see `network.scan_channels`.
    seed : int
        Seed of the first weights, the order and the variation.
    device : {"auto", "cpu", "cuda"}
        Where the network is trained.
    """

    network: str
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    roi_size: int
    roi_spacing_mm: float
    hu_window: Sequence[float]
    scan_inputs: Sequence[str]
    seed: int
    device: str

    @property
    def roi(self) -> Roi:
        """Give the network's input."""
        low, high = self.hu_window
        return Roi(self.roi_size, self.roi_spacing_mm, (low, high))


@dataclass(frozen=True)
class Epoch:
    """An epoch's last learning rate, and its mean losses."""

    epoch: int
    learning_rate: float
    training_loss: float
    validation_loss: float


def fit(
    data: Data,
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    *,
    task: Task,
    recipe: Recipe,
    state: Path,
    workers: int = 0,
) -> tuple[DenseNet, list[Epoch]]:
    """Train a network, or go on where an earlier call was killed.

    Parameters
    ----------
    data : Data
        Regions and their targets.
    train, validation : (m,) arrays
        Regions that the network learns from, and regions on which the epoch is chosen whose weights are kept.
    task : {"classification", "regression", "joint"}
        Binary cross-entropy on reduced density, smooth L1 on the standardised vBMD, or the sum of both.
    recipe : Recipe
        Network and schedule.
    state : Path
        File that holds the state after the last whole epoch; a state of other data, recipe or task is not used.
    workers : int
        Processes that read and vary regions; with 0 the calling process does.

    Returns
    -------
    DenseNet
        With the weights of the lowest validation loss, in evaluation mode; vBMD comes in mg/cm3.
    list of Epoch
        The learning curve.

    Raises
    ------
    ConfigError
        If no epoch has a finite validation loss.
    """
    run = _Run.start(data, train, task=task, recipe=recipe, workers=workers)
    identity = fingerprint(data, train, validation, task=task, recipe=recipe)
    curve = run.resume(state, identity)
    for epoch in progress(range(len(curve) + 1, recipe.epochs + 1), what=state.stem, unit="epochs"):
        if len(curve) - best_of(curve) >= recipe.patience:
            break
        curve.append(run.epoch(train, validation, epoch))
        if best_of(curve) == epoch:
            run.keep()
        run.save(curve, state, identity)
    if not best_of(curve):
        raise ConfigError("Option train.learning_rate: the training diverged in every epoch; lower it.")
    return run.finished(), curve


def best_of(curve: Sequence[Epoch]) -> int:
    """Give the number of the epoch with the lowest validation loss, the first of equals; 0 where no loss is finite.

    >>> best_of([Epoch(1, 0.1, 0.9, 0.5), Epoch(2, 0.1, 0.8, 0.4), Epoch(3, 0.1, 0.7, math.nan)])
    2
    """
    finite = [epoch for epoch in curve if math.isfinite(epoch.validation_loss)]
    return min(finite, key=lambda epoch: epoch.validation_loss).epoch if finite else 0


def fingerprint(
    data: Data, train: NDArray[np.int64], validation: NDArray[np.int64], *, task: Task, recipe: Recipe
) -> str:
    """Give a SHA-256 over all that decides on the weights."""
    facts = asdict(recipe) | {"task": task, "torch": torch.__version__, "monai": version("monai")}
    facts |= {"variation": asdict(VARIATION), "code": digest("train.network")}
    sha = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for array in (train, validation, data.scan, data.reduced, data.vbmd_mg_cm3):
        sha.update(np.ascontiguousarray(array).tobytes())
    for i in np.concatenate([train, validation]):
        sha.update(data.regions[i].numpy().tobytes())
    return sha.hexdigest()


@dataclass
class _Run:
    """A network in training.

    Attributes
    ----------
    centre, spread : float
        Mean and standard deviation of the training part's vBMD, in mg/cm3; the network learns the standardised value.
    kept : dict
        Weights of the best epoch so far.
    """

    data: Data
    network: DenseNet
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    task: Task
    recipe: Recipe
    device: torch.device
    workers: int
    centre: float
    spread: float
    kept: dict[str, Tensor]

    @classmethod
    def start(cls, data: Data, train: NDArray[np.int64], *, task: Task, recipe: Recipe, workers: int) -> "_Run":
        """Build a network with random weights, and what its training needs."""
        torch.manual_seed(recipe.seed)
        device = network.pick_device(recipe.device)
        net = network.build(network.describe(recipe.network, recipe.scan_inputs), task)
        net = network.placed(net, device)
        optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.learning_rate, weight_decay=WEIGHT_DECAY)
        scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
        vbmd = data.vbmd_mg_cm3[train]
        centre, spread = float(vbmd.mean()), float(vbmd.std()) or 1.0
        return cls(data, net, optimiser, scaler, task, recipe, device, workers, centre, spread, {})

    def epoch(self, train: NDArray[np.int64], validation: NDArray[np.int64], epoch: int) -> Epoch:
        """Pass once over the training part, and take the loss on the validation part."""
        seed = seed_of(self.recipe.seed, epoch)
        batches = shuffled(train, self.recipe.batch_size, seed=seed)
        self.network.train()
        total = 0.0
        for step, batch in enumerate(self._load(batches, seed=seed), start=(epoch - 1) * len(batches)):
            self._set_learning_rate(step, self.recipe.epochs * len(batches))
            loss = self._loss(*batch)
            self.optimiser.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimiser)
            self.scaler.update()
            total += float(loss.detach()) * len(batch[0])
        rate = self.optimiser.param_groups[0]["lr"]
        return Epoch(epoch, rate, total / len(train), self._validation_loss(validation))

    @torch.inference_mode()
    def _validation_loss(self, validation: NDArray[np.int64]) -> float:
        """Average the loss over the validation part."""
        self.network.eval()
        n = math.ceil(len(validation) / self.recipe.batch_size)
        batches = self._load(np.array_split(validation, n), seed=None)
        return sum(float(self._loss(*batch)) * len(batch[0]) for batch in batches) / len(validation)

    def _load(self, batches: Sequence[NDArray[np.int64]], *, seed: int | None) -> Iterator[tuple[Tensor, ...]]:
        """Read batches to the device; regions are varied where a seed is given."""
        spacing_mm = self.recipe.roi_spacing_mm
        return load(self.data, batches, spacing_mm=spacing_mm, seed=seed, device=self.device, workers=self.workers)

    def _loss(self, hu: Tensor, scan: Tensor, target: Tensor) -> Tensor:
        """Add up the losses of the task's outputs on one batch."""
        with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            output = self.network(network.to_input(hu, scan, self.recipe.roi.hu_window)).float()
        losses = []
        for name, value in zip(OUTPUTS[self.task], output.unbind(1), strict=True):
            if name.endswith("classification"):
                losses.append(functional.binary_cross_entropy_with_logits(value, target[:, 0]))
            else:
                losses.append(functional.smooth_l1_loss(value, (target[:, 1] - self.centre) / self.spread))
        return torch.stack(losses).sum()

    def _set_learning_rate(self, step: int, steps: int) -> None:
        """Set the learning rate of a step."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, highest=self.recipe.learning_rate)

    def keep(self) -> None:
        """Keep a copy of the weights as they are."""
        self.kept = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def save(self, curve: list[Epoch], state: Path, identity: str) -> None:
        """Write the state as a whole file; its identity is the training's fingerprint."""
        parts: dict[str, Any] = {
            "mark": identity,
            "network": self.network.state_dict(),
            "kept": self.kept,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "curve": [vars(epoch) for epoch in curve],
        }
        content = io.BytesIO()
        torch.save(parts, content)  # not to the file: torch's writer does not say that a disk is full
        with whole_file(state) as unfinished:
            unfinished.write_bytes(content.getbuffer())

    def resume(self, state: Path, identity: str) -> list[Epoch]:
        """Take up the state, and give its curve; a state that is torn or of another identity is ignored: no curve."""
        try:
            parts = torch.load(state, map_location=self.device, weights_only=True)
        except (FileNotFoundError, EOFError, RuntimeError, pickle.UnpicklingError):
            return []
        if parts["mark"] != identity:
            return []
        self.network.load_state_dict(parts["network"])
        self.optimiser.load_state_dict(parts["optimiser"])
        self.scaler.load_state_dict(parts["scaler"])
        self.kept = parts["kept"]
        return [Epoch(**epoch) for epoch in parts["curve"]]

    def finished(self) -> DenseNet:
        """Give the network with the kept weights, and undo the standardisation of vBMD in its last layer."""
        self.network.load_state_dict(self.kept)
        last = dict(self.network.named_parameters())
        weight, bias = last["class_layers.out.weight"], last["class_layers.out.bias"]
        with torch.no_grad():
            for i, name in enumerate(OUTPUTS[self.task]):
                if name.endswith("regression"):
                    weight[i].mul_(self.spread)
                    bias[i].mul_(self.spread).add_(self.centre)
        return self.network.eval()


@torch.inference_mode()
def predict_all(net: DenseNet, data: Data, *, task: Task, recipe: Recipe) -> dict[str, NDArray[np.float64]]:
    """Predict every region: (n,) arrays by output (see `bundle.OUTPUTS`)."""
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in OUTPUTS[task]}
    for start in range(0, len(data.regions), recipe.batch_size):
        index = range(start, min(start + recipe.batch_size, len(data.regions)))
        hu = torch.stack([data.regions[i] for i in index])
        scan = torch.from_numpy(data.scan[index.start : index.stop])
        for name, values in network.predict(net, hu, scan, task=task, roi=recipe.roi).items():
            parts[name].append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def learning_rate(step: int, steps: int, *, highest: float) -> float:
    """Give the learning rate of a step: a linear rise, then half a cosine to zero.

    Parameters
    ----------
    step, steps : int
        Number of this step, from 0, and of all steps.
    highest : float
        Value between rise and fall.

    >>> [round(learning_rate(step, 100, highest=1.0), 2) for step in (0, 4, 52, 99)]
    [0.2, 1.0, 0.51, 0.0]
    """
    rise = max(math.ceil(WARM_UP * steps), 1)
    if step < rise:
        return highest * (step + 1) / rise
    return highest * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))
