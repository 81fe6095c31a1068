"""Lists of studies: what changed moves to a new shard, and no other list is touched."""

import dataclasses
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trabecula.cohort import shards
from trabecula.cohort.current import current_studies
from trabecula.cohort.retries import Retries, Retry, read_retries, write_retries
from trabecula.cohort.shards import Chosen
from trabecula.errors import ResultError

Ledger = dict[str, shards.Entry]
Lists = dict[str, list[Chosen]]


def study(number: int, version: int = 0) -> Chosen:
    return Chosen(f"st{number:02d}", f"pa{number // 2:02d}", f"se{number:02d}", f"files{version}")


def run(
    ledger: Ledger, lists: Lists, chosen: list[Chosen], *, again: dict[str, str] | None = None, size: int = 2
) -> tuple[Ledger, Lists]:
    """Give the ledger and the lists after the index has run."""
    ledger = shards.assign(ledger, chosen, lists=lists, again=again or {}, shard_size=size)
    texts = shards.manifests(ledger, chosen, lists)
    lines = {shard: text.split("\n")[1:-1] for shard, text in texts.items()}
    return ledger, {shard: [Chosen(*line.split("\t")) for line in of_shard] for shard, of_shard in lines.items()}


def moved(before: Ledger, after: Ledger) -> set[str]:
    return {name for name, entry in before.items() if after[name].shard != entry.shard}


# What a run finds: the version of each study that is there; the studies to try again; the lists that are lost.
ARCHIVES = st.dictionaries(st.integers(0, 12), st.integers(0, 1), max_size=10)
RUNS = st.lists(st.tuples(ARCHIVES, st.sets(st.integers(0, 12), max_size=2), st.booleans()), max_size=6)


@given(RUNS, st.integers(1, 4))
def test_only_what_is_new_changed_came_back_or_is_tried_again_gets_a_new_shard(runs, size):
    ledger: Ledger = {}
    lists: Lists = {}
    present: dict[str, Chosen] = {}
    for archive, retried, is_lost in runs:
        before, lists_before, earlier = ledger, {} if is_lost else lists, present
        chosen = [study(number, version) for number, version in archive.items()]
        present = {line.study_id: line for line in chosen}
        again = {name: before[name].shard for name in (study(n).study_id for n in retried) if name in before}
        ledger, lists = run(before, lists_before, chosen, again=again, size=size)
        first_new = max((int(entry.shard) for entry in before.values()), default=-1) + 1
        fresh = {name for name in present if int(ledger[name].shard) >= first_new}
        unchanged = {name for name, line in present.items() if earlier.get(name) == line and name not in again}
        changed = {name for name, line in present.items() if name in earlier and earlier[name] != line}
        assert not fresh & unchanged
        assert fresh >= changed | (present.keys() & again.keys()) | (present.keys() - before.keys())
        # A study that is not there keeps its entry.
        assert {name: ledger[name] for name in before.keys() - present.keys()} == {
            name: before[name] for name in before.keys() - present.keys()
        }
        new_shards = {ledger[name].shard for name in fresh}
        assert len(new_shards) == -(-len(fresh) // size)
        # Every study that is there stands on the list of its shard, as it is.
        assert all(line in lists[ledger[name].shard] for name, line in present.items())
        # A list has somebody to whom the shard belongs, and is as it was but for studies that are no longer there.
        for shard, lines in lists.items():
            assert any(ledger[line.study_id].shard == shard for line in lines)
            if shard in lists_before:
                assert lines == [line for line in lists_before[shard] if line.study_id in present]
        assert max(Counter(ledger[name].shard for name in fresh).values(), default=0) <= size


def test_growth_moves_nobody_and_touches_no_list():
    ledger, lists = run({}, {}, [study(n) for n in range(3)])
    after, lists_after = run(ledger, lists, [study(n) for n in (5, 0, 1, 2, 4, 3)])
    assert moved(ledger, after) == set()
    assert {shard: lists_after[shard] for shard in lists} == lists
    assert [entry.shard for entry in after.values()] == ["00000", "00000", "00001", "00002", "00002", "00003"]


def test_a_study_that_changes_twice_moves_twice_and_leaves_its_old_lists_alone():
    ledger, lists = run({}, {}, [study(n) for n in range(4)])
    once, lists_once = run(ledger, lists, [study(0), study(1, 1), study(2), study(3)])
    twice, lists_twice = run(once, lists_once, [study(0), study(1, 2), study(2), study(3)])
    assert [state["st01"].shard for state in (ledger, once, twice)] == ["00000", "00002", "00003"]
    assert moved(ledger, twice) == {"st01"}
    # The shard between holds nobody any more; the first one is as it was.
    assert lists_twice == lists | {"00003": [study(1, 2)]}


def test_a_study_whose_other_series_is_chosen_or_whose_patient_is_known_otherwise_moves_alone():
    chosen = [study(n) for n in range(4)]
    ledger, lists = run({}, {}, chosen)
    for change in ({"series_id": "other"}, {"patient_id": "other"}):
        changed = dataclasses.replace(study(3), **change)
        after, lists_after = run(ledger, lists, [*chosen[:3], changed])
        assert moved(ledger, after) == {"st03"}
        assert lists_after == lists | {"00002": [changed]}
        assert after["st03"].patient_id == changed.patient_id


def test_a_study_that_moves_and_then_vanishes_leaves_no_line():
    ledger, lists = run({}, {}, [study(n) for n in range(2)])
    ledger, lists = run(ledger, lists, [study(0), study(1, 1)])
    ledger, lists = run(ledger, lists, [study(0)])
    assert lists == {"00000": [study(0)]}
    assert ledger["st01"].shard == "00001"


def test_a_study_that_comes_back_gets_a_new_shard():
    """Its former shard was made without it, and shall not be made again for its sake."""
    ledger, lists = run({}, {}, [study(n) for n in range(2)])
    ledger, lists = run(ledger, lists, [study(0)])
    back, lists_back = run(ledger, lists, [study(0), study(1)])
    assert moved(ledger, back) == {"st01"}
    assert lists_back == {"00000": [study(0)], "00001": [study(1)]}


def test_a_shard_of_which_all_vanished_comes_back_as_a_whole():
    chosen = [study(n) for n in range(4)]
    first, lists = run({}, {}, chosen)
    gone, fewer = run(first, lists, chosen[:2])
    assert fewer == {"00000": chosen[:2]}
    assert run(gone, fewer, chosen) == (first, lists)


def test_a_shard_whose_studies_all_moved_has_no_list():
    ledger, lists = run({}, {}, [study(n) for n in range(2)])
    ledger, lists = run(ledger, lists, [study(n, 1) for n in range(2)])
    assert lists == {"00001": [study(n, 1) for n in range(2)]}


def test_lists_that_are_lost_are_written_from_the_ledger():
    chosen = [study(n) for n in range(3)]
    ledger, lists = run({}, {}, chosen)
    assert run(ledger, {}, chosen) == (ledger, lists)
    after, others = run(ledger, {"00001": lists["00001"]}, [study(0), study(1, 1), study(2)])
    assert moved(ledger, after) == {"st01"}
    assert others == {"00000": [study(0)], "00001": [study(2)], "00002": [study(1, 1)]}


def test_a_ledger_of_an_earlier_day_gives_no_number_twice():
    """As after a restored backup: the lists know of more shards than the ledger."""
    old_ledger, lists = run({}, {}, [study(n) for n in range(2)])
    _, newer_lists = run(old_ledger, lists, [study(n) for n in range(4)])
    ledger, _ = run(old_ledger, newer_lists, [study(n) for n in range(6)])
    assert {ledger[f"st{n:02d}"].shard for n in range(2, 6)} == {"00002", "00003"}


def test_a_study_is_tried_again_once_per_request():
    chosen = [study(n) for n in range(4)]
    ledger, lists = run({}, {}, chosen)
    again = {"st02": "00001"}
    ledger, lists = run(ledger, lists, chosen, again=again)
    assert ledger["st02"].shard == "00002"
    assert run(ledger, lists, chosen, again=again) == (ledger, lists)  # the request is of a shard that it has left
    assert run(ledger, lists, chosen, again={"st02": "00002"})[0]["st02"].shard == "00003"
    assert run(ledger, lists, chosen, again={"st77": "00000"}) == (ledger, lists)  # nobody of this archive


@given(st.lists(st.tuples(st.sampled_from(["st1", "st2"]), st.sampled_from(["00000", "00001"])), unique=True))
def test_lists_and_requests_come_back_from_their_files(tmp_path_factory, failures):
    path = tmp_path_factory.mktemp("cohort") / "retries.tsv"
    assert read_retries(path) == Retries()
    studies = sorted((Retry(name, shard, "unreadable") for name, shard in failures), key=dataclasses.astuple)
    for number in (1, 2):
        write_retries(path, studies[::-1], stand=True)
        assert read_retries(path) == Retries(number, tuple(studies))
    write_retries(path, (), stand=False)
    assert read_retries(path) == Retries(2)


@pytest.mark.parametrize("text", ["", "number\tx\n", "number\t1\n", "number\t1\nstudy_id\tshard\treason\nst1\n", "\0"])
def test_requests_that_are_damaged_are_named(tmp_path, text):
    path = tmp_path / "retries.tsv"
    path.write_text(text)
    with pytest.raises(ResultError, match=r"retries\.tsv is damaged"):
        read_retries(path)


def test_a_list_that_is_damaged_counts_as_lost(tmp_path: Path):
    chosen = [study(n) for n in range(4)]
    ledger = shards.assign({}, chosen, lists={}, again={}, shard_size=2)
    shards.write_manifests(shards.manifests(ledger, chosen, {}), tmp_path, tmp_path / "shards.txt")
    assert shards.read_manifests(tmp_path) == {"00000": chosen[:2], "00001": chosen[2:]}
    path = tmp_path / "00001.tsv"
    whole = path.read_bytes()
    for damage in (whole[:-1], whole[:20], b"", whole.replace(b"series_id", b"series_if")):
        path.write_bytes(damage)
        assert shards.read_manifests(tmp_path) == {"00000": chosen[:2]}
    shards.write_manifests(shards.manifests(ledger, chosen, {"00000": chosen[:2]}), tmp_path, tmp_path / "shards.txt")
    assert path.read_bytes() == whole


def test_rows_of_a_study_count_in_its_shard_and_cohort_alone():
    places = [("north", "00000", "st0"), ("north", "00001", "st1"), ("south", "00000", "st1"), ("north", None, "st2")]
    columns = zip(*places, strict=True)
    current = current_studies(pa.table(dict(zip(("cohort", "shard", "study_id"), map(list, columns), strict=True))))
    rows = pa.table({"study_id": ["st0", "st1", "st2", "st0"], "hu": [1, 2, 3, 4]})
    shown = [f"{cohort}/crop/{shard}" for cohort in ("north", "south") for shard in ("00000", "00001")]
    kept = [current.rows(rows, f"results/{place}.arrow")["hu"].to_pylist() for place in shown]
    assert kept == [[1, 4], [2], [2], []]
