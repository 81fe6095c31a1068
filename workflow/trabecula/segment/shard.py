"""Segment the studies of a shard with one backend, loaded once."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trabecula import segmenter
from trabecula.errors import StudyFailure
from trabecula.nifti import nifti_in
from trabecula.segment import builtin, masks, totalsegmentator
from trabecula.segment.numbering import Level
from trabecula.volume import Volume, read_nifti, write_nifti

log = logging.getLogger(__name__)

# Scan and its keys (cohort, patient_id, study_id) in; canonical label map and the levels' names out.
Segment = Callable[[Volume, Mapping[str, str]], tuple[Volume, list[Level]]]


@dataclass(frozen=True)
class Backend:
    """A way to segment, ready to use.

    Attributes
    ----------
    name : str
        Backend and version, as the tables show it.
    segment : Segment
        Segments one scan.
    """

    name: str
    segment: Segment


def choose_backend(backend: str) -> str:
    """Resolve `auto`: TotalSegmentator where its weights are found, else the builtin network."""
    if backend != "auto":
        return backend
    return "totalsegmentator" if totalsegmentator.weights_folder() else "builtin"


def choose_device(device: str) -> str:
    """Resolve `auto`: a GPU where there is one."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def open_backend(
    backend: str, *, network: Path, masks_pattern: str | None, coding: str, device: str, threads: int, scratch: Path
) -> Backend:
    """Load a backend for all studies of a job.

    Parameters
    ----------
    backend : {"auto", "builtin", "totalsegmentator", "masks"}
        Which one.
    network : Path
        Bundle of the builtin network.
    masks_pattern : str or None
        Path of a study's label map with fields to fill in, for `masks`.
    coding : str
        What the numbers in those label maps mean; a key of `masks.CODINGS`.
    device : {"auto", "cpu", "cuda"}
        Where networks run.
    threads : int
        CPU threads.
    scratch : Path
        Empty folder of this job's own.
    """
    torch.set_num_threads(threads)
    place = choose_device(device)
    match choose_backend(backend):
        case "builtin":
            unet, name = segmenter.load_bundle(network, device=place)
            return Backend(name, lambda ct, keys: builtin.segment(unet, ct, device=place))
        case "totalsegmentator":
            api = totalsegmentator.prepare(scratch, threads=threads)
            return Backend(
                f"totalsegmentator-{totalsegmentator.version()}",
                lambda ct, keys: totalsegmentator.segment(api, ct, scratch=scratch, device=place),
            )
        case _:
            pattern = masks_pattern or ""
            return Backend("masks", lambda ct, keys: masks.segment(ct, Path(pattern.format(**keys)), coding=coding))


def segment_shard(
    studies: Iterable[Mapping[str, Any]], backend: Backend, *, ct_folder: Path, label_folder: Path
) -> Iterator[dict[str, Any]]:
    """Segment every converted study of a shard.

    Reads ``{study_id}.nii`` or ``.nii.gz`` and writes ``{study_id}.nii.gz``.

    Yields
    ------
    dict
        Rows of `tables.SEGMENT`: one per level found, or one for a failed study.
    """
    for study in studies:
        keys = {name: study[name] for name in ("cohort", "patient_id", "study_id")}
        try:
            ct = read_nifti(nifti_in(ct_folder, keys["study_id"]))
            labels, levels = backend.segment(ct, keys)
        except StudyFailure as failure:
            log.warning("study %s: %s", keys["study_id"], failure)
            yield _row(keys, backend, None) | {"status": "failed", "reason": failure.reason, "detail": failure.detail}
            continue
        write_nifti(labels, label_folder / f"{keys['study_id']}.nii.gz")
        log.info("study %s: %s", keys["study_id"], " ".join(f"{x.name}({x.confidence:.2f})" for x in levels))
        yield from (_row(keys, backend, level) for level in levels)


def _row(keys: Mapping[str, str], backend: Backend, level: Level | None) -> dict[str, Any]:
    return {
        **keys,
        "status": "ok",
        "reason": None,
        "detail": None,
        "segmenter": backend.name,
        "level": level.name if level else None,
        "level_confidence": level.confidence if level else None,
        "level_uncertain": level.uncertain if level else None,
    }
