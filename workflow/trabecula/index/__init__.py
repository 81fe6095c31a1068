"""Find what is in an archive, choose one series per study, replace identities, put studies into shards.

`scan` reads the headers of all files, `choose` accepts and ranks stacks, `rows` makes the tables, `link` the private
one with identities. In the rooms, `dicom.headers` reads single files, `dicom.stacks` groups them, and `cohort.shards`
keeps the lists of studies.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from trabecula import tables
from trabecula.cohort import gone, identities, private_owner, pseudonym, shards
from trabecula.cohort.labels.read import read_labels
from trabecula.cohort.private import alone
from trabecula.cohort.registry import Names
from trabecula.cohort.retries import read_retries, write_retries
from trabecula.index import choose, link, masks, people, rows, scan
from trabecula.runtime.log import progress, warn
from trabecula.runtime.storage import must_be_there

log = logging.getLogger(__name__)

_ROWS = 5_000  # of a table that wait to be packed


@dataclass(frozen=True)
class Cohort:
    """A cohort to be indexed, and the places of its files.

    Attributes
    ----------
    name : str
        Name of the cohort.
    synthetic : bool
        Whether patients are simulated: the public key stands in for the secret one.
    archive : Path
        The archive's top folder.
    labels : Path, str or None
        CSV of QCT labels.
    public : Path
        Folder of the tables (``results/{cohort}``).
    private : Path
        Folder of the key and of everything with identities.
    masks : str or None
        Pattern of the label maps that stand in for a segmentation.
    """

    name: str
    synthetic: bool
    archive: Path
    labels: Path | str | None
    public: Path
    private: Path
    masks: str | None = None


def index_cohort(
    cohort: Cohort,
    *,
    scheduler: str | None,
    workers: int,
    shard_size: int,
    archives: bool,
    max_gap_mm: float,
    gates: Mapping[str, float | str],
    score: Mapping[str, float],
) -> None:
    """Bring a cohort's index up to date with its archive.

    Parameters
    ----------
    cohort : Cohort
        The cohort, and where its files lie.
    scheduler : str or None
        Address of a Dask scheduler; None for processes on this machine.
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
        If the archive, in which studies were found before, is empty or can't be listed; if the key is not the one that
        the cohort's pseudonyms were made with; or if the cohort's private folder is another working directory's.
    """
    private = cohort.private / cohort.name
    private_owner.claim(private, Path.cwd())
    limits = choose.Gates(**gates, max_gap_mm=max_gap_mm)  # pyright: ignore[reportArgumentType] (checked by the schema)
    with alone(private / "index.lock"):
        ledger = _ledger(cohort)
        key = _key(cohort)
        scan.scan(cohort.archive, private / "files", workers=workers, scheduler=scheduler, archives=archives)
        _update(cohort, ledger, key, limits, choose.Weights(**score), shard_size=shard_size)


def _ledger(cohort: Cohort) -> dict[str, shards.Entry]:
    """Read the ledger, and see that what belongs to it is there."""
    ledger = shards.read_ledger(_ledger_path(cohort))
    if ledger:
        must_be_there(cohort.archive)
        if identities.are_lost(cohort.private / cohort.name):
            warn(
                f"Cohort {cohort.name}: the private file of identities is missing. Restore it from a backup and run "
                "again; without it, patients whose ids were corrected get other pseudonyms."
            )
    return ledger


def _ledger_path(cohort: Cohort) -> Path:
    return cohort.public / "index" / "ledger.tsv"


def _update(
    cohort: Cohort,
    ledger: dict[str, shards.Entry],
    key: bytes,
    limits: choose.Gates,
    weights: choose.Weights,
    *,
    shard_size: int,
) -> None:
    """Make the index of the files that the memory holds."""
    memory = cohort.private / cohort.name / "files"
    present = people.people_of(scan.statements(memory))
    names = identities.settle(cohort.private, cohort.name, present, key)
    in_doubt = {"ambiguous": people.ambiguous(present), "shared_uids": people.shared_uids(present)}
    rules = rows.Rules(cohort.name, names, limits, weights, cohort.archive, **in_doubt)
    again = _to_try_again(cohort, ledger)  # by the linkage that the last index wrote
    growing = _Tables()
    linkage = link.Writer(memory.with_name("linkage.parquet"))
    with linkage:
        studies = scan.by_study(memory)
        for files in progress(studies, what="series", unit="files", total=scan.count(memory), count=len):
            growing.add(rows.judge(files, rules), linkage)
    lists = shards.read_manifests(cohort.public / "shards")
    in_use = {entry.shard for entry in ledger.values()}
    ledger = shards.assign(ledger, growing.chosen, lists=lists, again=again, shard_size=shard_size)
    shards.write_ledger(ledger, _ledger_path(cohort))  # first, since what it promises holds for ever
    linkage.finish({study.study_id: ledger[study.study_id].shard for study in growing.chosen})
    counted = {name: entry for name, entry in ledger.items() if name not in names.former_studies}
    _write(growing, counted, _label_rows(cohort, growing, names), cohort)
    shards.remove_results(cohort.public, in_use - {entry.shard for entry in ledger.values()})
    texts = shards.manifests(ledger, growing.chosen, lists)
    shards.write_manifests(texts, cohort.public / "shards", cohort.public / "index" / "shards.txt")
    _ask_again(cohort, scan.unread(cohort.archive, memory))
    log.info("%d studies, %d of them to be measured", len(growing.present), len(growing.chosen))
    _warn_of_gone(cohort.name, n_gone=len(counted.keys() - growing.present), n_known=len(counted))


def _warn_of_gone(cohort: str, *, n_gone: int, n_known: int) -> None:
    """Say how many studies are gone: in the log, and on the terminal where they are many."""
    if gone.too_many(n_gone, n_known):
        warn(f"Cohort {cohort}: {gone.sentence(n_gone, n_known)}")
    elif n_gone:
        log.info(gone.sentence(n_gone, n_known))


def _to_try_again(cohort: Cohort, ledger: Mapping[str, shards.Entry]) -> dict[str, str]:
    """List studies that failed for a reason that may pass or whose label map changed, each with its shard."""
    again = read_retries(cohort.public / "retries.tsv").shards()
    linkage = cohort.private / cohort.name / "linkage.parquet"
    if cohort.masks is None or not linkage.exists():
        return again
    in_use = sorted({entry.shard for entry in ledger.values()})
    segmented = (cohort.public / "segment" / f"{shard}.parquet" for shard in in_use)
    return again | masks.changed(cohort.masks, (path for path in segmented if path.exists()), linkage)


def _ask_again(cohort: Cohort, n_unread: int) -> None:
    """Ask the next run to make the index again where files could not be opened."""
    if n_unread:
        path = cohort.public / "retries.tsv"
        write_retries(path, read_retries(path).studies, stand=True)
        log.warning("%d files can't be opened now; the next run tries them again", n_unread)


def _key(cohort: Cohort) -> bytes:
    """Give the key, after its fingerprint was noted beside the tables that it is going to make."""
    made_with = cohort.public / "index" / "key.txt"
    if cohort.synthetic:
        key = pseudonym.SYNTHETIC_KEY
    else:
        pseudonym.refuse_other_key(cohort.private / "key", made_with)
        key = pseudonym.read_or_make_key(cohort.private / "key")
    shards.write_if_changed(f"{pseudonym.fingerprint(key)}\n", made_with)
    return key


class _Tables:
    """Tables of the index while they grow: packed, since an archive may hold a million series."""

    def __init__(self) -> None:
        self.packed: dict[str, list[pa.Table]] = {"series": [], "studies": []}
        self.loose: dict[str, list[rows.Row]] = {"series": [], "studies": []}
        self.chosen: list[shards.Chosen] = []
        self.lost: Counter[tuple[str | None, ...]] = Counter()
        self.patients: dict[str, str] = {}
        self.ambiguous: set[str] = set()
        self.dates: rows.Dates = {}
        self.present: set[str] = set()

    def add(self, judged: rows.Judged, linkage: link.Writer) -> None:
        """Take in the rows of a study's files."""
        self.loose["series"] += judged.series
        self.loose["studies"] += judged.studies
        self.present.update(row["study_id"] for row in judged.studies)
        self.chosen += judged.chosen
        self.lost.update(judged.lost)
        self.patients.update(judged.patients)
        self.ambiguous.update(judged.ambiguous)
        self.dates.update(judged.dates)
        linkage.add(judged.linkage)
        if len(self.loose["series"]) >= _ROWS:
            self._pack()

    def _pack(self) -> None:
        for name, waiting in self.loose.items():
            self.packed[name].append(tables.cast(waiting, tables.PUBLIC[name]))
            waiting.clear()

    def whole(self, name: str) -> pa.Table:
        """Give all rows of a table, sorted by study."""
        self._pack()
        return pa.concat_tables(self.packed[name]).sort_by("study_id")


def _label_rows(cohort: Cohort, growing: _Tables, names: Names) -> list[rows.Row]:
    labels = None if cohort.labels is None else read_labels(cohort.labels)
    first = rows.first_dates(growing.dates)
    return rows.label_rows(cohort.name, labels, growing.patients, first, ambiguous=growing.ambiguous, names=names)


def _write(growing: _Tables, ledger: Mapping[str, shards.Entry], labels: list[rows.Row], cohort: Cohort) -> None:
    """Write the cohort's tables."""
    folder = cohort.public / "index"
    vanished = tables.cast(rows.vanished_rows(cohort.name, growing.present, ledger), tables.STUDIES)
    studies = pa.concat_tables([_studies(growing, ledger), vanished])
    tables.write(growing.whole("series"), tables.SERIES, folder / "series.parquet")
    tables.write(studies, tables.STUDIES, folder / "studies.parquet")
    tables.write(labels, tables.LABELS, folder / "labels.parquet")
    tables.write(rows.failure_rows(cohort.name, growing.lost), tables.FAILURES, folder / "failures.parquet")


def _studies(growing: _Tables, ledger: Mapping[str, shards.Entry]) -> pa.Table:
    """Give the table of studies with their shards, and with the days since each patient's first study."""
    first = rows.first_dates(growing.dates)
    days = {study: (day - first[patient]).days for study, (patient, day) in growing.dates.items()}
    studies = growing.whole("studies")
    names = studies["study_id"].to_pylist()
    in_shards = [entry.shard if (entry := ledger.get(name)) else None for name in names]
    for column, values in (("shard", in_shards), ("days_from_first_study", [days.get(name) for name in names])):
        place = studies.schema.get_field_index(column)
        field = studies.schema.field(place)
        studies = studies.set_column(place, field, pa.array(values, field.type))
    return studies
