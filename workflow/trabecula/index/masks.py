"""Find the studies whose label map came, went or changed since they were segmented (backend `masks`)."""

import os
from collections.abc import Iterable, Iterator
from glob import iglob
from pathlib import Path
from typing import Any

from trabecula import tables
from trabecula.cohort.label_maps import ArchivedStudy, Noted, mask_path, read_archived_studies
from trabecula.errors import ConfigError, StudyFailure
from trabecula.runtime.signature import as_glob

_COLUMNS = ["cohort", "patient_id", "study_id", "reason", "mask_state", "mask_digest"]


def changed(pattern: str, segmented: Iterable[Path], linkage: Path) -> dict[str, str]:
    """List studies that are to be segmented again, each with its shard.

    Parameters
    ----------
    pattern : str
        Option `segment.masks`.
    segmented : iterable of Path
        Tables of the stage segment, ``{shard}.parquet``, as far as they are there.
    linkage : Path
        Private table of the index that came before, with the studies' original ids.

    Raises
    ------
    ConfigError
        If there is no label map at all any more, though some were read: their storage may be away.
    """
    shards = {}
    for path in segmented:
        rows = list(_rows(path))
        if any(row["mask_digest"] for row in rows) and not any(True for _ in iglob(as_glob(pattern))):
            raise ConfigError(
                "No label map is there any more that fits option segment.masks; check that its storage is mounted, and "
                "run again."
            )
        identities = read_archived_studies(linkage, path.stem) if rows else {}
        current = (row for row in rows if row["study_id"] in identities)
        shards |= {
            row["study_id"]: path.stem for row in current if _is_changed(row, pattern, identities[row["study_id"]])
        }
    return shards


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read a row per study; a table of other code, which is going to be made anew, gives none."""
    table = tables.read_columns(path)
    if table.column_names == tables.SEGMENT.names:
        yield from {row["study_id"]: row for row in table.select(_COLUMNS).to_pylist()}.values()


def _is_changed(row: dict[str, Any], pattern: str, identity: ArchivedStudy) -> bool:
    keys = {name: row[name] for name in ("cohort", "patient_id", "study_id")}
    try:
        path = mask_path(pattern, keys, identity)
    except StudyFailure:
        return False
    if row["mask_digest"] is None:  # without a label map, or segmented by a network
        return row["reason"] == "mask_missing" and os.path.isfile(path)
    return not Noted(row["mask_state"], row["mask_digest"]).is_of(path)
