"""Check the choice of a segmentation backend before any job, and what its jobs ask for.

Pure Python, since the driver of a run imports it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

from trabecula.errors import ConfigError
from trabecula.image.codings import CODINGS, read_coding
from trabecula.model.totalseg_weights import missing_weights, require_weights
from trabecula.runtime.config import find

MASK_FIELDS = {"cohort", "patient_id", "study_id", "study_instance_uid"}
# Megabytes for a scan of 512 x 512 x 800 voxels: with room above the 3,500 and 1,800 that were measured for the first
# two, and as `segment.memory` estimates for the networks of others.
MEMORY_MB = {"builtin": 6000, "masks": 4000, "totalsegmentator": 12000, "nnunet": 12000}


def resolve(options: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """Keyword arguments of `segment.open_backend` from the section `segment` of the configuration.

    Parameters
    ----------
    options : mapping
        The section, with defaults.
    folders : sequence of Path
        Where relative paths are looked for.

    Raises
    ------
    ConfigError
        If what the backend needs is not there.
    """
    backend, task = options["backend"], options["task"]
    if backend == "auto":
        backend = "builtin" if missing_weights(task) else "totalsegmentator"
    folder, coding = options["nnunet"]["folder"], options["coding"]
    if coding not in CODINGS:
        coding = str(find(coding, folders, option="segment.coding"))
        read_coding(Path(coding))
    match backend:
        case "totalsegmentator":
            require_weights(task)
        case "nnunet":
            if folder is None:
                raise ConfigError("Option segment.nnunet.folder is missing; name the folder of a trained nnU-Net.")
            folder = find(folder, folders, option="segment.nnunet.folder")
        case "masks":
            _check_pattern(options["masks"])
    return {
        "backend": backend,
        "network": find(options["network"], folders, option="segment.network"),
        "task": task,
        "nnunet_folder": folder,
        "folds": options["nnunet"]["folds"],
        "masks_pattern": options["masks"],
        "coding": coding,
        "device": options["device"],
    }


def _check_pattern(pattern: str | None) -> None:
    try:
        fields = {name for _, name, _, _ in Formatter().parse(pattern or "") if name is not None}
    except ValueError:
        fields = set()
    if not fields & (MASK_FIELDS - {"cohort", "patient_id"}) or fields - MASK_FIELDS:
        raise ConfigError(
            f"Option segment.masks is {pattern}; give a path with {{study_id}} or {{study_instance_uid}} in it, and "
            "no other fields than {cohort} and {patient_id}."
        )
