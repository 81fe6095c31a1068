"""What became of every study, and the list of all that dropped out."""

from collections.abc import Mapping

import pandas as pd

from trabecula.aggregate.check import require

# Stages whose tables say per study whether it went on.
TABLED = ("convert", "segment", "crop")
# What is said of every study beside its key, and what convert mended and flagged in it.
COLUMNS = ("status", "stage", "reason", "detail")
MENDED = ("repairs", "flags")
# Columns that are needed of vertebrae.
VERTEBRA = ["study_id", "complete", "trabecular_hu_mean"]


def of_studies(outcomes: Mapping[str, pd.DataFrame], vertebrae: pd.DataFrame) -> pd.DataFrame:
    """Follow studies from stage to stage.

    Parameters
    ----------
    outcomes : mapping of DataFrame
        Per stage of `TABLED`: study_id, status (ok, failed), reason, detail; convert's also repairs and flags.
    vertebrae : DataFrame
        Columns `VERTEBRA`, as in the table `vertebrae`.

    Returns
    -------
    DataFrame
        Per study that convert saw: study_id, status (measured, failed), stage, reason, detail, and what convert mended
        and flagged.
        Measured is a study with a complete vertebral body that has trabecular HU.

    Raises
    ------
    AssertionError
        If a stage's studies are not those that the stage before let through.
    """
    left, dropped = set(outcomes["convert"]["study_id"]), []
    for stage in TABLED:
        found = outcomes[stage]
        require(found["study_id"].is_unique, f"{stage} says two things of a study")
        require(set(found["study_id"]) == left, f"{stage} did not see the studies that it was given")
        failed = found[found["status"] != "ok"]
        dropped.append(failed.assign(stage=stage))
        left -= set(failed["study_id"])
    require(set(vertebrae["study_id"]) <= left, "there are vertebrae of a study that failed")
    good = vertebrae[vertebrae["complete"].astype(bool) & vertebrae["trabecular_hu_mean"].notna()]
    measured = sorted(set(good["study_id"]))
    without = sorted(left - set(measured))
    dropped.append(_rows(without, stage="measure", reason="no_complete_vertebra"))
    fates = pd.concat([_rows(measured).assign(status="measured"), *(part.assign(status="failed") for part in dropped)])
    fates = fates[["study_id", *COLUMNS]]
    mended = outcomes["convert"][["study_id", *MENDED]]
    return fates.merge(mended, on="study_id", how="left").astype(object).reset_index(drop=True)


def _rows(studies: list[str], *, stage: str | None = None, reason: str | None = None) -> pd.DataFrame:
    return pd.DataFrame({"study_id": studies, "stage": stage, "reason": reason, "detail": None}, dtype=object)


def study_rows(studies: pd.DataFrame, fates: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table `studies`: the index's, with what became of the accepted ones.

    Raises
    ------
    AssertionError
        If the fate of an accepted study isn't known, comes from another shard, or is that of another study.
    """
    accepted = studies["status"] == "accepted"
    known = studies.loc[accepted, ["study_id", "shard"]].to_numpy(object).tolist()
    require(sorted(known) == sorted(fates[["study_id", "shard"]].to_numpy(object).tolist()), _ELSEWHERE)
    fate = studies[["study_id"]].merge(fates, on="study_id", how="left").set_axis(studies.index)
    final = {name: fate[name].where(accepted, studies[name]) for name in ("status", "stage", "reason")}
    # What the index flagged stands before what convert found.
    pairs = zip(studies["flags"], fate["flags"], accepted, strict=True)
    flags = [[*flags, *(found if known else ())] for flags, found, known in pairs]
    repairs = [list(found) if known else [] for found, known in zip(fate["repairs"], accepted, strict=True)]
    final |= {"flags": pd.Series(flags, studies.index, object), "repairs": pd.Series(repairs, studies.index, object)}
    return studies.assign(**final).sort_values(["patient_id", "days_from_first_study", "study_id"], kind="stable")


_ELSEWHERE = "the index and the shards' tables hold different studies"


def failure_rows(
    failures: pd.DataFrame, series: pd.DataFrame, studies: pd.DataFrame, fates: pd.DataFrame
) -> pd.DataFrame:
    """Rows of the table `failures`.

    Parameters
    ----------
    failures : DataFrame
        The index's rows: files that belong to no series.
    series, studies : DataFrame
        Columns as in the tables of these names.
    fates : DataFrame
        See `of_studies`.

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
