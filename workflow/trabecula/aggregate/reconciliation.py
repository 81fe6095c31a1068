"""Checks that nothing is lost or counted twice between the archive and the tables."""

from collections.abc import Mapping

import pandas as pd

from trabecula.cohort.gone import in_archive


def require(holds: bool, problem: str) -> None:
    """Crash where the tables contradict each other: that is a bug, not a bad study.

    Raises
    ------
    AssertionError
        If it does not hold; also under ``python -O``.
    """
    if not holds:
        raise AssertionError(f"the tables don't add up: {problem}")


def reconcile(cohort: str, public: Mapping[str, pd.DataFrame], index: Mapping[str, pd.DataFrame]) -> None:
    """Hold a cohort's tables against what the index found.

    Parameters
    ----------
    cohort : str
        Name, for the message.
    public : mapping of DataFrame
        The public tables series, studies, patients, labels, failures of the cohort.
    index : mapping of DataFrame
        The index's tables of the same names.

    Raises
    ------
    AssertionError
        If a series, study, patient or label is lost, is there twice, or has neither a result nor a reason.
    """
    for problem in _problems(public, index):
        require(False, f"cohort {cohort}: {problem}")


def _problems(public: Mapping[str, pd.DataFrame], index: Mapping[str, pd.DataFrame]) -> list[str]:
    """List the rules that don't hold, in words."""
    series, studies, patients, labels = (public[name] for name in ("series", "studies", "patients", "labels"))
    accepted, status = series["accepted"].astype(bool), studies["status"]
    went_on = index["studies"]["status"] == "accepted"
    rules = {
        "series were lost": len(series) == len(index["series"]),
        "a series is there twice": not series.duplicated(["series_id", "stack"]).any(),
        "a series is neither accepted nor rejected with a reason": bool((accepted == series["reason"].isna()).all()),
        "accepted series and accepted studies differ": sorted(series.loc[accepted, "study_id"])
        == sorted(index["studies"].loc[went_on, "study_id"]),
        "studies were lost": sorted(studies["study_id"]) == sorted(index["studies"]["study_id"]),
        "a study is there twice": studies["study_id"].is_unique,
        "an accepted study is neither measured nor failed": int(went_on.sum()) == int((status != "rejected").sum()),
        "a study's status is unknown": set(status) <= {"measured", "failed", "rejected"},
        "a study was not measured and has no reason": bool(
            ((status == "measured") == studies["reason"].isna()).all()
            and ((status == "measured") == studies["stage"].isna()).all()
        ),
        "a study without measurement is not among the failures": set(studies.loc[status != "measured", "study_id"])
        <= set(public["failures"]["study_id"].dropna()),
        "patients were lost": sorted(patients["patient_id"])
        == sorted(set(index["studies"].loc[in_archive(index["studies"]), "patient_id"])),
        "a patient's decision is unknown": set(patients["decision"])
        <= {"normal", "reduced", "indeterminate", "not_evaluable"},
        "a patient has neither a decision nor a reason": bool(
            (patients["decision"].isin(["normal", "reduced"]) == patients["decision_reason"].isna()).all()
        ),
        "a patient has a probability and is not evaluable, or the other way round": bool(
            (patients["probability_reduced"].isna() == (patients["decision"] == "not_evaluable")).all()
        ),
        "a patient's study was not measured": set(patients["study_id"].dropna())
        <= set(studies.loc[status == "measured", "study_id"]),
        "labels were lost": len(labels) == len(index["labels"]),
        "a label is neither used nor unused with a reason": bool(
            ((labels["status"] == "used") == labels["reason"].isna()).all()
        ),
        "patients with a QCT value and patients with a used label differ": set(
            patients.loc[patients["qct_vbmd_mg_cm3"].notna(), "patient_id"]
        )
        == set(labels.loc[labels["status"] == "used", "patient_id"]),
    }
    return [problem for problem, holds in rules.items() if not holds]
