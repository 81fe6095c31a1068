"""The tables that a report is made from: those of one cohort, or of all cohorts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute

from trabecula.model.bundle import Bundle
from trabecula.report import wording

Row = Mapping[str, Any]
# Its functions are made on import, so type checkers can't see them.
pc: Any = pyarrow.compute

# Sets whose figures come from the model's training protocol; they belong to the patients of its training.
PROTOCOL_SETS = ("training", "random grouping", "leave one device out")
PATIENT_COLUMNS = (
    "cohort", "patient_id", "age_years", "sex", "device_key", "vbmd_mg_cm3", "trabecular_hu", "probability_reduced",
    "grade", "decision", "decision_reason", "novelty", "flags", "quality", "reviewed", "level_uncertain",
    "qct_vbmd_mg_cm3", "qct_reduced",
)  # fmt: skip


@dataclass(frozen=True)
class Results:
    """The tables and the model that a report is made from.

    Attributes
    ----------
    patients, studies, vertebrae, failures, verdicts, flow, runs : tables
        Of the schemas of these names.
    statistics : dict
        Tables that evaluate wrote, by name; those of `of_cohort` or of `pooled`.
    training : table
        Learning curves of the model, of the schema TRAINING.
    bundle : Bundle
        The model.
    roles : mapping
        Role of each cohort, by its name; also of cohorts without a patient.
    """

    patients: pa.Table
    studies: pa.Table
    vertebrae: pa.Table
    failures: pa.Table
    verdicts: pa.Table
    flow: pa.Table
    runs: pa.Table
    statistics: Mapping[str, pa.Table]
    training: pa.Table
    bundle: Bundle
    roles: Mapping[str, str]

    def rows(self, name: str) -> list[dict[str, Any]]:
        """List the rows of one table of evaluate; use `frame` for tables with a row per patient."""
        return self.statistics[name].to_pylist()

    @property
    def judged(self) -> bool:
        """Tell whether any patient of this run's cohorts is compared with QCT."""
        return any(row["n"] and row["set"] in wording.SETS_OF_THIS_RUN for row in self.rows("metrics"))

    def frame(self, name: str, *predictors: str) -> pd.DataFrame:
        """Give the rows of these predictors in one table of evaluate; the table may be long."""
        table = self.statistics[name]
        return table.filter(pc.is_in(table["predictor"], pa.array(predictors, pa.string()))).to_pandas()


def patient_rows(patients: pa.Table) -> pd.DataFrame:
    """Give the columns that the report uses of the table patients, one row per patient."""
    return patients.select(list(PATIENT_COLUMNS)).to_pandas()


def of_cohort(statistics: Mapping[str, pa.Table], cohort: str, role: str) -> dict[str, pa.Table]:
    """Select the statistics of one cohort's patients; a development cohort also gets those of the training protocol.

    Parameters
    ----------
    statistics : mapping
        Tables of evaluate by name.
    cohort, role : str
        Name and role of the cohort.
    """
    return {name: _of_cohort(table, cohort, role) for name, table in statistics.items()}


def _of_cohort(table: pa.Table, cohort: str, role: str) -> pa.Table:
    trained = role == "development"
    if "cohort" not in table.column_names:
        return table if trained else table.slice(0, 0)
    selected = pc.fill_null(pc.equal(table["cohort"], cohort), False)
    if trained and "set" in table.column_names:
        from_protocol = pc.is_in(table["set"], pa.array(PROTOCOL_SETS, pa.string()))
        selected = pc.or_(selected, pc.and_(from_protocol, pc.is_null(table["cohort"])))
    return table.filter(selected)


def verdicts_of(verdicts: pa.Table, cohort: str) -> pa.Table:
    """Select the lines of the reviewers' file on a cohort's studies, and the lines that belong to no cohort."""
    return verdicts.filter(pc.fill_null(pc.equal(verdicts["cohort"], cohort), True))


def pooled(statistics: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """Select the statistics over all cohorts of a set, or of its only cohort; tables without a set stay whole."""
    return {name: _pooled(table) for name, table in statistics.items()}


def _pooled(table: pa.Table) -> pa.Table:
    if not {"set", "cohort"} <= set(table.column_names) or table.schema.field("cohort").nullable is False:
        return table
    over_all = pc.is_null(table["cohort"])
    together = pc.unique(table.filter(over_all)["set"])
    alone = pc.invert(pc.is_in(table["set"], together))
    return table.filter(pc.or_(over_all, alone))


def synthetic_note(results: Results) -> str:
    """Say in one sentence which patients are simulated; give no text where none is."""
    flags = results.patients.select(["cohort", "synthetic"]).group_by("cohort").aggregate([("synthetic", "max")])
    cohorts = sorted(row["cohort"] for row in flags.to_pylist() if row["synthetic_max"])
    parts = []
    if cohorts and len(cohorts) == flags.num_rows:
        parts.append("every patient here is simulated")
    elif cohorts:
        parts.append(f"the patients of {', '.join(cohorts)} are simulated")
    if results.bundle.synthetic:
        parts.append("the model was trained on simulated patients")
    return " and ".join(parts)
