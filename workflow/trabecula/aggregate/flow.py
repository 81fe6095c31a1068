"""The flow: how many series, studies and patients reach each step, and why the others are lost on the way."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute

from trabecula import tables
from trabecula.aggregate.reconciliation import require
from trabecula.cohort.gone import GONE

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute

# Columns that are needed of each table.
SERIES_COLUMNS = ("accepted", "reason")
STUDY_COLUMNS = ("status", "stage", "reason")
PATIENT_COLUMNS = ("patient_id", "study_id", "decision_reason", "qct_vbmd_mg_cm3")
LABEL_COLUMNS = ("patient_id", "reason")
# Reasons of unused labels, from the hardest to waive to the easiest: a patient's easiest one is reported. All others
# are harder.
_HARDEST_FIRST = ("other_level", "label_too_far")
# The step that a study does not reach when it drops out in a stage.
STEP_OF_STAGE = {
    "index": "chosen",
    "convert": "converted",
    "segment": "segmented",
    "crop": "measured",
    "measure": "measured",
}
STUDY_STEPS = ("chosen", "converted", "segmented", "measured")
STEPS = {
    "series": ("found", "chosen"),
    "studies": ("found", *STUDY_STEPS),
    "patients": ("found", "measured", "labelled"),
}

Losses = Counter[str]
Step = tuple[str, int, Losses]


def flow_rows(cohort: str, series: pa.Table, studies: pa.Table, patients: pa.Table, labels: pa.Table) -> pd.DataFrame:
    """Count, per step, those of a cohort that reached it and, by reason, those lost on the way to it.

    Studies that are no longer in the archive are not found. A cohort without any study has its steps too, each with 0.

    Parameters
    ----------
    cohort : str
        Name of the cohort.
    series, studies, patients, labels : Table
        Rows of these tables of the cohort, with at least the columns `SERIES_COLUMNS`, `STUDY_COLUMNS`,
        `PATIENT_COLUMNS` and `LABEL_COLUMNS`.

    Returns
    -------
    DataFrame
        Columns of `tables.FLOW`; losses of a step from the most frequent to the rarest.
    """
    steps = [
        *(("series", *step) for step in _series_steps(_count(series, *SERIES_COLUMNS))),
        *(("studies", *step) for step in _study_steps(_count(studies, *STUDY_COLUMNS))),
        *(("patients", *step) for step in _patient_steps(_count_patients(patients, labels))),
    ]
    rows: list[dict[str, Any]] = []
    for position, (unit, step, n, losses) in enumerate(steps):
        key = {"cohort": cohort, "position": position, "unit": unit, "step": step}
        rows.append(key | {"reason": None, "n": n})
        most_first = sorted(losses.items(), key=lambda loss: (-loss[1], loss[0]))
        rows += [key | {"reason": reason, "n": count} for reason, count in most_first]
    return pd.DataFrame(rows, columns=tables.FLOW.names).astype({"reason": object})


def check(rows: pd.DataFrame) -> None:
    """Check that nobody is lost between two steps without a reason.

    Parameters
    ----------
    rows : DataFrame
        See `flow_rows`.

    Raises
    ------
    AssertionError
        If series found are not those chosen and those rejected by reason, if a step's studies or patients and the
        losses on the way to it are not the step's before, or if as many studies were chosen as series were not.
    """
    cohort, reached = rows["cohort"].iloc[0], rows[rows["reason"].isna()].set_index(["unit", "step"])["n"]
    counted_once = bool((rows["n"] >= 0).all()) and reached.index.is_unique
    require(counted_once, f"cohort {cohort}: a step is counted twice")
    lost = rows[rows["reason"].notna()].groupby(["unit", "step"])["n"].sum()
    for unit, steps in STEPS.items():
        require(list(reached[unit].index) == list(steps), f"cohort {cohort}: steps of {unit} are missing")
        for before, step in pairwise(steps):
            n, n_left = int(reached[unit, before]), int(reached[unit, step])
            n_lost = int(lost.get((unit, step), 0))
            counts = f"{n} {unit} {before}, but {n_left} {step} and {n_lost} lost"
            require(n_left + n_lost == n, f"cohort {cohort}: {counts}")
    n_series, n_studies = int(reached["series", "chosen"]), int(reached["studies", "chosen"])
    require(n_series == n_studies, f"cohort {cohort}: {n_series} series for {n_studies} studies were chosen")


def _count(table: pa.Table, *columns: str) -> Counter[tuple]:
    """Count rows per value of the columns; pyarrow does it, so that millions of rows are quick."""
    counts = table.group_by(list(columns)).aggregate([([], "count_all")]).to_pylist()
    return Counter({tuple(row[name] for name in columns): row["count_all"] for row in counts})


def _count_patients(patients: pa.Table, labels: pa.Table) -> Counter[tuple]:
    """Count patients, measured or not, and why not, labelled or not, and why not."""
    columns = patients.select(["decision_reason"])
    columns = columns.append_column("measured", patients["study_id"].is_valid())
    columns = columns.append_column("labelled", patients["qct_vbmd_mg_cm3"].is_valid())
    columns = columns.append_column("unlabelled", _why_unlabelled(patients, labels))
    return _count(columns, "measured", "decision_reason", "labelled", "unlabelled")


def _why_unlabelled(patients: pa.Table, labels: pa.Table) -> pa.ChunkedArray:
    """Give the reason why each patient has no QCT value, if they have none: that of a label, or that there is none."""
    why = pa.chunked_array([pa.repeat(pa.scalar("no_label", tables.TEXT), len(patients))])
    # A later reason takes the place of an earlier one.
    for reason in sorted(labels["reason"].drop_null().unique().to_pylist(), key=_ease):
        concerned = labels.filter(pc.equal(labels["reason"], reason))["patient_id"].combine_chunks()
        why = pc.if_else(pc.is_in(patients["patient_id"], value_set=concerned), reason, why)
    return why


def _ease(reason: str) -> tuple[int, str]:
    """Rank reasons of unused labels from the hardest to waive to the easiest.

    >>> sorted(["label_too_far", "no_scan", "other_level"], key=_ease)
    ['no_scan', 'other_level', 'label_too_far']
    """
    return (1 + _HARDEST_FIRST.index(reason) if reason in _HARDEST_FIRST else 0), reason


def _series_steps(counts: Counter[tuple]) -> Iterator[Step]:
    losses = Losses()
    for (accepted, reason), n in counts.items():
        losses[reason or "not_chosen"] += 0 if accepted else n
    yield "found", counts.total(), Losses()
    yield "chosen", counts.total() - losses.total(), +losses


def _study_steps(counts: Counter[tuple]) -> Iterator[Step]:
    counts = Counter({fate: n for fate, n in counts.items() if fate != GONE})
    n_left = counts.total()
    losses = {step: Losses() for step in STUDY_STEPS}
    for (status, stage, reason), n in counts.items():
        if status != "measured":
            losses[STEP_OF_STAGE[stage]][reason] += n
    yield "found", n_left, Losses()
    for step in STUDY_STEPS:
        n_left -= losses[step].total()
        yield step, n_left, losses[step]


def _patient_steps(counts: Counter[tuple]) -> Iterator[Step]:
    unmeasured, unlabelled = Losses(), Losses()
    for (measured, reason, labelled, why), n in counts.items():
        if not measured:
            unmeasured[reason or "no_acceptable_series"] += n
        elif not labelled:
            unlabelled[why] += n
    n_measured = counts.total() - unmeasured.total()
    yield "found", counts.total(), Losses()
    yield "measured", n_measured, unmeasured
    yield "labelled", n_measured - unlabelled.total(), unlabelled
