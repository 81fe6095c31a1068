"""Apply a model bundle to vertebrae: one value per vertebra, task and fold."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.networks.nets.densenet import DenseNet

from trabecula.image.levels import ORDER
from trabecula.model import bundle, bundle_checks, network
from trabecula.model.bundle import Bundle
from trabecula.tables.cubes import VertebraCrop

# Near L1 and L2, for which networks are trained; further up ribs and aorta look different.
LEVELS = frozenset(ORDER[ORDER.index("T11") : ORDER.index("S1")])


@dataclass(frozen=True)
class Model:
    """A bundle with its networks in memory.

    Attributes
    ----------
    bundle : Bundle
        The bundle's facts.
    networks : mapping
        Network by task and fold, in evaluation mode, on its device.
    fold_of : mapping
        Patients of the training (pseudonyms), each with the fold that never saw them.
    """

    bundle: Bundle
    networks: Mapping[tuple[str, int], DenseNet]
    fold_of: Mapping[str, int]


def load_model(folder: Path | str, *, device: str) -> Model:
    """Load a bundle's networks.

    Parameters
    ----------
    folder : Path or str
        The bundle.
    device : {"auto", "cpu", "cuda"}
        Where the networks run.

    Raises
    ------
    ConfigError
        If it is no bundle of this workflow, fails a check (see `bundle_checks.check_content`), or a weight file is not
        the one that its metadata name.
    """
    bundle_checks.check_content(folder)
    facts = bundle.read(folder)
    bundle.check_weights(facts)
    place = network.pick_device(device)
    networks = {
        (task, fold): network.load(facts.network, task, facts.folder / bundle_checks.weight_file(task, fold), place)
        for task in facts.tasks
        for fold in facts.folds
    }
    return Model(facts, networks, bundle.read_splits(facts))


def infer_shard(
    cubes: Iterable[VertebraCrop], model: Model, scans: pd.DataFrame, *, spacing_mm: float, batch_size: int
) -> Iterator[dict[str, Any]]:
    """Predict every complete vertebra from T11 to the last lumbar vertebra.

    The networks stay in memory for the whole shard, and each takes a batch at a time. A patient of the model's training
    is predicted only by the networks that never saw them.

    Parameters
    ----------
    cubes : iterable of VertebraCrop
        Vertebrae; a batch of them is held in memory at a time.
    model : Model
        See `load_model`.
    scans : DataFrame
        By study_id, the scan facts that the networks may be given, see `scan_inputs.scan_facts`.
    spacing_mm : float
        Distance between the cubes' voxels.
    batch_size : int
        Vertebrae per step.

    Yields
    ------
    dict
        Rows of the table `tables.INFER`: by vertebra, in the order given, then task and fold.
    """
    predictable = (crop for crop in cubes if crop.complete and crop.level in LEVELS)
    while batch := list(islice(predictable, batch_size)):
        yield from _infer_batch(batch, model, scans, spacing_mm=spacing_mm)


def _infer_batch(
    batch: Sequence[VertebraCrop], model: Model, scans: pd.DataFrame, *, spacing_mm: float
) -> Iterator[dict[str, Any]]:
    """Predict a batch of vertebrae by every network that may see them."""
    roi = model.bundle.roi
    regions = np.stack([network.cut_roi(crop.ct, spacing_mm=spacing_mm, roi=roi) for crop in batch])
    hu = torch.from_numpy(regions)[:, None]
    scans_of_batch = scans.loc[[crop.study_id for crop in batch]]
    scan = torch.from_numpy(network.scan_channels(scans_of_batch, model.bundle.scan_inputs))
    folds = [model.fold_of.get(crop.patient_id) for crop in batch]
    values: dict[tuple[int, str, int], float] = {}
    for (task, fold), net in model.networks.items():
        index = np.array([i for i, own_fold in enumerate(folds) if own_fold in (None, fold)], dtype=np.int64)
        if len(index):
            predicted = network.predict(net, hu[index], scan[index], task=task, roi=roi)
            values |= {
                (int(i), output, fold): float(value)
                for output, outputs in predicted.items()
                for i, value in zip(index, outputs, strict=True)
            }
    for i, output, fold in sorted(values):
        yield _row(batch[i], model, output, fold, values[i, output, fold])


def _row(crop: VertebraCrop, model: Model, output: str, fold: int, value: float) -> dict[str, Any]:
    """Make a row of `tables.INFER`; a value that is no number is a bug."""
    if not math.isfinite(value):
        raise FloatingPointError(f"fold {fold} of the {output} network gives {value}")
    return {
        "cohort": crop.cohort,
        "patient_id": crop.patient_id,
        "study_id": crop.study_id,
        "level": crop.level,
        "model_id": model.bundle.model_id,
        "task": output,
        "fold": fold,
        "value": value,
        "in_training": crop.patient_id in model.fold_of,
    }
