"""What the gallery shows of each study, most doubtful first; made page by page from the tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from trabecula.cohort.verdicts import LEVELS as NAMED
from trabecula.errors import FLAGS, LEVEL_FLAGS, NOVELTY
from trabecula.image.levels import ORDER
from trabecula.report import words
from trabecula.report.content import Results

# A level's name below this confidence, and a difference above this, put a study to the front.
LOW_CONFIDENCE = 0.5
LARGE_DIFFERENCE_MG_CM3 = 20.0
LEVELS = [level for level in ORDER if level in NAMED]

_KEY = ["cohort", "study_id"]
_OWN = ["vbmd_mg_cm3", "vbmd_low", "vbmd_high", "probability_reduced", "trabecular_hu", "hu_baseline_vbmd_mg_cm3"]
_STUDY = [*_KEY, "patient_id", "sex", "age_years", "device_key", "thickness_mm", "status", "stage", "reason", "flags"]
_STUDY += ["novelty"]
_PATIENT = [*_KEY, "grade", "decision", "decision_reason", "qct_vbmd_mg_cm3"]
_VERTEBRA = [*_KEY, "level", "level_found", "level_confidence", "level_uncertain", "level_flags", "flags", "verdict"]
_VERTEBRA += ["centroid_z_mm"]

Row = Mapping[str, Any]
Columns = Mapping[Any, np.ndarray]


@dataclass(frozen=True)
class Line:
    """A line of text, such as "QCT {0} mg/cm³ HA", and what is put into it; many cards share the pattern."""

    pattern: str
    entries: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.pattern.format(*self.entries)


@dataclass(frozen=True)
class Tile:
    """A vertebra.

    Attributes
    ----------
    level, found : str
        Its level, and the level as segmented.
    z_mm : int or None
        Height of its centre, to the head; a verdict tells it, so that it falls on no other bone.
    picture : bool
        It has one.
    verdict : str
        The run's, or nothing.
    """

    level: str
    found: str
    z_mm: int | None
    picture: bool
    verdict: str


@dataclass(frozen=True)
class Card:
    """What the gallery shows of a study.

    Attributes
    ----------
    cohort, patient_id, study_id : str
        Keys of the tables.
    device : str
        Device key, or "unknown".
    decision : str
        Of the patient, in words; or what else became of the scan.
    facts : tuple of Line
        On the patient and the result.
    flags : tuple of Line
        What to look at.
    picture : bool
        The study has one.
    tiles : tuple of Tile
        Its vertebrae, from head to foot.
    """

    cohort: str
    patient_id: str
    study_id: str
    device: str
    decision: str
    facts: tuple[Line, ...]
    flags: tuple[Line, ...]
    picture: bool
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Cards(Sequence[Card]):
    """Cards in the order in which they are shown, each made when it is asked for, so that none is held.

    Attributes
    ----------
    studies : mapping
        Columns: an entry per card, in order.
    vertebrae : mapping
        Columns: an entry per vertebra, in the order of their cards.
    ends : (n,) array
        Where each card's vertebrae end.
    unused : mapping
        Verdicts without effect, by (cohort, study).
    pictured, tiled : sets
        Keys of the pictures that there are.
    """

    studies: Columns
    vertebrae: Columns
    ends: np.ndarray
    unused: Mapping[tuple[str, str], list[Line]]
    pictured: set[tuple[str, str]]
    tiled: set[tuple[str, str, str]]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, place: Any) -> Any:
        study = _row(self.studies, place)
        start = 0 if place == 0 else self.ends[place - 1]
        bones = [_row(self.vertebrae, i) for i in range(start, self.ends[place])]
        key = study["cohort"], study["study_id"]
        tiles = [_tile(bone, picture=(*key, bone["level_found"]) in self.tiled) for bone in bones]
        flags = [*_doubts(study), *_findings(bones), *_of_scan(study), *self.unused.get(key, ())]
        return Card(
            cohort=study["cohort"],
            patient_id=study["patient_id"],
            study_id=study["study_id"],
            device=study["device_key"] or "unknown",
            decision=_decision(study),
            facts=(*_scan(study), *_result(study)),
            flags=tuple(flags),
            picture=key in self.pictured,
            tiles=tuple(sorted(tiles, key=lambda tile: ORDER.index(tile.level))),
        )


def _tile(bone: Row, *, picture: bool) -> Tile:
    z_mm = None if bone["centroid_z_mm"] is None else round(bone["centroid_z_mm"])
    return Tile(bone["level"], bone["level_found"], z_mm, picture, bone["verdict"] or "")


def _row(columns: Columns, place: int) -> Row:
    return {name: values[place] for name, values in columns.items()}


def cards(results: Results, pictured: set[tuple[str, str]], tiled: set[tuple[str, str, str]]) -> Cards:
    """Cards of all studies that were measured or failed.

    Failures come first; then results without a decision, uncertain levels, and large differences of the network from
    QCT (from HU where there is none); within each, by that difference.

    Parameters
    ----------
    results : Results
    pictured : set of (cohort, study)
        Studies that have a picture.
    tiled : set of (cohort, study, level as segmented)
        Vertebrae that have a picture.
    """
    vertebrae = _plain(results.vertebrae, _VERTEBRA)
    studies = _studies(results).merge(_outlines(vertebrae), on=_KEY, how="left")
    studies = _in_order(studies)
    place = studies[_KEY].assign(place=range(len(studies)))
    vertebrae = vertebrae.merge(place, on=_KEY).sort_values("place", kind="stable", ignore_index=True)
    ends = np.searchsorted(vertebrae["place"].to_numpy(), np.arange(len(studies)), side="right")
    return Cards(_ready(studies), _ready(vertebrae), ends, _unused(results.verdicts), pictured, tiled)


def _plain(table: pa.Table, columns: Sequence[str]) -> pd.DataFrame:
    return table.select(list(columns)).to_pandas()


def _ready(frame: pd.DataFrame) -> Columns:
    """Columns with None where nothing is known, whatever the type."""
    return {name: values.astype(object).where(values.notna(), None).to_numpy() for name, values in frame.items()}


def _studies(results: Results) -> pd.DataFrame:
    """Studies that were not rejected, with the patient's result where it stands on them, else with their own."""
    studies = _plain(results.studies, [*_STUDY, *_OWN])
    studies = studies[studies["status"] != "rejected"]
    chosen = _plain(results.patients, [*_PATIENT, *_OWN]).dropna(subset=["study_id"])
    chosen = chosen.drop_duplicates(_KEY).assign(chosen=True)
    both = studies.merge(chosen, on=_KEY, how="left", suffixes=("_own", ""))
    for name in _OWN:
        both[name] = both[name].where(both[name].notna(), both.pop(f"{name}_own"))
    both["chosen"] = both["chosen"].eq(True)
    other = both["qct_vbmd_mg_cm3"].where(both["qct_vbmd_mg_cm3"].notna(), both["hu_baseline_vbmd_mg_cm3"])
    return both.assign(difference=(both["vbmd_mg_cm3"] - other).astype(float))


def _outlines(vertebrae: pd.DataFrame) -> pd.DataFrame:
    """Doubts about the levels, per study."""
    unnamed = vertebrae["level_confidence"].where(vertebrae["verdict"].isna())
    grouped = vertebrae.assign(level_confidence=unnamed).groupby(_KEY)
    return grouped.agg(uncertain=("level_uncertain", "max"), confidence=("level_confidence", "min")).reset_index()


def _in_order(studies: pd.DataFrame) -> pd.DataFrame:
    failed = studies["status"].eq("failed") | (studies["chosen"] & studies["vbmd_mg_cm3"].isna())
    abstains = studies["decision"].isin(["indeterminate", "not_evaluable"])
    uncertain = studies["uncertain"].eq(True) | (studies["confidence"].astype(float) < LOW_CONFIDENCE)
    apart = studies["difference"].abs().fillna(0.0)
    rank = np.select([failed, abstains, uncertain, apart > LARGE_DIFFERENCE_MG_CM3], [0, 1, 2, 3], 4)
    order = studies.assign(rank=rank, apart=-apart, uncertain=studies["uncertain"].eq(True))
    return order.sort_values(["rank", "apart", "cohort", "patient_id", "study_id"], kind="stable", ignore_index=True)


def _unused(verdicts: pa.Table) -> dict[tuple[str, str], list[Line]]:
    """Verdicts without effect, in words, by study; a line that a later one replaced is not told."""
    lines: dict[tuple[str, str], list[Line]] = {}
    for row in verdicts.to_pylist():
        if row["status"] == "unused" and row["study_id"] and row["reason"] != "superseded":
            line = Line("verdict on {0} without effect: {1}", (row["level"] or "?", words.reason(row["reason"])))
            lines.setdefault((row["cohort"], row["study_id"]), []).append(line)
    return lines


def _decision(study: Row) -> str:
    if study["status"] == "failed":
        return "failed"
    if not study["chosen"]:
        return "another study chosen"
    return words.DECISION.get(study["decision"], str(study["decision"]))


def _scan(study: Row) -> Iterator[Line]:
    age = "" if study["age_years"] is None else f"{study['age_years']:.0f} years"
    thickness = "" if study["thickness_mm"] is None else f"{study['thickness_mm']:g} mm"
    person = ", ".join(text for text in (study["sex"], age) if text)
    scan = ", ".join(text for text in (study["device_key"], thickness) if text)
    yield from (Line("{0}", (text,)) for text in (person, scan) if text)


def _result(study: Row) -> Iterator[Line]:
    if study["status"] == "failed":
        yield Line("Failed in {0}: {1}", (study["stage"], words.reason(study["reason"])))
        return
    if not study["chosen"]:
        yield Line("Not the patient's result: another study was chosen")
    if study["vbmd_mg_cm3"] is not None:
        ends = words.interval(study["vbmd_low"], study["vbmd_high"], 0)
        grade = f", {study['grade']}" if study["grade"] else ""
        yield Line("vBMD {0} {1} mg/cm³ HA{2}", (words.number(study["vbmd_mg_cm3"], 0), ends, grade))
    if study["probability_reduced"] is not None:
        yield Line("Probability of reduced density {0}: {1}", (f"{study['probability_reduced']:.2f}", _decision(study)))
    if study["hu_baseline_vbmd_mg_cm3"] is not None:
        vbmd, hu = words.number(study["hu_baseline_vbmd_mg_cm3"], 0), words.number(study["trabecular_hu"], 0)
        yield Line("HU alone {0} mg/cm³ HA ({1} HU)", (vbmd, hu))
    if study["qct_vbmd_mg_cm3"] is not None:
        yield Line("QCT {0} mg/cm³ HA", (words.number(study["qct_vbmd_mg_cm3"], 0),))


def _doubts(study: Row) -> Iterator[Line]:
    if study["status"] == "failed":
        yield Line("failed")
    elif study["decision_reason"]:
        yield Line("{0}: {1}", (_decision(study), words.reason(study["decision_reason"])))
    if study["uncertain"]:
        yield Line("level uncertain")
    if study["confidence"] is not None and study["confidence"] < LOW_CONFIDENCE:
        yield Line("low confidence in a level: {0}", (f"{study['confidence']:.2f}",))
    difference = study["difference"]
    if difference is not None and abs(difference) > LARGE_DIFFERENCE_MG_CM3:
        other = "HU alone" if study["qct_vbmd_mg_cm3"] is None else "QCT"
        yield Line(f"network far from {other}: {{0}} mg/cm³", (words.number(difference, 0),))


def _findings(bones: Sequence[Row]) -> Iterator[Line]:
    """Flags of the vertebrae, each once with its levels."""
    levels: dict[str, list[str]] = {}
    for bone in sorted(bones, key=lambda one: ORDER.index(one["level"])):
        told = [LEVEL_FLAGS.get(code, code) for code in bone["level_flags"] if bone["level_uncertain"]]
        for finding in [*told, *map(words.reason, bone["flags"])]:
            levels.setdefault(finding, []).append(bone["level"])
    yield from (Line(f"{finding} ({{0}})", (", ".join(of),)) for finding, of in sorted(levels.items()))


def _of_scan(study: Row) -> Iterator[Line]:
    for known, codes in ((FLAGS, study["flags"]), (NOVELTY, study["novelty"])):
        yield from (Line(known.get(code, str(code))) for code in codes)
