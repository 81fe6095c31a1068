"""Counts of what dropped out, by cohort, stage and reason."""

from dataclasses import dataclass

import pyarrow as pa

from trabecula.report import wording


@dataclass(frozen=True)
class Loss:
    """Rows of the table failures that share cohort, stage and reason."""

    cohort: str
    stage: str
    reason: str
    rows: int
    files: int


def losses(failures: pa.Table) -> list[Loss]:
    """Count failures by cohort, stage and reason; within a stage the most frequent reason comes first."""
    grouped = failures.group_by(["cohort", "stage", "reason"]).aggregate([([], "count_all"), ("n_files", "sum")])
    counted = [
        Loss(row["cohort"], row["stage"], wording.reason(row["reason"]), row["count_all"], row["n_files_sum"] or 0)
        for row in grouped.to_pylist()
    ]
    return sorted(counted, key=lambda loss: (loss.cohort, loss.stage, -loss.rows, loss.reason))
