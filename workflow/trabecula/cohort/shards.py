"""Keep lists of studies, one job each, so that a run makes what is new or changed and nothing else.

The ledger remembers every study that was ever accepted, and its current shard. A study keeps its shard while its line
in the shard's list stays the same. Studies that are new, that changed or that are to be tried again fill new shards,
so that no finished shard is touched: a list keeps the line of a study that moved on, as it was. What that study left in
its former shard is superseded (see `current_studies`).
"""

import csv
import io
import shutil
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


Lists = Mapping[str, list[Chosen]]  # studies on the list of each shard


def assign(
    ledger: Mapping[str, Entry],
    chosen: Iterable[Chosen],
    *,
    lists: Lists,
    again: Mapping[str, str],
    shard_size: int,
) -> dict[str, Entry]:
    """Give the ledger after a run: studies that stay as they were keep their shards, all others get new ones.

    Parameters
    ----------
    ledger : mapping
        Entries of earlier runs by study.
    chosen : iterable of Chosen
        Studies of this run.
    lists : mapping
        The shards' lists as they stand. Where a shard's list is lost, its studies stay if their files did not change.
    again : mapping
        Studies that are to be tried again, each with the shard in which it failed.
    shard_size : int
        Studies per new shard.

    Examples
    --------
    >>> first = [Chosen("st1", "pa1", "se1", "a"), Chosen("st2", "pa2", "se2", "b")]
    >>> ledger = assign({}, first, lists={}, again={}, shard_size=2)
    >>> grown = [Chosen("st0", "pa1", "se0", "c"), Chosen("st1", "pa1", "se1", "a"), Chosen("st2", "pa2", "se2", "d")]
    >>> ledger = assign(ledger, grown, lists={"00000": first}, again={}, shard_size=2)
    >>> [(name, entry.shard) for name, entry in ledger.items()]
    [('st1', '00000'), ('st2', '00001'), ('st0', '00001')]
    """
    present = {study.study_id: study for study in chosen}
    lines = {shard: set(studies) for shard, studies in lists.items()}
    stay = {
        name
        for name in present.keys() & ledger.keys()
        if again.get(name) != ledger[name].shard and _stays(present[name], ledger[name], lines)
    }
    taken = {entry.shard for entry in ledger.values()} | lists.keys()
    first = max(map(int, taken), default=-1) + 1
    moving = sorted(present.keys() - stay)
    new_shards = {name: f"{first + i // shard_size:05d}" for i, name in enumerate(moving)}
    updated = dict(ledger)
    for name in [*sorted(stay), *moving]:
        study, shard = present[name], new_shards.get(name) or ledger[name].shard
        updated[name] = Entry(name, study.patient_id, shard, study.fingerprint)
    return updated


def _stays(study: Chosen, entry: Entry, lines: Mapping[str, set[Chosen]]) -> bool:
    """Tell whether a study is the same as when its shard was made; one that vanished and came back is on no list."""
    if entry.shard in lines:
        return study in lines[entry.shard]
    return study.fingerprint == entry.fingerprint


def manifests(ledger: Mapping[str, Entry], chosen: Iterable[Chosen], lists: Lists) -> dict[str, str]:
    """Give the text of each shard's list file; a shard to which no present study belongs any more has none.

    Parameters
    ----------
    ledger : mapping
        The ledger after this run (see `assign`).
    chosen : iterable of Chosen
        Studies of this run.
    lists : mapping
        The shards' lists as they stand.
    """
    present = {study.study_id for study in chosen}
    studies_of: dict[str, list[Chosen]] = {}
    for study in sorted(chosen, key=lambda study: study.study_id):
        studies_of.setdefault(ledger[study.study_id].shard, []).append(study)
    return {
        shard: _tsv(MANIFEST_COLUMNS, [line for line in lists.get(shard, current) if line.study_id in present])
        for shard, current in sorted(studies_of.items())
    }


def read_ledger(path: Path) -> dict[str, Entry]:
    """Read the ledger of earlier runs; it is empty where there was none.

    Raises
    ------
    ResultError
        If a line is cut off, or the first one does not name the columns.
    """
    if not path.exists():
        return {}
    rows = _rows(path, LEDGER_COLUMNS)
    if rows is None:
        raise ResultError(path, "cut off or overwritten", _RESTORE)
    return {row[0]: Entry(*row) for row in rows}


def write_ledger(ledger: Mapping[str, Entry], path: Path) -> None:
    """Write the ledger where it has changed."""
    write_if_changed(_tsv(LEDGER_COLUMNS, ledger.values()), path)


def read_manifest(path: Path) -> list[Chosen]:
    """Read the studies of a shard."""
    with path.open(newline="") as file:
        return [Chosen(**row) for row in csv.DictReader(file, delimiter="\t")]


def read_manifests(folder: Path) -> dict[str, list[Chosen]]:
    """Read the lists of all shards; one that is damaged, or of another version, counts as lost."""
    rows_of = {path.stem: _rows(path, MANIFEST_COLUMNS) for path in sorted(folder.glob("*.tsv"))}
    return {shard: [Chosen(*row) for row in rows] for shard, rows in rows_of.items() if rows is not None}


def write_manifests(texts: Mapping[str, str], folder: Path, listing: Path) -> None:
    """Write the shards' list files that have changed, remove those of shards that are gone, and name all shards."""
    for shard, text in texts.items():
        write_if_changed(text, folder / f"{shard}.tsv")
    for path in folder.glob("*.tsv"):
        if path.stem not in texts:
            path.unlink()
    write_if_changed("".join(f"{shard}\n" for shard in texts), listing)


def remove_results(public: Path, shards: Iterable[str]) -> None:
    """Remove what stages and exports left, in a cohort's folder, of shards to which no study belongs any more.

    Such a shard is never made again, and its numbers and pictures are of scans that are shown otherwise elsewhere.
    """
    for shard in shards:
        for path in [*public.glob(f"*/{shard}*"), *public.glob(f"export/dicom/{shard}")]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def write_if_changed(text: str, path: Path) -> None:
    """Write a text file; one that holds the text already keeps its modification time."""
    if path.exists() and path.read_text() == text:
        return
    with whole_file(path) as unfinished:
        unfinished.write_text(text)


def _rows(path: Path, columns: tuple[str, ...]) -> list[list[str]] | None:
    """Read the lines of a file with these columns; None where a line is cut off or the first one names others."""
    heading, *lines = path.read_text(errors="replace").split("\n")
    rows = [line.split("\t") for line in lines[:-1]]
    is_whole = lines[-1:] == [""] and all(len(row) == len(columns) for row in rows)
    return rows if is_whole and heading == "\t".join(columns) else None


def _tsv(columns: tuple[str, ...], rows: Iterable[object]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([getattr(row, column) for column in columns] for row in rows)
    return text.getvalue()
