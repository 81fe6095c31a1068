"""QCT labels: what their levels mean, and which scan they belong to.

Only here is it decided which label belongs to which scan, so that training and report use the same pairs.
`labels.read` reads and checks a hospital's file; it stands apart since pandera takes most of a second to import.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from trabecula.image.levels import ORDER, SUPERNUMERARY


def levels_of(level: str) -> tuple[str, ...]:
    """List the levels that a label's level names: one, or a range from head to foot.

    Returns
    -------
    tuple of str
        Empty when the text isn't understood. T13 and L6, which few people have, count only where they are named.

    >>> levels_of("t12 - L2"), levels_of("spine")
    (('T12', 'L1', 'L2'), ())
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
    days = _usable(labels, levels)[["cohort", "patient_id", "days_from_first_study"]].drop_duplicates()
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
    """Keep the labels that make up the patients' truth.

    On the matched day, the one value over all wanted levels (such as L1-L2) counts where it is given, else the values
    of the wanted levels one by one.

    Parameters
    ----------
    labels : DataFrame
        Columns as in the table `labels`.
    pairs : DataFrame
        See `matches`.
    levels : sequence of str
        Wanted levels.

    Returns
    -------
    DataFrame
        Rows of `labels`, with their index, and study_id and days_from_scan of their pair.
    """
    usable = _usable(labels, levels)
    usable = usable.drop(columns=["study_id", "days_from_scan"], errors="ignore").assign(row=usable.index)
    of_day = usable.merge(pairs, on=["cohort", "patient_id"])
    of_day = of_day[of_day["days_from_first_study"] == of_day["label_day"]]
    joint = pd.Series([len(levels_of(level)) == len(levels) for level in of_day["level"]], of_day.index, bool)
    has_joint = joint.groupby(of_day["patient_id"]).transform("any").astype(bool)
    return of_day[joint | ~has_joint].set_index("row").drop(columns="label_day")


def patient_truth(
    labels: pd.DataFrame, studies: pd.DataFrame, *, levels: Sequence[str], max_interval_days: int
) -> pd.DataFrame:
    """Choose one study and one QCT value per patient.

    Parameters
    ----------
    labels, studies : DataFrame
        Columns as in the tables `labels` and `studies`; only the given studies are candidates.
    levels : sequence of str
        Levels whose mean vBMD is wanted.
    max_interval_days : int
        A label further in time from the scan is not paired with it.

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
    paired = pairs.set_index("patient_id")[["study_id", "days_from_scan"]].join(value)
    first = studies.sort_values(["days_from_first_study", "study_id"], kind="stable").drop_duplicates("patient_id")
    truth = first.set_index("patient_id")[["study_id"]].sort_index()
    truth = truth.join(paired.rename(columns={"study_id": "study_id_paired"}))
    truth["study_id"] = truth.pop("study_id_paired").fillna(truth["study_id"])
    is_labelled = truth.index.isin(_usable(labels, levels)["patient_id"])
    reason = pd.Series(np.where(is_labelled, "label_too_far", "no_label"), index=truth.index, dtype=object)
    reason = reason.where(truth["qct_vbmd_mg_cm3"].isna(), None)
    columns = ["patient_id", "study_id", "qct_vbmd_mg_cm3", "days_from_scan", "reason"]
    return truth.assign(reason=reason).reset_index()[columns]


def _usable(labels: pd.DataFrame, levels: Sequence[str]) -> pd.DataFrame:
    """Keep labels without a fault that are of the wanted levels."""
    without_fault = labels[labels["status"] == "used"]
    return without_fault[of_levels(without_fault, levels)]


def of_levels(labels: pd.DataFrame, levels: Sequence[str]) -> pd.Series:
    """Tell whether each label is of one wanted level, or of all of them together.

    >>> of_levels(pd.DataFrame({"level": ["L1", "L1-L2", "L3", "L1-L3"]}), ["L1", "L2"]).tolist()
    [True, True, False, False]
    """
    named = [levels_of(level) for level in labels["level"]]
    covers_levels = [set(names) == set(levels) or (len(names) == 1 and names[0] in levels) for names in named]
    return pd.Series(covers_levels, labels.index, bool)


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
    usable = labels.index.isin(_usable(labels, levels).index)
    other_day = pair["label_day"] != labels["days_from_first_study"]
    # The first case that holds counts. Labels with a fault keep the reason that they have.
    cases = {
        "fault": labels["status"] != "used",
        "no_scan": ~labels["patient_id"].isin(studies["patient_id"]),
        "": used,
        "other_level": ~usable | (pair["label_day"].notna() & ~other_day),
        "label_too_far": pair["label_day"].isna(),
        "superseded": other_day,
    }
    names = pd.Series(np.select(list(cases.values()), list(cases), default="?"), labels.index, object)
    reason = names.replace("", None).where(names != "fault", labels["reason"])
    days = (labels["days_from_first_study"] - pair["label_day"] + pair["days_from_scan"]).where(names != "fault")
    return labels.assign(status=status_of(reason), reason=reason, days_from_scan=days)


def status_of(reasons: pd.Series) -> pd.Series:
    """Give ``used`` where there is no reason against a label, else ``unused``.

    >>> status_of(pd.Series([None, "bad_date"])).tolist()
    ['used', 'unused']
    """
    return pd.Series(np.where(reasons.isna(), "used", "unused"), index=reasons.index, dtype=object)
