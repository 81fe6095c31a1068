"""Put the records of an archive's files into a table. Reading one file needs no tables, and no pyarrow."""

from collections.abc import Iterable

import pyarrow as pa

from trabecula.dicom.headers.fields import FIELDS
from trabecula.dicom.headers.record import Header

_TYPES = {"text": pa.string(), "number": pa.float64(), "count": pa.int32(), "vector": pa.list_(pa.float64())}
# The table of all records, made by `nifti.records`; private, since it holds identities.
FILES = pa.schema(
    [
        ("path", pa.string()),
        ("member", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        *((field.name, _TYPES[field.kind]) for field in FIELDS),
        ("frame", pa.int32()),
        ("transfer_syntax", pa.string()),
        ("pixel_offset", pa.int64()),
        ("stream_lossy", pa.bool_()),
        ("substitute", pa.bool_()),
        ("reason", pa.string()),
    ],
    metadata={"table": "files"},
)
assert Header._fields == tuple(FILES.names)


def as_table(headers: Iterable[Header]) -> pa.Table:
    """Put records into a table (schema `FILES`), one row each."""
    columns = list(zip(*headers, strict=True)) or [()] * len(FILES)
    return pa.table([pa.array(c, field.type) for c, field in zip(columns, FILES, strict=True)], schema=FILES)
