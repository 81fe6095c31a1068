"""What became of every development patient and every label line before training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from trabecula import tables
from trabecula.cohort.labels import contributing, matches, of_levels
from trabecula.cohort.patients import chosen_vertebrae
from trabecula.density.units import material_of
from trabecula.errors import ConfigError
from trabecula.train.cases import Sources

_KEY = ["cohort", "patient_id"]
_EVER_DAYS = 1_000_000


def check_cases(cases: pd.DataFrame, audited: pd.DataFrame, *, folds: int) -> None:
    """Refuse to train on patients that can't be divided.

    Parameters
    ----------
    cases : DataFrame
        Columns of `tables.CASES`.
    audited : DataFrame
        Columns of `tables.AUDIT`: what is told of those that are no cases.
    folds : int
        Folds of the cross-validation.

    Raises
    ------
    ConfigError
        If there is no patient, one class only, or fewer patients of a class than folds.
    """
    n, n_reduced = len(cases), int(cases["reduced"].sum())
    if n == 0:
        raise ConfigError(
            "The development cohorts have no patient with a QCT label that belongs to a measured scan"
            f"{_counted(audited)}; mend the labels, or raise aggregate.max_interval_days if they are too far in time."
        )
    if n_reduced in (0, n):
        present, absent = ("reduced", "normal") if n_reduced else ("normal", "reduced")
        raise ConfigError(
            f"All {n} labelled patients of the development cohorts have {present} density; add patients with {absent} "
            "density, or mend option aggregate.reduced_below_mg_cm3."
        )
    if min(n_reduced, n - n_reduced) < folds:
        raise ConfigError(
            f"Option train.folds: {folds} folds need {folds} labelled patients of each class, but the development "
            f"cohorts have {n_reduced} with reduced and {n - n_reduced} with normal density; "
            "add labelled patients, or lower it."
        )


def _counted(audited: pd.DataFrame) -> str:
    """Reasons with how often they occur, such as `` (patients: 3 no_scan; lines: 2 bad_date)``."""
    groups = {"patients": audited[audited["line"].isna()], "lines": audited[audited["line"].notna()]}
    told = [
        f"{name}: " + ", ".join(f"{count} {reason}" for reason, count in rows["reason"].value_counts().items())
        for name, rows in groups.items()
        if len(rows)
    ]
    return f" ({'; '.join(told)})" if told else ""


def audit(sources: Sources, cases: pd.DataFrame, *, order: Sequence[str], choice: Mapping[str, Any]) -> pd.DataFrame:
    """Say of every patient of the development cohorts what became of him, and of every unusable line why.

    Parameters
    ----------
    sources : Sources
        What is known of the development cohorts.
    cases : DataFrame
        Columns of `tables.CASES`: what `cases.find_cases` made of them.
    order : sequence of str
        The cohorts, as cohorts.tsv lists them.
    choice : mapping
        Options levels, substitutes and max_interval_days of `cases.find_cases`.

    Returns
    -------
    DataFrame
        Columns of `tables.AUDIT`: by cohort and patient, then by cohort and line. Of a patient with several faults the
        reason is the first of: no label, none of a wanted level, no scan, no vertebra, none near in time, other cohort.

    Raises
    ------
    AssertionError
        If the patients found usable here are not the cases.
    """
    parts = [_patients_of_cohort(sources, cohort, choice) for cohort in order]
    patients = pd.concat(parts, ignore_index=True)
    patients["n_cohorts"] = patients.groupby("patient_id")["cohort"].transform("nunique")
    known = cases.set_index(_KEY)[["levels", "qct_vbmd_mg_cm3"]].rename(columns={"levels": "levels_used"})
    patients = patients.join(known, on=_KEY)
    used = patients["levels_used"].notna()
    fit = patients["reason"].isna()
    if used.sum() != len(cases) or not fit[used].all():
        raise AssertionError("the audit finds other patients than those that are trained on")
    if not np.allclose(patients.loc[used, "vbmd_mg_cm3"], patients.loc[used, "qct_vbmd_mg_cm3"]):
        raise AssertionError("the audit finds other QCT values than those that are trained on")
    patients["reason"] = patients["reason"].mask(fit & ~used, "other_cohort")
    patients["status"] = np.where(used, "used", "left_out")
    rows = pd.concat([patients, _unused_lines(sources.labels, order)], ignore_index=True)
    return _typed(rows)


def _patients_of_cohort(sources: Sources, cohort: str, choice: Mapping[str, Any]) -> pd.DataFrame:
    """A row per patient that the cohort knows by a scan or a usable label, with the reason against him by himself."""
    vertebrae, studies, labels = (
        frame[frame["cohort"] == cohort] for frame in (sources.vertebrae, sources.studies, sources.labels)
    )
    levels, limit = choice["levels"], choice["max_interval_days"]
    chosen = chosen_vertebrae(vertebrae, levels=levels, substitutes=choice["substitutes"])
    candidates = studies[studies["study_id"].isin(list(chosen["study_id"]))]
    pairs = matches(labels, candidates, levels=levels, max_interval_days=limit)
    facts = _label_facts(contributing(labels, pairs, levels=levels))
    nearest = matches(labels, candidates, levels=levels, max_interval_days=_EVER_DAYS).set_index("patient_id")

    # A label of a patient without any study is unused for that reason alone.
    given = labels[(labels["status"] == "used") | (labels["reason"] == "no_scan")]
    patients = pd.DataFrame({"patient_id": sorted({*studies["patient_id"], *given["patient_id"]})}, dtype=object)
    patients = patients.assign(cohort=cohort).join(facts, on="patient_id")
    patients = patients.join(nearest[["study_id", "days_from_scan"]], on="patient_id")
    scans = vertebrae.groupby("patient_id")["study_id"].nunique()
    patients["n_scans"] = patients["patient_id"].map(scans).fillna(0)
    against = {
        "no_label": ~patients["patient_id"].isin(given["patient_id"]),
        "other_level": ~patients["patient_id"].isin(given.loc[of_levels(given, levels), "patient_id"]),
        "no_scan": patients["n_scans"] == 0,
        "no_complete_vertebra": ~patients["patient_id"].isin(candidates["patient_id"]),
        "label_too_far": patients["n_labels"].isna(),
    }
    reason = np.select(list(against.values()), list(against), default="")
    patients["reason"] = pd.Series(reason, patients.index, object).replace("", None)
    return patients.assign(n_labels=patients["n_labels"].fillna(0))


def _label_facts(lines: pd.DataFrame) -> pd.DataFrame:
    """By patient_id, what is told of the lines whose mean is the patient's value."""
    lines = lines.sort_values(["patient_id", "line"], kind="stable")
    converted = pd.Series([material_of(unit) == "K2HPO4" for unit in lines["unit_given"]], lines.index, bool)
    return (
        lines.assign(converted=converted)
        .groupby("patient_id")
        .agg(
            n_labels=("line", "size"),
            label_levels=("level", list),
            unit_given=("unit_given", lambda units: ", ".join(dict.fromkeys(units))),
            converted=("converted", "any"),
            vbmd_mg_cm3=("vbmd_mg_cm3", "mean"),
        )
    )


def _unused_lines(labels: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """The lines that can't be used whatever the scans."""
    unused = labels[labels["cohort"].isin(order) & (labels["status"] != "used") & (labels["reason"] != "no_scan")]
    lines = unused[[*_KEY, "line", "status", "reason", "faults", "unit_given", "vbmd_mg_cm3"]]
    return lines.sort_values(["cohort", "line"], kind="stable")


def _typed(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of `tables.AUDIT`, with None for what is unknown and no list for nothing."""
    rows = rows.rename(columns={"days_from_scan": "interval_days"})
    near = rows["interval_days"]
    rows = rows.assign(same_day=(near == 0).astype(object).where(near.notna(), None))
    for name in ("faults", "label_levels", "levels_used"):
        rows[name] = pd.Series([list(v) if isinstance(v, list | np.ndarray) else [] for v in rows[name]], rows.index)
    return rows.astype(object).where(rows.notna(), None)[tables.AUDIT.names]
