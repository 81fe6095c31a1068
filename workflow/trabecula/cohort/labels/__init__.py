"""QCT labels: what their levels mean, and which scan they belong to.

Only here is it decided which label belongs to which scan, so that what is trained on and
what is reported are the same. `labels.read` reads and checks a hospital's file; it stands apart since pandera takes
most of a second to import.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from trabecula.image.levels import ORDER, SUPERNUMERARY


def levels_of(level: str) -> tuple[str, ...]:
    """Levels that a label's level names: one, or a range from head to foot.

    Returns
    -------
    tuple of str
        ``("L1", "L2")`` for ``L1-L2``; empty when it isn't understood. T13 and L6, which few people have, count only
        where they are named.
    """
    ends = [part.strip() for part in level.strip().upper().replace("–", "-").split("-")]
    if len(ends) > 2 or any(end not in ORDER[:-1] for end in ends):
        return ()
    first, last = ORDER.index(ends[0]), ORDER.index(ends[-1])
    return tuple(name for name in ORDER[first : last + 1] if name not in SUPERNUMERARY or name in ends)


def matches(
    labels: pd.DataFrame, studies: pd.DataFrame, *, levels: Sequence[str], max_interval_days: int
) -> pd.DataFrame:
    """Pair each patient's labels with the study that is nearest in time.

    Parameters
    ----------
    labels, studies : DataFrame
        Columns as in the tables `labels` and `studies`; only usable labels and the given studies count.
    levels : sequence of str
        Wanted levels; labels of other levels don't count.
    max_interval_days : int
        Greatest distance in time.

    Returns
    -------
    DataFrame
        One row per patient with a pair: cohort, patient_id, study_id, label_day (days from the patient's first study)
        and days_from_scan (label minus scan). Of equally near pairs the earlier scan counts, then the earlier label.
    """
    days = _relevant(labels, levels)[["cohort", "patient_id", "days_from_first_study"]].drop_duplicates()
    pairs = studies[["cohort", "patient_id", "study_id", "days_from_first_study"]].merge(
        days, on=["cohort", "patient_id"], suffixes=("_scan", "")
    )
    pairs = pairs.rename(columns={"days_from_first_study": "label_day", "days_from_first_study_scan": "scan_day"})
    pairs = pairs.dropna(subset=["label_day", "scan_day"]).astype({"label_day": int, "scan_day": int})
    pairs["days_from_scan"] = pairs["label_day"] - pairs["scan_day"]
    pairs["distance_days"] = pairs["days_from_scan"].abs()
    pairs = pairs[pairs["distance_days"] <= max_interval_days]
    pairs = pairs.sort_values(["distance_days", "scan_day", "label_day", "cohort", "study_id"], kind="stable")
    nearest = pairs.drop_duplicates("patient_id").sort_values("patient_id")
    return nearest[["cohort", "patient_id", "study_id", "label_day", "days_from_scan"]].reset_index(drop=True)


def contributing(labels: pd.DataFrame, pairs: pd.DataFrame, *, levels: Sequence[str]) -> pd.DataFrame:
    """Labels that make up the patients' truth.

    Of the matched day, the one value over all wanted levels (such as L1-L2) where it is given, else the values of the
    wanted levels one by one.

    Returns
    -------
    DataFrame
        Rows of `labels`, with their index, and study_id and days_from_scan of their pair.
    """
    relevant = _relevant(labels, levels)
    relevant = relevant.drop(columns=["study_id", "days_from_scan"], errors="ignore").assign(row=relevant.index)
    day = relevant.merge(pairs, on=["cohort", "patient_id"])
    day = day[day["days_from_first_study"] == day["label_day"]]
    joint = pd.Series([len(levels_of(level)) == len(levels) for level in day["level"]], day.index, bool)
    has_joint = joint.groupby(day["patient_id"]).transform("any").astype(bool)
    return day[joint | ~has_joint].set_index("row").drop(columns="label_day")


def patient_truth(
    labels: pd.DataFrame, studies: pd.DataFrame, *, levels: Sequence[str], max_interval_days: int
) -> pd.DataFrame:
    """One study and one QCT value per patient.

    Parameters
    ----------
    labels, studies : DataFrame
        Columns as in the tables `labels` and `studies`; only the given studies are candidates.
    levels : sequence of str
        Levels whose mean vBMD is wanted.
    max_interval_days : int
        A label further in time from the scan is not joined to it.

    Returns
    -------
    DataFrame
        A row per patient of `studies`, by patient_id: study_id (the nearest in time to a label, else the first),
        qct_vbmd_mg_cm3 (mg/cm3 HA) and days_from_scan (NaN where there is no label), reason (no_label, label_too_far,
        or None).
    """
    pairs = matches(labels, studies, levels=levels, max_interval_days=max_interval_days)
    used = contributing(labels, pairs, levels=levels)
    value = used.groupby("patient_id")["vbmd_mg_cm3"].mean().rename("qct_vbmd_mg_cm3")
    chosen = pairs.set_index("patient_id")[["study_id", "days_from_scan"]].join(value)
    first = studies.sort_values(["days_from_first_study", "study_id"], kind="stable").drop_duplicates("patient_id")
    truth = (
        first.set_index("patient_id")[["study_id"]]
        .sort_index()
        .join(chosen.rename(columns={"study_id": "study_id_near"}))
    )
    truth["study_id"] = truth.pop("study_id_near").fillna(truth["study_id"])
    far = np.where(truth.index.isin(_relevant(labels, levels)["patient_id"]), "label_too_far", "no_label")
    reason = pd.Series(far, index=truth.index, dtype=object).where(truth["qct_vbmd_mg_cm3"].isna(), None)
    columns = ["patient_id", "study_id", "qct_vbmd_mg_cm3", "days_from_scan", "reason"]
    return truth.assign(reason=reason).reset_index()[columns]


def _relevant(labels: pd.DataFrame, levels: Sequence[str]) -> pd.DataFrame:
    """Usable labels that `of_levels` lets pass."""
    used = labels[labels["status"] == "used"]
    return used[of_levels(used, levels)]


def of_levels(labels: pd.DataFrame, levels: Sequence[str]) -> pd.Series:
    """Whether a label is of one wanted level, or of all of them together."""
    named = [levels_of(level) for level in labels["level"]]
    counts = [set(names) == set(levels) or (len(names) == 1 and names[0] in levels) for names in named]
    return pd.Series(counts, labels.index, bool)


def label_rows(
    labels: pd.DataFrame, studies: pd.DataFrame, *, levels: Sequence[str], max_interval_days: int
) -> pd.DataFrame:
    """Decide what became of each label.

    Parameters
    ----------
    labels : DataFrame
        Columns as in the table `labels`; rows that are unused already keep their reason.
    studies : DataFrame
        Columns as in the table `studies`; only the candidates that `patient_truth` was given.
    levels, max_interval_days
        As in `patient_truth`.

    Returns
    -------
    DataFrame
        The same rows with status, reason (no_scan, label_too_far, superseded, other_level, or None) and
        days_from_scan, to the scan that the patient's result stands on (NaN where there is none).
    """
    pairs = matches(labels, studies, levels=levels, max_interval_days=max_interval_days)
    used = labels.index.isin(contributing(labels, pairs, levels=levels).index)
    pair = labels[["patient_id"]].merge(pairs, on="patient_id", how="left").set_axis(labels.index)
    relevant = labels.index.isin(_relevant(labels, levels).index)
    other_day = pair["label_day"] != labels["days_from_first_study"]
    cases = {
        "given": labels["status"] != "used",
        "no_scan": ~labels["patient_id"].isin(studies["patient_id"]),
        "": used,
        "other_level": ~relevant | (pair["label_day"].notna() & ~other_day),
        "label_too_far": pair["label_day"].isna(),
        "superseded": other_day,
    }
    names = pd.Series(np.select(list(cases.values()), list(cases), default="?"), labels.index, object)
    reason = names.replace("", None).where(names != "given", labels["reason"])
    days = (labels["days_from_first_study"] - pair["label_day"] + pair["days_from_scan"]).where(names != "given")
    return labels.assign(status=status_of(reason), reason=reason, days_from_scan=days)


def status_of(reasons: pd.Series) -> pd.Series:
    """``used`` where there is no reason against a label, else ``unused``."""
    return pd.Series(np.where(reasons.isna(), "used", "unused"), index=reasons.index, dtype=object)
