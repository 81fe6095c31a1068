"""What became of every series, study and patient, with the reason of each loss."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

# Step that a study did not reach when it dropped out in a stage.
STEP_OF_STAGE = {
    "index": "chosen",
    "convert": "converted",
    "segment": "segmented",
    "crop": "measured",
    "measure": "measured",
}
STUDY_STEPS = ("chosen", "converted", "segmented", "measured")

Losses = Counter[str]
Step = tuple[str, int, Losses]


def flow(series: pa.Table, studies: pa.Table, patients: pa.Table) -> list[dict[str, Any]]:
    """Rows of the flow table: per cohort and step, those that reached it and, by reason, those lost.

    In every cohort and unit, the number at a step and the losses on the way to it add up to the
    number at the step before.

    Parameters
    ----------
    series, studies, patients : tables
        Of the schemas SERIES, STUDIES and PATIENTS.
    """
    of_series = _counted(series, "accepted", "reason")
    of_studies = _counted(studies, "status", "stage", "reason")
    of_patients = _counted_patients(patients)
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
    return rows


def _counted(table: pa.Table, *columns: str) -> Counter[tuple]:
    """Number of rows per cohort and value of the columns; pyarrow counts, so millions of rows are no matter."""
    counts = table.group_by(["cohort", *columns]).aggregate([([], "count_all")]).to_pylist()
    return Counter({(row["cohort"], *(row[name] for name in columns)): row["count_all"] for row in counts})


def _counted_patients(patients: pa.Table) -> Counter[tuple]:
    """Number of patients per cohort, measured or not, labelled or not, and reason."""
    columns = patients.select(["cohort", "decision_reason"])
    columns = columns.append_column("measured", patients["study_id"].is_valid())
    columns = columns.append_column("labelled", patients["qct_vbmd_mg_cm3"].is_valid())
    return _counted(columns, "measured", "labelled", "decision_reason")


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
    for (measured, labelled, reason), n in counts.items():
        if not measured:
            unmeasured[reason or "no_acceptable_series"] += n
        elif not labelled:
            unlabelled["no_label"] += n
    measured = counts.total() - unmeasured.total()
    yield "found", counts.total(), Losses()
    yield "measured", measured, unmeasured
    yield "labelled", measured - unlabelled.total(), unlabelled
