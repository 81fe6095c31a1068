"""Reviewers' verdicts on vertebrae: read, applied to a study's vertebrae, and told back line by line.

A verdict names a vertebra by the pseudonym of its study and its level as segmented, and tells the height at which it
lay, so that it falls on no other bone when a new segmentation gives other names. Measurements are not made again:
a vertebra's own figures don't change with its name, but height_ratio_neighbours still stands on the neighbours that
were segmented beside it, rejected ones among them.
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
# A vertebra further than this from where it was judged is another one: less than half of what lies between the
# centres of neighbours, 24 mm at T6 and more below (phantom.spine).
SAME_WITHIN_MM = 8.0
COLUMNS = ["line", *VERDICT_COLUMNS, *VERDICT_PLACE, "reason"]
OUTCOME = ["line", "cohort", "status", "reason"]
_STUDY = ["cohort", "study_id"]
_VERTEBRA = [*_STUDY, "level"]


def read(path: Path | str | None) -> pd.DataFrame:
    """Read the verdicts; columns of the file that are not asked for, such as comments, are not read.

    Parameters
    ----------
    path : Path or None
        CSV with the columns study_id, level, verdict and new_level, and centroid_z_mm where it was saved from the
        gallery, divided by commas, semicolons or tabs; or None.

    Returns
    -------
    DataFrame
        By line of the file: line, study_id, level, verdict, new_level, centroid_z_mm (float) and reason. What is not
        understood or given is None; reason says why a line can't be used, whatever the vertebrae are: bad_line,
        unknown_verdict, unknown_level, bad_place, or superseded by a later line on the same vertebra.

    Raises
    ------
    ConfigError
        If the file can't be read, is empty or lacks a column; one sentence that says what to change.
    """
    named = {"called": f"The verdicts {path}", "columns": VERDICT_COLUMNS, "optional": VERDICT_PLACE}
    lines = [] if path is None else read_lines(path, **named)
    rows = pd.DataFrame([_row(line) for line in lines], columns=COLUMNS, dtype=object).astype({"line": "int64"})
    rows = rows.astype(dict.fromkeys(COLUMNS[1:], object))
    rows = rows.where(rows.notna(), None)
    fit = rows[rows["reason"].isna()]
    rows.loc[fit.index[fit.duplicated(["study_id", "level"], keep="last")], "reason"] = "superseded"
    return rows


def _row(line: Line) -> tuple[int, str | None, str | None, str | None, str | None, float | None, str | None]:
    if line.entries is None:
        return line.number, None, None, None, None, None, "bad_line"
    study_id, level, verdict, new_level, place = line.entries
    known, named = verdict.lower() in VERDICTS, level.upper() in LEVELS
    asked = verdict.lower() == "relabel" or (verdict.lower() == "reject" and bool(new_level))
    renames = asked and new_level.upper() in LEVELS
    height = _number(place)
    reason = "unknown_verdict" if not known else "unknown_level" if not named or (asked and not renames) else None
    reason = reason or ("bad_place" if place and height is None else None)
    return (
        line.number,
        study_id or None,
        level.upper() if named else None,
        verdict.lower() if known else None,
        new_level.upper() if renames else None,
        height,
        reason,
    )


def _number(text: str) -> float | None:
    """Number of a text, with a decimal point or comma; None if it is none."""
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def apply(
    vertebrae: pd.DataFrame, predictions: pd.DataFrame, verdicts: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Apply verdicts to vertebrae and to what the networks said of them.

    accept: the level is certain. reject: the flag rejected_by_reviewer, which keeps the vertebra out of every result;
    with a new level it gets that one, so that another vertebra can have its own. relabel: the vertebra gets another
    level, which is certain. All of a study's vertebrae are renamed at once, so that levels can be exchanged or
    shifted. Who would get the level of a vertebra that keeps it keeps its own; of two that would get the same one, the
    later line counts. A line that tells a height (centroid_z_mm) is not used on a vertebra that lies elsewhere.

    Parameters
    ----------
    vertebrae : DataFrame
        Columns cohort, study_id, level, centroid_z_mm, level_uncertain and flags at least, as in the table `vertebrae`;
        a row each.
    predictions : DataFrame
        Columns cohort, study_id and level at least.
    verdicts : DataFrame
        See `read`; those on other studies are passed over.

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
    own = verdicts[verdicts["study_id"].isin(vertebrae["study_id"].unique())]
    if own.empty:
        return vertebrae, predictions, pd.DataFrame(columns=OUTCOME)
    reviewed = vertebrae.loc[vertebrae["study_id"].isin(own["study_id"]), [*_VERTEBRA, *VERDICT_PLACE]]
    places = reviewed.rename(columns={"centroid_z_mm": "lies_at_mm"})
    places = places.assign(place=vertebrae.index.get_indexer(reviewed.index))
    found = own.merge(places[_STUDY].drop_duplicates(), on="study_id")
    found = found.merge(places, on=_VERTEBRA, how="left").sort_values("line", kind="stable", ignore_index=True)
    missing = found["reason"].isna() & found["place"].isna()
    found["reason"] = found["reason"].mask(missing, "no_such_vertebra")
    elsewhere = found["reason"].isna() & _lies_elsewhere(found)
    found["reason"] = found["reason"].mask(elsewhere, "segmentation_changed")
    taken = _taken(places, found[found["reason"].isna() & found["new_level"].notna()])
    found.loc[taken, "reason"] = "level_taken"
    used = found[found["reason"].isna()].astype({"place": "int64"})
    outcome = found.assign(status=np.where(found["reason"].isna(), "used", "unused"))[OUTCOME]
    return _with(vertebrae, used), _renamed(predictions, used), outcome


def _nothing(index: pd.Index) -> pd.Series:
    return pd.Series([None] * len(index), index, object)


def _lies_elsewhere(found: pd.DataFrame) -> pd.Series:
    """Whether a line was given on a vertebra at another height; one that tells none was not."""
    judged = found["centroid_z_mm"].astype(float)
    return judged.notna() & ~((judged - found["lies_at_mm"].astype(float)).abs() <= SAME_WITHIN_MM)


def _taken(places: pd.DataFrame, moves: pd.DataFrame) -> pd.Index:
    """Moves that can't be made: rows of `moves` whose level is another vertebra's after all that can be made."""
    refused = pd.Index([], dtype="int64")
    while True:
        going = moves.drop(refused)
        now = places.assign(line=-1, move=-1).set_index("place")
        at = going["place"].astype("int64")
        now.loc[at, "level"] = going["new_level"].to_numpy()
        now.loc[at, "line"] = going["line"].to_numpy()
        now.loc[at, "move"] = going.index.to_numpy()
        # A vertebra that keeps its level has it before all that would get it; then the last line has.
        stays = now["line"].eq(-1) | now["level"].eq(places.set_index("place")["level"])
        now = now.assign(stays=stays).sort_values(["stays", "line"], kind="stable")
        clash = now[now.duplicated(_VERTEBRA, keep="last") & (now["move"] >= 0)]
        if clash.empty:
            return refused
        refused = refused.append(pd.Index(clash["move"]))


def _with(vertebrae: pd.DataFrame, used: pd.DataFrame) -> pd.DataFrame:
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
    """Rows of vertebrae, by their new levels."""
    moves = used[used["new_level"].notna()]
    to = dict(zip(_keys(moves), moves["new_level"], strict=True))
    concerned = rows.loc[rows["study_id"].isin(moves["study_id"])]
    if concerned.empty:
        return rows
    level = rows["level"].astype(object).copy()
    level[concerned.index] = [to.get(key, key[-1]) for key in _keys(concerned)]
    return rows.assign(level=level.astype(rows["level"].dtype))


def _keys(rows: pd.DataFrame) -> Iterable[tuple[str, str, str]]:
    return zip(rows["cohort"], rows["study_id"], rows["level"], strict=True)


def verdict_rows(verdicts: pd.DataFrame, outcomes: pd.DataFrame, studies: pd.DataFrame) -> pd.DataFrame:
    """What became of every line, as the table `verdicts` tells it.

    Parameters
    ----------
    verdicts : DataFrame
        See `read`.
    outcomes : DataFrame
        Outcomes of `apply` of all cohorts.
    studies : DataFrame
        Columns cohort, patient_id and study_id of the studies that the lines name.

    Returns
    -------
    DataFrame
        A row per line and cohort that has its study, by line and cohort: line, cohort, patient_id, study_id, level,
        verdict, new_level, status and reason. A name of no study is not told again: it may be anything.
    """
    known = studies[["cohort", "patient_id", "study_id"]].drop_duplicates()
    found = verdicts.merge(known, on="study_id", how="left")
    outcomes = outcomes.astype({"line": "int64"})
    found = found.merge(outcomes, on=["line", "cohort"], how="left", suffixes=("", "_found"))
    told = found["reason_found"].where(found["status"].notna(), "no_such_vertebra")
    reason = found["reason"].where(found["reason"].notna(), told)
    found = found.assign(
        study_id=found["study_id"].where(found["cohort"].notna(), None),
        reason=reason.astype(object).where(reason.notna(), None),
        status=np.where(reason.isna(), "used", "unused"),
    )
    found = found.sort_values(["line", "cohort"], kind="stable", ignore_index=True)
    return found[["line", "cohort", "patient_id", "study_id", *VERDICT_COLUMNS[1:], "status", "reason"]]
