"""Flow: what reaches a step and what is lost on the way to it add up, and a wrong count is found."""

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trabecula import tables
from trabecula.aggregate import flow
from trabecula.errors import STAGES

VANISHED = ("rejected", "index", "vanished")
OUTCOMES = st.one_of(
    st.just(VANISHED),
    st.just(("measured", None, None)),
    st.tuples(
        st.just("failed"), st.sampled_from(STAGES[1:]), st.sampled_from(["truncated", "vanished", "no_vertebra"])
    ),
    st.just(("rejected", "index", "localizer")),
)
LABELLED = st.booleans()


def rows_of(columns, rows) -> pa.Table:
    return pa.table({name: [row[i] for row in rows] for i, name in enumerate(columns)}, schema=_schema(columns))


def _schema(columns) -> pa.Schema:
    schemas = (tables.SERIES, tables.STUDIES, tables.PATIENTS)
    fields = {field.name: field for schema in schemas for field in schema}
    return pa.schema([fields[name] for name in columns])


def flow_of(outcomes, labelled, rejected, labels=()) -> pd.DataFrame:
    """Count the flow of a cohort: a study per patient, a chosen series per study that went on, and rejected ones."""
    series = [(True, None) for status, *_ in outcomes if status != "rejected"]
    series += [(False, reason) for reason in rejected]
    patients = [
        (f"pa{i}", f"st{i}" if status == "measured" else None, reason, 100.0 if has else None)
        for i, ((status, stage, reason), has) in enumerate(zip(outcomes, labelled, strict=True))
        if (status, stage, reason) != VANISHED
    ]
    return flow.flow_rows(
        "north",
        rows_of(flow.SERIES_COLUMNS, series),
        rows_of(flow.STUDY_COLUMNS, outcomes),
        rows_of(flow.PATIENT_COLUMNS, patients),
        rows_of(flow.LABEL_COLUMNS, labels),
    )


COHORTS = st.lists(st.tuples(OUTCOMES, LABELLED), max_size=20)
REJECTED = st.lists(st.sampled_from(["localizer", "not_ct", "not_chosen"]), max_size=9)


@pytest.mark.slow
@given(COHORTS, REJECTED)
def test_the_flow_adds_up(people, rejected):
    outcomes, labelled = [outcome for outcome, _ in people], [has for _, has in people]
    rows = flow_of(outcomes, labelled, rejected)
    assert tables.from_frame(rows, tables.FLOW).num_rows == len(rows)
    flow.check(rows)

    def total(unit: str, step: str) -> int:
        return int(rows[(rows["unit"] == unit) & (rows["step"] == step) & rows["reason"].isna()]["n"].sum())

    fates, n_vanished = [status for status, *_ in outcomes], outcomes.count(VANISHED)
    assert total("studies", "found") == total("patients", "found") == len(outcomes) - n_vanished
    assert total("studies", "measured") == total("patients", "measured") == fates.count("measured")
    assert total("series", "found") == len(outcomes) - fates.count("rejected") + len(rejected)
    assert total("patients", "labelled") == sum(
        has and status == "measured" for status, has in zip(fates, labelled, strict=True)
    )


def test_a_patient_whose_labels_are_not_used_has_their_reason():
    labels = [("pa0", "other_level"), ("pa0", "label_too_far"), ("pa4", "superseded"), ("unscanned", "no_scan")]
    rows = flow_of([("measured", None, None)] * 3, [False, False, True], [], labels)
    lost = rows[(rows["step"] == "labelled") & rows["reason"].notna()]
    assert dict(zip(lost["reason"], lost["n"], strict=True)) == {"label_too_far": 1, "no_label": 1}


def test_a_cohort_without_a_study_has_every_step_with_0():
    rows = flow_of([], [], [])
    flow.check(rows)
    assert list(rows["step"]) == [step for steps in flow.STEPS.values() for step in steps]
    assert set(rows["cohort"]) == {"north"}
    assert not rows["n"].any()


EXAMPLE = [("measured", None, None), ("failed", "convert", "truncated"), ("rejected", "index", "localizer")] * 2


@pytest.mark.parametrize("line", range(len(flow_of(EXAMPLE, [True] * 6, ["localizer"]))))
def test_a_count_that_is_off_by_one_is_found(line):
    rows = flow_of(EXAMPLE, [True] * 6, ["localizer"])
    rows.loc[line, "n"] += 1
    with pytest.raises(AssertionError, match="cohort"):
        flow.check(rows)


def test_a_step_that_is_missing_is_found():
    rows = flow_of(EXAMPLE, [True] * 6, [])
    with pytest.raises(AssertionError, match="steps of studies are missing"):
        flow.check(rows[rows["step"] != "segmented"])


def test_every_stage_has_its_step():
    assert set(flow.STEP_OF_STAGE) == set(STAGES)
    assert set(flow.STEP_OF_STAGE.values()) <= set(flow.STUDY_STEPS)
