"""What became of every series, study and patient, with the reason of each loss."""

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
# Of several labels of which none is used, what would have to be allowed least to use one.
_NEAREST_LAST = ("other_level", "label_too_far")
# Step that a study did not reach when it dropped out in a stage.
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
    """Rows of the table flow: per cohort and step, those that reached it and, by reason, those lost on the way to it.

    Parameters
    ----------
    series, studies, patients, labels : tables
        Of these tables, at least `SERIES_COLUMNS`, `STUDY_COLUMNS`, `PATIENT_COLUMNS` and `LABEL_COLUMNS`.

    Returns
    -------
    DataFrame
        Columns of `tables.FLOW`; losses of a step from the most frequent on.
    """
    of_series = _counted(series, "accepted", "reason")
    of_studies = _counted(studies, "status", "stage", "reason")
    of_patients = _counted_patients(patients, labels)
    rows: list[dict[str, Any]] = []
    for cohort in sorted({key[0] for counts in (of_series, of_studies, of_patients) for key in counts}):
        steps = [
            *(("series", *step) for step in _series_steps(_of(cohort, of_series))),
            *(("studies", *step) for step in _study_steps(_of(cohort, of_studies))),
            *(("patients", *step) for step in _patient_steps(_of(cohort, of_patients))),
        ]
        for position, (unit, step, n, lost) in enumerate(steps):
            same = {"cohort": cohort, "position": position, "unit": unit, "step": step}
            rows.append(same | {"reason": None, "n": n})
            most_first = sorted(lost.items(), key=lambda item: (-item[1], item[0]))
            rows += [same | {"reason": reason, "n": count} for reason, count in most_first]
    return pd.DataFrame(rows, columns=tables.FLOW.names).astype({"reason": object})


def check(rows: pd.DataFrame) -> None:
    """Hold the table flow against itself: nobody is lost between two steps without a reason.

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
    for cohort, own in rows.groupby("cohort"):
        reached = own[own["reason"].isna()].set_index(["unit", "step"])["n"]
        require(bool((own["n"] >= 0).all()) and reached.index.is_unique, f"cohort {cohort}: a step is counted twice")
        lost = own[own["reason"].notna()].groupby(["unit", "step"])["n"].sum()
        for unit, steps in STEPS.items():
            require(list(reached[unit].index) == list(steps), f"cohort {cohort}: steps of {unit} are missing")
            for before, step in pairwise(steps):
                came, fell = int(reached[unit, step]), int(lost.get((unit, step), 0))
                n = int(reached[unit, before])
                require(came + fell == n, f"cohort {cohort}: {n} {unit} {before}, but {came} {step} and {fell} lost")
        chosen = int(reached["series", "chosen"]), int(reached["studies", "chosen"])
        require(chosen[0] == chosen[1], f"cohort {cohort}: {chosen[0]} series for {chosen[1]} studies were chosen")


def _counted(table: pa.Table, *columns: str) -> Counter[tuple]:
    """Number of rows per cohort and value of the columns; pyarrow counts, so millions of rows are no matter."""
    counts = table.group_by(["cohort", *columns]).aggregate([([], "count_all")]).to_pylist()
    return Counter({(row["cohort"], *(row[name] for name in columns)): row["count_all"] for row in counts})


def _counted_patients(patients: pa.Table, labels: pa.Table) -> Counter[tuple]:
    """Number of patients per cohort, measured or not, and why not, labelled or not, and why not."""
    columns = patients.select(["cohort", "decision_reason"])
    columns = columns.append_column("measured", patients["study_id"].is_valid())
    columns = columns.append_column("labelled", patients["qct_vbmd_mg_cm3"].is_valid())
    columns = columns.append_column("unlabelled", _why_unlabelled(patients, labels))
    return _counted(columns, "measured", "decision_reason", "labelled", "unlabelled")


def _why_unlabelled(patients: pa.Table, labels: pa.Table) -> pa.ChunkedArray:
    """Reason why each patient has no QCT value, if none: that of a label, or that there is none."""
    own = _patient_keys(patients)
    why = pa.chunked_array([pa.repeat(pa.scalar("no_label", tables.TEXT), len(patients))])
    reasons = labels["reason"].drop_null().unique().to_pylist()
    for reason in sorted(reasons, key=lambda one: (one in _NEAREST_LAST and 1 + _NEAREST_LAST.index(one), one)):
        named = _patient_keys(labels.filter(pc.equal(labels["reason"], reason)))
        why = pc.if_else(pc.is_in(own, value_set=named.combine_chunks()), reason, why)
    return why


def _patient_keys(rows: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(rows["cohort"], rows["patient_id"], "/")


def _of(cohort: str, counts: Counter[tuple]) -> Counter[tuple]:
    return Counter({key[1:]: n for key, n in counts.items() if key[0] == cohort})


def _series_steps(counts: Counter[tuple]) -> Iterator[Step]:
    lost = Losses()
    for (accepted, reason), n in counts.items():
        lost[reason or "not_chosen"] += 0 if accepted else n
    yield "found", counts.total(), Losses()
    yield "chosen", counts.total() - lost.total(), +lost


def _study_steps(counts: Counter[tuple]) -> Iterator[Step]:
    left = counts.total()
    lost = {step: Losses() for step in STUDY_STEPS}
    for (status, stage, reason), n in counts.items():
        if status != "measured":
            lost[STEP_OF_STAGE[stage]][reason] += n
    yield "found", left, Losses()
    for step in STUDY_STEPS:
        left -= lost[step].total()
        yield step, left, lost[step]


def _patient_steps(counts: Counter[tuple]) -> Iterator[Step]:
    unmeasured, unlabelled = Losses(), Losses()
    for (measured, reason, labelled, why), n in counts.items():
        if not measured:
            unmeasured[reason or "no_acceptable_series"] += n
        elif not labelled:
            unlabelled[why] += n
    measured = counts.total() - unmeasured.total()
    yield "found", counts.total(), Losses()
    yield "measured", measured, unmeasured
    yield "labelled", measured - unlabelled.total(), unlabelled
