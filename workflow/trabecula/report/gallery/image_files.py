"""Image files of the gallery: overlays of studies and thumbnails of vertebrae, from the tables of crop and measure."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.cohort.current import CurrentStudies

# Rows whose images are held at a time.
BATCH = 256


def overlay_path(cohort: str, study_id: str) -> str:
    """Give the path of a study's overlay, relative to the gallery's pages."""
    return f"pictures/{cohort}/{study_id}.webp"


def thumbnail_path(cohort: str, study_id: str, level: str) -> str:
    """Give the path of a vertebra's thumbnail, by its level as segmented, relative to the gallery's pages."""
    return f"pictures/{cohort}/{study_id}_{level}.webp"


def write_overlays(path: Path | str, folder: Path, current: CurrentStudies) -> Iterator[tuple[str, str]]:
    """Write the overlays of one table of the stage crop, and list cohort and study of each."""
    return _write(path, folder, current, ("cohort", "study_id"), overlay_path)


def write_thumbnails(path: Path | str, folder: Path, current: CurrentStudies) -> Iterator[tuple[str, str, str]]:
    """Write the thumbnails of one table of the stage measure, and list cohort, study and level of each."""
    return _write(path, folder, current, ("cohort", "study_id", "level"), thumbnail_path)


def _write(
    path: Path | str, folder: Path, current: CurrentStudies, keys: tuple[str, ...], image_path: Callable[..., str]
) -> Iterator[tuple]:
    with tables.reading(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH, columns=[*keys, "picture"]):
            for row in current.rows(pa.Table.from_batches([batch]), path).to_pylist():
                if row["picture"]:
                    key = tuple(row[name] for name in keys)
                    target = folder / image_path(*key)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(row["picture"])
                    yield key
