"""Reviewers' verdicts on vertebrae: read, applied to a study's vertebrae, and reported line by line.

A verdict names a vertebra by the pseudonym of its study and its level as segmented, and may give the height at which
the vertebra lay, so that it falls on no other bone when a new segmentation gives other names. Measurements are not
made again: a vertebra's own figures don't change with its name, but height_ratio_neighbours still stands on the
neighbours that were segmented beside it, rejected ones among them.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from trabecula.image.levels import BODY_CODES, LEVEL_OF_CODE
from trabecula.runtime.csv_lines import VERDICT_COLUMNS, VERDICT_PLACE, Line, read_lines

VERDICTS = ("accept", "reject", "relabel")
REJECTED = "rejected_by_reviewer"
LEVELS = frozenset(LEVEL_OF_CODE[code] for code in BODY_CODES)
# A vertebra further than this from where it was judged is another one. It is less than half the distance between the
# centres of neighbours: 24 mm at T6, and more below (phantom.spine).
SAME_WITHIN_MM = 8.0
COLUMNS = ["line", *VERDICT_COLUMNS, *VERDICT_PLACE, "reason"]
OUTCOME = ["line", "cohort", "status", "reason"]
_STUDY = ["cohort", "study_id"]
_VERTEBRA = [*_STUDY, "level"]


def read(path: Path | str | None) -> pd.DataFrame:
    """Read the verdicts; other columns of the file, such as comments, are not read.

    Parameters
    ----------
    path : Path or None
        CSV with the columns study_id, level, verdict and new_level, and centroid_z_mm where it was saved from the
        gallery, divided by commas, semicolons or tabs; or None.

    Returns
    -------
    DataFrame
        A row per line of the file: line, study_id, level, verdict, new_level, centroid_z_mm (float) and reason. An
        entry that is missing or not understood is None. The reason says why a line can't be used, whatever the
        vertebrae are: bad_line, unknown_verdict, unknown_level, bad_place, or superseded by a later line on the same
        vertebra.

    Raises
    ------
    ConfigError
        If the file can't be read, is empty or lacks a column; the message is one sentence that says what to change.
    """
    columns = {"columns": VERDICT_COLUMNS, "optional": VERDICT_PLACE}
    lines = [] if path is None else read_lines(path, called=f"The verdicts {path}", **columns)
    rows = pd.DataFrame([_row(line) for line in lines], columns=COLUMNS, dtype=object).astype({"line": "int64"})
    rows = rows.astype(dict.fromkeys(COLUMNS[1:], object))
    rows = rows.where(rows.notna(), None)
    usable = rows[rows["reason"].isna()]
    rows.loc[usable.index[usable.duplicated(["study_id", "level"], keep="last")], "reason"] = "superseded"
    return rows


def _row(line: Line) -> tuple[int, str | None, str | None, str | None, str | None, float | None, str | None]:
    """Read a line's entries, in the order of `COLUMNS`."""
    if line.entries is None:
        return line.number, None, None, None, None, None, "bad_line"
    study_id, level, verdict, new_level, height = line.entries
    level, verdict, new_level = level.upper(), verdict.lower(), new_level.upper()
    renames = verdict == "relabel" or (verdict == "reject" and bool(new_level))
    height_mm = _number(height)
    reason = None
    if verdict not in VERDICTS:
        reason = "unknown_verdict"
    elif level not in LEVELS or (renames and new_level not in LEVELS):
        reason = "unknown_level"
    elif height and height_mm is None:
        reason = "bad_place"
    return (
        line.number,
        study_id or None,
        level if level in LEVELS else None,
        verdict if verdict in VERDICTS else None,
        new_level if renames and new_level in LEVELS else None,
        height_mm,
        reason,
    )


def _number(text: str) -> float | None:
    """Read a number with a decimal point or comma; None where the text is no finite number.

    >>> _number("-480,5"), _number("L1")
    (-480.5, None)
    """
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def apply(
    vertebrae: pd.DataFrame, predictions: pd.DataFrame, verdicts: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Apply verdicts to vertebrae and to their predictions.

    ``accept`` makes the level certain. ``reject`` sets the flag rejected_by_reviewer, which keeps the vertebra out of
    every result; with a new level the vertebra gets that one, so that another vertebra can have its level. ``relabel``
    gives the vertebra another level, which is certain. All of a study's vertebrae are renamed at once, so that levels
    can be exchanged or shifted. A new level is not assigned where another vertebra of the study keeps that level; when
    two lines assign the same level, the later line wins. A line with a height (centroid_z_mm) is not used on a
    vertebra that lies elsewhere.

    Parameters
    ----------
    vertebrae : DataFrame
        A row per vertebra: at least the columns cohort, study_id, level, centroid_z_mm, level_uncertain and flags, as
        in the table `vertebrae`.
    predictions : DataFrame
        At least the columns cohort, study_id and level.
    verdicts : DataFrame
        See `read`; verdicts on other studies are passed over.

    Returns
    -------
    vertebrae : DataFrame
        The same rows, with the columns level_found and verdict besides.
    predictions : DataFrame
        The same rows, by the new levels.
    outcome : DataFrame
        A row per line on one of these studies and its cohort: line, cohort, status (used or unused) and reason.
    """
    vertebrae = vertebrae.assign(level_found=vertebrae["level"], verdict=_nothing(vertebrae.index))
    of_studies = verdicts[verdicts["study_id"].isin(vertebrae["study_id"].unique())]
    if of_studies.empty:
        return vertebrae, predictions, pd.DataFrame(columns=OUTCOME)
    reviewed = vertebrae.loc[vertebrae["study_id"].isin(of_studies["study_id"]), [*_VERTEBRA, *VERDICT_PLACE]]
    places = reviewed.rename(columns={"centroid_z_mm": "lies_at_mm"})
    places = places.assign(place=vertebrae.index.get_indexer(reviewed.index))
    lines = of_studies.merge(places[_STUDY].drop_duplicates(), on="study_id")
    lines = lines.merge(places, on=_VERTEBRA, how="left").sort_values("line", kind="stable", ignore_index=True)
    missing = lines["reason"].isna() & lines["place"].isna()
    lines["reason"] = lines["reason"].mask(missing, "no_such_vertebra")
    elsewhere = lines["reason"].isna() & _lies_elsewhere(lines)
    lines["reason"] = lines["reason"].mask(elsewhere, "segmentation_changed")
    taken = _level_taken(places, lines[lines["reason"].isna() & lines["new_level"].notna()])
    lines.loc[taken, "reason"] = "level_taken"
    used = lines[lines["reason"].isna()].astype({"place": "int64"})
    outcome = lines.assign(status=np.where(lines["reason"].isna(), "used", "unused"))[OUTCOME]
    return _with_verdicts(vertebrae, used), _renamed(predictions, used), outcome


def _nothing(index: pd.Index) -> pd.Series:
    return pd.Series([None] * len(index), index, object)


def _lies_elsewhere(lines: pd.DataFrame) -> pd.Series:
    """Tell whether a verdict was given for a vertebra at another height. Verdicts without a height always match.

    >>> _lies_elsewhere(pd.DataFrame({"centroid_z_mm": [0.0, 0.0, None], "lies_at_mm": [7.0, 30.0, 30.0]})).tolist()
    [False, True, False]
    """
    judged = lines["centroid_z_mm"].astype(float)
    return judged.notna() & ~((judged - lines["lies_at_mm"].astype(float)).abs() <= SAME_WITHIN_MM)


def _level_taken(places: pd.DataFrame, moves: pd.DataFrame) -> pd.Index:
    """Find the moves that can't be made, since another vertebra has the new level after all moves that can be made.

    Parameters
    ----------
    places : DataFrame
        Vertebrae of the studies: cohort, study_id, level and place, their position among all vertebrae.
    moves : DataFrame
        Verdicts with a new level: line, place and new_level.

    Returns
    -------
    Index
        Rows of `moves`.
    """
    refused = pd.Index([], dtype="int64")
    while True:
        going = moves.drop(refused)
        after = places.assign(line=-1, move=-1).set_index("place")
        movers = going["place"].astype("int64")
        after.loc[movers, "level"] = going["new_level"].to_numpy()
        after.loc[movers, "line"] = going["line"].to_numpy()
        after.loc[movers, "move"] = going.index.to_numpy()
        # A vertebra that keeps its level goes before all that would get it; among these, the last line does.
        stays = after["line"].eq(-1) | after["level"].eq(places.set_index("place")["level"])
        after = after.assign(stays=stays).sort_values(["stays", "line"], kind="stable")
        clash = after[after.duplicated(_VERTEBRA, keep="last") & (after["move"] >= 0)]
        if clash.empty:
            return refused
        refused = refused.append(pd.Index(clash["move"]))


def _with_verdicts(vertebrae: pd.DataFrame, used: pd.DataFrame) -> pd.DataFrame:
    """Give vertebrae their new levels, certainty, flags and verdicts."""
    level, verdict = vertebrae["level"].astype(object).to_numpy().copy(), np.full(len(vertebrae), None, object)
    uncertain = vertebrae["level_uncertain"].to_numpy(bool).copy()
    flags = vertebrae["flags"].tolist()
    moves, rejected = used[used["new_level"].notna()], used[used["verdict"] == "reject"]
    verdict[used["place"]] = used["verdict"].to_numpy()
    level[moves["place"]] = moves["new_level"].to_numpy()
    uncertain[used.loc[used["verdict"] != "reject", "place"]] = False
    for place in rejected["place"]:
        flags[place] = [*flags[place], REJECTED]
    return vertebrae.assign(
        level=pd.Series(level, vertebrae.index).astype(vertebrae["level"].dtype),
        level_uncertain=uncertain,
        flags=pd.Series(flags, vertebrae.index, object),
        verdict=pd.Series(verdict, vertebrae.index, object),
    )


def _renamed(rows: pd.DataFrame, used: pd.DataFrame) -> pd.DataFrame:
    """Give rows that belong to vertebrae, such as predictions, the vertebrae's new levels."""
    moves = used[used["new_level"].notna()]
    new_levels = dict(zip(_keys(moves), moves["new_level"], strict=True))
    concerned = rows.loc[rows["study_id"].isin(moves["study_id"])]
    if concerned.empty:
        return rows
    level = rows["level"].astype(object).copy()
    level[concerned.index] = [new_levels.get(key, key[-1]) for key in _keys(concerned)]
    return rows.assign(level=level.astype(rows["level"].dtype))


def _keys(rows: pd.DataFrame) -> Iterable[tuple[str, str, str]]:
    return zip(rows["cohort"], rows["study_id"], rows["level"], strict=True)


def verdict_rows(verdicts: pd.DataFrame, outcomes: pd.DataFrame, studies: pd.DataFrame) -> pd.DataFrame:
    """Make the rows of the table `verdicts`: what became of every line.

    Parameters
    ----------
    verdicts : DataFrame
        See `read`.
    outcomes : DataFrame
        Outcomes of `apply` of all cohorts.
    studies : DataFrame
        Studies that the lines name: cohort, patient_id and study_id.

    Returns
    -------
    DataFrame
        A row per line and cohort that has its study, by line and cohort: line, cohort, patient_id, study_id, level,
        verdict, new_level, status and reason. A name that is no study's is left out, since it may be anything.
    """
    cohorts = studies[["cohort", "patient_id", "study_id"]].drop_duplicates()
    rows = verdicts.merge(cohorts, on="study_id", how="left")
    outcomes = outcomes.astype({"line": "int64"})
    rows = rows.merge(outcomes, on=["line", "cohort"], how="left", suffixes=("", "_applied"))
    applied = rows["reason_applied"].where(rows["status"].notna(), "no_such_vertebra")
    reason = rows["reason"].where(rows["reason"].notna(), applied)
    rows = rows.assign(
        study_id=rows["study_id"].where(rows["cohort"].notna(), None),
        reason=reason.astype(object).where(reason.notna(), None),
        status=np.where(reason.isna(), "used", "unused"),
    )
    rows = rows.sort_values(["line", "cohort"], kind="stable", ignore_index=True)
    return rows[["line", "cohort", "patient_id", "study_id", *VERDICT_COLUMNS[1:], "status", "reason"]]
