"""The one table with original ids and paths: which pseudonym stands for what, and where its files lie."""

import os
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trabecula.tables import beside

_TEXT = pa.string()
LINKAGE = pa.schema(
    [
        ("cohort", _TEXT),
        ("patient", _TEXT),
        ("study_uid", _TEXT),
        ("series_uid", _TEXT),
        ("patient_id", _TEXT),
        ("study_id", _TEXT),
        ("series_id", _TEXT),
        ("stack", pa.int32()),
        ("shard", _TEXT),  # of the chosen stack of a study, else NULL
        ("study_date", _TEXT),
        ("files", pa.list_(_TEXT)),
    ],
    metadata={"table": "linkage"},
)


def write_linkage(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write the table, readable by its owner only, with a row group per shard so that a job reads its own alone."""
    ordered = sorted(rows, key=lambda row: (row["shard"] or "", row["study_id"], row["series_id"], row["stack"]))
    groups = [list(part) for _, part in groupby(ordered, key=lambda row: row["shard"])]
    tables = [pa.Table.from_pylist(part, schema=LINKAGE) for part in groups]
    write_private(LINKAGE.empty_table(), path, tables)


def read_files(path: Path, shard: str) -> dict[str, list[str]]:
    """Files of the chosen series of a shard's studies, by study."""
    table = pq.read_table(path, columns=["study_id", "shard", "files"], filters=pc.field("shard") == shard)
    return dict(zip(table["study_id"].to_pylist(), table["files"].to_pylist(), strict=True))


def write_private(table: pa.Table, path: Path, groups: Iterable[pa.Table] | None = None) -> None:
    """Write a Parquet file that only its owner can read, optionally in given row groups."""
    part = beside(path)
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file, pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        for group in [table] if groups is None else groups:
            writer.write_table(group)
    part.replace(path)
