"""Backend `totalsegmentator`: TotalSegmentator through its Python API.

Wasserthal et al., Radiol Artif Intell 2023, doi:10.1148/ryai.230024. Two tasks: `total` names the vertebrae and
`vertebrae_body` tells bodies from posterior elements. Weights are never fetched by a job.
"""

import functools
import importlib.metadata
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from trabecula.errors import StudyFailure
from trabecula.levels import BODY_CODES, DISC, POSTERIOR
from trabecula.segment.masks import CODINGS, levels_in
from trabecula.segment.numbering import Level
from trabecula.volume import Volume, resample, write_nifti

# Folders of nnU-Net weights that must be there: where one is missing, TotalSegmentator fetches it, even if the
# regions asked for don't need it. 291 to 295 are the parts of `total` at 1.5 mm, 298 its 6 mm model, 305 the bodies.
WEIGHTS = tuple(f"Dataset{number}_" for number in (291, 292, 293, 294, 295, 298, 305))
BODY, DISCS = 1, 2
# How far from right TotalSegmentator's numbering is in a few per cent of cases is not in its output.
CONFIDENCE = 0.95
VERTEBRAE = [f"vertebrae_{part}{i}" for part, n in (("C", 7), ("T", 12), ("L", 5)) for i in range(1, n + 1)]
ROIS = [*VERTEBRAE, "vertebrae_S1", "sacrum"]


def weights_folder() -> Path | None:
    """Folder that TOTALSEG_WEIGHTS_PATH names (or TotalSegmentator's own), if all weights are in it."""
    home = Path(os.environ.get("TOTALSEG_HOME_DIR", Path.home() / ".totalsegmentator"))
    folder = Path(os.environ.get("TOTALSEG_WEIGHTS_PATH", home / "nnunet" / "results"))
    there = all(any(folder.glob(f"{name}*")) for name in WEIGHTS)
    return folder if there else None


def version() -> str:
    """Version of the installed TotalSegmentator."""
    return importlib.metadata.version("TotalSegmentator")


def prepare(state: Path, *, threads: int) -> ModuleType:
    """Import TotalSegmentator with a state folder of this job's own, usage statistics off, and one predictor kept.

    Parameters
    ----------
    state : Path
        Empty folder; TotalSegmentator writes its configuration there without a lock.
    threads : int
        CPU threads of this job; TotalSegmentator by itself takes all.

    Raises
    ------
    FileNotFoundError
        If the weights are not there.
    """
    weights = weights_folder()
    if weights is None:
        raise FileNotFoundError(
            "the weights of TotalSegmentator are not found: run `totalseg_download_weights -t total` and "
            "`-t vertebrae_body` once where there is a network, and set TOTALSEG_WEIGHTS_PATH to their folder"
        )
    settings = {"totalseg_id": "totalseg_none", "send_usage_stats": False, "prediction_counter": 0}
    (state / "config.json").write_text(json.dumps(settings))
    os.environ["TOTALSEG_HOME_DIR"] = str(state)
    os.environ["TOTALSEG_WEIGHTS_PATH"] = str(weights)
    from totalsegmentator.config import setup_nnunet

    setup_nnunet()  # before nnU-Net is imported, which reads its folders then and only then
    from totalsegmentator import nnunet

    nnunet.nnUNetv2_predict = functools.partial(_predict, threads=threads)
    import totalsegmentator.python_api as api

    return api


@functools.lru_cache(maxsize=4)
def _predictor(folder: str, folds: tuple[int, ...] | None, step_size: float, device: str):
    """Load a network once per job; TotalSegmentator by itself loads it for every study."""
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


def segment(api: ModuleType, ct: Volume, *, scratch: Path, device: str) -> tuple[Volume, list[Level]]:
    """Outline and name the vertebrae of a scan (see `masks.segment` for the result).

    Parameters
    ----------
    api : module
        What `prepare` gave.
    ct : Volume
        HU.
    scratch : Path
        Folder for the NIfTI that TotalSegmentator reads.
    device : {"cpu", "cuda"}
        Where its networks run.
    """
    path = scratch / "ct.nii"
    write_nifti(ct, path)
    run = functools.partial(api.totalsegmentator, path, None, ml=True, quiet=True, device=device.replace("cuda", "gpu"))
    named = run(task="total", roi_subset=ROIS)
    if not np.any(named.dataobj):
        raise StudyFailure("no_vertebra")
    parts = run(task="vertebrae_body")
    labels = combine(_on_grid(named, ct), _on_grid(parts, ct))
    return ct.with_array(labels), levels_in(labels, confidence=CONFIDENCE)


def combine(total: NDArray[np.uint8], parts: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Canonical codes from the maps of the tasks `total` and `vertebrae_body`, both of one shape."""
    code = CODINGS["totalsegmentator"][total]
    vertebra = np.isin(code, BODY_CODES)
    labels = np.where(vertebra & (parts != BODY), code + np.uint8(POSTERIOR), code)
    return np.where((parts == DISCS) & (code == 0), np.uint8(DISC), labels)


def _on_grid(image, ct: Volume) -> NDArray[np.uint8]:
    """Voxels of a nibabel image on the CT's grid."""
    found = Volume(np.asarray(image.dataobj).astype(np.uint8), np.asarray(image.affine, float))
    if found.array.shape == ct.array.shape and np.allclose(found.affine, ct.affine, atol=1e-2):
        return found.array
    return resample(found, ct.array.shape, ct.affine, outside=0, how="nearest").array
