"""No identity of a patient, and no key, leaves the private folder."""

import base64
import gzip
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest
from pydicom.errors import InvalidDicomError
from small_site import IDENTIFYING, SAID_BY_A_HOSPITAL

TEXTS = {"PatientID", "PatientName", "AccessionNumber", *SAID_BY_A_HOSPITAL}
DATES = {"PatientBirthDate", "StudyDate"}
UIDS = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"}
OPEN = ("results", "logs", ".snakemake")
BEGIN = "        header, layout = ct_slice.header, ct_slice.layout\n"
CRASH = "        raise KeyError(header.path)\n"
# Numbers in a file's bytes, with what joins them in dates and UIDs.
_NUMBERS = re.compile(rb"(?<![0-9A-Za-z.])[0-9]+(?:[.-][0-9]+)*(?![0-9A-Za-z])")


@dataclass(frozen=True)
class Identities:
    """Identities that must not be found: texts anywhere, numbers where they stand alone."""

    texts: frozenset[bytes]
    numbers: frozenset[bytes]

    def within(self, content: bytes) -> list[bytes]:
        """Those that a content holds."""
        return [text for text in self.texts if text in content] + [
            *self.numbers.intersection(_NUMBERS.findall(content))
        ]


def forms(date: str) -> Iterator[str]:
    """A date as headers and people write it."""
    year, month, day = date[:4], date[4:6], date[6:]
    yield from (date, f"{year}-{month}-{day}", f"{day}.{month}.{year}", f"{month}-{day}-{year}")


@pytest.fixture(scope="module")
def identities(finished) -> Identities:
    """Collect all that identifies patients in both archives, from the files and their names, and the key."""
    texts, numbers = set[str](), set[str]()
    for archive in finished.folder.glob("*/**/archive"):
        for file in archive.rglob("*"):
            if file.name.startswith(IDENTIFYING):
                texts.add(file.name)
            if not file.is_file():
                continue
            try:
                header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*TEXTS, *DATES, *UIDS])
            except InvalidDicomError:
                continue
            values = {keyword: str(header.get(keyword) or "") for keyword in (*TEXTS, *DATES, *UIDS)}
            texts |= {values[keyword] for keyword in TEXTS} | {*values["PatientName"].split("^")}
            numbers |= {values[keyword] for keyword in UIDS}
            numbers |= {form for keyword in DATES for form in forms(values[keyword])}
    key = (finished.folder / "private/key").read_bytes().strip()
    keys = {key, key.hex().encode(), base64.b64encode(key), base64.urlsafe_b64encode(key)}
    return Identities(
        frozenset({text.encode() for text in texts if len(text) > 3} | keys),
        frozenset(number.encode() for number in numbers if len(number) > 7),
    )


def decoded(file: Path) -> Iterator[bytes]:
    """Name and bytes of a file, and what it holds compressed or encoded."""
    yield str(file).encode()
    content = file.read_bytes()
    yield content
    if file.suffix == ".parquet":
        table = pq.ParquetFile(file).read()
        texts = [column for column in table.itercolumns() if not pa.types.is_binary(column.type)]
        yield "\n".join(str(value) for column in texts for value in column.to_pylist()).encode()
        yield str(table.schema).encode()
    elif file.suffix == ".gz":
        yield gzip.decompress(content)
    elif file.suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            for name in opened.namelist():
                yield name.encode()
                yield opened.read(name)
    elif "metadata" in file.parts:  # Snakemake's records are named by what they are of
        yield base64.b64decode(file.name + "==", validate=False)


def files_of(folder: Path, *parts: str) -> list[Path]:
    """All that a run leaves in some of its folders."""
    return [file for part in parts for file in (folder / part).rglob("*") if file.is_file()]


def assert_none(files: Iterable[Path], identities: Identities) -> None:
    for file in files:
        for content in decoded(file):
            leaked = identities.within(content)
            assert not leaked, f"{file} holds {leaked[:3]}"


def test_the_archives_hold_identities(identities):
    for text in (b"SYN-", b"ACC0", *(text.encode() for text in SAID_BY_A_HOSPITAL.values()), IDENTIFYING.encode()):
        assert any(text in identity for identity in identities.texts), text
    assert len(identities.numbers) > 300
    # It finds what it looks for.
    number = next(iter(identities.numbers))
    assert identities.within(b"a='" + number + b"'") == [number]
    assert not identities.within(b"1" + number)


def test_results_logs_report_and_records_hold_none(finished, identities):
    files = files_of(finished.folder, *OPEN)
    assert {file.suffix for file in files} >= {
        ".parquet",
        ".arrow",
        ".html",
        ".log",
        ".duckdb",
        ".tsv",
        ".webp",
        ".svg",
    }
    assert any("metadata" in file.parts for file in files)
    assert_none(files, identities)


def test_what_a_run_leaves_is_closed_to_others(finished):
    files = files_of(finished.folder, "results", "logs")
    assert files
    # Snakemake lets the group write into its records; their folder is closed to everybody else.
    records = {file for file in files if "records" in file.parts}
    assert records and not [str(file) for file in records if file.stat().st_mode & 0o007]
    assert not [str(file) for file in set(files) - records if file.stat().st_mode & 0o027]
    assert (finished.folder / ".snakemake").stat().st_mode & 0o027 == 0
    private = [file for file in (finished.folder / "private").rglob("*") if file.is_file()]
    assert private
    assert not [str(file) for file in private if file.stat().st_mode & 0o077]


def test_no_command_line_and_no_environment_holds_the_key(copied, identities):
    seen = set[bytes]()
    process = copied.start("--forcerun", "index", "--until", "index")
    driver = psutil.Process(process.pid)
    while process.poll() is None:
        for job in [driver, *driver.children(recursive=True)]:
            for place in ("cmdline", "environ"):
                try:
                    seen.add((Path("/proc") / str(job.pid) / place).read_bytes())
                except OSError:
                    continue
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert any(b".snakemake/scripts" in content for content in seen), "no job was seen"
    for content in [*seen, output.encode()]:
        assert not identities.within(content)


def test_a_crash_amid_the_archive_tells_no_identity(copied, identities):
    """A bug, as it may be in any release: the error's message quotes the path that is being read."""
    code = copied.repository / "workflow/trabecula/convert/read.py"
    before = code.read_text()
    try:
        code.write_text(before.replace(BEGIN, BEGIN + CRASH))
        assert code.read_text() != before
        output = copied.fails("--forcerun", "convert", "--until", "convert")
    finally:
        code.write_text(before)
    assert "KeyError: (message withheld)" in output
    assert not identities.within(output.encode())
    assert_none(files_of(copied.folder, *OPEN), identities)
    whole = (copied.folder / "private/logs/hospital/convert/00000.log").read_bytes()
    assert identities.within(whole)
