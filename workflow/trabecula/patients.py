"""From vertebrae to one result per study, and from studies to one row per patient."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from trabecula.bundle import Bundle
from trabecula.errors import STAGES

# Probability of reduced density from which the decision is "reduced".
REDUCED_FROM = 0.5

RESULT_COLUMNS = (
    "levels_used",
    "level_uncertain",
    "trabecular_hu",
    "vbmd_mg_cm3",
    "vbmd_low",
    "vbmd_high",
    "probability_reduced",
    "hu_baseline_vbmd_mg_cm3",
)


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
    """Vertebrae that a result may stand on: complete, with trabecular HU, without metal.

    Parameters
    ----------
    vertebrae : DataFrame
        Columns complete, trabecular_hu_mean and flags, as in the table `vertebrae`.
    """
    metal = pd.Series(["metal" in list(flags) for flags in vertebrae["flags"]], vertebrae.index, bool)
    return vertebrae[vertebrae["complete"].astype(bool) & vertebrae["trabecular_hu_mean"].notna() & ~metal]


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


def network_values(chosen: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Mean over levels of the mean over folds.

    Parameters
    ----------
    chosen : DataFrame
        Columns study_id and level of the vertebrae that count.
    predictions : DataFrame
        Columns as in the table `predictions`.

    Returns
    -------
    DataFrame
        By study_id: vbmd_mg_cm3 (mg/cm3 HA) and probability_reduced; NaN where there is no prediction.
    """
    keys = ["study_id", "level", "task"]
    of_vertebra = predictions.groupby(keys)["value"].mean().reset_index()
    of_vertebra = of_vertebra.merge(chosen[["study_id", "level"]], on=["study_id", "level"])
    of_study = of_vertebra.groupby(["study_id", "task"])["value"].mean().unstack("task")
    of_study = of_study.reindex(columns=["regression", "classification"]).astype(float)
    return of_study.set_axis(["vbmd_mg_cm3", "probability_reduced"], axis="columns")


def study_results(
    vertebrae: pd.DataFrame,
    predictions: pd.DataFrame,
    bundle: Bundle,
    splits: Mapping[str, int],
    *,
    levels: Sequence[str],
    substitutes: Sequence[str],
) -> pd.DataFrame:
    """Combine each study's vertebrae.

    Parameters
    ----------
    vertebrae, predictions : DataFrame
        Columns as in the tables of these names.
    bundle : Bundle
        The model: its HU baseline and its intervals.
    splits : mapping
        Patients of the model's training, and the fold that never saw them (see `bundle.read_splits`).
    levels, substitutes : sequence of str
        See `choose_levels`.

    Returns
    -------
    DataFrame
        By study_id, `RESULT_COLUMNS`; only studies with a usable vertebra.
    """
    chosen = chosen_vertebrae(vertebrae, levels=levels, substitutes=substitutes)
    by_study = chosen.groupby("study_id")
    results = by_study.agg(
        patient_id=("patient_id", "first"),
        levels_used=("level", list),
        level_uncertain=("level_uncertain", "any"),
        trabecular_hu=("trabecular_hu_mean", "mean"),
    ).join(network_values(chosen, predictions))
    folds = results.pop("patient_id").map(splits.get).astype(float)
    slope, intercept, half_width = _per_fold(bundle, folds)
    return results.assign(
        vbmd_low=results["vbmd_mg_cm3"] - half_width,
        vbmd_high=results["vbmd_mg_cm3"] + half_width,
        hu_baseline_vbmd_mg_cm3=slope * results["trabecular_hu"] + intercept,
    )[list(RESULT_COLUMNS)]


def no_results() -> pd.DataFrame:
    """Results of no studies."""
    return pd.DataFrame(columns=list(RESULT_COLUMNS), index=pd.Index([], name="study_id"), dtype=object)


def _per_fold(bundle: Bundle, folds: pd.Series) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Slope, intercept and half width for patients of a fold; for others the mean line and the width over all.

    The mean of the folds' lines is the line of the means, so it predicts the mean over the folds.
    """
    lines = {line.fold: line for line in bundle.hu_baseline}
    widths = {one.fold: one.half_width_mg_cm3 for one in bundle.intervals}

    def spread(of_fold: Mapping[int, float | None], elsewhere: float | None) -> pd.Series:
        values = [elsewhere if np.isnan(fold) else of_fold[int(fold)] for fold in folds]
        return pd.Series(values, index=folds.index, dtype=float)

    return (
        spread({fold: line.slope for fold, line in lines.items()}, _mean([line.slope for line in lines.values()])),
        spread({f: line.intercept for f, line in lines.items()}, _mean([line.intercept for line in lines.values()])),
        spread(widths, bundle.half_width_mg_cm3),
    )


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


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
        By study_id (see `study_results`).

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
        By study_id (see `study_results`).
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
    rows = rows.merge(studies[["study_id", "age_years", "device_key"]], on="study_id", how="left")
    rows = rows.merge(results, left_on="study_id", right_index=True, how="left")
    rows["levels_used"] = rows["levels_used"].map(lambda levels: levels if isinstance(levels, list) else [])
    cuts = {"reduced_below_mg_cm3": reduced_below_mg_cm3, "osteoporosis_below_mg_cm3": osteoporosis_below_mg_cm3}
    probability, qct = rows["probability_reduced"], rows["qct_vbmd_mg_cm3"]
    rows["grade"] = grades(rows["vbmd_mg_cm3"], **cuts)
    rows["decision"] = _either([probability >= REDUCED_FROM, probability.notna()], ["reduced", "normal"], rows.index)
    rows["qct_reduced"] = _either([qct < reduced_below_mg_cm3, qct.notna()], [True, False], rows.index)
    rows["decision_reason"] = _decision_reasons(rows, studies)
    return rows.sort_values("patient_id").reset_index(drop=True)


def _decision_reasons(rows: pd.DataFrame, studies: pd.DataFrame) -> pd.Series:
    """Why a patient has no decision: how far the study came that came furthest, then what lacked."""
    order = studies.assign(furthest=studies["stage"].map({stage: -i for i, stage in enumerate(STAGES)}))
    order = order.sort_values(["furthest", "days_from_first_study", "study_id"], kind="stable")
    dropped = rows["patient_id"].map(order.drop_duplicates("patient_id").set_index("patient_id")["reason"])
    lacks_levels = rows["levels_used"].map(len) == 0
    reason = dropped.astype(object).where(rows["study_id"].isna(), "no_prediction")
    reason = reason.mask(rows["study_id"].notna() & lacks_levels, "no_complete_vertebra")
    return reason.where(rows["decision"].isna(), None)
