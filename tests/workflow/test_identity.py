"""No identity of a patient leaves the private folder."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest
from pydicom.errors import InvalidDicomError

KEYWORDS = ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "SeriesInstanceUID")


@pytest.fixture(scope="module")
def identities(finished) -> set[bytes]:
    """Ids, names, birth dates (as people write them) and UIDs of both archives, read from their files."""
    found: set[str] = set()
    for file in finished.folder.glob("*/**/archive/**/*"):
        if not file.is_file():
            continue
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(KEYWORDS))
        except InvalidDicomError:
            continue
        texts = [str(header.get(keyword) or "") for keyword in KEYWORDS]
        birth = texts[2]
        found |= {*texts, *texts[1].split("^"), f"{birth[:4]}-{birth[4:6]}-{birth[6:]}"}
        found.add(f"{birth[6:]}.{birth[4:6]}.{birth[:4]}")
    return {text.encode() for text in found if len(text) > 3}


def decoded(file: Path) -> Iterator[bytes]:
    """Bytes of a file, and its values as text where they are stored compressed."""
    yield str(file).encode()
    yield file.read_bytes()
    if file.suffix == ".parquet":
        table = pq.ParquetFile(file).read()
        texts = [column for column in table.itercolumns() if not pa.types.is_binary(column.type)]
        yield "\n".join(str(value) for column in texts for value in column.to_pylist()).encode()
        yield str(table.schema).encode()


def test_the_archives_hold_identities(identities):
    assert len(identities) > 6 * len(KEYWORDS)
    assert any(text.startswith(b"SYN-") for text in identities)


def test_results_logs_and_report_hold_none(finished, identities):
    files = [
        file
        for part in ("results", "logs", ".snakemake/log")
        for file in (finished.folder / part).rglob("*")
        if file.is_file()
    ]
    assert {file.suffix for file in files} >= {".parquet", ".arrow", ".html", ".log", ".duckdb", ".tsv"}
    for file in files:
        for content in decoded(file):
            leaked = [text for text in identities if text in content]
            assert not leaked, f"{file} holds {leaked[:3]}"


def test_the_private_folder_is_closed_to_others(finished):
    assert (finished.folder / "private/key").stat().st_mode & 0o077 == 0
