"""Segment with TotalSegmentator through its Python API (backend `totalsegmentator`).

Wasserthal et al., Radiol Artif Intell 2023, doi:10.1148/ryai.230024. Two tasks run: `total` names the vertebrae, and
`vertebrae_body` tells bodies from posterior elements. A job never fetches weights.
"""

import functools
import importlib.metadata
import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from trabecula.errors import StudyFailure
from trabecula.image.codings import CODINGS
from trabecula.image.levels import BODY_CODES, DISC, POSTERIOR, USUAL_VERTEBRAE
from trabecula.image.volume import Volume, resample, write_nifti
from trabecula.model.segmenter_settings import Task, TotalSegmentator
from trabecula.model.totalseg_weights import require_weights, weights_folder
from trabecula.segment import memory
from trabecula.segment.backend import Backend, Job, choose_device
from trabecula.segment.masks import recode
from trabecula.segment.nnunet import limit_threads
from trabecula.segment.numbering import Level
from trabecula.segment.review import NETWORK, review

log = logging.getLogger(__name__)

# Numbers of the task `vertebrae_body`.
BODY, DISCS = 1, 2
VERTEBRAE = [f"vertebrae_{level}" for level in USUAL_VERTEBRAE]
RIBS = [f"rib_{side}_{i}" for side in ("left", "right") for i in range(1, 13)]
ROIS = [*VERTEBRAE, "vertebrae_S1", "sacrum", *RIBS]
# TotalSegmentator splits into three parts along the body that overlap by 20 voxels; shorter parts come out wrong.
_SHORTEST_TO_SPLIT_MM: dict[Task, float] = {"total": 60 * 1.5, "fast": 60 * 3.0}


def open_backend(settings: TotalSegmentator, job: Job) -> Backend:
    """Import TotalSegmentator for all studies of a job."""
    settings = replace(settings, device=choose_device(settings.device))
    api = prepare(settings.task, job)
    version = importlib.metadata.version("TotalSegmentator")
    return Backend(
        f"totalsegmentator-{version}-{settings.task}", lambda ct, keys: segment(api, ct, settings=settings, job=job)
    )


def prepare(task: Task, job: Job) -> ModuleType:
    """Import TotalSegmentator so that it keeps to this job and sends no usage statistics.

    Its configuration, which it writes without a lock, goes to the job's scratch folder. It takes the job's threads,
    where it would take all, and loads each network once.

    Parameters
    ----------
    task : {"total", "fast"}
        Task whose weights have to be there.
    job : Job
        What the job may use.

    Raises
    ------
    ConfigError
        If weights are missing.
    """
    require_weights(task)
    os.environ["TOTALSEG_WEIGHTS_PATH"] = str(weights_folder())
    options = {"totalseg_id": "totalseg_none", "send_usage_stats": False, "prediction_counter": 0}
    options |= {"statistics_disclaimer_shown": True}  # else it prints that it sends them
    (job.scratch / "config.json").write_text(json.dumps(options))
    os.environ["TOTALSEG_HOME_DIR"] = str(job.scratch)
    limit_threads(job.threads)
    from totalsegmentator.config import setup_nnunet

    setup_nnunet()  # before nnU-Net is imported, which reads its folders then and only then
    from totalsegmentator import nnunet

    nnunet.nnUNetv2_predict = functools.partial(_predict, threads=job.threads)
    import totalsegmentator.python_api as api

    return api


# At most four networks: a rough one, the vertebrae, the ribs, the bodies.
@functools.lru_cache(maxsize=4)
def _predictor(folder: str, folds: tuple[int, ...] | None, step_size: float, device: str):
    """Load a network, once per job; TotalSegmentator by itself loads it for every study."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=step_size,
        use_mirroring=False,
        perform_everything_on_device=device != "cpu",
        device=torch.device(device),
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(folder, cast(Any, folds), checkpoint_name="checkpoint_final.pth")
    return predictor


def _predict(
    dir_in: Path,
    dir_out: Path,
    task_id: int,
    model: str = "3d_fullres",
    folds: list[int] | None = None,
    trainer: str = "nnUNetTrainer",
    tta: bool = False,
    num_threads_preprocessing: int = 1,
    num_threads_nifti_save: int = 1,
    plans: str = "nnUNetPlans",
    device: str | torch.device = "cuda",
    quiet: bool = True,
    step_size: float = 0.5,
    save_probabilities_path: Path | None = None,
    use_cropped_logits_resampling: bool = False,
    *,
    threads: int,
) -> None:
    """Predict every case of a folder with the kept network, in this process and with this job's threads."""
    from nnunetv2.utilities.file_path_utilities import get_output_folder

    if tta or save_probabilities_path is not None:
        raise NotImplementedError("mirroring and saved probabilities are not used here")
    torch.set_num_threads(threads)
    folder = get_output_folder(task_id, trainer, plans, model)
    predictor = _predictor(folder, tuple(folds) if folds else None, step_size, str(device))
    ending = "_0000.nii.gz"
    cases = sorted(path.name.removesuffix(ending) for path in Path(dir_in).glob(f"*{ending}"))
    # TotalSegmentator adds the last argument to this function of nnU-Net.
    predict: Any = predictor.predict_from_files_sequential
    predict(
        [[str(Path(dir_in) / f"{case}{ending}")] for case in cases],
        [str(Path(dir_out) / case) for case in cases],
        save_probabilities=False,
        overwrite=True,
        folder_with_segs_from_prev_stage=None,
        use_cropped_logits_resampling=use_cropped_logits_resampling,
    )


def segment(api: ModuleType, ct: Volume, *, settings: TotalSegmentator, job: Job) -> tuple[Volume, list[Level]]:
    """Outline and name the vertebrae of a scan (see `masks.segment` for the result).

    A scan that is too large for the job's memory is computed in three parts along the body that overlap; so is a scan
    on which memory ran out.

    Parameters
    ----------
    api : module
        TotalSegmentator, as `prepare` gives it.
    ct : Volume
        HU.
    settings : TotalSegmentator
        Task and device; the device is "cpu" or "cuda".
    job : Job
        What the job may use; a scan that needs more memory is split.

    Raises
    ------
    StudyFailure
        ``no_vertebra`` where none is found.
    MemoryError, RuntimeError
        If there is too little memory for the parts too (see `memory.ran_out`).
    """
    path = job.scratch / "ct.nii"
    write_nifti(ct, path)
    length_mm = float(np.abs(ct.affine[2, :3]) @ (np.array(ct.array.shape) - 1))
    splittable = length_mm >= _SHORTEST_TO_SPLIT_MM[settings.task]
    split = splittable and memory.estimate_mb(ct) > job.memory_mb
    maps = None
    try:
        maps = outline(api, path, settings, split=split)
    except (MemoryError, RuntimeError) as error:
        if not memory.ran_out(error) or split or not splittable:
            raise
    if maps is None:  # not within `except`, where the exception still holds the arrays
        log.warning("too little memory for %s voxels at once: once more in parts", ct.array.shape)
        memory.release()
        maps = outline(api, path, settings, split=True)
    named, parts = maps
    labels = ct.with_array(combine(_on_grid(named, ct), _on_grid(parts, ct)))
    return labels, review(labels, NETWORK)


def outline(api: ModuleType, path: Path, settings: TotalSegmentator, *, split: bool) -> tuple[Any, Any]:
    """Run the tasks `total` and `vertebrae_body`; give their maps (nibabel images) in TotalSegmentator's numbers.

    Raises
    ------
    StudyFailure
        ``no_vertebra`` where the first map is empty, ``out_of_memory`` where too little of the spine is in view to be
        split.
    """
    device = settings.device.replace("cuda", "gpu")
    run = functools.partial(api.totalsegmentator, path, None, ml=True, quiet=True, device=device, force_split=split)
    try:
        named = run(task="total", roi_subset=ROIS, fast=settings.task == "fast")
        if not np.any(named.dataobj):
            raise StudyFailure("no_vertebra")
        return named, run(task="vertebrae_body")
    except ValueError as error:
        # The task `total` is cut to the spine before it is split: parts may come out shorter than their overlap.
        if not split or "broadcast" not in str(error):
            raise
        raise StudyFailure("out_of_memory", "too little of the spine is in view for three parts") from error


def combine(total: NDArray[np.uint8], parts: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put the maps of the tasks `total` and `vertebrae_body`, both of one shape, together in canonical codes.

    >>> combine(np.array([31, 31, 0], np.uint8), np.array([1, 0, 2], np.uint8)).tolist()  # L1 is 20
    [20, 120, 50]
    """
    code = recode(total, CODINGS["totalsegmentator"])
    vertebra = np.isin(code, BODY_CODES)
    labels = np.where(vertebra & (parts != BODY), code + np.uint8(POSTERIOR), code)
    return np.where((parts == DISCS) & (code == 0), np.uint8(DISC), labels)


def _on_grid(image, ct: Volume) -> NDArray[np.uint8]:
    """Give the voxels of a nibabel image on the CT's grid."""
    labels = Volume(np.asarray(image.dataobj).astype(np.uint8), np.asarray(image.affine, float))
    if labels.array.shape == ct.array.shape and np.allclose(labels.affine, ct.affine, atol=1e-2):
        return labels.array
    return resample(labels, ct.array.shape, ct.affine, outside=0, how="nearest").array
