"""Tell which rows of the shards' files count: those of studies in their current shards.

A study that is converted anew moves to a new shard (see `shards`). What it left in its former shard is superseded, and
everybody who reads shards' files passes over it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from trabecula import tables

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute


@dataclass(frozen=True)
class CurrentStudies:
    """Studies by the shard to which they belong now.

    Attributes
    ----------
    by_shard : mapping of frozenset
        Pseudonyms of studies, by cohort and shard.
    """

    by_shard: Mapping[tuple[str, str], frozenset[str]]

    def of_file(self, path: Path | str) -> frozenset[str]:
        """Give the studies whose current shard has a file, ``{cohort}/{stage}/{shard}.*``."""
        path = Path(path).absolute()
        return self.by_shard.get((path.parents[1].name, path.stem), frozenset())

    def rows(self, rows: pa.Table, path: Path | str) -> pa.Table:
        """Leave out the superseded ones among rows, with the column study_id, that a shard's file holds."""
        current = pa.array(sorted(self.of_file(path)), tables.TEXT)
        return rows.filter(pc.is_in(rows["study_id"], value_set=current))


def current_studies(studies: pa.Table) -> CurrentStudies:
    """Put studies in their shards, by a table with the columns cohort, shard and study_id.

    >>> studies = pa.table({"cohort": ["north"] * 2, "shard": ["00001", None], "study_id": ["st1", "st2"]})
    >>> sorted(current_studies(studies).of_file("results/north/crop/00001.arrow"))
    ['st1']
    """
    by_shard: dict[tuple[str, str], set[str]] = defaultdict(set)
    columns = (studies[name].to_pylist() for name in ("cohort", "shard", "study_id"))
    for cohort, shard, study_id in zip(*columns, strict=True):
        by_shard[cohort, shard].add(study_id)
    return CurrentStudies({place: frozenset(names) for place, names in by_shard.items()})


def read_current_studies(paths: Iterable[Path | str], shards: Collection[str] | None = None) -> CurrentStudies:
    """Read which studies belong to which shards, all or some, from the index's tables of studies.

    Parameters
    ----------
    paths : iterable of Path or str
        Files ``{cohort}/index/studies.parquet``.
    shards : collection of str, optional
        Shards to read of.
    """
    columns = ["cohort", "shard", "study_id"]
    filters = None if shards is None else [("shard", "in", sorted(shards))]
    pieces = []
    for path in paths:
        with tables.reading(path), Path(path).open("rb") as file:  # a path would add columns of its folders' names
            pieces.append(pq.read_table(file, columns=columns, filters=filters))
    return current_studies(pa.concat_tables(pieces))
