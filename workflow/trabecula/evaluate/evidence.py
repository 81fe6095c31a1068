"""The tables that the statistics stand on, and how to read them.

Of a large cohort without labels only the patients and their scans are read.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.model.baselines import Baseline
from trabecula.tables import TEXT

# Tables with many rows per patient, of which only labelled patients count.
LARGE = ("vertebrae", "predictions")


@dataclass(frozen=True)
class Evidence:
    """The tables that the statistics stand on, with the model's baselines and folds.

    Attributes
    ----------
    patients, studies, vertebrae, predictions, labels, protocol : tables
        Of the schemas of these names; the protocol is the model's. Vertebrae and predictions of labelled patients
        are enough.
    lines : tuple of Baseline
        The model's baselines.
    folds : mapping
        Patients of the model's training, and the fold that never saw them.
    """

    patients: pa.Table
    studies: pa.Table
    vertebrae: pa.Table
    predictions: pa.Table
    labels: pa.Table
    protocol: pa.Table
    lines: tuple[Baseline, ...]
    folds: Mapping[str, int]


def read_tables(files: Mapping[str, Sequence[Path | str]]) -> dict[str, pa.Table]:
    """Read public tables; of vertebrae and predictions only the rows of labelled patients.

    Parameters
    ----------
    files : mapping
        Parquet files of patients, studies, labels, vertebrae and predictions, a file per cohort.

    Returns
    -------
    dict
        A table of each name and schema.
    """
    whole = {name: tables.read_many(files[name], tables.PUBLIC[name]) for name in files if name not in LARGE}
    labelled = whole["labels"]["patient_id"].unique()
    return whole | {name: _rows_of_patients(files[name], tables.PUBLIC[name], labelled) for name in LARGE}


def _rows_of_patients(paths: Iterable[Path | str], schema: pa.Schema, patients: pa.Array) -> pa.Table:
    """Read the rows of some patients from a table's files; the folder names the cohort where no column does."""
    parts = []
    for path in map(Path, paths):
        rows = pq.ParquetDataset(path, filters=ds.field("patient_id").isin(patients), partitioning=None).read()  # pyright: ignore[reportArgumentType]
        if "cohort" not in rows.column_names:
            cohort = path.parent.name.removeprefix("cohort=")
            rows = rows.append_column("cohort", pa.array([cohort] * len(rows), TEXT))
        parts.append(tables.cast(rows, schema))
    return pa.concat_tables([schema.empty_table(), *parts])
