"""Find the weights of TotalSegmentator and check that none is missing.

Pure Python, since the driver of a run checks them before any job starts.
"""

import os
from pathlib import Path

from trabecula.errors import ConfigError
from trabecula.model.segmenter_settings import Task

# Folders that TotalSegmentator 2.18 opens (`totalsegmentator.map_tasks_config`, which a test compares with). Where one
# is missing, it fetches it, also if the regions asked for don't need it: so all have to be there by their full names.
_ROUGH_6MM = "Dataset298_TotalSegmentator_total_6mm_1559subj"
_BODIES = "Dataset305_vertebrae_discs_1559subj"
FOLDERS: dict[Task, tuple[str, ...]] = {
    "total": (
        "Dataset291_TotalSegmentator_part1_organs_1559subj",
        "Dataset292_TotalSegmentator_part2_vertebrae_1532subj",
        "Dataset293_TotalSegmentator_part3_cardiac_1559subj",
        "Dataset294_TotalSegmentator_part4_muscles_1559subj",
        "Dataset295_TotalSegmentator_part5_ribs_1559subj",
        _ROUGH_6MM,
        _BODIES,
    ),
    "fast": ("Dataset297_TotalSegmentator_total_3mm_1559subj", _ROUGH_6MM, _BODIES),
}
_FETCHED_AS: dict[Task, str] = {"total": "total", "fast": "total_fast"}


def weights_folder() -> Path:
    """Give the folder that TOTALSEG_WEIGHTS_PATH names, or else TotalSegmentator's own."""
    home = Path(os.environ.get("TOTALSEG_HOME_DIR", Path.home() / ".totalsegmentator"))
    return Path(os.environ.get("TOTALSEG_WEIGHTS_PATH", home / "nnunet" / "results"))


def missing_weights(task: Task) -> list[str]:
    """List the folders of weights that are not there."""
    folder = weights_folder()
    return [name for name in FOLDERS[task] if not (folder / name).is_dir()]


def require_weights(task: Task) -> None:
    """Raise a ConfigError that says how to fetch the weights, if some are missing."""
    missing = missing_weights(task)
    if missing:
        raise ConfigError(
            f"The weights of TotalSegmentator are not complete ({missing[0]} is missing); where there is a network, "
            f"run `totalseg_download_weights -t {_FETCHED_AS[task]}` and `totalseg_download_weights -t "
            "vertebrae_body`, and set TOTALSEG_WEIGHTS_PATH to their folder."
        )
