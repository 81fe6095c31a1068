"""What a report stands on: the tables of one cohort, or of all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute

from trabecula.model.bundle import Bundle
from trabecula.report import words

Row = Mapping[str, Any]
# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute

# Sets that the model's protocol tells; they belong to the patients of its training.
OF_PROTOCOL = ("training", "random grouping", "leave one device out")


@dataclass(frozen=True)
class Results:
    """Everything that a report stands on.

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

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Rows of one of the tables of evaluate; not for those with a row per patient."""
        return self.statistics[name].to_pylist()

    @property
    def judged(self) -> bool:
        """Some patient of this run's cohorts is compared with QCT."""
        return any(row["n"] and row["set"] in words.OWN_SETS for row in self.rows("metrics"))

    def frame(self, name: str, *predictors: str) -> pd.DataFrame:
        """One of the tables of evaluate with the rows of these predictors, however many."""
        table = self.statistics[name]
        return table.filter(pc.is_in(table["predictor"], pa.array(predictors, pa.string()))).to_pandas()


def of_cohort(statistics: Mapping[str, pa.Table], cohort: str, role: str) -> dict[str, pa.Table]:
    """Statistics of one cohort's patients; of a development cohort also those that the model's protocol tells.

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
    wanted = pc.fill_null(pc.equal(table["cohort"], cohort), False)
    if trained and "set" in table.column_names:
        told = pc.is_in(table["set"], pa.array(OF_PROTOCOL, pa.string()))
        wanted = pc.or_(wanted, pc.and_(told, pc.is_null(table["cohort"])))
    return table.filter(wanted)


def verdicts_of(verdicts: pa.Table, cohort: str) -> pa.Table:
    """Lines of the reviewers' file on a cohort's studies, and those that no cohort has."""
    own = pc.fill_null(pc.equal(verdicts["cohort"], cohort), True)
    return verdicts.filter(own)


def pooled(statistics: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """Statistics over all cohorts of a set, or of its only cohort; tables without a set stay whole."""
    return {name: _pooled(table) for name, table in statistics.items()}


def _pooled(table: pa.Table) -> pa.Table:
    if not {"set", "cohort"} <= set(table.column_names) or table.schema.field("cohort").nullable is False:
        return table
    over_all = pc.is_null(table["cohort"])
    together = pc.unique(table.filter(over_all)["set"])
    alone = pc.invert(pc.is_in(table["set"], together))
    return table.filter(pc.or_(over_all, alone))


def synthetic_note(results: Results) -> str:
    """What is simulated, in one sentence; empty where nothing is."""
    known = results.patients.select(["cohort", "synthetic"]).group_by("cohort").aggregate([("synthetic", "max")])
    cohorts = sorted(row["cohort"] for row in known.to_pylist() if row["synthetic_max"])
    parts = []
    if cohorts and len(cohorts) == known.num_rows:
        parts.append("every patient here is simulated")
    elif cohorts:
        parts.append(f"the patients of {', '.join(cohorts)} are simulated")
    if results.bundle.synthetic:
        parts.append("the model was trained on simulated patients")
    return " and ".join(parts)
