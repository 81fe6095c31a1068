"""Read the shards' tables, a batch of shards at a time.

A batch is one Dask task: it writes its rows of the two large tables to files of its own and
returns what is small, so that memory does not grow with the archive.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.aggregate import fates, results
from trabecula.aggregate.check import require
from trabecula.bundle import OUTPUTS, Bundle
from trabecula.levels import ORDER

# About a hundred files per task: with one file per task, Dask's own work takes most of the time.
SHARDS_PER_BATCH = 16


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
    """A batch's share of the results.

    Attributes
    ----------
    cohort : str
        Cohort of the batch's shards.
    vertebrae, predictions : Path
        Parquet files with the batch's rows of these tables, without the column cohort.
    fates : DataFrame
        Per study: study_id, status (measured, failed), stage, reason, detail.
    scans : DataFrame
        Per study_id, `tables.SCAN_FACTS` of the studies that were cropped.
    results : DataFrame
        Per study_id, see `results.combine`.
    """

    cohort: str
    vertebrae: Path
    predictions: Path
    fates: pd.DataFrame
    scans: pd.DataFrame
    results: pd.DataFrame


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
    studies: pd.Series,
    bundle: Bundle,
    splits: Mapping[str, int],
    folder: Path,
    *,
    levels: Sequence[str],
    substitutes: Sequence[str],
) -> Part:
    """Join the tables of some shards and combine each study's vertebrae.

    Parameters
    ----------
    shards : sequence of Shard
        Of one cohort.
    studies : Series of str
        The studies that the index put into these shards.
    bundle, splits
        The model that predicted, and its training patients' folds.
    folder : Path
        Where the batch's rows of the large tables are put.
    levels, substitutes : sequence of str
        See `patients.choose_levels`.
    """
    vertebrae = _read_vertebrae(shards)
    predictions = _concat(_read(shard.infer, tables.INFER) for shard in shards)
    _check_predictions(predictions, vertebrae, bundle, splits)
    name = f"{shards[0].cohort}.{shards[0].name}"
    return Part(
        cohort=shards[0].cohort,
        vertebrae=_write(vertebrae, tables.VERTEBRAE, folder / f"{name}.vertebrae.parquet"),
        predictions=_write(predictions, tables.PREDICTIONS, folder / f"{name}.predictions.parquet"),
        fates=fates.of_studies(
            studies,
            {stage: _read_outcomes(stage, shards) for stage in fates.TABLED},
            vertebrae,
        ),
        scans=_read_scans(shards),
        results=results.combine(vertebrae, predictions, levels=levels, substitutes=substitutes),
    )


def read_without_cubes(path: Path) -> pa.Table:
    """Read the facts on a shard's vertebrae; the cubes, nearly all of the file, stay on disk."""
    with pa.memory_map(str(path)) as source:
        with pa.ipc.open_file(source) as reader:
            cubes = [isinstance(field.type, pa.BaseExtensionType) for field in reader.schema]
        options = pa.ipc.IpcReadOptions(included_fields=[i for i, cube in enumerate(cubes) if not cube])
        with pa.ipc.open_file(source, options=options) as reader:
            return reader.read_all()


def _read_vertebrae(shards: Sequence[Shard]) -> pd.DataFrame:
    """Rows of the table `vertebrae`: what crop knows, joined with what measure found."""
    keys = ["cohort", "patient_id", "study_id", "level"]
    cropped = pa.concat_tables([read_without_cubes(shard.cubes) for shard in shards]).to_pandas()
    cropped = cropped.sort_values(keys, ignore_index=True)
    measured = _concat(_read(shard.measure, tables.MEASURE) for shard in shards).sort_values(keys, ignore_index=True)
    require(not cropped.duplicated(keys).any(), "a vertebra is there twice")
    same = cropped[keys].to_numpy().tolist() == measured[keys].to_numpy().tolist()
    require(same, "crop and measure hold different vertebrae")
    # Density from HU needs all cohorts' labels, and is filled in when the rows are put in their place.
    later = dict.fromkeys(column.name for column in tables.CALIBRATED)
    return pd.concat([cropped, measured.drop(columns=keys)], axis="columns").assign(**later)


def _check_predictions(
    predictions: pd.DataFrame, vertebrae: pd.DataFrame, bundle: Bundle, splits: Mapping[str, int]
) -> None:
    """A prediction belongs to a vertebra and to this model, and no network predicts whom it was trained on."""
    keys = ["patient_id", "study_id", "level"]
    known = predictions[keys].merge(vertebrae[keys], on=keys, how="left", indicator="found_in")
    require(bool((known["found_in"] == "both").all()), "a prediction belongs to no vertebra")
    require(bool((predictions["model_id"] == bundle.model_id).all()), "predictions come from another model")
    require(not predictions.duplicated([*keys, "task", "fold"]).any(), "a prediction is there twice")
    wanted = {(name, fold) for task in bundle.tasks for name in OUTPUTS[task] for fold in bundle.folds}
    given = set(zip(predictions["task"], predictions["fold"], strict=True))
    require(given <= wanted, "a prediction is of a task or fold that the model does not have")
    n = predictions.groupby([*keys, "fold"]).size()
    require(bool((n == len({name for name, _ in wanted})).all()), "a vertebra was not predicted for every task")
    own_fold = predictions["patient_id"].map(pd.Series(splits, dtype=float))
    require(bool((own_fold.notna() == predictions["in_training"]).all()), "in_training contradicts the model's splits")
    require(
        bool((own_fold.isna() | (own_fold == predictions["fold"])).all()), "a network predicts whom it was trained on"
    )


def _read(path: Path, of: pa.Schema) -> pd.DataFrame:
    return tables.read(path, of).to_pandas()


def _read_outcomes(stage: str, shards: Sequence[Shard]) -> pd.DataFrame:
    """What became of the studies of one stage, a row per study."""
    columns = ["study_id", "status", "reason", "detail", *(("repairs", "flags") if stage == "convert" else ())]
    found = _concat(tables.read_columns(getattr(shard, stage), columns).to_pandas() for shard in shards)
    return found.drop_duplicates(columns[:4]).reset_index(drop=True)


def _read_scans(shards: Sequence[Shard]) -> pd.DataFrame:
    columns = ["study_id", *(column.name for column in tables.SCAN_FACTS)]
    return _concat(tables.read_columns(shard.crop, columns).to_pandas() for shard in shards).set_index("study_id")


def _concat(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(list(frames), ignore_index=True)


def _write(rows: pd.DataFrame, to: pa.Schema, path: Path) -> Path:
    """Write a batch's rows in the order of patients, studies, levels from head to foot, and the rest."""
    place = rows["level"].map({level: i for i, level in enumerate(ORDER)})
    order = [column for column in ("patient_id", "study_id", "place", "task", "fold") if column in {*rows, "place"}]
    ordered = rows.assign(place=place).sort_values(order, kind="stable").drop(columns="place")
    pq.write_table(in_file(ordered, to), path, compression="zstd")
    return path


def in_file(rows: pd.DataFrame, to: pa.Schema) -> pa.Table:
    """Rows as a public table's file holds them: of its schema, the cohort left to the folder's name."""
    return tables.from_frame(rows, to).drop_columns("cohort").cast(tables.in_partition(to))
