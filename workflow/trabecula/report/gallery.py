"""Picture gallery: a card per study, the most doubtful first, in pages."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.levels import ORDER
from trabecula.report import words
from trabecula.report.content import Results, synthetic_note
from trabecula.report.pages import render

# A level's name below this confidence, and a difference above this, put a study to the front.
LOW_CONFIDENCE = 0.5
LARGE_DIFFERENCE_MG_CM3 = 20.0

Key = tuple[str, str]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Card:
    """What the gallery shows of a study.

    Attributes
    ----------
    cohort, patient_id, study_id : str
        Keys of the tables.
    facts : tuple of str
        Lines on the patient and the result.
    flags : tuple of str
        What to look at.
    picture : str or None
        Path of the picture, seen from the pages.
    tiles : tuple of (str, str)
        Level and path of each vertebra's own picture, from head to foot.
    rank : tuple
        Cards are sorted by it, most doubtful first.
    """

    cohort: str
    patient_id: str
    study_id: str
    facts: tuple[str, ...]
    flags: tuple[str, ...]
    picture: str | None
    tiles: tuple[tuple[str, str], ...]
    rank: tuple[Any, ...]


@dataclass(frozen=True)
class Outlines:
    """Doubts about the vertebrae of a study."""

    uncertain: bool = False
    confidence: float | None = None
    flags: tuple[str, ...] = ()


def write_gallery(
    results: Results,
    crops: Iterable[Path | str],
    measures: Iterable[Path | str],
    folder: Path | str,
    *,
    per_page: int,
) -> None:
    """Write pages and pictures beside the folder, then put them in its place.

    Parameters
    ----------
    results : Results
    crops, measures : iterables of paths
        Tables of the stages crop and measure, read one after the other.
    folder : path
        What lies there is replaced.
    per_page : int
        Cards per page.
    """
    folder = Path(folder)
    part = tables.beside(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    pictured = {key for path in crops for key in write_pictures(path, part)}
    tiles = {key: levels for path in measures for key, levels in write_tiles(path, part).items()}
    listed = cards(results, pictured, tiles)
    pages = [listed[start : start + per_page] for start in range(0, len(listed), per_page)] or [[]]
    for number, page in enumerate(pages, start=1):
        (part / page_name(number)).write_text(
            render(
                "gallery.html.j2",
                cards=page,
                number=number,
                pages=len(pages),
                page_name=page_name,
                total=len(listed),
                synthetic=synthetic_note(results),
            ),
            encoding="utf-8",
        )
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def page_name(number: int) -> str:
    """File name of a page, counted from 1."""
    return f"page_{number:04d}.html"


def picture_name(cohort: str, study_id: str) -> str:
    """Path of a study's picture, seen from the gallery's pages."""
    return f"pictures/{cohort}/{study_id}.webp"


def tile_name(cohort: str, study_id: str, level: str) -> str:
    """Path of a vertebra's picture, seen from the gallery's pages."""
    return f"pictures/{cohort}/{study_id}_{level}.webp"


def write_pictures(path: Path | str, folder: Path) -> list[Key]:
    """Write the pictures of one table of the stage crop; gives back the studies that have one."""
    written = []
    for row in pq.ParquetFile(path).read(columns=["cohort", "study_id", "picture"]).to_pylist():
        if row["picture"]:
            _write(row["picture"], folder / picture_name(row["cohort"], row["study_id"]))
            written.append((row["cohort"], row["study_id"]))
    return written


def write_tiles(path: Path | str, folder: Path) -> dict[Key, list[str]]:
    """Write the pictures of one table of the stage measure; gives back each study's levels that have one."""
    written: dict[Key, list[str]] = {}
    for row in pq.ParquetFile(path).read(columns=["cohort", "study_id", "level", "picture"]).to_pylist():
        if row["picture"]:
            _write(row["picture"], folder / tile_name(row["cohort"], row["study_id"], row["level"]))
            written.setdefault((row["cohort"], row["study_id"]), []).append(row["level"])
    return written


def _write(picture: bytes, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(picture)


def cards(results: Results, pictured: set[Key], tiles: Mapping[Key, Sequence[str]]) -> list[Card]:
    """Cards of all studies that were measured or failed, most doubtful first.

    Parameters
    ----------
    results : Results
    pictured : set of (cohort, study)
        Studies that have a picture.
    tiles : mapping
        Levels that have a picture of their own, by (cohort, study).
    """
    of_study = {(row["cohort"], row["study_id"]): row for row in results.patients.to_pylist() if row["study_id"]}
    seen = outlines(results.vertebrae)
    accepted = results.studies.filter(pc.field("status") != "rejected").to_pylist()
    made = []
    for study in accepted:
        key = study["cohort"], study["study_id"]
        picture = picture_name(*key) if key in pictured else None
        levels = sorted(tiles.get(key, ()), key=ORDER.index)
        own = tuple((level, tile_name(*key, level)) for level in levels)
        made.append(_card(study, of_study.get(key), seen.get(key, Outlines()), picture, own))
    return sorted(made, key=lambda card: card.rank)


def outlines(vertebrae: pa.Table) -> dict[Key, Outlines]:
    """Doubts about the vertebrae, per study."""
    keys = ["cohort", "study_id"]
    grouped = vertebrae.group_by(keys).aggregate([("level_uncertain", "max"), ("level_confidence", "min")])
    flagged = vertebrae.filter(pc.list_value_length(pc.field("flags")) > 0)  # pyright: ignore[reportAttributeAccessIssue]
    flags: dict[Key, list[str]] = {}
    for row in flagged.select([*keys, "level", "flags"]).to_pylist():
        flags.setdefault((row["cohort"], row["study_id"]), []).extend(f"{row['level']}: {f}" for f in row["flags"])
    return {
        (key := (row["cohort"], row["study_id"])): Outlines(
            bool(row["level_uncertain_max"]), row["level_confidence_min"], tuple(sorted(flags.get(key, [])))
        )
        for row in grouped.to_pylist()
    }


def _card(
    study: Row, result: Row | None, seen: Outlines, picture: str | None, tiles: tuple[tuple[str, str], ...]
) -> Card:
    difference = _difference(result)
    low_confidence = seen.confidence is not None and seen.confidence < LOW_CONFIDENCE
    failed = study["status"] == "failed" or (result is not None and result["vbmd_mg_cm3"] is None)
    rank = (
        not seen.uncertain,
        not failed,
        not low_confidence,
        -abs(difference or 0.0),
        study["cohort"],
        study["patient_id"],
        study["study_id"],
    )
    return Card(
        cohort=study["cohort"],
        patient_id=study["patient_id"],
        study_id=study["study_id"],
        facts=(_scan(study), *_result(study, result)),
        flags=tuple(_flags(study, result, seen, difference)),
        picture=picture,
        tiles=tiles,
        rank=rank,
    )


def _difference(result: Row | None) -> float | None:
    """Network minus QCT; minus HU alone where there is no QCT."""
    if result is None or result["vbmd_mg_cm3"] is None:
        return None
    other = result["qct_vbmd_mg_cm3"]
    other = result["hu_baseline_vbmd_mg_cm3"] if other is None else other
    return None if other is None else result["vbmd_mg_cm3"] - other


def _scan(study: Row) -> str:
    age = "" if study["age_years"] is None else f"{study['age_years']:.0f} years"
    thickness = "" if study["thickness_mm"] is None else f"{study['thickness_mm']:g} mm"
    return ", ".join(text for text in (study["sex"], age, study["device_key"], thickness) if text)


def _result(study: Row, result: Row | None) -> list[str]:
    if study["status"] == "failed":
        return [f"Failed in {study['stage']}: {words.reason(study['reason'])}"]
    if result is None:
        return ["Not the patient's result: another study was chosen"]
    lines = []
    if result["vbmd_mg_cm3"] is not None:
        ends = words.interval(result["vbmd_low"], result["vbmd_high"], 0)
        lines.append(f"vBMD {words.number(result['vbmd_mg_cm3'], 0)} {ends} {words.MG_CM3}, {result['grade']}")
    if result["probability_reduced"] is not None:
        decision = words.DECISION.get(result["decision"], result["decision"])
        lines.append(f"Probability of reduced density {result['probability_reduced']:.2f}, {decision}")
    if result["hu_baseline_vbmd_mg_cm3"] is not None:
        hu = words.number(result["trabecular_hu"], 0)
        lines.append(f"HU alone {words.number(result['hu_baseline_vbmd_mg_cm3'], 0)} {words.MG_CM3} ({hu} HU)")
    if result["qct_vbmd_mg_cm3"] is not None:
        lines.append(f"QCT {words.number(result['qct_vbmd_mg_cm3'], 0)} {words.MG_CM3}")
    if result["levels_used"]:
        lines.append(f"Levels {', '.join(result['levels_used'])}")
    return lines


def _flags(study: Row, result: Row | None, seen: Outlines, difference: float | None) -> list[str]:
    flags = []
    if seen.uncertain:
        flags.append("level uncertain")
    if study["status"] == "failed":
        flags.append("failed")
    elif result is not None and result["decision_reason"]:
        flags.append(f"{words.DECISION[result['decision']]}: {words.reason(result['decision_reason'])}")
    if seen.confidence is not None and seen.confidence < LOW_CONFIDENCE:
        flags.append(f"confidence in a level {seen.confidence:.2f}")
    if difference is not None and abs(difference) > LARGE_DIFFERENCE_MG_CM3:
        to = "QCT" if result is not None and result["qct_vbmd_mg_cm3"] is not None else "HU alone"
        flags.append(f"{words.number(difference, 0)} mg/cm³ from {to}")
    return [*flags, *_gathered(seen.flags)]


def _gathered(flags: Sequence[str]) -> list[str]:
    """Flags of vertebrae, gathered by finding: ``metal (L1, L2)``."""
    levels: dict[str, list[str]] = {}
    for flag in flags:
        level, finding = flag.split(": ", 1)
        levels.setdefault(finding, []).append(level)
    return [f"{finding.replace('_', ' ')} ({', '.join(of)})" for finding, of in levels.items()]
