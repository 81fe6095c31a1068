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

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute

# Columns that are needed of each table.
SERIES_COLUMNS = ("cohort", "accepted", "reason")
STUDY_COLUMNS = ("cohort", "status", "stage", "reason")
PATIENT_COLUMNS = ("cohort", "patient_id", "study_id", "decision_reason", "qct_vbmd_mg_cm3")
LABEL_COLUMNS = ("cohort", "patient_id", "reason")
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


def flow_rows(series: pa.Table, studies: pa.Table, patients: pa.Table, labels: pa.Table) -> pd.DataFrame:
    """Count, per cohort and step, those that reached it and, by reason, those lost on the way to it.

    Parameters
    ----------
    series, studies, patients, labels : Table
        Rows of these tables, with at least the columns `SERIES_COLUMNS`, `STUDY_COLUMNS`, `PATIENT_COLUMNS` and
        `LABEL_COLUMNS`.

    Returns
    -------
    DataFrame
        Columns of `tables.FLOW`; losses of a step from the most frequent to the rarest.
    """
    n_series = _count(series, "accepted", "reason")
    n_studies = _count(studies, "status", "stage", "reason")
    n_patients = _count_patients(patients, labels)
    rows: list[dict[str, Any]] = []
    for cohort in sorted({key[0] for counts in (n_series, n_studies, n_patients) for key in counts}):
        steps = [
            *(("series", *step) for step in _series_steps(_of_cohort(n_series, cohort))),
            *(("studies", *step) for step in _study_steps(_of_cohort(n_studies, cohort))),
            *(("patients", *step) for step in _patient_steps(_of_cohort(n_patients, cohort))),
        ]
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
    for cohort, of_cohort in rows.groupby("cohort"):
        reached = of_cohort[of_cohort["reason"].isna()].set_index(["unit", "step"])["n"]
        counted_once = bool((of_cohort["n"] >= 0).all()) and reached.index.is_unique
        require(counted_once, f"cohort {cohort}: a step is counted twice")
        lost = of_cohort[of_cohort["reason"].notna()].groupby(["unit", "step"])["n"].sum()
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
    """Count rows per cohort and value of the columns; pyarrow does it, so that millions of rows are quick."""
    counts = table.group_by(["cohort", *columns]).aggregate([([], "count_all")]).to_pylist()
    return Counter({(row["cohort"], *(row[name] for name in columns)): row["count_all"] for row in counts})


def _count_patients(patients: pa.Table, labels: pa.Table) -> Counter[tuple]:
    """Count patients per cohort, measured or not, and why not, labelled or not, and why not."""
    columns = patients.select(["cohort", "decision_reason"])
    columns = columns.append_column("measured", patients["study_id"].is_valid())
    columns = columns.append_column("labelled", patients["qct_vbmd_mg_cm3"].is_valid())
    columns = columns.append_column("unlabelled", _why_unlabelled(patients, labels))
    return _count(columns, "measured", "decision_reason", "labelled", "unlabelled")


def _why_unlabelled(patients: pa.Table, labels: pa.Table) -> pa.ChunkedArray:
    """Give the reason why each patient has no QCT value, if they have none: that of a label, or that there is none."""
    keys = _patient_keys(patients)
    why = pa.chunked_array([pa.repeat(pa.scalar("no_label", tables.TEXT), len(patients))])
    # A later reason takes the place of an earlier one.
    for reason in sorted(labels["reason"].drop_null().unique().to_pylist(), key=_ease):
        concerned = _patient_keys(labels.filter(pc.equal(labels["reason"], reason)))
        why = pc.if_else(pc.is_in(keys, value_set=concerned.combine_chunks()), reason, why)
    return why


def _ease(reason: str) -> tuple[int, str]:
    """Rank reasons of unused labels from the hardest to waive to the easiest.

    >>> sorted(["label_too_far", "no_scan", "other_level"], key=_ease)
    ['no_scan', 'other_level', 'label_too_far']
    """
    return (1 + _HARDEST_FIRST.index(reason) if reason in _HARDEST_FIRST else 0), reason


def _patient_keys(rows: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(rows["cohort"], rows["patient_id"], "/")


def _of_cohort(counts: Counter[tuple], cohort: str) -> Counter[tuple]:
    return Counter({key[1:]: n for key, n in counts.items() if key[0] == cohort})


def _series_steps(counts: Counter[tuple]) -> Iterator[Step]:
    losses = Losses()
    for (accepted, reason), n in counts.items():
        losses[reason or "not_chosen"] += 0 if accepted else n
    yield "found", counts.total(), Losses()
    yield "chosen", counts.total() - losses.total(), +losses


def _study_steps(counts: Counter[tuple]) -> Iterator[Step]:
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
