"""Follow every study through the stages, and list all that dropped out."""

from collections.abc import Mapping

import pandas as pd

from trabecula.aggregate.reconciliation import require

# Stages whose tables say per study whether it went on.
FOLLOWED_STAGES = ("convert", "segment", "crop")
# Columns for the fate of a study, and for the repairs and flags of convert.
FATE_COLUMNS = ("status", "stage", "reason", "detail")
CONVERT_COLUMNS = ("repairs", "flags")
# Columns that are needed of vertebrae.
VERTEBRA_COLUMNS = ["study_id", "complete", "trabecular_hu_mean"]


def follow_studies(outcomes: Mapping[str, pd.DataFrame], vertebrae: pd.DataFrame) -> pd.DataFrame:
    """Follow studies from stage to stage.

    Parameters
    ----------
    outcomes : mapping of DataFrame
        Per stage of `FOLLOWED_STAGES`: study_id, status (ok, failed), reason, detail; convert's also repairs and flags.
    vertebrae : DataFrame
        Columns `VERTEBRA_COLUMNS`, as in the table `vertebrae`.

    Returns
    -------
    DataFrame
        A row per study that convert saw: study_id, `FATE_COLUMNS` with status measured or failed, and
        `CONVERT_COLUMNS`. Measured is a study with a complete vertebral body that has trabecular HU.

    Raises
    ------
    AssertionError
        If a stage's studies are not those that the stage before let through.
    """
    left, dropped = set(outcomes["convert"]["study_id"]), []
    for stage in FOLLOWED_STAGES:
        of_stage = outcomes[stage]
        require(of_stage["study_id"].is_unique, f"{stage} says two things of a study")
        require(set(of_stage["study_id"]) == left, f"{stage} did not see the studies that it was given")
        failed = of_stage[of_stage["status"] != "ok"]
        dropped.append(failed.assign(stage=stage))
        left -= set(failed["study_id"])
    require(set(vertebrae["study_id"]) <= left, "there are vertebrae of a study that failed")
    good = vertebrae[vertebrae["complete"].astype(bool) & vertebrae["trabecular_hu_mean"].notna()]
    measured = set(good["study_id"])
    dropped.append(_fate_rows(left - measured, stage="measure", reason="no_complete_vertebra"))
    parts = [_fate_rows(measured).assign(status="measured"), *(part.assign(status="failed") for part in dropped)]
    fates = pd.concat(parts)[["study_id", *FATE_COLUMNS]]
    found_by_convert = outcomes["convert"][["study_id", *CONVERT_COLUMNS]]
    return fates.merge(found_by_convert, on="study_id", how="left").astype(object).reset_index(drop=True)


def _fate_rows(studies: set[str], *, stage: str | None = None, reason: str | None = None) -> pd.DataFrame:
    return pd.DataFrame({"study_id": sorted(studies), "stage": stage, "reason": reason, "detail": None}, dtype=object)


def study_rows(studies: pd.DataFrame, fates: pd.DataFrame) -> pd.DataFrame:
    """Make the rows of the table `studies`: the index's, with what became of the accepted ones.

    Parameters
    ----------
    studies : DataFrame
        The index's table of studies.
    fates : DataFrame
        See `follow_studies`; with the column shard.

    Raises
    ------
    AssertionError
        If the fate of an accepted study isn't known, comes from another shard, or is that of another study.
    """
    accepted = studies["status"] == "accepted"
    indexed = studies.loc[accepted, ["study_id", "shard"]].to_numpy(object).tolist()
    followed = fates[["study_id", "shard"]].to_numpy(object).tolist()
    require(sorted(indexed) == sorted(followed), "the index and the shards' tables hold different studies")
    fate = studies[["study_id"]].merge(fates, on="study_id", how="left").set_axis(studies.index)
    columns = {name: fate[name].where(accepted, studies[name]) for name in ("status", "stage", "reason")}
    # The index's flags stand before convert's.
    rows = zip(studies["flags"], fate["flags"], accepted, strict=True)
    flags = [[*indexed_flags, *(flags if went_on else ())] for indexed_flags, flags, went_on in rows]
    repairs = [list(codes) if went_on else [] for codes, went_on in zip(fate["repairs"], accepted, strict=True)]
    columns |= {"flags": pd.Series(flags, studies.index, object), "repairs": pd.Series(repairs, studies.index, object)}
    return studies.assign(**columns).sort_values(["patient_id", "days_from_first_study", "study_id"], kind="stable")


def failure_rows(
    failures: pd.DataFrame, series: pd.DataFrame, studies: pd.DataFrame, fates: pd.DataFrame
) -> pd.DataFrame:
    """Make the rows of the table `failures`.

    Parameters
    ----------
    failures : DataFrame
        The index's rows: files that belong to no series.
    series, studies : DataFrame
        Columns as in the tables of these names.
    fates : DataFrame
        See `follow_studies`.

    Returns
    -------
    DataFrame
        The files' rows (n_files given); a row per series that was not acceptable (series_id given; one that only
        scored lower than another is no failure); a row per study that was not measured (neither given).
    """
    refused = series[~series["accepted"].astype(bool) & (series["reason"] != "not_chosen")]
    stacks = refused[["cohort", "patient_id", "study_id", "series_id", "reason"]].assign(stage="index", detail=None)
    lost = studies[studies["status"] != "measured"][["cohort", "patient_id", "study_id", "stage", "reason"]]
    lost = lost.merge(fates[["study_id", "detail"]], on="study_id", how="left").assign(series_id=None)
    parts = [failures, stacks.assign(n_files=None), lost.assign(n_files=None)]
    rows = pd.concat([part.astype(object) for part in parts], ignore_index=True)
    rows = rows.astype(object).where(rows.notna(), None)
    order = ["patient_id", "study_id", "series_id", "stage", "reason", "detail"]
    return rows.sort_values(order, na_position="first", kind="stable")
