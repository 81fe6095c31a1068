"""Find what is in an archive, choose one series per study, replace identities, put studies into shards.

`scan` reads the headers of all files, `choose` accepts and ranks stacks, `rows` makes the tables, `link` the private
one with identities. Beside this folder, `headers` reads single files, `stacks` groups them and `shards` keeps the
append-only lists.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from trabecula import tables
from trabecula.cohort import pseudonym, shards
from trabecula.cohort.labels.read import read_labels
from trabecula.index import choose, link, rows, scan
from trabecula.runtime.log import progress
from trabecula.runtime.storage import must_be_there

log = logging.getLogger(__name__)

_ROWS = 5_000  # of a table that wait to be packed


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
    archives: bool,
    max_gap_mm: float,
    gates: Mapping[str, float],
    score: Mapping[str, float],
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
    archives : bool
        Whether to look into zip and tar files.
    max_gap_mm : float
        Largest distance between uneven slices that convert interpolates.
    gates, score : mapping
        Arguments of `trabecula.index.choose.Gates` and `Weights`.

    Raises
    ------
    ConfigError
        If the archive, in which studies were found before, is empty or can't be listed; or if the key is not the one
        that the cohort's pseudonyms were made with.
    """
    hidden = places.private / cohort
    ledger_path = places.public / "index" / "ledger.tsv"
    ledger = shards.read_ledger(ledger_path)
    if ledger:
        must_be_there(places.archive)
    key = _key(places, synthetic=synthetic)
    scan.scan(places.archive, hidden / "files", workers=workers, scheduler=scheduler, archives=archives)
    limits = choose.Gates(**gates, max_gap_mm=max_gap_mm)  # pyright: ignore[reportArgumentType] (checked by the schema)
    rules = rows.Rules(cohort, key, limits, choose.Weights(**score), places.archive)
    found = _Tables()
    linked = link.Writer(hidden / "linkage.parquet")
    with linked:
        studies = scan.by_study(hidden / "files")
        for files in progress(studies, what="series", unit="files", total=scan.count(hidden / "files"), count=len):
            found.add(rows.judge(files, rules), linked)
    ledger = shards.assign(ledger, found.chosen, shard_size=shard_size)
    shards.write_ledger(ledger, ledger_path)  # first, since what it promises holds for ever
    linked.finish({study.study_id: ledger[study.study_id].shard for study in found.chosen})
    labelled = None if places.labels is None else read_labels(places.labels)
    first = rows.first_dates(found.dates)
    label_rows = rows.label_rows(cohort, labelled, found.patients, first, key=key)
    days = {study: (day - first[patient]).days for study, (patient, day) in found.dates.items()}
    _write(found, ledger, days, label_rows, cohort, places.public)
    log.info("%d studies, %d of them to be measured", len(found.present), len(found.chosen))


def _key(places: Places, *, synthetic: bool) -> bytes:
    """The key, after its fingerprint was noted beside what it is going to make."""
    made_with = places.public / "index" / "key.txt"
    if synthetic:
        key = pseudonym.SYNTHETIC_KEY
    else:
        pseudonym.refuse_other_key(places.private / "key", made_with)
        key = pseudonym.read_or_make_key(places.private / "key")
    shards.write_if_changed(f"{pseudonym.fingerprint(key)}\n", made_with)
    return key


class _Tables:
    """The index's tables while they grow: packed, since an archive may hold a million series."""

    def __init__(self) -> None:
        self.packed: dict[str, list[pa.Table]] = {"series": [], "studies": []}
        self.loose: dict[str, list[rows.Row]] = {"series": [], "studies": []}
        self.chosen: list[shards.Chosen] = []
        self.lost: Counter[tuple[str | None, ...]] = Counter()
        self.patients: dict[str, str] = {}
        self.dates: rows.Dates = {}
        self.present: set[str] = set()

    def add(self, found: rows.Judged, linked: link.Writer) -> None:
        """Take in what became of a study's files."""
        self.loose["series"] += found.series
        self.loose["studies"] += found.studies
        self.present.update(row["study_id"] for row in found.studies)
        self.chosen += found.chosen
        self.lost.update(found.lost)
        self.patients.update(found.patients)
        self.dates.update(found.dates)
        linked.add(found.linkage)
        if len(self.loose["series"]) >= _ROWS:
            self._pack()

    def _pack(self) -> None:
        for name, waiting in self.loose.items():
            self.packed[name].append(tables.cast(waiting, tables.PUBLIC[name]))
            waiting.clear()

    def whole(self, name: str) -> pa.Table:
        """All rows of a table, sorted by study."""
        self._pack()
        return pa.concat_tables(self.packed[name]).sort_by("study_id")


def _write(
    found: _Tables,
    ledger: Mapping[str, shards.Entry],
    days: Mapping[str, int],
    labels: list[rows.Row],
    cohort: str,
    public: Path,
) -> None:
    folder = public / "index"
    studies = found.whole("studies")
    names = studies["study_id"].to_pylist()
    in_shards = [entry.shard if (entry := ledger.get(name)) else None for name in names]
    for column, values in (("shard", in_shards), ("days_from_first_study", [days.get(name) for name in names])):
        place = studies.schema.get_field_index(column)
        field = studies.schema.field(place)
        studies = studies.set_column(place, field, pa.array(values, field.type))
    vanished = tables.cast(rows.vanished_rows(cohort, found.present, ledger), tables.STUDIES)
    tables.write(found.whole("series"), tables.SERIES, folder / "series.parquet")
    tables.write(pa.concat_tables([studies, vanished]), tables.STUDIES, folder / "studies.parquet")
    tables.write(labels, tables.LABELS, folder / "labels.parquet")
    tables.write(rows.failure_rows(cohort, found.lost), tables.FAILURES, folder / "failures.parquet")
    texts = shards.manifests(ledger, found.chosen)
    shards.write_manifests(texts, public / "shards", folder / "shards.txt")
