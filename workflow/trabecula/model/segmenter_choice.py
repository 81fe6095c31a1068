"""Check the choice of a segmentation backend before any job.

Pure Python, since the driver of a run imports it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

from trabecula.cohort.mask_fields import ALL_FIELDS, FIELDS_OF_ONE_PATIENT
from trabecula.errors import ConfigError
from trabecula.image.codings import CODINGS, read_coding
from trabecula.model.segmenter_settings import Builtin, Masks, NnUNet, Settings, TotalSegmentator
from trabecula.model.totalseg_weights import missing_weights, require_weights
from trabecula.runtime.config import find


def resolve(options: Mapping[str, Any], folders: Sequence[Path]) -> Settings:
    """Choose the backend by the section `segment` of the configuration, and check that what it needs is there.

    Parameters
    ----------
    options : mapping
        The section, with defaults.
    folders : sequence of Path
        Where relative paths are looked for.

    Raises
    ------
    ConfigError
        If something that the backend needs is missing.
    """
    backend, task, device = options["backend"], options["task"], options["device"]
    if backend == "auto":
        backend = "builtin" if missing_weights(task) else "totalsegmentator"
    coding = _find_coding(options["coding"], folders)
    network = str(find(options["network"], folders, option="segment.network"))
    match backend:
        case "totalsegmentator":
            require_weights(task)
            return TotalSegmentator(task, device)
        case "nnunet":
            folder = _find_nnunet(options["nnunet"]["folder"], folders)
            return NnUNet(coding, folder, options["nnunet"]["folds"], device)
        case "masks":
            return Masks(coding, _check_pattern(options["masks"]))
        case _:
            return Builtin(network, device)


def _find_coding(coding: str, folders: Sequence[Path]) -> str:
    """Give the name of one of our codings as it is, or the path of a coding's file, which is read as a check."""
    if coding in CODINGS:
        return coding
    path = find(coding, folders, option="segment.coding")
    read_coding(path)
    return str(path)


def _find_nnunet(folder: str | None, folders: Sequence[Path]) -> str:
    if folder is None:
        raise ConfigError("Option segment.nnunet.folder is missing; name the folder of a trained nnU-Net.")
    return str(find(folder, folders, option="segment.nnunet.folder"))


def _check_pattern(pattern: str | None) -> str:
    try:
        fields = {name for _, name, _, _ in Formatter().parse(pattern or "") if name is not None}
    except ValueError:
        fields = set()
    if pattern is None or not fields & FIELDS_OF_ONE_PATIENT or fields - ALL_FIELDS:
        raise ConfigError(
            f"Option segment.masks is {pattern}; give a path with {{study_id}}, {{study_instance_uid}}, {{name}} or "
            "{subject} in it, and no other fields than {session}, {cohort} and {patient_id}."
        )
    return pattern
