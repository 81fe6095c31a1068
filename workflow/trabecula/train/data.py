"""Regions and targets, read from the file and given to the network batch by batch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trabecula.model.network import scan_channels
from trabecula.train.rois import PATIENT, Regions
from trabecula.train.transforms import Variation, variation

VARIATION = Variation()


@dataclass(frozen=True)
class Data:
    """Regions with their scan facts and targets.

    Attributes
    ----------
    regions : Regions
        Regions of all development patients.
    scan : (n, channels) array
        See `network.scan_channels`.
    reduced, vbmd_mg_cm3 : (n,) arrays
        Targets, from the QCT of the region's patient: 1 for reduced density, and the density (HA).
    """

    regions: Regions
    scan: NDArray[np.float32]
    reduced: NDArray[np.float32]
    vbmd_mg_cm3: NDArray[np.float32]


def read_data(rois: Path | str, cases: pd.DataFrame, *, scan_inputs: Sequence[str]) -> Data:
    """Read regions and the facts of their patients, in the file's order.

    Parameters
    ----------
    rois : Path
        See `rois.write_regions`.
    cases : DataFrame
        Columns of `tables.CASES`.
    scan_inputs : sequence of str
        Scan facts that are used.
    """
    regions = Regions(rois)
    facts = regions.keys[PATIENT].merge(cases, on=PATIENT, validate="many_to_one")
    reduced, vbmd = (facts[name].to_numpy(np.float32) for name in ("reduced", "qct_vbmd_mg_cm3"))
    return Data(regions, scan_channels(facts, scan_inputs), reduced, vbmd)


class _Items(Dataset):
    """Regions by number, varied at random where there is a seed."""

    def __init__(self, data: Data, *, spacing_mm: float, seed: int | None) -> None:
        self.data, self.seed = data, seed
        self.vary = variation(VARIATION, spacing_mm=spacing_mm)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        hu = self.data.regions[i].float()
        if self.seed is not None:
            self.vary.set_random_state(seed=seed_of(self.seed, i) % 2**32)
            hu = torch.as_tensor(self.vary(hu))
        target = torch.tensor([self.data.reduced[i], self.data.vbmd_mg_cm3[i]])
        return hu, torch.from_numpy(self.data.scan[i]), target


def load(
    data: Data,
    batches: Sequence[NDArray[np.int64]],
    *,
    spacing_mm: float,
    seed: int | None,
    device: torch.device,
    workers: int,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Read regions batch by batch.

    Parameters
    ----------
    data : Data
        Regions and their targets.
    batches : sequence of arrays
        Numbers of each batch's regions.
    spacing_mm : float
        Distance between a region's voxels.
    seed : int or None
        Seed of the random variation, which is the same for a region whatever its batch and worker; None: no variation.
    device : torch.device
        Device that the batches go to.
    workers : int
        Processes that read and vary regions; with 0 the calling process does.

    Yields
    ------
    (n, 1, x, y, z), (n, channels), (n, 2) tensors
        Hounsfield units, scan channels, and reduced (0 or 1) with vBMD (mg/cm3).
    """
    cuda = device.type == "cuda"
    items = _Items(data, spacing_mm=spacing_mm, seed=seed)
    sampler = [batch.tolist() for batch in batches]
    for hu, scan, target in DataLoader(items, batch_sampler=sampler, num_workers=workers, pin_memory=cuda):
        yield tuple(part.to(device, non_blocking=cuda) for part in (hu, scan, target))  # pyright: ignore[reportReturnType]


def shuffled(index: NDArray[np.int64], size: int, *, seed: int) -> list[NDArray[np.int64]]:
    """Shuffle and part into batches of nearly equal size, so that none is too small for batch normalisation.

    >>> [len(batch) for batch in shuffled(np.arange(10), 4, seed=0)]
    [4, 3, 3]
    """
    order = np.random.default_rng(seed).permutation(index)
    return np.array_split(order, math.ceil(len(index) / size))


def seed_of(seed: int, number: int) -> int:
    """Give an epoch or a region a seed of its own, unrelated to that of the next."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))
