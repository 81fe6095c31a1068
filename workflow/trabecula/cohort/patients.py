"""Choose the vertebrae for a study's result, and turn studies into one row per patient."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from trabecula.density.thresholds import Thresholds
from trabecula.errors import STAGES

# Flags of a vertebra that no result stands on.
BARRING = frozenset({"metal", "rejected_by_reviewer"})


def usable(vertebrae: pd.DataFrame) -> pd.DataFrame:
    """Keep vertebrae that a result may stand on: complete, with trabecular HU, no metal, not rejected by a reviewer.

    Parameters
    ----------
    vertebrae : DataFrame
        Columns complete, trabecular_hu_mean and flags, as in the table `vertebrae`.
    """
    barred = [len(flags) > 0 and not BARRING.isdisjoint(flags) for flags in vertebrae["flags"]]
    fit = vertebrae["complete"].astype(bool) & vertebrae["trabecular_hu_mean"].notna()
    return vertebrae[fit & ~np.array(barred, bool)]


def chosen_vertebrae(vertebrae: pd.DataFrame, *, levels: Sequence[str], substitutes: Sequence[str]) -> pd.DataFrame:
    """Choose the vertebrae that each study's result stands on.

    Parameters
    ----------
    vertebrae : DataFrame
        Columns as in the table `vertebrae`.
    levels : sequence of str
        Levels whose mean counts; as many vertebrae are chosen at most.
    substitutes : sequence of str
        Levels that stand in for missing ones, in order of preference.

    Returns
    -------
    DataFrame
        Rows of `vertebrae`, by study and in order of preference: usable ones of `levels`, then of `substitutes`.
        Studies without a usable vertebra have none.

    >>> spine = pd.DataFrame({"study_id": "st0", "level": ["T12", "L1", "L3"], "complete": True})
    >>> spine = spine.assign(trabecular_hu_mean=100.0, flags=[[], [], []])
    >>> chosen_vertebrae(spine, levels=["L1", "L2"], substitutes=["L3", "T12"])["level"].tolist()
    ['L1', 'L3']
    """
    fit = usable(vertebrae)
    preference = list(dict.fromkeys((*levels, *substitutes)))
    place = fit["level"].map({level: i for i, level in enumerate(preference)})
    fit = fit.assign(place=place).dropna(subset=["place"]).sort_values(["study_id", "place"], kind="stable")
    return fit.groupby("study_id").head(len(levels)).drop(columns="place")


def grades(vbmd_mg_cm3: pd.Series, thresholds: Thresholds) -> pd.Series:
    """Grade vBMD as `Thresholds.grade` does, or None where it is undefined.

    >>> grades(pd.Series([79.9, 80.0, 120.0, None]), Thresholds()).tolist()
    ['osteoporosis', 'low', 'normal', None]
    """
    osteoporosis = vbmd_mg_cm3 < thresholds.osteoporosis_below_mg_cm3
    reduced = vbmd_mg_cm3 < thresholds.reduced_below_mg_cm3
    return _first_case([osteoporosis, reduced, vbmd_mg_cm3.notna()], ["osteoporosis", "low", "normal"])


def _first_case(cases: list[pd.Series], values: list) -> pd.Series:
    """Give each row the value of the first case that holds; None where no case holds."""
    positions = np.select([case.to_numpy(bool) for case in cases], range(len(cases)), default=len(cases))
    return pd.Series([[*values, None][position] for position in positions], index=cases[0].index, dtype=object)


def candidates(studies: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Keep studies that a patient's result may stand on.

    Parameters
    ----------
    studies : DataFrame
        Columns as in the table `studies`, with what became of each.
    results : DataFrame
        By study_id (see `aggregate.study_results.judge`).

    Returns
    -------
    DataFrame
        Measured studies; of patients with a study that has results, these studies alone.
    """
    measured = studies[studies["status"] == "measured"]
    has_results = measured["study_id"].isin(results.index)
    return measured[has_results | ~has_results.groupby(measured["patient_id"]).transform("any").astype(bool)]


def patient_rows(
    studies: pd.DataFrame, results: pd.DataFrame, truth: pd.DataFrame, thresholds: Thresholds
) -> pd.DataFrame:
    """Make one row per patient of a cohort.

    Parameters
    ----------
    studies : DataFrame
        All studies of the cohort, columns as in the table `studies`, with what became of each.
    results : DataFrame
        By study_id (see `aggregate.study_results.judge`).
    truth : DataFrame
        The study per patient, and the QCT value (see `labels.patient_truth`).
    thresholds : Thresholds
        Of vBMD, in mg/cm3 HA.

    Returns
    -------
    DataFrame
        By patient: the columns of the table `patients` except those on the model, the cohort's role and the
        calibration.
    """
    first = studies.sort_values(["days_from_first_study", "study_id"], kind="stable").drop_duplicates("patient_id")
    rows = first[["cohort", "patient_id", "sex"]].merge(truth.drop(columns="reason"), on="patient_id", how="left")
    rows = rows.merge(studies[["study_id", "age_years", "device_key", "flags"]], on="study_id", how="left")
    rows = rows.merge(results, left_on="study_id", right_index=True, how="left")
    for name in ("levels_used", "novelty", "flags", "vertebra_flags"):
        rows[name] = lists(rows[name])
    pairs = zip(rows["flags"], rows.pop("vertebra_flags"), strict=True)
    flags = [sorted({*scan_flags, *vertebra_flags}) for scan_flags, vertebra_flags in pairs]
    rows["flags"] = pd.Series(flags, rows.index, object)
    rows["quality"] = _quality(rows)
    qct = rows["qct_vbmd_mg_cm3"]
    rows["grade"] = grades(rows["vbmd_mg_cm3"], thresholds)
    rows["qct_reduced"] = _first_case([qct < thresholds.reduced_below_mg_cm3, qct.notna()], [True, False])
    rows["decision"] = rows["decision"].astype(object).fillna("not_evaluable")
    rows["decision_reason"] = _decision_reasons(rows, studies)
    return rows.sort_values("patient_id").reset_index(drop=True)


def lists(values: pd.Series) -> pd.Series:
    """Put empty lists where nothing is known.

    >>> lists(pd.Series([["L1"], None], dtype=object)).tolist()
    [['L1'], []]
    """
    filled = values.to_numpy(object).copy()
    for place in np.flatnonzero(values.isna()):
        filled[place] = []
    return pd.Series(filled, values.index, object)


def _quality(rows: pd.DataFrame) -> pd.Series:
    """Grade the quality of results; None where there is no result.

    ``limited`` has a flag, a level that may be off by one, or a scan unlike those of the training; else it is ``good``.
    """
    limited = rows["level_uncertain"].eq(True) | (rows["flags"].map(len) > 0) | (rows["novelty"].map(len) > 0)
    nothing = rows["levels_used"].map(len) == 0
    return _first_case([nothing, limited, ~nothing], [None, "limited", "good"])


def _decision_reasons(rows: pd.DataFrame, studies: pd.DataFrame) -> pd.Series:
    """Give the reason why a patient has no decision; None where there is one.

    Without a study to stand on it is the reason of the study that came furthest; without a vertebra,
    no_complete_vertebra; else the doubt that the result itself names.
    """
    order = studies.assign(furthest=studies["stage"].map({stage: -i for i, stage in enumerate(STAGES)}))
    order = order.sort_values(["furthest", "days_from_first_study", "study_id"], kind="stable")
    dropped = rows["patient_id"].map(order.drop_duplicates("patient_id").set_index("patient_id")["reason"])
    lacks_levels = rows["levels_used"].map(len) == 0
    reason = rows["decision_reason"].astype(object).mask(lacks_levels, "no_complete_vertebra")
    reason = reason.mask(rows["study_id"].isna(), dropped)
    return reason.where(reason.notna(), None)
