"""Which vertebrae a study's result stands on, and from studies to one row per patient."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from trabecula.errors import STAGES

# Flags of a vertebra that no result stands on.
BARRING = frozenset({"metal", "rejected_by_reviewer"})


def choose_levels(available: Sequence[str], *, levels: Sequence[str], substitutes: Sequence[str]) -> list[str]:
    """Levels that a patient's result stands on.

    Parameters
    ----------
    available : sequence of str
        Levels that can be used.
    levels : sequence of str
        Wanted levels; as many are chosen at most.
    substitutes : sequence of str
        Levels that stand in for missing ones, in order of preference.

    Returns
    -------
    list of str
        In order of preference: the wanted ones that are available, then substitutes.
    """
    preference = dict.fromkeys((*levels, *substitutes))
    return [level for level in preference if level in available][: len(levels)]


def usable(vertebrae: pd.DataFrame) -> pd.DataFrame:
    """Vertebrae that a result may stand on: complete, with trabecular HU, without metal, not rejected by a reviewer.

    Parameters
    ----------
    vertebrae : DataFrame
        Columns complete, trabecular_hu_mean and flags, as in the table `vertebrae`.
    """
    barred = [len(flags) > 0 and not BARRING.isdisjoint(flags) for flags in vertebrae["flags"]]
    fit = vertebrae["complete"].astype(bool) & vertebrae["trabecular_hu_mean"].notna()
    return vertebrae[fit & ~np.array(barred, bool)]


def chosen_vertebrae(vertebrae: pd.DataFrame, *, levels: Sequence[str], substitutes: Sequence[str]) -> pd.DataFrame:
    """Of each study, the vertebrae that its result stands on.

    Parameters
    ----------
    vertebrae : DataFrame
        Columns as in the table `vertebrae`.
    levels, substitutes : sequence of str
        Wanted levels, and those that stand in (see `choose_levels`).

    Returns
    -------
    DataFrame
        Rows of `vertebrae`, by study and in order of preference; studies without a usable vertebra have none.
    """
    fit = usable(vertebrae)
    preference = list(dict.fromkeys((*levels, *substitutes)))
    place = fit["level"].map({level: i for i, level in enumerate(preference)})
    fit = fit.assign(place=place).dropna(subset=["place"]).sort_values(["study_id", "place"], kind="stable")
    return fit.groupby("study_id").head(len(levels)).drop(columns="place")


def grades(vbmd_mg_cm3: pd.Series, *, reduced_below_mg_cm3: float, osteoporosis_below_mg_cm3: float) -> pd.Series:
    """Grade vBMD: normal, low, osteoporosis (ACR, Chinese consensus 2019), or None where undefined."""
    below = [vbmd_mg_cm3 < osteoporosis_below_mg_cm3, vbmd_mg_cm3 < reduced_below_mg_cm3, vbmd_mg_cm3.notna()]
    return _either(below, ["osteoporosis", "low", "normal"], vbmd_mg_cm3.index)


def _either(cases: list[pd.Series], values: list, index: pd.Index) -> pd.Series:
    """Take the first case's value; None where no case holds."""
    places = np.select([case.to_numpy(bool) for case in cases], range(len(cases)), default=len(cases))
    return pd.Series([[*values, None][place] for place in places], index=index, dtype=object)


def candidates(studies: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Studies that a patient's result may stand on.

    Parameters
    ----------
    studies : DataFrame
        Columns as in the table `studies`, with what became of each.
    results : DataFrame
        By study_id (see `aggregate.results.judged`).

    Returns
    -------
    DataFrame
        Measured studies; of patients with a study that has results, these studies alone.
    """
    measured = studies[studies["status"] == "measured"]
    has_results = measured["study_id"].isin(results.index)
    return measured[has_results | ~has_results.groupby(measured["patient_id"]).transform("any").astype(bool)]


def patient_rows(
    studies: pd.DataFrame,
    results: pd.DataFrame,
    truth: pd.DataFrame,
    *,
    reduced_below_mg_cm3: float,
    osteoporosis_below_mg_cm3: float,
) -> pd.DataFrame:
    """One row per patient of a cohort.

    Parameters
    ----------
    studies : DataFrame
        All studies of the cohort, columns as in the table `studies`, with what became of each.
    results : DataFrame
        By study_id (see `aggregate.results.judged`).
    truth : DataFrame
        The study per patient, and the QCT value (see `labels.patient_truth`).
    reduced_below_mg_cm3, osteoporosis_below_mg_cm3 : float
        Cuts of vBMD, in mg/cm3 HA.

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
    rows["flags"] = pd.Series([sorted({*scan, *own}) for scan, own in pairs], rows.index, object)
    rows["quality"] = _quality(rows)
    cuts = {"reduced_below_mg_cm3": reduced_below_mg_cm3, "osteoporosis_below_mg_cm3": osteoporosis_below_mg_cm3}
    qct = rows["qct_vbmd_mg_cm3"]
    rows["grade"] = grades(rows["vbmd_mg_cm3"], **cuts)
    rows["qct_reduced"] = _either([qct < reduced_below_mg_cm3, qct.notna()], [True, False], rows.index)
    rows["decision"] = rows["decision"].astype(object).fillna("not_evaluable")
    rows["decision_reason"] = _decision_reasons(rows, studies)
    return rows.sort_values("patient_id").reset_index(drop=True)


def lists(values: pd.Series) -> pd.Series:
    """Lists, with empty ones where nothing is known."""
    found = values.to_numpy(object).copy()
    for place in np.flatnonzero(values.isna()):
        found[place] = []
    return pd.Series(found, values.index, object)


def _quality(rows: pd.DataFrame) -> pd.Series:
    """limited: a flag, a level that may be off by one, or a scan unlike the training's; else good; None: no result."""
    limited = rows["level_uncertain"].eq(True) | (rows["flags"].map(len) > 0) | (rows["novelty"].map(len) > 0)
    nothing = rows["levels_used"].map(len) == 0
    return _either([nothing, limited, ~nothing], [None, "limited", "good"], rows.index)


def _decision_reasons(rows: pd.DataFrame, studies: pd.DataFrame) -> pd.Series:
    """Why a patient has no decision: how far the study came that came furthest, then what lacked, then the doubt."""
    order = studies.assign(furthest=studies["stage"].map({stage: -i for i, stage in enumerate(STAGES)}))
    order = order.sort_values(["furthest", "days_from_first_study", "study_id"], kind="stable")
    dropped = rows["patient_id"].map(order.drop_duplicates("patient_id").set_index("patient_id")["reason"])
    lacks_levels = rows["levels_used"].map(len) == 0
    reason = rows["decision_reason"].astype(object).mask(lacks_levels, "no_complete_vertebra")
    reason = reason.mask(rows["study_id"].isna(), dropped)
    return reason.where(reason.notna(), None)
