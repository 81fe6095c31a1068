"""The private file of a cohort's identities, by which pseudonyms that were given stay (see `registry`)."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.cohort.people import Person
from trabecula.cohort.private import alone, write_private
from trabecula.cohort.pseudonym import fingerprint
from trabecula.cohort.registry import Known, Names, StudyOf, earlier_roots, resolve

_FILE = "identities.parquet"
_RESTORE = "Restore it from a backup; without it, patients whose ids were corrected would get other pseudonyms."
_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
_COLUMNS = (
    ("patient", _TEXT),
    ("study_uid", _TEXT),
    ("patient_root", _TEXT),
    ("study_root", _TEXT),
    ("is_current", pa.bool_()),
    ("sexes", _TEXTS),
    ("birth_dates", _TEXTS),
    ("birth_years", pa.list_(pa.int32())),
)


def are_lost(folder: Path) -> bool:
    """Tell whether a cohort's private folder lacks the file; before the first index it does."""
    return not (folder / _FILE).exists()


def settle(private: Path, cohort: str, present: Mapping[StudyOf, Person], key: bytes) -> Names:
    """Give the studies of an archive their pseudonyms, and note them for good.

    Parameters
    ----------
    private : Path
        Private folder; the files of all its cohorts whose pseudonyms are made with the same key are read.
    cohort : str
        Name of the cohort, whose file is written.
    present : mapping
        Studies of the archive, with facts of their patients (see `registry.resolve`).
    key : bytes
        Key of the pseudonyms.

    Raises
    ------
    ResultError
        If a file is cut off or overwritten.
    """
    path = private / cohort / _FILE
    # Jobs of other cohorts wait, so that each sees what the ones before it gave.
    with alone(private / "identities.lock"):
        others = sorted(other for other in private.glob(f"*/{_FILE}") if other != path)
        elsewhere = [_read(other) for other in others if _made_with(other) == fingerprint(key)]
        rows = resolve(present, _read(path) if path.exists() else [], elsewhere)
        write_private(_as_table(rows, key), path)
    return Names(key, rows, earlier_roots(rows, elsewhere, present))


def _made_with(path: Path) -> str:
    """Read the fingerprint of the key."""
    with tables.reading(path, _RESTORE):
        return (pq.read_schema(path).metadata or {}).get(b"key", b"").decode()


def _read(path: Path) -> list[Known]:
    with tables.reading(path, _RESTORE):
        table = pq.read_table(path).select([name for name, _ in _COLUMNS])
    columns = [column.to_pylist() for column in table.itercolumns()]
    people = (Person(*map(frozenset, facts)) for facts in zip(*columns[5:], strict=True))
    return [Known(*row) for row in zip(*columns[:5], people, strict=True)]


def _as_table(rows: list[Known], key: bytes) -> pa.Table:
    values = [(*row[:5], *(sorted(facts) for facts in row.person)) for row in rows]
    columns = list(zip(*values, strict=True)) or [()] * len(_COLUMNS)
    schema = pa.schema(_COLUMNS, metadata={"table": "identities", "key": fingerprint(key)})
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)
