"""The one table with original ids and paths: whom or what each pseudonym stands for, and where its slices lie."""

from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.cohort.linked import Linked
from trabecula.dicom.headers.record import Header
from trabecula.dicom.headers.table import FILES

_TEXT = pa.string()
# What convert needs to know of a file, so that it need not read its header again.
_SLICE = [
    *("path", "member", "size", "mtime_ns", "rows", "columns", "frames", "bits", "bits_stored", "high_bit", "signed"),
    *("samples", "photometric", "lossy", "slope", "intercept", "padding", "padding_limit", "pixel_spacing_mm"),
    *("orientation", "positions_mm", "frame", "transfer_syntax", "pixel_offset", "stream_lossy"),
]
_of_slice = attrgetter(*_SLICE)
_SLICE_TYPE = pa.struct([FILES.field(name) for name in _SLICE])
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
        ("chosen", pa.bool_()),
        ("shard", _TEXT),  # of the chosen stack of a study, else NULL
        ("study_date", _TEXT),
        ("archive", _TEXT),  # its top folder
        ("files", pa.list_(_TEXT)),
        ("n_damaged", pa.int32()),
        ("n_odd", pa.int32()),
        ("slices", pa.list_(_SLICE_TYPE)),  # of a chosen stack, else NULL
        # Files that repeat one of these slices, whose number comes first; of a chosen stack, else NULL.
        ("copies", pa.list_(pa.struct([("number", pa.int32()), ("slice", _SLICE_TYPE)]))),
    ],
    metadata={"table": "linkage"},
)


def slice_of(header: Header, archive: str) -> dict[str, Any]:
    """Give a file's entry of the column `slices`."""
    entry = dict(zip(_SLICE, _of_slice(header), strict=True))
    entry["path"] = f"{archive}/{header.path}"
    return entry


def read_linked(path: Path, shard: str) -> dict[str, Linked]:
    """Read the chosen stacks of a shard's studies, by study."""
    with tables.reading(path, "Run again with --forcerun index, which makes it anew."):
        table = pq.read_table(path, filters=[("shard", "=", shard)])
    rows = table.select(["study_id", "slices", "copies", "n_damaged", "n_odd"]).to_pylist()
    return {row["study_id"]: _linked(row) for row in rows}


def _linked(row: Mapping[str, Any]) -> Linked:
    headers = [Header(**entry) for entry in row["slices"]]
    copies = [(headers[copy["number"]], Header(**copy["slice"])) for copy in row["copies"]]
    return Linked(headers, row["n_damaged"], row["n_odd"], copies)


def read_archive(path: Path) -> str:
    """Read the top folder of the archive that the table is of."""
    with pq.ParquetFile(path) as file:
        return file.read_row_group(0, ["archive"])["archive"][0].as_py()
