"""Convert the studies of a shard: a NIfTI file for each, and a table with what became of them."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trabecula import tables
from trabecula.cohort.linkage import read_archive, read_linked
from trabecula.cohort.linked import Linked
from trabecula.cohort.shards import Chosen, read_manifest
from trabecula.convert import convert_stack, failure_entries, volume_entries
from trabecula.errors import StudyFailure
from trabecula.runtime.log import progress
from trabecula.runtime.storage import must_be_there

log = logging.getLogger(__name__)


def convert_shard(
    studies: Iterable[Chosen],
    stacks: Mapping[str, Linked],
    *,
    archive: Path | str,
    cohort: str,
    key: bytes,
    folder: Path,
    max_gap_mm: float,
    file_format: str,
) -> Iterator[dict[str, Any]]:
    """Convert a shard's studies, one after another.

    Parameters
    ----------
    studies : iterable of Chosen
        Studies and the series chosen for each.
    stacks : mapping
        Each study's chosen stack.
    archive : Path or str
        Top folder of the archive.
    cohort : str
        Name of the cohort.
    key : bytes
        Key of the cohort's pseudonyms.
    folder : Path
        Where ``{study_id}.{file_format}`` files go.
    max_gap_mm : float
        See `convert_stack`.
    file_format : {"nii.gz", "nii"}
        Compressed or not.

    Yields
    ------
    dict
        Row of the table `convert`.

    Raises
    ------
    ConfigError
        If the archive is away as a whole.
    """
    for study in studies:
        row = {"cohort": cohort, "patient_id": study.patient_id, "study_id": study.study_id}
        row |= {"series_id": study.series_id}
        try:
            path = folder / f"{study.study_id}.{file_format}"
            converted = convert_stack(stacks[study.study_id], path, max_gap_mm=max_gap_mm, key=key)
        except StudyFailure as failure:
            if failure.reason in ("vanished", "unreadable"):
                must_be_there(archive)
            log.info("%s: %s", study.study_id, failure)
            yield row | failure_entries(failure)
        else:
            yield row | volume_entries(converted)


def write_shard(
    manifest: Path,
    linkage: Path,
    *,
    cohort: str,
    key: bytes,
    folder: Path,
    table: Path,
    max_gap_mm: float,
    file_format: str,
) -> None:
    """Convert a shard: a NIfTI file per study, and a table with a row per study.

    Parameters
    ----------
    manifest : Path
        List of the shard's studies (``results/{cohort}/shards/{shard}.tsv``).
    linkage : Path
        Private table with the files of each stack.
    cohort : str
        Name of the cohort.
    key : bytes
        Key of the cohort's pseudonyms.
    folder : Path
        Where the NIfTI files go.
    table : Path
        Where the table goes.
    max_gap_mm, file_format
        See `convert_shard`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stacks = read_linked(linkage, manifest.stem)
    # Studies that moved to another shard since have no stack in this one.
    studies = [study for study in read_manifest(manifest) if study.study_id in stacks]
    shown = progress(studies, what=f"convert {manifest.stem}", unit="studies", total=len(studies))
    options = {"archive": read_archive(linkage), "folder": folder, "max_gap_mm": max_gap_mm, "file_format": file_format}
    tables.write(convert_shard(shown, stacks, cohort=cohort, key=key, **options), tables.CONVERT, table)
