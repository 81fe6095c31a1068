"""Files of earlier jobs that were cut off or overwritten: named, with what to do, never taken for a study's fault."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_spines import write_cohort

from trabecula import tables
from trabecula.aggregate.out_of_core import buckets
from trabecula.cohort import shards
from trabecula.cohort.linkage import LINKAGE, read_linked
from trabecula.errors import ResultError
from trabecula.tables import cubes


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    """Zero a file, as a file system does when the power fails before the blocks are written."""
    path.write_bytes(bytes(path.stat().st_size))


def overwritten(path: Path) -> None:
    """Overwrite the middle of a file, so that its start and end are as they should be."""
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = b"\xff" * third
    path.write_bytes(content)


DAMAGES = (cut_off, emptied, zeroed, overwritten)


def damaged(path: Path, damage: Callable[[Path], None], read: Callable[[Path], object]) -> ResultError:
    """Damage a sound file, and give the error of reading it."""
    read(path)
    damage(path)
    with pytest.raises(ResultError, match="is damaged") as raised:
        read(path)
    assert str(path) in str(raised.value)
    return raised.value


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", ["toy/measure/00000.parquet", "toy/crop/00000.parquet", "studies.parquet", "labels.parquet"]
)
def test_a_damaged_table_is_named(tmp_path, name, damage):
    write_cohort(tmp_path, patients=40)
    damaged(tmp_path / name, damage, tables.read_columns)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("read", [lambda path: list(cubes.read_cubes(path)), cubes.read_facts])
def test_damaged_cubes_are_named(tmp_path, read, damage):
    write_cohort(tmp_path, patients=4)
    damaged(tmp_path / "toy/crop/00000.arrow", damage, read)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_stops_aggregate_by_name(tmp_path, damage):
    write_cohort(tmp_path, patients=40)
    damaged(tmp_path / "studies.parquet", damage, lambda path: buckets.borders(path, patients=7))


def test_a_damaged_linkage_is_made_anew_by_the_index(tmp_path):
    path = tmp_path / "linkage.parquet"
    row = dict.fromkeys(LINKAGE.names) | {
        "study_id": "st",
        "shard": "00000",
        "slices": [],
        "copies": [],
        "n_damaged": 0,
        "n_odd": 0,
    }
    pq.write_table(pa.Table.from_pylist([row], schema=LINKAGE), path)
    error = damaged(path, cut_off, lambda path: read_linked(path, "00000"))
    assert str(error).endswith("Run again with --forcerun index, which makes it anew.")


@pytest.mark.parametrize("keep", [0, 10, 36, -1, -20])
def test_a_ledger_that_is_cut_off_is_not_taken_for_a_shorter_one(tmp_path, keep):
    chosen = [shards.Chosen(f"st{i}", "pa", "se", "print") for i in range(5)]
    path = tmp_path / "ledger.tsv"
    shards.write_ledger(shards.assign({}, chosen, lists={}, again={}, shard_size=2), path)
    assert len(shards.read_ledger(path)) == 5
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ResultError, match="Restore it from a backup"):
        shards.read_ledger(path)


def test_an_error_of_the_disk_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        tables.read_columns(tmp_path / "none.parquet")


def test_the_error_comes_whole_out_of_another_process():
    error = ResultError("results/x.parquet", "ArrowInvalid")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
