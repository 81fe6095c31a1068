"""Judge an archive's series and make the index's tables of them, with pseudonyms in place of identities."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from hmac import new as hmac
from pathlib import Path
from typing import Any

import pandas as pd

from trabecula import tables
from trabecula.cohort.linkage import slice_of
from trabecula.cohort.pseudonym import pseudonym, pseudonym_uid
from trabecula.cohort.shards import Chosen, Entry
from trabecula.dicom.files import location
from trabecula.dicom.headers.record import Header
from trabecula.dicom.stacks import Stack, defect_of, identity_of, sound_and_damaged, stacks_of, without_copies
from trabecula.index import choose, facts

Row = dict[str, Any]
_YEARS_OF_CT = range(1971, 2100)
# What later stages find out.
_UNKNOWN_YET: Row = dict.fromkeys(
    column.name for column in (*tables.SCAN_FACTS, *tables.CONTRAST, *tables.SCAN_RESULT)
) | {"levels_used": [], "novelty": []}
Dates = dict[str, tuple[str, date]]


@dataclass(frozen=True)
class Rules:
    """By what a cohort's series are judged and named.

    Attributes
    ----------
    cohort : str
        Name of the cohort.
    key : bytes
        Key of the pseudonyms.
    gates : Gates
        Limits of what can be measured.
    weights : Weights
        Weights of the score.
    archive : Path
        The archive's top folder.
    """

    cohort: str
    key: bytes
    gates: choose.Gates
    weights: choose.Weights
    archive: Path


@dataclass(frozen=True)
class Candidate:
    """A stack with its pseudonyms and what became of it.

    Attributes
    ----------
    stack : Stack
        Its slices and original identity.
    patient_id, study_id, series_id : str
        Pseudonyms.
    gates : list of str
        Every reason against it.
    reason : str or None
        Why it is not measured; None for the one stack of a study that is.
    score : float or None
        Score; None where it is no stack of CT slices.
    """

    stack: Stack
    patient_id: str
    study_id: str
    series_id: str
    gates: list[str]
    reason: str | None
    score: float | None


@dataclass
class Found:
    """What became of a study's files: rows of the index's tables.

    Attributes
    ----------
    series, studies, linkage : list of dict
        Rows; the studies' and linkage's shard and days are still unknown.
    chosen : list of Chosen
        Studies that can be measured, for the shards.
    lost : Counter
        Files that belong to no series, by reason and pseudonyms of patient, study and series.
    patients : dict
        Pseudonym of patients to the hospital's id.
    dates : dict
        Pseudonym of studies to that of the patient and the date; studies without a date are left out.
    """

    series: list[Row] = field(default_factory=list)
    studies: list[Row] = field(default_factory=list)
    linkage: list[Row] = field(default_factory=list)
    chosen: list[Chosen] = field(default_factory=list)
    lost: Counter[tuple[str | None, ...]] = field(default_factory=Counter)
    patients: dict[str, str] = field(default_factory=dict)
    dates: Dates = field(default_factory=dict)


def judge(files: Iterable[Header], rules: Rules) -> Found:
    """Group a study's files to stacks, accept or refuse each, and choose one."""
    files = list(files)
    found = Found()
    sound, damaged = sound_and_damaged(files)
    kept, copies = without_copies(sound)
    in_stacks = {id(header) for header in sound}
    lost = [(header, defect_of(header) or "") for header in files if id(header) not in in_stacks]
    lost += [(header, "duplicate_file") for header in copies]
    by_study: dict[tuple[str, str], list[Stack]] = defaultdict(list)
    for stack in stacks_of(kept, max_gap_mm=rules.gates.max_gap_mm, damaged=damaged):
        by_study[stack.identity.patient, stack.identity.study_uid].append(stack)
    for stacks in by_study.values():
        part = _judge_study(stacks, rules)
        found.series += [_series_row(rules, candidate) for candidate in part]
        found.studies.append(_study_row(rules, part))
        found.linkage += [_linkage_row(rules, candidate) for candidate in part]
        found.chosen += [_chosen(candidate, rules.key) for candidate in part if candidate.reason is None]
        header = part[0].stack.first
        if header.patient:
            found.patients[part[0].patient_id] = header.patient.strip()
        if day := study_date(part):
            found.dates[part[0].study_id] = part[0].patient_id, day
    # A multi-frame file is one, however many of its frames are lost, and none where others are in a stack.
    used = {(header.path, header.member) for header in kept}
    files_lost = {(header.path, header.member): (reason, *_ids(header, rules.key)) for header, reason in lost}
    found.lost.update(place for file, place in files_lost.items() if file not in used)
    return found


def _judge_study(stacks: Sequence[Stack], rules: Rules) -> list[Candidate]:
    against = [choose.reasons_against(stack, rules.gates) for stack in stacks]
    best = choose.best((stack for stack, found in zip(stacks, against, strict=True) if not found), rules.weights)
    return [_candidate(stack, found, stack is best, rules) for stack, found in zip(stacks, against, strict=True)]


def _candidate(stack: Stack, against: list[str], is_best: bool, rules: Rules) -> Candidate:
    # One UID can occur under two patients (anonymised archives): the patient is part of every identity below.
    study = f"{stack.identity.patient.strip()}\\{stack.identity.study_uid}"
    return Candidate(
        stack,
        pseudonym("patient", stack.identity.patient, rules.key),
        pseudonym("study", study, rules.key),
        pseudonym("series", f"{study}\\{stack.identity.series_uid}", rules.key),
        against,
        against[0] if against else None if is_best else "not_chosen",
        choose.score(stack, rules.weights) if stack.first.modality == "CT" and stack.spacing_mm else None,
    )


def _chosen(candidate: Candidate, key: bytes) -> Chosen:
    stack = candidate.stack
    files = [(header.path, header.member, header.size, header.mtime_ns, header.frame) for header in stack.headers]
    fingerprint = hmac(key, repr(files).encode(), sha256).hexdigest()[:16]  # keyed: names may tell an identity
    return Chosen(candidate.study_id, candidate.patient_id, candidate.series_id, fingerprint)


def failure_rows(cohort: str, lost: Mapping[tuple[str | None, ...], int]) -> list[Row]:
    """Rows of the table `failures`: one per reason and series, with the number of files that it stands for."""
    names = ("reason", "patient_id", "study_id", "series_id")
    rows = [dict(zip(names, place, strict=True), n_files=n) for place, n in lost.items()]
    rows.sort(key=lambda row: [row[name] or "" for name in names])
    return [{"cohort": cohort, "stage": "index", "detail": None, **row} for row in rows]


def _ids(header: Header, key: bytes) -> tuple[str | None, str | None, str | None]:
    """Pseudonyms of a file that belongs to no series; None where its identity is not known in full."""
    if not (header.study_uid and header.series_uid):
        return None, None, None
    identity = identity_of(header)
    study = f"{identity.patient.strip()}\\{identity.study_uid}"
    series = f"{study}\\{identity.series_uid}"
    return pseudonym("patient", identity.patient, key), pseudonym("study", study, key), pseudonym("series", series, key)


def _acquisition(header: Header) -> Row:
    return {
        "kvp": header.kvp or None,
        "kernel": facts.plain(header.kernel),
        "manufacturer": facts.plain(header.manufacturer),
        "model": facts.plain(header.model),
        "image_type": facts.plain(header.image_type),
        "thickness_mm": header.thickness_mm or None,
    }


def _series_row(rules: Rules, candidate: Candidate) -> Row:
    stack = candidate.stack
    identity = f"{candidate.stack.identity.patient.strip()}\\{stack.identity.study_uid}\\{stack.identity.series_uid}"
    return {
        "cohort": rules.cohort,
        "patient_id": candidate.patient_id,
        "study_id": candidate.study_id,
        "series_id": candidate.series_id,
        "series_uid": pseudonym_uid("series", identity, rules.key),
        "stack": stack.number,
        "accepted": candidate.reason is None,
        "reason": candidate.reason,
        "gates": candidate.gates,
        "flags": choose.flags_of(stack, rules.gates) if stack.first.modality == "CT" else [],
        "score": candidate.score,
        "n_slices": stack.n_slices,
        "n_damaged": stack.n_damaged,
        "n_odd": stack.n_odd,
        "spacing_mm": stack.spacing_mm,
        "extent_mm": stack.extent_mm,
        "field_of_view_mm": choose.field_of_view_mm(stack),
        "modality": facts.plain(stack.first.modality),
        **_acquisition(stack.first),
    }


def _study_row(rules: Rules, part: list[Candidate]) -> Row:
    best = next((candidate for candidate in part if candidate.reason is None), None)
    shown, chosen = best or part[0], best is not None
    header = shown.stack.first
    return {
        "cohort": rules.cohort,
        "patient_id": shown.patient_id,
        "study_id": shown.study_id,
        "series_id": shown.series_id if chosen else None,
        "shard": None,
        "age_years": facts.age_years(header),
        "sex": facts.sex(header),
        "days_from_first_study": None,
        "device_key": facts.device_key(header) if chosen else None,
        **(_acquisition(header) if chosen else dict.fromkeys(_acquisition(header))),
        "spacing_mm": shown.stack.spacing_mm if chosen else None,
        "contrast_agent": facts.contrast_agent(header) if chosen else None,
        **_UNKNOWN_YET,
        "repairs": [],
        "flags": choose.flags_of(shown.stack, rules.gates) if chosen else [],
        "status": "accepted" if chosen else "rejected",
        "stage": None if chosen else "index",
        "reason": None if chosen else study_reason([candidate.reason for candidate in part]),
    }


def study_reason(reasons: Iterable[str | None]) -> str:
    """Why a study has no acceptable series: the one reason that its CT series share, else that there is none."""
    distinct = {reason for reason in reasons if reason and reason != "not_ct"}
    if not distinct:
        return "not_ct"
    return distinct.pop() if len(distinct) == 1 else "no_acceptable_series"


def vanished_rows(cohort: str, present: set[str], ledger: Mapping[str, Entry]) -> list[Row]:
    """Rows of the table `studies` for those of the ledger of which the archive no longer holds any file."""
    scan = ("series_id", "age_years", "sex", "days_from_first_study", "device_key", "spacing_mm")
    unknown = _UNKNOWN_YET | dict.fromkeys((*scan, "contrast_agent", *_acquisition(Header("", None, 0, 0))))
    return [
        {
            **unknown,
            "cohort": cohort,
            "patient_id": entry.patient_id,
            "study_id": entry.study_id,
            "shard": entry.shard,
            "repairs": [],
            "flags": [],
            "status": "rejected",
            "stage": "index",
            "reason": "vanished",
        }
        for entry in ledger.values()
        if entry.study_id not in present
    ]


def study_date(part: Iterable[Candidate]) -> date | None:
    """Earliest date that the files of a study state."""
    texts = {header.study_date for candidate in part for header in candidate.stack.headers}
    days = (facts.date_of(text) for text in texts)
    # Anonymising tools write dates such as 1900-01-01; counted from there, days would tell the others' true dates.
    return min((day for day in days if day and day.year in _YEARS_OF_CT), default=None)


def first_dates(dates: Dates) -> dict[str, date]:
    """Date of each patient's first study, by the patient's pseudonym; patients without any date are left out."""
    first: dict[str, date] = {}
    for patient, day in dates.values():
        first[patient] = min(day, first.get(patient, day))
    return first


def _linkage_row(rules: Rules, candidate: Candidate) -> Row:
    stack, chosen = candidate.stack, candidate.reason is None
    return {
        "cohort": rules.cohort,
        "patient": stack.identity.patient,
        "study_uid": stack.identity.study_uid,
        "series_uid": stack.identity.series_uid,
        "patient_id": candidate.patient_id,
        "study_id": candidate.study_id,
        "series_id": candidate.series_id,
        "stack": stack.number,
        "chosen": chosen,
        "study_date": stack.first.study_date,
        "archive": str(rules.archive),
        "files": [location(f"{rules.archive}/{path}", member) for path, member in stack.files],
        "n_damaged": stack.n_damaged,
        "n_odd": stack.n_odd,
        "slices": [slice_of(header, str(rules.archive)) for header in stack.headers] if chosen else None,
    }


def label_rows(
    cohort: str,
    labels: pd.DataFrame | None,
    patients: Mapping[str, str],
    first: Mapping[str, date],
    *,
    key: bytes,
) -> list[Row]:
    """Rows of the table `labels`: patients by pseudonym, dates as days from the patient's first study.

    A usable label of a patient of whom the archive holds no study is unused, reason no_scan; one whose id two issuers
    have given, reason ambiguous_patient.

    Parameters
    ----------
    cohort : str
        Name of the cohort.
    labels : DataFrame or None
        Result of `trabecula.cohort.labels.read.read_labels`.
    patients : mapping
        Pseudonym of each scanned patient to the hospital's id.
    first : mapping
        Pseudonym of each scanned patient to the date of the first study.
    key : bytes
        Key of the pseudonyms.
    """
    if labels is None:
        return []
    by_id: dict[str, list[str]] = defaultdict(list)
    for pseudo, original in patients.items():
        by_id[original].append(pseudo)
    rows: list[Any] = labels.to_dict("records")
    return [_label_row(cohort, label, by_id[label["patient"].strip()], first, key) for label in rows]


def _label_row(cohort: str, label: Mapping[str, Any], scanned: list[str], first: Mapping[str, date], key: bytes) -> Row:
    patient = scanned[0] if len(scanned) == 1 else pseudonym("patient", label["patient"], key)
    known = not pd.isna(label["study_date"]) and patient in first
    lost = {0: "no_scan", 1: None}.get(len(scanned), "ambiguous_patient") if label["status"] == "used" else None
    return {
        "cohort": cohort,
        "line": label["line"],
        "patient_id": patient,
        "level": label["level"],
        "vbmd_mg_cm3": None if pd.isna(label["vbmd_mg_cm3"]) else float(label["vbmd_mg_cm3"]),
        "days_from_first_study": (label["study_date"].date() - first[patient]).days if known else None,
        "days_from_scan": None,
        "unit_given": label["unit_given"],
        "status": "unused" if lost else label["status"],
        "reason": lost or label["reason"],
        "faults": label["faults"],
    }
