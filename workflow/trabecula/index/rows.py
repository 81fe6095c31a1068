"""Judge an archive's series and make the index's tables of them, with pseudonyms in place of identities."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from hashlib import sha256
from hmac import new as hmac
from pathlib import Path
from typing import Any

import pandas as pd

from trabecula.index import choose, facts
from trabecula.index.stacks import Header, Stack, defect_of, stacks_of, without_copies
from trabecula.pseudonym import pseudonym
from trabecula.shards import Chosen, Entry

Row = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A stack with its pseudonyms and what became of it.

    Attributes
    ----------
    stack : Stack
        Its slices and original identity.
    patient_id, study_id, series_id : str
        Pseudonyms.
    reason : str or None
        Why it is not measured; None for the one stack of a study that is.
    score : float or None
        Score among the acceptable stacks; None where it was not acceptable.
    """

    stack: Stack
    patient_id: str
    study_id: str
    series_id: str
    reason: str | None
    score: float | None


@dataclass(frozen=True)
class Judged:
    """What became of an archive's files.

    Attributes
    ----------
    cohort : str
        Name of the cohort.
    studies : dict
        Candidates of each study, by the study's pseudonym.
    chosen : list of Chosen
        Studies that can be measured, for the shards.
    failures : list of dict
        Rows of the table `failures`: files that belong to no series.
    """

    cohort: str
    studies: dict[str, list[Candidate]]
    chosen: list[Chosen]
    failures: list[Row]

    @property
    def series(self) -> list[Row]:
        """Rows of the table `series`."""
        return [_series_row(self.cohort, candidate) for part in self.studies.values() for candidate in part]


def judge(headers: Iterable[Header], *, cohort: str, key: bytes, gates: Mapping[str, Any]) -> Judged:
    """Group files to stacks, accept or refuse each, and choose one per study.

    Parameters
    ----------
    headers : iterable of Header
        All files of the archive.
    cohort : str
        Name of the cohort.
    key : bytes
        Key of the pseudonyms.
    gates : mapping
        Keyword arguments of `trabecula.index.choose.reason_against`.
    """
    files = list(headers)
    defects = [(header, reason) for header in files if (reason := defect_of(header))]
    kept, copies = without_copies(header for header in files if not defect_of(header))
    by_study: dict[tuple[str, str], list[Stack]] = defaultdict(list)
    for stack in stacks_of(kept):
        by_study[stack.patient, stack.study_uid].append(stack)
    judged = [_judge_study(stacks, partial(_named, key=key), gates) for stacks in by_study.values()]
    studies = {part[0].study_id: part for part in sorted(judged, key=lambda part: part[0].study_id)}
    chosen = [_chosen(candidate, key) for part in studies.values() for candidate in part if candidate.reason is None]
    lost = [*defects, *((header, "duplicate_file") for header in copies)]
    return Judged(cohort, studies, chosen, _failure_rows(lost, cohort, key))


def _named(stack: Stack, reason: str | None, score: float | None, *, key: bytes) -> Candidate:
    # One UID can occur under two patients (anonymised archives): the patient is part of every identity below.
    study = f"{stack.patient.strip()}\\{stack.study_uid}"
    return Candidate(
        stack,
        pseudonym("patient", stack.patient, key),
        pseudonym("study", study, key),
        pseudonym("series", f"{study}\\{stack.series_uid}", key),
        reason,
        score,
    )


def _judge_study(stacks: list[Stack], named: partial[Candidate], gates: Mapping[str, Any]) -> list[Candidate]:
    against = {id(stack): choose.reason_against(stack, **gates) for stack in stacks}
    acceptable = [stack for stack in stacks if against[id(stack)] is None]
    best = choose.best(acceptable)
    return [
        named(stack, against[id(stack)], None)
        if against[id(stack)]
        else named(stack, None if stack is best else "not_chosen", choose.score(stack))
        for stack in stacks
    ]


def _chosen(candidate: Candidate, key: bytes) -> Chosen:
    files = [(header.path, header.size, header.mtime_ns) for header in candidate.stack.headers]
    fingerprint = hmac(key, repr(files).encode(), sha256).hexdigest()[:16]  # keyed: names may tell an identity
    return Chosen(candidate.study_id, candidate.patient_id, candidate.series_id, fingerprint)


def _failure_rows(lost: Iterable[tuple[Header, str]], cohort: str, key: bytes) -> list[Row]:
    """One row per reason and series, with the number of files that it stands for."""
    counts = Counter((reason, *_ids(header, reason, key)) for header, reason in lost)
    names = ("reason", "patient_id", "study_id", "series_id")
    rows = [dict(zip(names, place, strict=True), n_files=n) for place, n in counts.items()]
    rows.sort(key=lambda row: [row[name] or "" for name in names])
    return [{"cohort": cohort, "stage": "index", "detail": None, **row} for row in rows]


def _ids(header: Header, reason: str, key: bytes) -> tuple[str | None, str | None, str | None]:
    """Pseudonyms of a file that belongs to no series; None where its identity is not known in full."""
    if reason == "missing_uid" or not (header.study_uid and header.series_uid):
        return None, None, None
    (stack, *_) = stacks_of([header])
    named = _named(stack, None, None, key=key)
    return named.patient_id, named.study_id, named.series_id


def _acquisition(header: Header) -> Row:
    return {
        "kvp": header.kvp or None,
        "kernel": header.kernel,
        "manufacturer": header.manufacturer,
        "model": header.model,
        "image_type": header.image_type,
        "thickness_mm": header.thickness_mm or None,
    }


def _series_row(cohort: str, candidate: Candidate) -> Row:
    stack = candidate.stack
    return {
        "cohort": cohort,
        "patient_id": candidate.patient_id,
        "study_id": candidate.study_id,
        "series_id": candidate.series_id,
        "stack": stack.number,
        "accepted": candidate.reason is None,
        "reason": candidate.reason,
        "score": candidate.score,
        "n_slices": stack.n_slices,
        "spacing_mm": stack.spacing_mm,
        "extent_mm": stack.extent_mm,
        "modality": stack.first.modality,
        **_acquisition(stack.first),
    }


def study_rows(found: Judged, ledger: Mapping[str, Entry]) -> list[Row]:
    """Rows of the table `studies`, accepted or rejected."""
    first = first_dates(found)
    return [_study_row(found.cohort, part, ledger, first) for part in found.studies.values()]


def _study_row(cohort: str, part: list[Candidate], ledger: Mapping[str, Entry], first: Mapping[str, date]) -> Row:
    best = next((candidate for candidate in part if candidate.reason is None), None)
    shown, chosen = best or part[0], best is not None
    header, studied = shown.stack.first, study_date(part)
    entry = ledger.get(shown.study_id)
    return {
        "cohort": cohort,
        "patient_id": shown.patient_id,
        "study_id": shown.study_id,
        "series_id": shown.series_id if chosen else None,
        "shard": entry.shard if entry else None,
        "age_years": facts.age_years(header),
        "sex": facts.sex(header),
        "days_from_first_study": (studied - first[shown.patient_id]).days if studied else None,
        "device_key": facts.device_key(header) if chosen else None,
        **(_acquisition(header) if chosen else dict.fromkeys(_acquisition(header))),
        "spacing_mm": shown.stack.spacing_mm if chosen else None,
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


def vanished_rows(found: Judged, ledger: Mapping[str, Entry]) -> list[Row]:
    """Rows of the table `studies` for those of the ledger of which the archive no longer holds any file."""
    scan = ("series_id", "age_years", "sex", "days_from_first_study", "device_key", "spacing_mm")
    unknown = dict.fromkeys((*scan, *_acquisition(Header("", 0, 0))))
    return [
        {
            **unknown,
            "cohort": found.cohort,
            "patient_id": entry.patient_id,
            "study_id": entry.study_id,
            "shard": entry.shard,
            "status": "rejected",
            "stage": "index",
            "reason": "vanished",
        }
        for entry in ledger.values()
        if entry.study_id not in found.studies
    ]


def study_date(part: Iterable[Candidate]) -> date | None:
    """Earliest date that the files of a study state."""
    texts = {header.study_date for candidate in part for header in candidate.stack.headers}
    return min((day for text in texts if (day := facts.date_of(text))), default=None)


def first_dates(found: Judged) -> dict[str, date]:
    """Date of each patient's first study, by the patient's pseudonym; patients without any date are left out."""
    first: dict[str, date] = {}
    for part in found.studies.values():
        if day := study_date(part):
            patient = part[0].patient_id
            first[patient] = min(day, first.get(patient, day))
    return first


def linkage_rows(found: Judged, ledger: Mapping[str, Entry], archive: Path) -> list[Row]:
    """Rows of the private linkage table, one per stack."""
    return [
        {
            "cohort": found.cohort,
            "patient": candidate.stack.patient,
            "study_uid": candidate.stack.study_uid,
            "series_uid": candidate.stack.series_uid,
            "patient_id": candidate.patient_id,
            "study_id": candidate.study_id,
            "series_id": candidate.series_id,
            "stack": candidate.stack.number,
            "shard": ledger[candidate.study_id].shard if candidate.reason is None else None,
            "study_date": candidate.stack.first.study_date,
            "files": [str(archive / header.path) for header in candidate.stack.headers],
        }
        for part in found.studies.values()
        for candidate in part
    ]


def label_rows(found: Judged, labels: pd.DataFrame | None, *, key: bytes) -> list[Row]:
    """Rows of the table `labels`: patients by pseudonym, dates as days from the patient's first study.

    A usable label of a patient of whom the archive holds no study is unused, reason no_scan.
    """
    if labels is None:
        return []
    scanned = {part[0].patient_id for part in found.studies.values()}
    first = first_dates(found)
    rows: list[Any] = labels.to_dict("records")
    return [_label_row(found.cohort, label, scanned, first, key) for label in rows]


def _label_row(cohort: str, label: Mapping[str, Any], scanned: set[str], first: Mapping[str, date], key: bytes) -> Row:
    patient = pseudonym("patient", label["patient"], key)
    known = not pd.isna(label["study_date"]) and patient in first
    lost = label["status"] == "used" and patient not in scanned
    return {
        "cohort": cohort,
        "patient_id": patient,
        "level": label["level"],
        "vbmd_mg_cm3": None if pd.isna(label["vbmd_mg_cm3"]) else float(label["vbmd_mg_cm3"]),
        "days_from_first_study": (label["study_date"].date() - first[patient]).days if known else None,
        "days_from_scan": None,
        "unit_given": label["unit_given"],
        "status": "unused" if lost else label["status"],
        "reason": "no_scan" if lost else label["reason"],
    }
