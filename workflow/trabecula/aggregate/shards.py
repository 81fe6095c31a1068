"""Read the shards' tables, a batch of shards at a time.

A batch is one Dask task. It writes its rows to files of its own, in buckets of patients (see `buckets`), and returns
where they are: memory does not grow with the archive.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.aggregate import buckets, fates, predicted, results
from trabecula.aggregate.check import require
from trabecula.cohort import verdicts
from trabecula.cohort.patients import chosen_vertebrae
from trabecula.image.levels import ORDER
from trabecula.model.bundle import Bundle
from trabecula.tables.cubes import read_facts

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute

# Some hundred files per task: with one file per task, Dask's own work takes most of the time.
SHARDS_PER_BATCH = 64
# What a batch tells of each of its studies.
STUDY = pa.schema(
    [
        tables.PATIENT,
        tables.STUDY,
        pa.field("shard", tables.TEXT),
        *(pa.field(name, tables.TEXT) for name in fates.COLUMNS),
        *(pa.field(name, tables.TEXTS) for name in fates.MENDED),
        *tables.SCAN_FACTS,
        *results.FIELDS,
        pa.field("reviewed", tables.BOOL),
    ]
)


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
        """Cohort, from the place ``{cohort}/convert/{shard}.parquet``."""
        return self.convert.parents[1].name

    @property
    def name(self) -> str:
        """Name of the shard, from the file's name."""
        return self.convert.stem


@dataclass(frozen=True)
class Part:
    """A batch's share of the results, in buckets of patients.

    Attributes
    ----------
    vertebrae, predictions : Path
        Rows of these tables, without the column cohort and without density.
    studies : Path
        A row per study, see `STUDY`.
    n_vertebrae, n_predictions : int
        Rows that the shards' own files hold, by their metadata.
    verdicts : DataFrame
        What became of the reviewers' verdicts on these studies, see `verdicts.apply`.
    """

    vertebrae: Path
    predictions: Path
    studies: Path
    n_vertebrae: int
    n_predictions: int
    verdicts: pd.DataFrame


def of_paths(**stages: Iterable[str]) -> list[Shard]:
    """Shards from lists of paths per stage, all in the same order.

    Raises
    ------
    AssertionError
        If the lists don't name the same shards.
    """
    rows = zip(*([Path(path).absolute() for path in paths] for paths in stages.values()), strict=True)
    found = [Shard(**dict(zip(stages, row, strict=True))) for row in rows]
    for shard in found:
        places = {(path.parents[1].name, path.stem) for path in vars(shard).values()}
        require(places == {(shard.cohort, shard.name)}, f"the stages' lists disagree about shard {shard.name}")
    return found


def batches(shards: Sequence[Shard]) -> list[list[Shard]]:
    """Shards of one cohort, in order, in batches of at most `SHARDS_PER_BATCH`."""
    ordered = sorted(shards, key=lambda shard: shard.name)
    return [ordered[i : i + SHARDS_PER_BATCH] for i in range(0, len(ordered), SHARDS_PER_BATCH)]


def read_batch(
    shards: Sequence[Shard],
    bundle: Bundle,
    splits: Mapping[str, int],
    reviewed: pd.DataFrame,
    folder: Path,
    *,
    starts: Sequence[str],
    levels: Sequence[str],
    substitutes: Sequence[str],
) -> Part:
    """Join the tables of some shards, apply verdicts, and combine each study's vertebrae.

    Parameters
    ----------
    shards : sequence of Shard
        Of one cohort.
    bundle, splits
        The model that predicted, and its training patients' folds.
    reviewed : DataFrame
        All reviewers' verdicts, see `verdicts.read`.
    folder : Path
        Where the batch's rows are put.
    starts : sequence of str
        First patients of the buckets, see `buckets.borders`.
    levels, substitutes : sequence of str
        See `patients.choose_levels`.
    """
    vertebrae = _read_vertebrae(shards)
    predictions = _read(shards, "infer")
    n_vertebrae, n_predictions = len(vertebrae), len(predictions)
    predicted.check(predictions, vertebrae, bundle, splits)
    vertebrae, predictions, outcome = _with_verdicts(vertebrae, predictions, reviewed)
    require((len(vertebrae), len(predictions)) == (n_vertebrae, n_predictions), "verdicts lost rows")
    of_result = buckets.frame(comparable(vertebrae.select(results.VERTEBRA), predictions))
    chosen = chosen_vertebrae(of_result, levels=levels, substitutes=substitutes)
    combined = results.combine(chosen, _of_vertebrae(predictions, chosen))
    rows = {
        "vertebrae": vertebrae.drop_columns("cohort"),
        "predictions": predictions.drop_columns("cohort"),
        "studies": _study_rows(shards, vertebrae, combined),
    }
    stem = f"{shards[0].cohort}.{shards[0].name}"
    places = {
        name: buckets.write(table, folder / f"{stem}.{name}.arrow", starts=starts) for name, table in rows.items()
    }
    return Part(**places, n_vertebrae=n_vertebrae, n_predictions=n_predictions, verdicts=outcome)


def in_order(rows: pa.Table) -> pa.Table:
    """Rows of a large table by patient, study, level from head to foot, and the rest."""
    placed = rows.append_column("place", pc.index_in(rows["level"], value_set=pa.array(ORDER, tables.TEXT)))
    order = [name for name in ("patient_id", "study_id", "place", "task", "fold") if name in placed.column_names]
    return buckets.sorted_rows(placed, order).drop_columns("place")


def _read_vertebrae(shards: Sequence[Shard]) -> pa.Table:
    """Rows of the table `vertebrae` as they were segmented: what crop knows, joined with what measure found."""
    keys = ["study_id", "level"]
    cropped = buckets.sorted_rows(pa.concat_tables([read_facts(shard.cubes) for shard in shards]), keys)
    measured = buckets.sorted_rows(_read(shards, "measure"), keys)
    same = all(cropped[name].combine_chunks().equals(measured[name].combine_chunks()) for name in _VERTEBRA)
    require(same, "crop and measure hold different vertebrae")
    named = cropped.select(keys).to_pandas()
    require(not named.duplicated().any(), "a vertebra is there twice")
    for name in (name for name in measured.column_names if name not in _VERTEBRA):
        cropped = cropped.append_column(measured.schema.field(name), measured[name])
    return cropped


_VERTEBRA = ("cohort", "patient_id", "study_id", "level")


def _with_verdicts(
    vertebrae: pa.Table, predictions: pa.Table, reviewed: pd.DataFrame
) -> tuple[pa.Table, pa.Table, pd.DataFrame]:
    """Apply verdicts to the studies that have some; the others' vertebrae are as they were found."""
    named = pa.array(reviewed["study_id"].dropna().unique().tolist(), tables.TEXT)
    ours, theirs = (_split(rows, named) for rows in (vertebrae, predictions))
    own = reviewed[reviewed["study_id"].isin(set(ours[0]["study_id"].to_pylist()))]
    found, moved, outcome = verdicts.apply(ours[0].to_pandas(), theirs[0].to_pandas(), own)
    plain = ours[1].append_column(tables.VERTEBRAE.field("level_found"), ours[1]["level"])
    plain = plain.append_column(tables.VERTEBRAE.field("verdict"), pa.nulls(len(plain), tables.TEXT))
    return (
        pa.concat_tables([plain, tables.from_frame(found, plain.schema)]),
        pa.concat_tables([theirs[1], tables.from_frame(moved, theirs[1].schema)]),
        outcome,
    )


def _split(rows: pa.Table, studies: pa.Array) -> tuple[pa.Table, pa.Table]:
    """Rows of some studies, and all others."""
    has = pc.is_in(rows["study_id"], value_set=studies)
    if not pc.any(has).as_py():
        return rows.slice(0, 0), rows
    return rows.filter(has), rows.filter(pc.invert(has))


def comparable(vertebrae: pa.Table, predictions: pa.Table) -> pa.Table:
    """Vertebrae that networks and HU can both stand on.

    One that a reviewer renamed into the levels that count was not predicted: it counts where none of its study was.
    """
    has = pc.is_in(predicted.vertebra_keys(vertebrae), value_set=predicted.vertebra_keys(predictions).combine_chunks())
    of_study = pc.is_in(vertebrae["study_id"], value_set=predictions["study_id"].unique())
    return vertebrae.filter(pc.or_(has, pc.invert(of_study)))


def _of_vertebrae(predictions: pa.Table, chosen: pd.DataFrame) -> pd.DataFrame:
    """Predictions of some vertebrae."""
    wanted = pa.array(chosen["study_id"] + "/" + chosen["level"], tables.TEXT)
    own = pc.is_in(predicted.vertebra_keys(predictions), value_set=wanted)
    return buckets.frame(predictions.filter(own).select(results.PREDICTION))


def _study_rows(shards: Sequence[Shard], vertebrae: pa.Table, combined: pd.DataFrame) -> pa.Table:
    """A row per study of these shards, see `STUDY`."""
    read = {stage: buckets.frame(_read(shards, stage)) for stage in fates.TABLED}
    # Of segment, a row per level.
    outcomes = {stage: rows.drop_duplicates(_OUTCOME, ignore_index=True) for stage, rows in read.items()}
    found = fates.of_studies(outcomes, buckets.frame(vertebrae.select(fates.VERTEBRA)))
    keys = read["convert"][["study_id", "patient_id", "shard"]]
    scans = read["crop"][["study_id", *(column.name for column in tables.SCAN_FACTS)]]
    reviewed = vertebrae["study_id"].filter(pc.is_valid(vertebrae["verdict"])).to_pylist()
    rows = found.merge(keys, on="study_id").merge(scans, on="study_id", how="left")
    rows = rows.merge(combined, left_on="study_id", right_index=True, how="left")
    return tables.from_frame(rows.assign(reviewed=rows["study_id"].isin(set(reviewed))), STUDY)


_OUTCOME = ["study_id", "patient_id", "status", "reason", "detail"]
# Of each stage's table: its schema, and the columns that are read; pictures stay on disk.
_STAGES: dict[str, tuple[pa.Schema, list[str]]] = {
    "convert": (tables.CONVERT, [*_OUTCOME, *fates.MENDED]),
    "segment": (tables.SEGMENT, _OUTCOME),
    "crop": (tables.CROP, [*_OUTCOME, *(column.name for column in tables.SCAN_FACTS)]),
    "measure": (tables.MEASURE, [name for name in tables.MEASURE.names if name != "picture"]),
    "infer": (tables.INFER, tables.INFER.names),
}


def _read(shards: Sequence[Shard], stage: str) -> pa.Table:
    """Read a stage's files, and the shard that each row comes from where the row is a study's.

    They were cast when they were written, so their schemas have to be equal.
    """
    of, columns = _STAGES[stage]
    pieces = []
    for shard in shards:
        path: Path = getattr(shard, stage)
        with tables.reading(path), pq.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
            if not file.schema_arrow.equals(_stored(of)):
                raise ValueError(f"{stage}/{path.name} is of another schema: {file.schema_arrow.names}")
            piece = file.read(columns, use_threads=False)
            require(len(piece) == file.metadata.num_rows, f"{stage}/{path.name} was not read as a whole")
        pieces.append(piece.append_column("shard", pa.repeat(shard.name, len(piece))) if stage == "convert" else piece)
    return pa.concat_tables(pieces).combine_chunks()


@cache
def _stored(of: pa.Schema) -> pa.Schema:
    """Schema as it comes back from Parquet, which names the items of lists otherwise."""
    sink = pa.BufferOutputStream()
    pq.write_table(of.empty_table(), sink)
    return pq.read_schema(pa.BufferReader(sink.getvalue()))
