"""Pseudonyms: keyed, of a kind, stable; the key is made once and kept to its owner."""

import base64
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trabecula.cohort.pseudonym import (
    SYNTHETIC_KEY,
    Roots,
    fingerprint,
    pseudonym,
    pseudonym_uid,
    pseudonyms_of,
    read_or_make_key,
    refuse_other_key,
)
from trabecula.errors import ConfigError

KEY = b"k" * 32
identities = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=64)


@given(identities)
def test_equal_identities_of_different_kinds_are_unrelated(identity):
    names = {pseudonym(kind, identity, KEY)[2:] for kind in ("patient", "study", "series")}
    assert len(names) == 3


@given(identities, identities)
def test_different_identities_have_different_pseudonyms(first, second):
    assert (pseudonym("patient", first, KEY) == pseudonym("patient", second, KEY)) == (first.strip() == second.strip())


@given(identities)
def test_padding_does_not_count_and_the_key_does(identity):
    assert pseudonym("patient", f" {identity}  ", KEY) == pseudonym("patient", identity, KEY)
    assert pseudonym("patient", identity, SYNTHETIC_KEY) != pseudonym("patient", identity, KEY)


def test_the_name_tells_the_kind_and_nothing_else():
    name = pseudonym("patient", "HOSPITAL-4711", KEY)
    assert name.startswith("pa") and len(name) == 28 and "4711" not in name


def test_a_pseudonym_as_uid_has_the_same_bits():
    name, uid = pseudonym("series", "1.2.3", KEY), pseudonym_uid("series", "1.2.3", KEY)
    bits = base64.b32decode(name[2:].upper() + "======")
    assert uid == f"2.25.{int.from_bytes(bits, 'big')}" and len(uid) <= 64


def test_pseudonyms_of_a_series_never_change():
    """Results of earlier runs, and the splits of models, know patients and studies by these."""
    assert pseudonyms_of(Roots("4711 ", "4711 "), "1.2.3", "1.2.3.4", key=KEY) == (
        "parjhxuozaq7q4jz4iju453jgt54",
        "stpnwxexbirw3cgds7irnerirogm",
        "sefyx4rpanpihfabmuzsxefwo5nq",
    )


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path / "private" / "key"
    key = read_or_make_key(path)
    assert len(key) >= 32 and path.stat().st_mode & 0o777 == 0o600
    assert read_or_make_key(path) == key
    assert [file.name for file in path.parent.iterdir()] == ["key"]


def test_jobs_that_start_together_agree_on_one_key(tmp_path, monkeypatch):
    numbers = iter(range(1000))
    monkeypatch.setattr("os.getpid", lambda: next(numbers))  # threads stand in for processes
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(read_or_make_key, [tmp_path / "key"] * 16))
    assert len(keys) == 1


def test_a_short_key_is_refused(tmp_path):
    (tmp_path / "key").write_text("short\n")
    with pytest.raises(ConfigError, match="instead of 32"):
        read_or_make_key(tmp_path / "key")


def test_a_fingerprint_tells_keys_apart_and_not_what_they_are():
    assert fingerprint(KEY) == fingerprint(KEY) != fingerprint(SYNTHETIC_KEY)
    assert len(fingerprint(KEY)) == 16
    assert not {fingerprint(KEY), pseudonym("key", "fingerprint", KEY)} & {KEY.decode(errors="replace")}


@pytest.mark.parametrize(("now", "said"), [(None, "is missing"), ("other" * 10, "is another key")])
def test_a_lost_or_other_key_is_refused(tmp_path, now, said):
    key, made_with = tmp_path / "private/key", tmp_path / "results/west/index/key.txt"
    made_with.parent.mkdir(parents=True)
    refuse_other_key(key, made_with)  # before the first index
    made_with.write_text(fingerprint(read_or_make_key(key)) + "\n")
    refuse_other_key(key, made_with)
    key.unlink()
    if now:
        key.write_text(now)
    with pytest.raises(ConfigError, match=said) as raised:
        refuse_other_key(key, made_with)
    assert "cohort west" in str(raised.value)
    assert key.exists() == bool(now)
