"""Segment the studies of a shard with one backend, loaded once."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from trabecula.cohort.label_maps import ArchivedStudy, Noted
from trabecula.errors import StudyFailure
from trabecula.image.nifti import nifti_in
from trabecula.image.volume import Volume, read_nifti, write_nifti
from trabecula.model.segmenter_settings import Builtin, Masks, NnUNet, Settings, TotalSegmentator
from trabecula.segment import builtin, masks, memory, nnunet, totalsegmentator
from trabecula.segment.backend import Backend, Job
from trabecula.segment.numbering import Level

log = logging.getLogger(__name__)


def open_backend(settings: Settings, job: Job, identities: Callable[[], Mapping[str, ArchivedStudy]]) -> Backend:
    """Load a backend for all studies of a job.

    Parameters
    ----------
    settings : Settings
        Settings of one of the four backends.
    job : Job
        What the job may use.
    identities : callable
        Reads the original ids of the shard's studies, by study; only label maps that the user has need them.
    """
    torch.set_num_threads(job.threads)
    match settings:
        case Builtin():
            return builtin.open_backend(settings)
        case TotalSegmentator():
            return totalsegmentator.open_backend(settings, job)
        case NnUNet():
            return nnunet.open_backend(settings, job)
        case Masks():
            return masks.open_backend(settings, identities())
        case _:
            raise TypeError(type(settings).__name__)


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
        noted = None
        try:
            noted = backend.note(keys)  # before it is read, so that one that is replaced meanwhile is read again
            ct = read_nifti(nifti_in(ct_folder, keys["study_id"]))
            labels, levels = _segment(backend, ct, keys)
        except StudyFailure as failure:
            log.warning("study %s: %s", keys["study_id"], failure)
            yield _row(keys, backend, noted, None) | {
                "status": "failed",
                "reason": failure.reason,
                "detail": failure.detail,
            }
            continue
        write_nifti(labels, label_folder / f"{keys['study_id']}.nii.gz")
        names = " ".join(f"{level.name}({level.confidence:.2f})" for level in levels)
        log.info("study %s: %s", keys["study_id"], names)
        yield from (_row(keys, backend, noted, level) for level in levels)


def _segment(backend: Backend, ct: Volume, keys: Mapping[str, str]) -> tuple[Volume, list[Level]]:
    """Segment one scan; where memory runs out, this study fails and the others go on."""
    try:
        return backend.segment(ct, keys)
    except (MemoryError, RuntimeError) as error:
        if not memory.ran_out(error):
            raise
    memory.release()
    raise StudyFailure("out_of_memory", f"{' x '.join(map(str, ct.array.shape))} voxels")


def _row(keys: Mapping[str, str], backend: Backend, noted: Noted | None, level: Level | None) -> dict[str, Any]:
    return {
        **keys,
        "status": "ok",
        "reason": None,
        "detail": None,
        "segmenter": backend.name,
        "mask_state": noted.state if noted else None,
        "mask_digest": noted.digest if noted else None,
        "level": level.name if level else None,
        "level_confidence": level.confidence if level else None,
        "level_uncertain": level.uncertain if level else None,
        "level_flags": list(level.flags) if level else [],
    }
