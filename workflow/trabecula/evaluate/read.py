"""Read what the statistics stand on: of a large cohort without labels only the patients and their scans."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.tables import TEXT

# Tables with many rows per patient, of which only labelled patients count.
LARGE = ("vertebrae", "predictions")


def read_tables(files: Mapping[str, Sequence[Path | str]]) -> dict[str, pa.Table]:
    """Read public tables; of vertebrae and predictions the rows of labelled patients.

    Parameters
    ----------
    files : mapping
        Parquet files of patients, studies, labels, vertebrae and predictions, a file per cohort.

    Returns
    -------
    dict
        A table of each name and schema.
    """
    found = {name: tables.read_many(files[name], tables.PUBLIC[name]) for name in files if name not in LARGE}
    labelled = found["labels"]["patient_id"].unique()
    return found | {name: _of_patients(files[name], tables.PUBLIC[name], labelled) for name in LARGE}


def _of_patients(paths: Iterable[Path | str], of: pa.Schema, patients: pa.Array) -> pa.Table:
    parts = []
    for path in map(Path, paths):
        rows = pq.ParquetDataset(path, filters=ds.field("patient_id").isin(patients), partitioning=None).read()  # pyright: ignore[reportArgumentType]
        if "cohort" not in rows.column_names:
            cohort = path.parent.name.removeprefix("cohort=")
            rows = rows.append_column("cohort", pa.array([cohort] * len(rows), TEXT))
        parts.append(tables.cast(rows, of))
    return pa.concat_tables([of.empty_table(), *parts])
