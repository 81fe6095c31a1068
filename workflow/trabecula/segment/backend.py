"""Join the four backends to a shard's job: how the job calls them, and the means that it gives them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from trabecula.cohort.label_maps import Noted
from trabecula.image.volume import Volume
from trabecula.segment.numbering import Level

# Scan and its keys (cohort, patient_id, study_id) in; canonical label map and the levels' names out.
Segment = Callable[[Volume, Mapping[str, str]], tuple[Volume, list[Level]]]


def _no_label_map(keys: Mapping[str, str]) -> None:
    """Note nothing: the backend reads no label map."""


@dataclass(frozen=True)
class Backend:
    """A way to segment, ready to use.

    Attributes
    ----------
    name : str
        Backend and version, as the tables show it.
    segment : Segment
        Segments one scan.
    note : callable
        Notes the label map that will be read for a scan, by its keys; None where none is read.
    """

    name: str
    segment: Segment
    note: Callable[[Mapping[str, str]], Noted | None] = _no_label_map


@dataclass(frozen=True)
class Job:
    """Means that a job may use.

    Attributes
    ----------
    threads : int
        CPU threads.
    memory_mb : float
        Memory.
    scratch : Path
        Empty folder that no other job uses.
    """

    threads: int
    memory_mb: float
    scratch: Path


def choose_device(device: str) -> str:
    """Give "cpu" or "cuda"; "auto" takes a GPU where there is one.

    >>> choose_device("cpu")
    'cpu'
    """
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
