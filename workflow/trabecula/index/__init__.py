"""Find what is in an archive, choose one series per study, replace identities, put studies into shards.

`headers` reads single files, `scan` all of them, `stacks` groups them, `choose` accepts and ranks, `rows` makes the
tables. Beside this folder, `shards` keeps the append-only lists and `linkage` the private table with identities.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from trabecula import labels as qct
from trabecula import linkage, pseudonym, shards, tables
from trabecula.index import rows, scan, stacks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Places:
    """Where a cohort's index lies.

    Attributes
    ----------
    archive : Path
        The archive's top folder.
    labels : Path, str or None
        CSV of QCT labels.
    public : Path
        Folder of the tables (``results/{cohort}``).
    private : Path
        Folder of the key and of everything with identities.
    """

    archive: Path
    labels: Path | str | None
    public: Path
    private: Path


def index_cohort(
    places: Places,
    *,
    cohort: str,
    synthetic: bool,
    scheduler: str | None,
    workers: int,
    shard_size: int,
    min_slices: int,
    min_extent_mm: float,
    max_spacing_mm: float,
) -> None:
    """Bring a cohort's index up to date with its archive.

    Parameters
    ----------
    places : Places
        Where it reads and writes.
    cohort : str
        Name of the cohort.
    synthetic : bool
        Patients are simulated: the public key stands in for the secret one.
    scheduler : str or None
        Address of a Dask scheduler; None for processes of our own.
    workers : int
        Number of those.
    shard_size : int
        Studies per new shard.
    min_slices, min_extent_mm, max_spacing_mm
        Gates, see `trabecula.index.choose.reason_against`.
    """
    hidden = places.private / cohort
    key = pseudonym.SYNTHETIC_KEY if synthetic else pseudonym.read_or_make_key(places.private / "key")
    memory = scan.read_memory(hidden / "files.parquet")
    files = scan.scan(places.archive, memory, workers=workers, scheduler=scheduler)
    scan.write_memory(files, hidden / "files.parquet")
    found = rows.judge(
        stacks.from_table(files),
        cohort=cohort,
        key=key,
        gates={"min_slices": min_slices, "min_extent_mm": min_extent_mm, "max_spacing_mm": max_spacing_mm},
    )
    ledger = shards.read_ledger(places.public / "index" / "ledger.tsv")
    ledger = shards.assign(ledger, found.chosen, shard_size=shard_size)
    labelled = None if places.labels is None else qct.read_labels(places.labels)
    _write(found, ledger, rows.label_rows(found, labelled, key=key), places, hidden)
    log.info("%d studies, %d of them to be measured", len(found.studies), len(found.chosen))


def _write(
    found: rows.Judged, ledger: dict[str, shards.Entry], labels: list[dict], places: Places, hidden: Path
) -> None:
    """Write the index; the ledger first, since what it promises holds for ever."""
    folder = places.public / "index"
    shards.write_ledger(ledger, folder / "ledger.tsv")
    linkage.write_linkage(rows.linkage_rows(found, ledger, places.archive), hidden / "linkage.parquet")
    studies = [*rows.study_rows(found, ledger), *rows.vanished_rows(found, ledger)]
    tables.write(found.series, tables.SERIES, folder / "series.parquet")
    tables.write(studies, tables.STUDIES, folder / "studies.parquet")
    tables.write(labels, tables.LABELS, folder / "labels.parquet")
    tables.write(found.failures, tables.FAILURES, folder / "failures.parquet")
    texts = shards.manifests(ledger, found.chosen)
    shards.write_manifests(texts, places.public / "shards", folder / "shards.txt")
