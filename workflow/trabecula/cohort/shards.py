"""Keep fixed lists of studies, one job each; lists are only added to.

The ledger remembers every study that was ever accepted, and its shard. A study keeps its shard for ever; studies that
are new in a run fill new shards, so that no finished shard is touched.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trabecula.errors import ResultError
from trabecula.runtime.whole_file import whole_file

# Without its ledger, studies would come into other shards, beside what they left in theirs.
_RESTORE = "Restore it from a backup, or delete the cohort's results and logs and run again."
LEDGER_COLUMNS = ("study_id", "patient_id", "shard", "fingerprint")
MANIFEST_COLUMNS = ("study_id", "patient_id", "series_id", "fingerprint")


@dataclass(frozen=True)
class Chosen:
    """A study that can be measured: the series chosen for it, and a digest of that series' files."""

    study_id: str
    patient_id: str
    series_id: str
    fingerprint: str


@dataclass(frozen=True)
class Entry:
    """A line of the ledger."""

    study_id: str
    patient_id: str
    shard: str
    fingerprint: str


def assign(ledger: Mapping[str, Entry], chosen: Iterable[Chosen], *, shard_size: int) -> dict[str, Entry]:
    """Give the ledger after a run: known studies in their shards, new ones in new shards.

    Parameters
    ----------
    ledger : mapping
        Entries of earlier runs by study.
    chosen : iterable of Chosen
        Studies of this run.
    shard_size : int
        Studies per new shard.

    Examples
    --------
    >>> first = assign({}, [Chosen("st1", "pa1", "se1", "a"), Chosen("st2", "pa2", "se2", "b")], shard_size=1)
    >>> [(name, entry.shard) for name, entry in assign(first, [Chosen("st0", "pa1", "se0", "c")], shard_size=1).items()]
    [('st1', '00000'), ('st2', '00001'), ('st0', '00002')]
    """
    present = {study.study_id: study for study in chosen}
    updated = {
        name: Entry(name, entry.patient_id, entry.shard, present[name].fingerprint) if name in present else entry
        for name, entry in ledger.items()
    }
    first = max((int(entry.shard) for entry in ledger.values()), default=-1) + 1
    for i, name in enumerate(sorted(present.keys() - ledger.keys())):
        study = present[name]
        updated[name] = Entry(name, study.patient_id, f"{first + i // shard_size:05d}", study.fingerprint)
    return updated


def manifests(ledger: Mapping[str, Entry], chosen: Iterable[Chosen]) -> dict[str, str]:
    """Give the text of each shard's list file; a shard of which no study is present has none."""
    studies_of: dict[str, list[Chosen]] = {}
    for study in sorted(chosen, key=lambda study: study.study_id):
        studies_of.setdefault(ledger[study.study_id].shard, []).append(study)
    return {shard: _tsv(MANIFEST_COLUMNS, studies_of[shard]) for shard in sorted(studies_of)}


def read_ledger(path: Path) -> dict[str, Entry]:
    """Read the ledger of earlier runs; it is empty where there was none.

    Raises
    ------
    ResultError
        If a line is cut off, or the first one does not name the columns.
    """
    if not path.exists():
        return {}
    heading, *lines = path.read_text(errors="replace").split("\n")
    rows = [line.split("\t") for line in lines[:-1]]
    names_columns = heading == "\t".join(LEDGER_COLUMNS)
    if not names_columns or lines[-1:] != [""] or any(len(row) != len(LEDGER_COLUMNS) for row in rows):
        raise ResultError(path, "cut off or overwritten", _RESTORE)
    return {row[0]: Entry(*row) for row in rows}


def write_ledger(ledger: Mapping[str, Entry], path: Path) -> None:
    """Write the ledger where it has changed."""
    write_if_changed(_tsv(LEDGER_COLUMNS, ledger.values()), path)


def read_manifest(path: Path) -> list[Chosen]:
    """Read the studies of a shard."""
    with path.open(newline="") as file:
        return [Chosen(**row) for row in csv.DictReader(file, delimiter="\t")]


def write_manifests(texts: Mapping[str, str], folder: Path, listing: Path) -> None:
    """Write the shards' list files that have changed, remove those of shards that are gone, and name all shards."""
    for shard, text in texts.items():
        write_if_changed(text, folder / f"{shard}.tsv")
    for path in folder.glob("*.tsv"):
        if path.stem not in texts:
            path.unlink()
    write_if_changed("".join(f"{shard}\n" for shard in texts), listing)


def write_if_changed(text: str, path: Path) -> None:
    """Write a text file; one that holds the text already keeps its modification time."""
    if path.exists() and path.read_text() == text:
        return
    with whole_file(path) as unfinished:
        unfinished.write_text(text)


def _tsv(columns: tuple[str, ...], rows: Iterable[object]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([getattr(row, column) for column in columns] for row in rows)
    return text.getvalue()
