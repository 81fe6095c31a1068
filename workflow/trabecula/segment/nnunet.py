"""Segment with any trained nnU-Net v2 that labels vertebrae (backend `nnunet`).

Isensee et al., Nat Methods 2021, doi:10.1038/s41592-020-01008-z. The network is the folder that training leaves:
``dataset.json``, ``plans.json`` and ``fold_*/checkpoint_final.pth``.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from trabecula.errors import ConfigError
from trabecula.image.codings import Coding, find_coding
from trabecula.image.padding import PADDING_HU
from trabecula.image.volume import Volume, resample
from trabecula.model.segmenter_settings import NnUNet
from trabecula.segment.backend import Backend, Job, choose_device
from trabecula.segment.bodies import split_bodies
from trabecula.segment.masks import recode
from trabecula.segment.numbering import Level
from trabecula.segment.review import NETWORK, review

# A class of nnU-Net, which is imported only where it is used and leaves its attributes untyped.
Predictor = Any

_CHECKPOINT = "checkpoint_final.pth"
# Readers that turn images to RAS+ before training. All others keep the files' axes, and archived axial CT has LPS+.
_REORIENTING = ("NibabelIOWithReorient",)


def limit_threads(threads: int) -> None:
    """Keep nnU-Net, which takes eight threads by default, to a job's threads; it looks only when it is imported."""
    os.environ.update(nnUNet_def_n_proc=str(threads))


def open_backend(settings: NnUNet, job: Job) -> Backend:
    """Load the user's network for all studies of a job."""
    device = choose_device(settings.device)
    predictor = load(Path(settings.folder), folds=settings.folds, device=device, threads=job.threads)
    coding = find_coding(settings.coding)
    return Backend(name_of(predictor), lambda ct, keys: segment(predictor, ct, coding=coding))


def load(folder: Path, *, folds: Sequence[int | str] | None, device: str, threads: int) -> Predictor:
    """Load a network's folds.

    A checkpoint is a pickle, which can run any code: load none that you don't trust.

    Parameters
    ----------
    folder : Path
        ``{trainer}__{plans}__{configuration}`` of nnU-Net's results.
    folds : sequence of int or "all", optional
        Which folds answer together; all that are there by default.
    device : {"cpu", "cuda"}
        Where the folds run.
    threads : int
        CPU threads of this job.

    Raises
    ------
    ConfigError
        If the folder is not complete, or the network two-dimensional.
    """
    _check_complete(folder, folds or ())
    limit_threads(threads)
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor: Predictor = nnUNetPredictor(
        use_mirroring=False,  # eight times the work for little
        perform_everything_on_device=device != "cpu",
        device=torch.device(device),
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(str(folder), tuple(folds or folds_in(folder)))
    if len(predictor.configuration_manager.spacing) != 3:
        raise ConfigError(f"Option segment.nnunet.folder: {folder} is two-dimensional; name a 3d configuration.")
    return predictor


def _check_complete(folder: Path, folds: Sequence[int | str]) -> None:
    """Raise a ConfigError if a file that nnU-Net reads is missing, or a checkpoint of one of the folds."""
    files = ["dataset.json", "plans.json", *(f"fold_{fold}/{_CHECKPOINT}" for fold in folds)]
    missing = [file for file in files if not (folder / file).is_file()]
    if not any(folder.glob(f"fold_*/{_CHECKPOINT}")):
        missing.append(f"fold_*/{_CHECKPOINT}")
    if missing:
        raise ConfigError(
            f"Option segment.nnunet.folder names {folder}, which lacks {missing[0]}; give a trained nnU-Net."
        )


def folds_in(folder: Path) -> list[int | str]:
    """List all trained folds.

    By itself, nnU-Net overlooks the fold that was trained on all cases where it stands alone.
    """
    names = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{_CHECKPOINT}"))
    numbered: list[int | str] = [int(name) for name in names if name.isdecimal()]
    return numbered or ["all"]


def name_of(predictor: Predictor) -> str:
    """Name the network for the tables by its data set and its trainer."""
    plans = predictor.plans_manager
    return f"nnunet-{plans.dataset_name}-{predictor.trainer_name}"


def segment(predictor: Predictor, ct: Volume, *, coding: Coding) -> tuple[Volume, list[Level]]:
    """Outline and name the vertebrae of a scan (see `masks.segment` for the result).

    Parameters
    ----------
    predictor : nnUNetPredictor
        The network, as `load` gives it.
    ct : Volume
        HU.
    coding : Coding
        Meaning of the network's numbers.

    Raises
    ------
    StudyFailure
        ``no_vertebra`` where no vertebra is found.
    """
    numbers = predict(predictor, ct)
    coded = split_bodies(numbers.with_array(recode(numbers.array, coding)), coding.whole)
    labels = resample(coded, ct.array.shape, ct.affine, outside=0, how="nearest")
    return labels, review(labels, NETWORK)


def predict(predictor: Predictor, ct: Volume) -> Volume:
    """Label a scan with the network's numbers, on a grid with the spacing that the network was trained on.

    By itself, nnU-Net would bring its answers for all classes to the CT's grid, which takes more than ten times the
    memory.
    """
    plans = predictor.plans_manager
    axes = "RAS" if plans.plans["image_reader_writer"] in _REORIENTING else "LPS"
    # nnU-Net counts axes from the last to the first, and in an order of its own.
    spacing_zyx = [predictor.configuration_manager.spacing[i] for i in plans.transpose_backward]
    image = resample(ct, *grid_for(ct, axes, spacing_zyx[::-1]), outside=PADDING_HU)
    numbers = predictor.predict_single_npy_array(
        np.ascontiguousarray(image.array.transpose(2, 1, 0), np.float32)[None], {"spacing": spacing_zyx}
    )
    return image.with_array(np.asarray(numbers).transpose(2, 1, 0))


def grid_for(ct: Volume, axes: str, spacing_mm: Sequence[float]) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Give shape and affine of a grid over a scan, along the scan's own axes in another order and spacing.

    >>> shape, affine = grid_for(Volume(np.zeros((10, 20, 30)), np.eye(4)), "LPS", [1, 1, 2])
    >>> shape, affine[:3, 3].tolist()
    ((10, 20, 16), [9.0, 19.0, 0.0])

    Parameters
    ----------
    ct : Volume
        Scan that the grid covers.
    axes : str
        Where the grid's axes point, such as ``LPS``; the nearest of the scan's axes is taken for each.
    spacing_mm : (3,) sequence
        Distances between voxels along these axes.
    """
    turn = ornt_transform(io_orientation(ct.affine), axcodes2ornt(axes))
    turned = Volume(apply_orientation(ct.array, turn), ct.affine @ inv_ornt_aff(turn, ct.array.shape))
    step = np.array(spacing_mm) / turned.spacing_mm
    n = np.ceil((np.array(turned.array.shape) - 1) / step).astype(int) + 1
    return (int(n[0]), int(n[1]), int(n[2])), turned.affine @ np.diag([*step, 1.0])
