"""Verdicts: what they change, what they leave alone, and that no key is ever there twice."""

import itertools
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trabecula import tables
from trabecula.cohort import verdicts
from trabecula.cohort.patients import usable
from trabecula.errors import REASONS, ConfigError
from trabecula.train.cases import renamed_levels

LEVELS = ["T11", "T12", "L1", "L2", "L3"]
KEYS = ["cohort", "study_id", "level"]


def spines(n: int = 3, levels=LEVELS) -> pd.DataFrame:
    """Make the vertebrae of some studies, all uncertain, each with an HU of its own."""
    rows = [
        {"cohort": "a", "patient_id": f"pa{i}", "study_id": f"st{i}", "level": level, "level_uncertain": True}
        | {"flags": ["osteophytes"], "complete": True, "trabecular_hu_mean": 100.0 + 10 * i + place}
        | {"centroid_z_mm": -30.0 * place}
        for i in range(n)
        for place, level in enumerate(levels)
    ]
    return pd.DataFrame(rows)


def predicted(vertebrae: pd.DataFrame) -> pd.DataFrame:
    """Make two predictions per vertebra, whose value is the vertebra's HU."""
    twice = pd.concat([vertebrae[["cohort", "study_id", "level"]]] * 2, ignore_index=True)
    return twice.assign(value=pd.concat([vertebrae["trabecular_hu_mean"]] * 2, ignore_index=True))


def write(tmp_path, *lines: str, header="study_id,level,verdict,new_level"):
    path = tmp_path / "verdicts.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return verdicts.read(path)


def verdict_lines(*lines: tuple) -> pd.DataFrame:
    """Make verdicts as read: study, level, verdict, new level, and, where there is a fifth, the height."""
    rows = [(i, *line, *[None] * (6 - len(line))) for i, line in enumerate(lines, start=2)]
    return pd.DataFrame(rows, columns=verdicts.COLUMNS, dtype=object).astype({"line": "int64"})


def applied(lines: pd.DataFrame, vertebrae: pd.DataFrame | None = None):
    vertebrae = spines() if vertebrae is None else vertebrae
    return verdicts.apply(vertebrae, predicted(vertebrae), lines)


# --- the file --------------------------------------------------------------------------------------


def test_other_columns_and_their_order_do_not_matter(tmp_path):
    read = write(tmp_path, "REJECT;hers;;l1;st0", header="verdict;comment;new_level;level;study_id")
    assert read.to_dict("records") == [
        {"line": 2, "study_id": "st0", "level": "L1", "verdict": "reject", "new_level": None}
        | {"centroid_z_mm": None, "reason": None}
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("st0,L1,delete,", "unknown_verdict"),
        ("st0,L1,,", "unknown_verdict"),
        ("st0,S1,reject,", "unknown_level"),
        ("st0,,reject,", "unknown_level"),
        ("st0,L1,relabel,", "unknown_level"),
        ("st0,L1,relabel,S1", "unknown_level"),
        ("st0,L1,accept,,more", "bad_line"),
        ("st0,L1,accept,L9", None),
    ],
)
def test_a_bad_line_has_its_reason(tmp_path, line, reason):
    assert write(tmp_path, line)["reason"].tolist() == [reason]
    assert reason is None or reason in REASONS


def test_the_height_of_the_judged_vertebra_may_stand_beside(tmp_path):
    header = "study_id;level;verdict;new_level;centroid_z_mm"
    heights = dict(zip(LEVELS, ("-480,5", "12", "", "x", "nan"), strict=True))
    lines = [f"st0;{level};accept;;{height}" for level, height in heights.items()]
    read = write(tmp_path, *lines, header=header)
    assert read["centroid_z_mm"].tolist() == [-480.5, 12.0, None, None, None]
    assert read["reason"].tolist() == [None, None, None, "bad_place", "bad_place"]
    assert "bad_place" in REASONS
    with pytest.raises(ConfigError, match="two columns centroid_z_mm"):
        write(tmp_path, *lines, header=header + ";centroid_z_mm")


def test_a_later_line_takes_the_place_of_an_earlier_one_unless_it_is_bad(tmp_path):
    read = write(tmp_path, "st0,L1,reject,", "st0,L1,accept,", "st0,L1,what,", "st1,L1,reject,")
    assert read["reason"].tolist() == ["superseded", None, "unknown_verdict", None]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"study_id,level,verdict\nst0,L1,accept\n", "lack the columns new_level"),
        (b"", "are empty"),
        (b"\xff\xfe\x00", "give a CSV file in UTF-8"),
        (b"study_id,level,level,verdict,new_level\n", "two columns level"),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused(tmp_path, content, says):
    path = tmp_path / "verdicts.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        verdicts.read(path)


def test_no_file_is_no_verdict():
    assert verdicts.read(None).columns.tolist() == verdicts.COLUMNS
    assert verdicts.read(None).empty


# --- on vertebrae ----------------------------------------------------------------------------------


def test_no_verdict_changes_nothing():
    before = spines()
    after, predictions, outcome = applied(verdict_lines(("other", "L1", "reject", None)), before)
    pd.testing.assert_frame_equal(after[before.columns.tolist()], before)
    assert (after["level_found"] == before["level"]).all() and after["verdict"].isna().all()
    pd.testing.assert_frame_equal(predictions, predicted(before))
    assert outcome.empty


def test_accept_makes_the_level_certain_and_reject_keeps_the_vertebra_out():
    after, _, outcome = applied(verdict_lines(("st0", "L1", "accept", None), ("st1", "L1", "reject", None)))
    by = after.set_index(["study_id", "level"])
    assert not by.loc[("st0", "L1"), "level_uncertain"] and by.loc[("st1", "L1"), "level_uncertain"]
    assert by.loc[("st1", "L1"), "flags"] == ["osteophytes", "rejected_by_reviewer"]
    assert by["level_uncertain"].sum() == len(by) - 1
    assert len(after) - len(usable(after)) == 1
    assert set(zip(usable(after)["study_id"], usable(after)["level"], strict=True)) == set(by.index) - {("st1", "L1")}
    assert outcome["status"].tolist() == ["used", "used"]


def test_a_verdict_falls_on_no_other_bone():
    """Named off by one by a new segmentation, L1 lies where T12 was; a few mm are the same bone."""
    lines = verdict_lines(
        ("st0", "L1", "reject", None, -60.0), ("st1", "L1", "reject", None, -60.0), ("st2", "L1", "accept", None)
    )
    vertebrae = spines()
    vertebrae.loc[vertebrae["study_id"] == "st0", "centroid_z_mm"] += 30.0
    vertebrae.loc[vertebrae["study_id"] == "st1", "centroid_z_mm"] += 7.0
    after, _, outcome = applied(lines, vertebrae)
    assert outcome.set_index("line")["reason"].tolist() == ["segmentation_changed", None, None]
    assert after.groupby("study_id")["verdict"].count().to_dict() == {"st0": 0, "st1": 1, "st2": 1}
    vertebrae["centroid_z_mm"] = np.nan
    assert applied(lines, vertebrae)[2]["reason"].tolist() == ["segmentation_changed", "segmentation_changed", None]
    assert "segmentation_changed" in REASONS


def test_a_shift_of_every_level_carries_measurements_and_predictions():
    down = list(zip(LEVELS, [*LEVELS[1:], "L4"], strict=True))
    before = spines()
    after, predictions, outcome = applied(verdict_lines(*(("st1", old, "relabel", new) for old, new in down)), before)
    assert (outcome["status"] == "used").all()
    moved = after[after["study_id"] == "st1"]
    assert moved["level"].tolist() == [*LEVELS[1:], "L4"]
    assert moved["level_found"].tolist() == LEVELS
    assert not moved["level_uncertain"].any()
    hu = after.set_index(KEYS)["trabecular_hu_mean"]
    assert [hu[key] for key in predictions[KEYS].itertuples(index=False, name=None)] == predictions["value"].tolist()


def test_a_chain_that_ends_at_a_vertebra_that_stays_is_refused_as_a_whole():
    after, _, outcome = applied(verdict_lines(("st0", "T12", "relabel", "L1"), ("st0", "L1", "relabel", "L2")))
    assert outcome["reason"].tolist() == ["level_taken", "level_taken"]
    assert after["level"].tolist() == spines()["level"].tolist()
    assert after["verdict"].isna().all()


def test_of_two_that_want_a_level_the_later_line_has_it():
    after, _, outcome = applied(verdict_lines(("st0", "L2", "relabel", "L4"), ("st0", "L3", "relabel", "L4")))
    assert outcome["reason"].tolist() == ["level_taken", None]
    assert after["level"].tolist()[:5] == ["T11", "T12", "L1", "L2", "L4"]


def test_a_rejected_vertebra_keeps_its_level():
    _, _, outcome = applied(verdict_lines(("st0", "L1", "reject", None), ("st0", "L2", "relabel", "L1")))
    assert outcome["reason"].tolist() == [None, "level_taken"]


def test_a_rejected_vertebra_can_give_its_level_away():
    after, moved, outcome = applied(verdict_lines(("st0", "L1", "reject", "L6"), ("st0", "L2", "relabel", "L1")))
    assert outcome["status"].tolist() == ["used", "used"]
    rows = {row["level_found"]: row for row in after[after["study_id"] == "st0"].to_dict("records")}
    assert rows["L1"]["level"] == "L6" and verdicts.REJECTED in rows["L1"]["flags"]
    assert rows["L2"]["level"] == "L1" and verdicts.REJECTED not in rows["L2"]["flags"]
    assert {"L1", "L6"} <= set(moved.loc[moved["study_id"] == "st0", "level"])


names = st.sampled_from([*LEVELS, "T10", "L4"])
some_lines = st.lists(
    st.tuples(st.sampled_from(["st0", "st1", "none"]), names, st.sampled_from(verdicts.VERDICTS), names),
    unique_by=lambda line: line[:2],
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(some_lines)
def test_keys_stay_unique_and_counts_never_change(lines):
    before = spines()
    given_lines = verdict_lines(*((study, level, verdict, new if verdict == "relabel" else None)
                        for study, level, verdict, new in lines))  # fmt: skip
    after, predictions, outcome = applied(given_lines, before)
    assert not after.duplicated(KEYS).any()
    assert after["trabecular_hu_mean"].tolist() == before["trabecular_hu_mean"].tolist()
    assert after["level_found"].tolist() == before["level"].tolist()
    assert len(predictions) == 2 * len(before)
    assert len(outcome) == sum(study != "none" for study, *_ in lines)
    rows = verdicts.verdict_rows(given_lines, outcome, before)
    assert len(rows) == len(lines)
    assert after["verdict"].notna().sum() == (rows["status"] == "used").sum()
    assert set(rows["reason"].dropna()) <= set(REASONS)
    tables.from_frame(rows, tables.VERDICTS)


@settings(max_examples=40, deadline=None)
@given(some_lines)
def test_what_is_refused_could_not_have_been_done(lines):
    """Brute force: no larger set of the moves, in which nobody gets a level that another keeps, is possible."""
    moves = [(level, new) for study, level, verdict, new in lines
             if study == "st0" and level in LEVELS and verdict == "relabel" and level != new][:5]  # fmt: skip
    _, _, outcome = applied(verdict_lines(*(("st0", old, "relabel", new) for old, new in moves)))

    def possible(chosen):
        now = [dict(chosen).get(level, level) for level in LEVELS]
        return len(set(now)) == len(now)

    largest = max(n for n in range(len(moves) + 1) if any(map(possible, itertools.combinations(moves, n))))
    used = outcome.loc[outcome["status"] == "used", "line"].tolist()
    assert possible([moves[line - 2] for line in used])
    if len({new for _, new in moves}) == len(moves):
        assert len(used) == largest


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.permutations(LEVELS))
def test_exchanging_and_back_is_the_identity(shuffled):
    there = verdict_lines(*(("st0", old, "relabel", new) for old, new in zip(LEVELS, shuffled, strict=True)))
    back = verdict_lines(*(("st0", new, "relabel", old) for old, new in zip(LEVELS, shuffled, strict=True)))
    before = spines()
    after, moved, _ = applied(there, before)
    again, returned, _ = verdicts.apply(after.drop(columns=["level_found", "verdict"]), moved, back)
    assert again["level"].tolist() == before["level"].tolist()
    pd.testing.assert_frame_equal(returned, predicted(before))


def test_a_study_in_two_cohorts_has_a_row_for_each():
    both = pd.concat([spines(1), spines(1).assign(cohort="b")], ignore_index=True)
    lines = verdict_lines(("st0", "L1", "reject", None))
    after, _, outcome = applied(lines, both)
    assert after["verdict"].notna().sum() == 2
    assert verdicts.verdict_rows(lines, outcome, both)["cohort"].tolist() == ["a", "b"]


def test_names_of_no_study_are_not_told_again():
    """A hospital's own number may stand there."""
    lines = verdict_lines(("MUELLER^HANS", "L1", "reject", None), ("st0", "L6", "accept", None))
    _, _, outcome = applied(lines)
    rows = verdicts.verdict_rows(lines, outcome, spines())
    assert rows["reason"].tolist() == ["no_such_vertebra", "no_such_vertebra"]
    assert rows["study_id"].isna().tolist() == [True, False]


def test_a_batch_is_quick():
    """40,000 vertebrae with 2,000 verdicts; a row at a time would take several seconds."""
    many = spines(8000)
    lines = verdict_lines(*((f"st{i}", "L3", "relabel", "L4") for i in range(2000)))
    start = time.process_time()
    after, _, outcome = verdicts.apply(many, predicted(many), lines)
    assert time.process_time() - start < 3
    assert np.sum(after["level"] == "L4") == 2000 and (outcome["status"] == "used").all()


def test_training_finds_the_region_of_a_renamed_vertebra_by_its_level_as_segmented():
    after, _, _ = applied(verdict_lines(("st1", "L3", "relabel", "L4"), ("st0", "L1", "accept", None)))
    assert renamed_levels(after) == {("a", "st1", "L3"): "L4"}
