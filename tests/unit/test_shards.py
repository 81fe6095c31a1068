"""Lists of studies, which are only added to."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from trabecula.cohort import shards


@given(st.lists(st.sets(st.integers(0, 30), max_size=8), max_size=6), st.integers(1, 5))
def test_growth_never_moves_a_study_nor_touches_a_full_shard(growths, size):
    ledger: dict[str, shards.Entry] = {}
    present: dict[str, shards.Chosen] = {}
    for growth in growths:
        before, texts = dict(ledger), shards.manifests(ledger, present.values())
        new = {f"st{n:02d}": shards.Chosen(f"st{n:02d}", "pa", "se", "f") for n in growth}
        fresh = new.keys() - present.keys()
        present = new | present
        ledger = shards.assign(ledger, present.values(), shard_size=size)
        assert all(ledger[name].shard == entry.shard for name, entry in before.items())
        after = shards.manifests(ledger, present.values())
        assert {shard: after[shard] for shard in texts} == texts  # old lists stay as they are, to the letter
        assert len(after) - len(texts) == -(-len(fresh) // size)
        assert all(count <= size for count in Counter(entry.shard for entry in ledger.values()).values())


def test_a_changed_study_changes_its_own_list_alone():
    studies = [shards.Chosen(f"st{n}", "pa", "se", "f") for n in range(4)]
    ledger = shards.assign({}, studies, shard_size=2)
    changed = [replace(study, fingerprint="g") if study.study_id == "st3" else study for study in studies]
    before, after = shards.manifests(ledger, studies), shards.manifests(ledger, changed)
    assert before["00000"] == after["00000"] and before["00001"] != after["00001"]
