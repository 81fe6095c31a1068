"""The gallery's cards, one per study, the most doubtful first; made page by page from the tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from trabecula.cohort.verdicts import LEVELS as KNOWN_LEVELS
from trabecula.errors import FLAGS, LEVEL_FLAGS, NOVELTY
from trabecula.image.levels import ORDER
from trabecula.report import wording
from trabecula.report.results import Results, Row

# Studies with a less confident level name, or with a larger difference, come before the others.
LOW_CONFIDENCE = 0.5
LARGE_DIFFERENCE_MG_CM3 = 20.0
LEVELS = [level for level in ORDER if level in KNOWN_LEVELS]

_KEY = ["cohort", "study_id"]
_RESULT = ["vbmd_mg_cm3", "vbmd_low", "vbmd_high", "probability_reduced", "trabecular_hu", "hu_baseline_vbmd_mg_cm3"]
_STUDY = [*_KEY, "patient_id", "sex", "age_years", "device_key", "thickness_mm", "status", "stage", "reason", "flags"]
_STUDY += ["novelty"]
_PATIENT = [*_KEY, "grade", "decision", "decision_reason", "qct_vbmd_mg_cm3"]
_VERTEBRA = [*_KEY, "level", "level_found", "level_confidence", "level_uncertain", "level_flags", "flags", "verdict"]
_VERTEBRA += ["centroid_z_mm"]

Columns = Mapping[Any, np.ndarray]


@dataclass(frozen=True)
class Line:
    """A line of text: a pattern that many cards share, such as "QCT {0} mg/cm³ HA", and its entries."""

    pattern: str
    entries: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.pattern.format(*self.entries)


@dataclass(frozen=True)
class Vertebra:
    """A vertebra on a card.

    Attributes
    ----------
    level, segmented_as : str
        Its level, and the level as segmented.
    z_mm : int or None
        Height of its centre, to the head; it goes into a verdict, so that the verdict is used for no other bone.
    has_thumbnail : bool
        A thumbnail of it was drawn.
    verdict : str
        The verdict that the run used; empty where there is none.
    """

    level: str
    segmented_as: str
    z_mm: int | None
    has_thumbnail: bool
    verdict: str


@dataclass(frozen=True)
class Card:
    """A card of the gallery, which shows one study.

    Attributes
    ----------
    cohort, patient_id, study_id : str
        Keys of the tables.
    device : str
        Device key, or "unknown".
    decision : str
        Decision on the patient, in words; or that the scan failed, or is not the one used.
    facts : tuple of Line
        Lines on the patient and the result.
    flags : tuple of Line
        Lines on what to look at.
    has_overlay : bool
        An overlay of the study was drawn.
    vertebrae : tuple of Vertebra
        Its vertebrae, from head to foot.
    """

    cohort: str
    patient_id: str
    study_id: str
    device: str
    decision: str
    facts: tuple[Line, ...]
    flags: tuple[Line, ...]
    has_overlay: bool
    vertebrae: tuple[Vertebra, ...]


@dataclass(frozen=True)
class Cards(Sequence[Card]):
    """Cards in the order of the pages; each is made when it is asked for, so that memory holds few of them.

    Attributes
    ----------
    studies : mapping
        Columns with an entry per card, in order.
    vertebrae : mapping
        Columns with an entry per vertebra, in the order of their cards.
    ends : (n,) array
        End of each card's entries in `vertebrae`.
    unused : mapping
        Lines on verdicts without effect, by (cohort, study).
    overlays, thumbnails : sets
        Keys of the images that were drawn.
    """

    studies: Columns
    vertebrae: Columns
    ends: np.ndarray
    unused: Mapping[tuple[str, str], list[Line]]
    overlays: set[tuple[str, str]]
    thumbnails: set[tuple[str, str, str]]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, place: Any) -> Any:
        study = _row(self.studies, place)
        start = 0 if place == 0 else self.ends[place - 1]
        bones = [_row(self.vertebrae, i) for i in range(start, self.ends[place])]
        key = study["cohort"], study["study_id"]
        vertebrae = [_vertebra(bone, has_thumbnail=(*key, bone["level_found"]) in self.thumbnails) for bone in bones]
        flags = [*_doubts(study), *_findings(bones), *_of_scan(study), *self.unused.get(key, ())]
        return Card(
            cohort=study["cohort"],
            patient_id=study["patient_id"],
            study_id=study["study_id"],
            device=study["device_key"] or "unknown",
            decision=_decision(study),
            facts=(*_scan(study), *_result(study)),
            flags=tuple(flags),
            has_overlay=key in self.overlays,
            vertebrae=tuple(sorted(vertebrae, key=lambda vertebra: ORDER.index(vertebra.level))),
        )


def _vertebra(bone: Row, *, has_thumbnail: bool) -> Vertebra:
    z_mm = None if bone["centroid_z_mm"] is None else round(bone["centroid_z_mm"])
    return Vertebra(bone["level"], bone["level_found"], z_mm, has_thumbnail, bone["verdict"] or "")


def _row(columns: Columns, place: int) -> Row:
    return {name: values[place] for name, values in columns.items()}


def cards(results: Results, overlays: set[tuple[str, str]], thumbnails: set[tuple[str, str, str]]) -> Cards:
    """Make the cards of all studies that were measured or failed.

    Failures come first, then results without a decision, then uncertain levels, then large differences of the network
    from QCT (from HU where there is no QCT); within each group the largest difference comes first.

    Parameters
    ----------
    results : Results
    overlays : set of (cohort, study)
        Studies that have an overlay.
    thumbnails : set of (cohort, study, level as segmented)
        Vertebrae that have a thumbnail.
    """
    vertebrae = _frame(results.vertebrae, _VERTEBRA)
    studies = _in_order(_studies(results).merge(_level_doubts(vertebrae), on=_KEY, how="left"))
    places = studies[_KEY].assign(place=range(len(studies)))
    vertebrae = vertebrae.merge(places, on=_KEY).sort_values("place", kind="stable", ignore_index=True)
    ends = np.searchsorted(vertebrae["place"].to_numpy(), np.arange(len(studies)), side="right")
    return Cards(_columns(studies), _columns(vertebrae), ends, _unused(results.verdicts), overlays, thumbnails)


def _frame(table: pa.Table, columns: Sequence[str]) -> pd.DataFrame:
    return table.select(list(columns)).to_pandas()


def _columns(frame: pd.DataFrame) -> Columns:
    """Turn a frame into columns of objects, with None for every kind of missing value."""
    return {name: values.astype(object).where(values.notna(), None).to_numpy() for name, values in frame.items()}


def _studies(results: Results) -> pd.DataFrame:
    """List studies that were not rejected, with the patient's result where it comes from them, else the scan's own."""
    studies = _frame(results.studies, [*_STUDY, *_RESULT])
    studies = studies[studies["status"] != "rejected"]
    chosen = _frame(results.patients, [*_PATIENT, *_RESULT]).dropna(subset=["study_id"])
    chosen = chosen.drop_duplicates(_KEY).assign(chosen=True)
    both = studies.merge(chosen, on=_KEY, how="left", suffixes=("_of_scan", ""))
    for name in _RESULT:
        both[name] = both[name].where(both[name].notna(), both.pop(f"{name}_of_scan"))
    both["chosen"] = both["chosen"].eq(True)
    other = both["qct_vbmd_mg_cm3"].where(both["qct_vbmd_mg_cm3"].notna(), both["hu_baseline_vbmd_mg_cm3"])
    return both.assign(difference=(both["vbmd_mg_cm3"] - other).astype(float))


def _level_doubts(vertebrae: pd.DataFrame) -> pd.DataFrame:
    """Give per study whether a level is uncertain, and the lowest confidence of a level without a verdict."""
    unreviewed = vertebrae["level_confidence"].where(vertebrae["verdict"].isna())
    grouped = vertebrae.assign(level_confidence=unreviewed).groupby(_KEY)
    return grouped.agg(uncertain=("level_uncertain", "max"), confidence=("level_confidence", "min")).reset_index()


def _in_order(studies: pd.DataFrame) -> pd.DataFrame:
    """Sort the studies, the most doubtful first."""
    failed = studies["status"].eq("failed") | (studies["chosen"] & studies["vbmd_mg_cm3"].isna())
    undecided = studies["decision"].isin(list(wording.NO_DECISION))
    uncertain = studies["uncertain"].eq(True) | (studies["confidence"].astype(float) < LOW_CONFIDENCE)
    difference = studies["difference"].abs().fillna(0.0)
    rank = np.select([failed, undecided, uncertain, difference > LARGE_DIFFERENCE_MG_CM3], [0, 1, 2, 3], 4)
    order = studies.assign(rank=rank, apart=-difference, uncertain=studies["uncertain"].eq(True))
    return order.sort_values(["rank", "apart", "cohort", "patient_id", "study_id"], kind="stable", ignore_index=True)


def _unused(verdicts: pa.Table) -> dict[tuple[str, str], list[Line]]:
    """Put verdicts without effect into words, by study; lines that a later line replaced are left out."""
    lines: dict[tuple[str, str], list[Line]] = {}
    for row in verdicts.to_pylist():
        if row["status"] == "unused" and row["study_id"] and row["reason"] != "superseded":
            line = Line("verdict on {0} without effect: {1}", (row["level"] or "?", wording.reason(row["reason"])))
            lines.setdefault((row["cohort"], row["study_id"]), []).append(line)
    return lines


def _decision(study: Row) -> str:
    if study["status"] == "failed":
        return "failed"
    if not study["chosen"]:
        return "another study chosen"
    return wording.decision(str(study["decision"]))


def _scan(study: Row) -> Iterator[Line]:
    age = "" if study["age_years"] is None else f"{study['age_years']:.0f} years"
    thickness = "" if study["thickness_mm"] is None else f"{study['thickness_mm']:g} mm"
    person = ", ".join(text for text in (study["sex"], age) if text)
    scan = ", ".join(text for text in (study["device_key"], thickness) if text)
    yield from (Line("{0}", (text,)) for text in (person, scan) if text)


def _result(study: Row) -> Iterator[Line]:
    if study["status"] == "failed":
        yield Line("Failed in {0}: {1}", (study["stage"], wording.reason(study["reason"])))
        return
    if not study["chosen"]:
        yield Line("Not the patient's result: another study was chosen")
    if study["vbmd_mg_cm3"] is not None:
        ends = wording.interval(study["vbmd_low"], study["vbmd_high"], 0)
        grade = f", {study['grade']}" if study["grade"] else ""
        yield Line("vBMD {0} {1} mg/cm³ HA{2}", (wording.number(study["vbmd_mg_cm3"], 0), ends, grade))
    if study["probability_reduced"] is not None:
        yield Line("Probability of reduced density {0}: {1}", (f"{study['probability_reduced']:.2f}", _decision(study)))
    if study["hu_baseline_vbmd_mg_cm3"] is not None:
        vbmd, hu = wording.number(study["hu_baseline_vbmd_mg_cm3"], 0), wording.number(study["trabecular_hu"], 0)
        yield Line("HU alone {0} mg/cm³ HA ({1} HU)", (vbmd, hu))
    if study["qct_vbmd_mg_cm3"] is not None:
        yield Line("QCT {0} mg/cm³ HA", (wording.number(study["qct_vbmd_mg_cm3"], 0),))


def _doubts(study: Row) -> Iterator[Line]:
    if study["status"] == "failed":
        yield Line("failed")
    elif study["decision_reason"]:
        yield Line("{0}: {1}", (_decision(study), wording.reason(study["decision_reason"])))
    if study["uncertain"]:
        yield Line("level uncertain")
    if study["confidence"] is not None and study["confidence"] < LOW_CONFIDENCE:
        yield Line("low confidence in a level: {0}", (f"{study['confidence']:.2f}",))
    difference = study["difference"]
    if difference is not None and abs(difference) > LARGE_DIFFERENCE_MG_CM3:
        other = "HU alone" if study["qct_vbmd_mg_cm3"] is None else "QCT"
        yield Line(f"network far from {other}: {{0}} mg/cm³", (wording.number(difference, 0),))


def _findings(bones: Sequence[Row]) -> Iterator[Line]:
    """Write the flags of the vertebrae, each once with its levels."""
    levels: dict[str, list[str]] = {}
    for bone in sorted(bones, key=lambda bone: ORDER.index(bone["level"])):
        doubts = [LEVEL_FLAGS.get(code, code) for code in bone["level_flags"] if bone["level_uncertain"]]
        for finding in [*doubts, *map(wording.reason, bone["flags"])]:
            levels.setdefault(finding, []).append(bone["level"])
    yield from (Line(f"{finding} ({{0}})", (", ".join(names),)) for finding, names in sorted(levels.items()))


def _of_scan(study: Row) -> Iterator[Line]:
    for meanings, codes in ((FLAGS, study["flags"]), (NOVELTY, study["novelty"])):
        yield from (Line(meanings.get(code, str(code))) for code in codes)
