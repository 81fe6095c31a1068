"""Segment the studies of a shard with one backend, loaded once."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trabecula.errors import StudyFailure
from trabecula.image.codings import find_coding
from trabecula.image.nifti import nifti_in
from trabecula.image.volume import Volume, read_nifti, write_nifti
from trabecula.model import spine_network
from trabecula.model.totalseg_weights import Task
from trabecula.segment import builtin, masks, memory, nnunet, totalsegmentator
from trabecula.segment.identity import read_identities
from trabecula.segment.numbering import Level

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


def choose_device(device: str) -> str:
    """Resolve `auto`: a GPU where there is one."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def open_backend(
    backend: str,
    *,
    network: Path,
    task: Task,
    nnunet_folder: Path | None,
    folds: Sequence[int | str] | None,
    masks_pattern: str | None,
    coding: str,
    device: str,
    threads: int,
    memory_mb: float,
    scratch: Path,
    linkage: Path,
    shard: str,
) -> Backend:
    """Load a backend for all studies of a job.

    Parameters
    ----------
    backend : {"builtin", "totalsegmentator", "masks", "nnunet"}
        Which one.
    network : Path
        Bundle of the builtin network.
    task : {"total", "fast"}
        TotalSegmentator's networks for 1.5 mm, or for 3 mm.
    nnunet_folder : Path or None
        Trained nnU-Net, for `nnunet`.
    folds : sequence of int or "all", or None
        Which of its folds answer; None for all.
    masks_pattern : str or None
        Path of a study's label map with fields to fill in, for `masks`.
    coding : str
        What the numbers in those label maps, or of that nnU-Net, mean: a key of `codings.CODINGS`, or a file.
    device : {"auto", "cpu", "cuda"}
        Where networks run.
    threads : int
        CPU threads.
    memory_mb : float
        Memory of the job.
    scratch : Path
        Empty folder of this job's own.
    linkage, shard : Path, str
        Private table of original ids and name of the shard: where `masks` looks for a study's own id.
    """
    torch.set_num_threads(threads)
    place = choose_device(device)
    match backend:
        case "builtin":
            unet, name = spine_network.load_bundle(network, device=place)
            return Backend(name, lambda ct, keys: builtin.segment(unet, ct, device=place))
        case "totalsegmentator":
            api = totalsegmentator.prepare(scratch, task=task, threads=threads)
            settings = totalsegmentator.Settings(task, place, memory_mb, scratch)
            return Backend(
                f"totalsegmentator-{totalsegmentator.version()}-{task}",
                lambda ct, keys: totalsegmentator.segment(api, ct, settings),
            )
        case "nnunet":
            assert nnunet_folder is not None
            predictor = nnunet.load(nnunet_folder, folds=folds, device=place, threads=threads)
            meaning = find_coding(coding)
            return Backend(nnunet.name_of(predictor), lambda ct, keys: nnunet.segment(predictor, ct, coding=meaning))
        case _:
            identities, pattern, meaning = read_identities(linkage, shard), masks_pattern or "", find_coding(coding)

            def given(ct: Volume, keys: Mapping[str, str]) -> tuple[Volume, list[Level]]:
                known = identities[keys["study_id"]]
                # The UID is looked at where it is asked for.
                own = {"study_instance_uid": known.in_file_name()} if "{study_instance_uid" in pattern else {}
                path = Path(pattern.format(**keys, **own))
                return masks.segment(ct, path, coding=meaning, frame_of_reference=known.frame_of_reference())

            return Backend("masks", given)


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
            labels, levels = _outlined(backend, ct, keys)
        except StudyFailure as failure:
            log.warning("study %s: %s", keys["study_id"], failure)
            yield _row(keys, backend, None) | {"status": "failed", "reason": failure.reason, "detail": failure.detail}
            continue
        write_nifti(labels, label_folder / f"{keys['study_id']}.nii.gz")
        log.info("study %s: %s", keys["study_id"], " ".join(f"{x.name}({x.confidence:.2f})" for x in levels))
        yield from (_row(keys, backend, level) for level in levels)


def _outlined(backend: Backend, ct: Volume, keys: Mapping[str, str]) -> tuple[Volume, list[Level]]:
    """What a backend makes of a scan; too little memory for one scan is no reason to give up the others."""
    try:
        return backend.segment(ct, keys)
    except (MemoryError, RuntimeError) as error:
        if not memory.ran_out(error):
            raise
    memory.release()
    raise StudyFailure("out_of_memory", f"{' x '.join(map(str, ct.array.shape))} voxels")


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
        "level_flags": list(level.flags) if level else [],
    }
