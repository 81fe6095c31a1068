"""Pictures of studies and vertebrae, from the tables of crop and measure to files."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from trabecula import tables

# Rows whose pictures are held at a time.
BATCH = 256


def picture_name(cohort: str, study_id: str) -> str:
    """Path of a study's picture, seen from the gallery's pages."""
    return f"pictures/{cohort}/{study_id}.webp"


def tile_name(cohort: str, study_id: str, level: str) -> str:
    """Path of a vertebra's picture, by its level as segmented, seen from the gallery's pages."""
    return f"pictures/{cohort}/{study_id}_{level}.webp"


def write_pictures(path: Path | str, folder: Path) -> Iterator[tuple[str, str]]:
    """Write the pictures of one table of the stage crop; gives back cohort and study of each."""
    return _write(path, folder, ("cohort", "study_id"), picture_name)


def write_tiles(path: Path | str, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Write the pictures of one table of the stage measure; gives back cohort, study and level of each."""
    return _write(path, folder, ("cohort", "study_id", "level"), tile_name)


def _write(path: Path | str, folder: Path, keys: tuple[str, ...], name) -> Iterator[tuple]:
    with tables.reading(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH, columns=[*keys, "picture"]):
            for row in batch.to_pylist():
                if row["picture"]:
                    key = tuple(row[of] for of in keys)
                    target = folder / name(*key)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(row["picture"])
                    yield key
