"""The audit before training: the fate of every development patient, and of every label line that can't be used."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from trabecula import tables
from trabecula.cohort.gone import in_archive
from trabecula.cohort.labels import contributing, matches, of_levels
from trabecula.cohort.patients import chosen_vertebrae
from trabecula.density.units import material_of
from trabecula.errors import ConfigError
from trabecula.train.cases import Choice, Sources
from trabecula.train.rois import PATIENT

# Stands for no limit of the time between scan and label.
_EVER_DAYS = 1_000_000


def check_cases(cases: pd.DataFrame, audited: pd.DataFrame, *, folds: int) -> None:
    """Check that the cases can be divided into folds with both classes.

    Parameters
    ----------
    cases : DataFrame
        Columns of `tables.CASES`.
    audited : DataFrame
        Columns of `tables.AUDIT`: the reasons of the patients and lines that are not used.
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
            f"{_counted(audited)}; mend the labels, or raise aggregate.max_interval_days if they are too far in time. "
            "If the scans are at fault, name a trained model in option model: the tables then say what became of each."
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
    """Count the reasons in words, such as `` (patients: 3 no_scan; lines: 2 bad_date)``."""
    groups = {"patients": audited[audited["line"].isna()], "lines": audited[audited["line"].notna()]}
    counts = [f"{name}: {_counts(rows['reason'])}" for name, rows in groups.items() if len(rows)]
    return f" ({'; '.join(counts)})" if counts else ""


def _counts(reasons: pd.Series) -> str:
    """Count each reason, the most frequent first.

    >>> _counts(pd.Series(["bad_date", "no_scan", "no_scan"]))
    '2 no_scan, 1 bad_date'
    """
    return ", ".join(f"{count} {reason}" for reason, count in reasons.value_counts().items())


def audit(sources: Sources, cases: pd.DataFrame, *, order: Sequence[str], choice: Choice) -> pd.DataFrame:
    """List every patient of the development cohorts with their fate, and every unusable line with its reason.

    Parameters
    ----------
    sources : Sources
        Tables of the development cohorts.
    cases : DataFrame
        Columns of `tables.CASES`: the result of `cases.find_cases`.
    order : sequence of str
        The cohorts, as cohorts.tsv lists them.
    choice : Choice
        How levels and labels are chosen.

    Returns
    -------
    DataFrame
        Columns of `tables.AUDIT`: by cohort and patient, then by cohort and line. The reason of a patient with several
        faults is the first of: no label, no label of a chosen level, scan counted for another patient id, no scan, no
        vertebra, no label near in time, other cohort.

    Raises
    ------
    AssertionError
        If the patients found usable here are not the cases.
    """
    parts = [_patients_of_cohort(sources, cohort, choice) for cohort in order]
    patients = pd.concat(parts, ignore_index=True)
    patients["n_cohorts"] = patients.groupby("patient_id")["cohort"].transform("nunique")
    trained_on = cases.set_index(PATIENT)[["levels", "qct_vbmd_mg_cm3"]].rename(columns={"levels": "levels_used"})
    patients = patients.join(trained_on, on=PATIENT)
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


def _patients_of_cohort(sources: Sources, cohort: str, choice: Choice) -> pd.DataFrame:
    """List every patient with a scan or a usable label, and the first reason against them, other cohorts aside."""
    vertebrae, studies, labels = sources.of_cohort(cohort)
    studies, levels = studies[in_archive(studies)], choice.levels
    chosen = chosen_vertebrae(vertebrae, levels=levels, substitutes=choice.substitutes)
    candidates = studies[studies["study_id"].isin(list(chosen["study_id"]))]
    pairs = matches(labels, candidates, levels=levels, max_interval_days=choice.max_interval_days)
    facts = _label_facts(contributing(labels, pairs, levels=levels))
    nearest = matches(labels, candidates, levels=levels, max_interval_days=_EVER_DAYS).set_index("patient_id")

    # A label of a patient without any study is unused for that reason alone.
    usable = labels[(labels["status"] == "used") | (labels["reason"] == "no_scan")]
    patients = pd.DataFrame({"patient_id": sorted({*studies["patient_id"], *usable["patient_id"]})}, dtype=object)
    patients = patients.assign(cohort=cohort).join(facts, on="patient_id")
    patients = patients.join(nearest[["study_id", "days_from_scan"]], on="patient_id")
    scans = vertebrae.groupby("patient_id")["study_id"].nunique()
    patients["n_scans"] = patients["patient_id"].map(scans).fillna(0)
    without_scan = patients["n_scans"] == 0
    excluded_by = {
        "no_label": ~patients["patient_id"].isin(usable["patient_id"]),
        "other_level": ~patients["patient_id"].isin(usable.loc[of_levels(usable, levels), "patient_id"]),
        "same_scan": without_scan & patients["patient_id"].isin(_set_aside(sources, studies, "same_scan")),
        "same_person": without_scan & patients["patient_id"].isin(_set_aside(sources, studies, "same_person")),
        "no_scan": without_scan,
        "no_complete_vertebra": ~patients["patient_id"].isin(candidates["patient_id"]),
        "label_too_far": patients["n_labels"].isna(),
    }
    reason = np.select(list(excluded_by.values()), list(excluded_by), default="")
    patients["reason"] = pd.Series(reason, patients.index, object).replace("", None)
    return patients.assign(n_labels=patients["n_labels"].fillna(0))


def _set_aside(sources: Sources, studies: pd.DataFrame, reason: str) -> set[str]:
    """Give the patients of studies that are set aside for a reason."""
    named = [study for study, entry in sources.set_aside.items() if entry.reason == reason]
    return set(studies.loc[studies["study_id"].isin(named), "patient_id"])


def _label_facts(lines: pd.DataFrame) -> pd.DataFrame:
    """Summarise, by patient_id, the label lines whose mean is the patient's value."""
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
    """List the label lines that can't be used, whatever the scans."""
    unused = labels[labels["cohort"].isin(order) & (labels["status"] != "used") & (labels["reason"] != "no_scan")]
    lines = unused[[*PATIENT, "line", "status", "reason", "faults", "unit_given", "vbmd_mg_cm3"]]
    return lines.sort_values(["cohort", "line"], kind="stable")


def _typed(rows: pd.DataFrame) -> pd.DataFrame:
    """Give the columns of `tables.AUDIT`, with None for unknown values and empty lists for missing lists."""
    rows = rows.rename(columns={"days_from_scan": "interval_days"})
    days = rows["interval_days"]
    rows = rows.assign(same_day=(days == 0).astype(object).where(days.notna(), None))
    for name in ("faults", "label_levels", "levels_used"):
        lists = [list(value) if isinstance(value, list | np.ndarray) else [] for value in rows[name]]
        rows[name] = pd.Series(lists, rows.index)
    return rows.astype(object).where(rows.notna(), None)[tables.AUDIT.names]
