"""Inputs of aggregation: cohorts, the files that the stages wrote for them, and the model that predicted."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from trabecula import tables
from trabecula.aggregate.reconciliation import require
from trabecula.model import bundle


@dataclass(frozen=True)
class Cohort:
    """A cohort to aggregate.

    Attributes
    ----------
    name : str
        As in cohorts.tsv.
    role : str
        development, external or screening.
    synthetic : bool
        The archive is simulated.
    """

    name: str
    role: str
    synthetic: bool


@dataclass(frozen=True)
class Shard:
    """Files of a shard, one per stage.

    Attributes
    ----------
    convert, segment, crop, cubes, measure, infer : Path
        Tables of the stages; cubes is the Arrow file of `crop`.
    """

    convert: Path
    segment: Path
    crop: Path
    cubes: Path
    measure: Path
    infer: Path

    @property
    def cohort(self) -> str:
        """Name of the cohort, from the place ``{cohort}/convert/{shard}.parquet``."""
        return self.convert.parents[1].name

    @property
    def name(self) -> str:
        """Name of the shard, from the file's name."""
        return self.convert.stem


def list_shards(**stages: Iterable[str]) -> list[Shard]:
    """List shards from one list of paths per stage, all in the same order.

    Raises
    ------
    AssertionError
        If the lists don't name the same shards.
    """
    rows = zip(*([Path(path).absolute() for path in paths] for paths in stages.values()), strict=True)
    shards = [Shard(**dict(zip(stages, row, strict=True))) for row in rows]
    for shard in shards:
        places = {(path.parents[1].name, path.stem) for path in vars(shard).values()}
        require(places == {(shard.cohort, shard.name)}, f"the stages' lists disagree about shard {shard.name}")
    return shards


@dataclass(frozen=True)
class Inputs:
    """All that a run aggregates.

    Attributes
    ----------
    cohorts : sequence of Cohort
        Cohorts whose tables are written.
    index : sequence of str
        Paths ``{cohort}/index/{table}.parquet``.
    shards : sequence of Shard
        All shards of these cohorts (see `list_shards`).
    model : Path
        The model bundle's folder.
    verdicts : Path or None
        Reviewers' verdicts, CSV.
    """

    cohorts: Sequence[Cohort]
    index: Sequence[str]
    shards: Sequence[Shard]
    model: Path
    verdicts: Path | None

    def index_of(self, cohort: str) -> dict[str, Path]:
        """Give the index's tables of one cohort, by name."""
        paths = [Path(path).absolute() for path in self.index]
        return {path.stem: path for path in paths if path.parents[1].name == cohort}

    def shards_of(self, cohort: str) -> list[Shard]:
        """List the shards of one cohort, by name."""
        return sorted((shard for shard in self.shards if shard.cohort == cohort), key=lambda shard: shard.name)


@dataclass(frozen=True)
class Model:
    """The model that predicted.

    Attributes
    ----------
    bundle : Bundle
        Its bundle.
    splits : mapping of int
        Patients of its training, and the fold that never saw them (see `bundle.held_out`).
    scans : frozenset of str
        Digests of slices of its training (see `bundle.read_scans`).
    renamed : set of str
        Patients whom the training knew under an earlier pseudonym, so that the networks did not know them.
    """

    bundle: bundle.Bundle
    splits: Mapping[str, int]
    scans: frozenset[str]
    renamed: Set[str] = frozenset()


def read_model(inputs: Inputs) -> Model:
    """Read the model bundle, and which patients of the cohorts its training knew, under whatever pseudonym."""
    facts = bundle.read(inputs.model)
    fold_of = bundle.read_splits(facts)
    studies = (inputs.index_of(cohort.name)["studies"] for cohort in inputs.cohorts)
    splits = bundle.held_out(fold_of, (tables.read_columns(path, ["patient_id", "earlier_ids"]) for path in studies))
    renamed = {patient for patient, fold in splits.items() if fold_of.get(patient) != fold}
    return Model(facts, splits, bundle.read_scans(facts), renamed)
