"""Read the stages' files of a batch of shards."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.aggregate.cohort_tables import SCAN_FACT_COLUMNS, StageTables
from trabecula.aggregate.inputs import Shard
from trabecula.aggregate.reconciliation import require
from trabecula.aggregate.study_fates import CONVERT_COLUMNS
from trabecula.cohort.current import CurrentStudies
from trabecula.tables.cubes import read_facts

# Some hundred files per task: with one file per task, Dask's own work takes most of the time.
SHARDS_PER_BATCH = 64

_OUTCOME = ["study_id", "patient_id", "status", "reason", "detail"]
# Of each stage's table: its schema, and the columns that are read; pictures stay on disk.
_STAGES: dict[str, tuple[pa.Schema, list[str]]] = {
    "convert": (tables.CONVERT, [*_OUTCOME, *CONVERT_COLUMNS]),
    "segment": (tables.SEGMENT, _OUTCOME),
    "crop": (tables.CROP, [*_OUTCOME, *SCAN_FACT_COLUMNS]),
    "measure": (tables.MEASURE, [name for name in tables.MEASURE.names if name != "picture"]),
    "infer": (tables.INFER, tables.INFER.names),
}


def batches(shards: Sequence[Shard]) -> list[Sequence[Shard]]:
    """Divide shards into batches of at most `SHARDS_PER_BATCH`, in their order."""
    return [shards[i : i + SHARDS_PER_BATCH] for i in range(0, len(shards), SHARDS_PER_BATCH)]


def read_stages(shards: Sequence[Shard], current: CurrentStudies) -> StageTables:
    """Read all stages' tables of some shards, one after the other, without rows of studies that moved on.

    Raises
    ------
    ValueError
        If a file is of another schema: stages cast their tables when they write them.
    """
    cubes = pa.concat_tables([current.rows(read_facts(shard.cubes), shard.cubes) for shard in shards])
    return StageTables(cubes=cubes, **{stage: _read_stage(shards, stage, current) for stage in _STAGES})


def _read_stage(shards: Sequence[Shard], stage: str, current: CurrentStudies) -> pa.Table:
    """Read a stage's files; of convert, whose rows are the studies, with the shard that each row comes from."""
    pieces = []
    for shard in shards:
        path = getattr(shard, stage)
        piece = current.rows(_read_file(path, stage), path)
        pieces.append(piece.append_column("shard", pa.repeat(shard.name, len(piece))) if stage == "convert" else piece)
    return pa.concat_tables(pieces).combine_chunks()


def _read_file(path: Path, stage: str) -> pa.Table:
    schema, columns = _STAGES[stage]
    with tables.reading(path), pq.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        if not file.schema_arrow.equals(_stored(schema)):
            raise ValueError(f"{stage}/{path.name} is of another schema: {file.schema_arrow.names}")
        rows = file.read(columns, use_threads=False)
        require(len(rows) == file.metadata.num_rows, f"{stage}/{path.name} was not read as a whole")
    return rows


@cache
def _stored(schema: pa.Schema) -> pa.Schema:
    """Give a schema as it comes back from Parquet, which names the items of lists otherwise."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    return pq.read_schema(pa.BufferReader(sink.getvalue()))
