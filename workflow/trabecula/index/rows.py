"""Judge an archive's series and make the index's tables of them, with pseudonyms in place of identities."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from hmac import new as hmac
from pathlib import Path
from typing import Any

import pandas as pd

from trabecula import tables
from trabecula.cohort.gone import GONE
from trabecula.cohort.linkage import slice_of
from trabecula.cohort.pseudonym import Pseudonyms
from trabecula.cohort.registry import Names
from trabecula.cohort.shards import Chosen, Entry
from trabecula.dicom.derived import derivation_of
from trabecula.dicom.files import location
from trabecula.dicom.headers.record import Header
from trabecula.dicom.identity import identity_of, patient_of, with_own_uids
from trabecula.dicom.kinds import is_ct
from trabecula.dicom.stacks import Instances, Stack, defect_of, sound_and_damaged, stacks_of, without_copies
from trabecula.index import choose, facts

Row = dict[str, Any]
# What later stages find out.
_UNKNOWN_YET: Row = dict.fromkeys(
    column.name for column in (*tables.SCAN_FACTS, *tables.CONTRAST, *tables.SCAN_RESULT)
) | {"levels_used": [], "novelty": []}
Dates = dict[str, tuple[str, date]]


@dataclass(frozen=True)
class Rules:
    """The limits, weights and names by which a cohort's series are judged and named.

    Attributes
    ----------
    cohort : str
        Name of the cohort.
    names : Names
        Pseudonyms of the cohort.
    gates : Gates
        Limits of what can be measured.
    weights : Weights
        Weights of the score.
    archive : Path
        The archive's top folder.
    ambiguous : frozenset of str
        Identities of patients whose files contradict each other (see `people.ambiguous`): none of their studies counts.
    shared_uids : frozenset of str
        Study UIDs that stand under several patients' ids (see `people.shared_uids`).
    """

    cohort: str
    names: Names
    gates: choose.Gates
    weights: choose.Weights
    archive: Path
    ambiguous: frozenset[str] = frozenset()
    shared_uids: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Candidate:
    """A stack with its pseudonyms and the judgement on it.

    Attributes
    ----------
    stack : Stack
        Its slices and original identity.
    pseudonyms : Pseudonyms
        Those of its patient, study and series.
    gates : list of str
        Every reason against it.
    reason : str or None
        Why it is not measured; None for the one stack of a study that is.
    score : float or None
        Score; None where it is no stack of CT slices.
    """

    stack: Stack
    pseudonyms: Pseudonyms
    gates: list[str]
    reason: str | None
    score: float | None


@dataclass
class Judged:
    """Rows of the index's tables for a study's files.

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
    ambiguous : set of str
        Pseudonyms of patients whose files contradict each other.
    dates : dict
        Pseudonym of studies to that of the patient and the date; studies without a date are left out.
    """

    series: list[Row] = field(default_factory=list)
    studies: list[Row] = field(default_factory=list)
    linkage: list[Row] = field(default_factory=list)
    chosen: list[Chosen] = field(default_factory=list)
    lost: Counter[tuple[str | None, ...]] = field(default_factory=Counter)
    patients: dict[str, str] = field(default_factory=dict)
    ambiguous: set[str] = field(default_factory=set)
    dates: Dates = field(default_factory=dict)


def judge(files: Iterable[Header], rules: Rules) -> Judged:
    """Group a study's files to stacks, accept or refuse each stack, and choose one."""
    files = with_own_uids(list(files))
    sound, damaged = sound_and_damaged(files)
    instances = without_copies(sound)
    kept, copies = instances.kept, instances.copies
    judged = Judged()
    by_study: dict[tuple[str, str], list[Stack]] = defaultdict(list)
    for stack in stacks_of(kept, max_gap_mm=rules.gates.max_gap_mm, damaged=damaged):
        by_study[stack.identity.patient, stack.identity.study_uid].append(stack)
    for stacks in by_study.values():
        _add_study(judged, _candidates(stacks, rules), instances, rules)
    in_series = {id(header) for header in sound}
    lost = [(header, defect_of(header) or "") for header in files if id(header) not in in_series]
    lost += [(header, "duplicate_file") for header in copies]
    # A multi-frame file is one, however many of its frames are lost, and none where others are in a stack.
    used = {(header.path, header.member) for header in kept}
    places = {(header.path, header.member): (reason, *_pseudonyms(header, rules.names)) for header, reason in lost}
    judged.lost.update(place for file, place in places.items() if file not in used)
    return judged


def _add_study(judged: Judged, candidates: list[Candidate], instances: Instances, rules: Rules) -> None:
    """Add the rows of a study, all of whose stacks are given."""
    judged.series += [_series_row(rules, candidate) for candidate in candidates]
    judged.studies.append(_study_row(rules, candidates))
    judged.linkage += [_linkage_row(rules, candidate, instances) for candidate in candidates]
    judged.chosen += [
        _chosen(candidate, instances, rules.names.key) for candidate in candidates if candidate.reason is None
    ]
    first = candidates[0]
    if patient := patient_of(first.stack.first):
        judged.patients[first.pseudonyms.patient_id] = patient.strip()
    if first.stack.identity.patient in rules.ambiguous:
        judged.ambiguous.add(first.pseudonyms.patient_id)
    if day := study_date(candidates):
        judged.dates[first.pseudonyms.study_id] = first.pseudonyms.patient_id, day


def _candidates(stacks: Sequence[Stack], rules: Rules) -> list[Candidate]:
    """Judge the stacks of a study, and choose the best of those that no gate refuses."""
    gates = [_reasons_against(stack, rules) for stack in stacks]
    acceptable = (stack for stack, reasons in zip(stacks, gates, strict=True) if not reasons)
    best = choose.best(acceptable, rules.gates, rules.weights)
    return [_candidate(stack, reasons, stack is best, rules) for stack, reasons in zip(stacks, gates, strict=True)]


def _reasons_against(stack: Stack, rules: Rules) -> list[str]:
    """List why a stack can't be measured, for its patient's sake first."""
    whose = ["several_people"] if stack.identity.patient in rules.ambiguous else []
    return whose + choose.reasons_against(stack, rules.gates)


def _candidate(stack: Stack, gates: list[str], is_best: bool, rules: Rules) -> Candidate:
    return Candidate(
        stack,
        rules.names.of_series(stack.identity),
        gates,
        gates[0] if gates else None if is_best else "not_chosen",
        choose.score(stack, rules.weights) if is_ct(stack.first) and stack.spacing_mm else None,
    )


def _chosen(candidate: Candidate, instances: Instances, key: bytes) -> Chosen:
    names, stack = candidate.pseudonyms, candidate.stack
    read = [*stack.headers, *(copy for _, copy in instances.repeats(stack.headers))]
    files = [(header.path, header.member, header.size, header.mtime_ns, header.frame) for header in read]
    noted = repr((files, stack.n_damaged, stack.n_odd))
    fingerprint = hmac(key, noted.encode(), sha256).hexdigest()[:16]  # keyed: names may tell an identity
    return Chosen(names.study_id, names.patient_id, names.series_id, fingerprint)


def failure_rows(cohort: str, lost: Mapping[tuple[str | None, ...], int]) -> list[Row]:
    """Make the rows of the table `failures`: one per reason and series, with the number of files that it stands for."""
    columns = ("reason", *Pseudonyms._fields)
    rows = [dict(zip(columns, place, strict=True), n_files=n_files) for place, n_files in lost.items()]
    rows.sort(key=lambda row: [row[column] or "" for column in columns])
    return [{"cohort": cohort, "stage": "index", "detail": None, **row} for row in rows]


def _pseudonyms(header: Header, names: Names) -> Pseudonyms | tuple[None, None, None]:
    """Give the pseudonyms of a file that belongs to no series; None where its identity is not known in full."""
    if not (header.study_uid and header.series_uid):
        return None, None, None
    return names.of_series(identity_of(header))


def _flags(stack: Stack, rules: Rules) -> list[str]:
    """List the flags of a stack, and of its study among those of the archive."""
    is_shared = stack.identity.study_uid in rules.shared_uids
    return choose.flags_of(stack, rules.gates) + ["shared_study_uid"] * is_shared


def _acquisition(header: Header) -> Row:
    return {
        "kvp": facts.tube_voltage(header),
        "kernel": facts.plain(header.kernel),
        "manufacturer": facts.plain(header.manufacturer),
        "model": facts.plain(header.model),
        "image_type": facts.plain(header.image_type),
        "thickness_mm": header.thickness_mm or None,
    }


def _series_row(rules: Rules, candidate: Candidate) -> Row:
    stack = candidate.stack
    return {
        "cohort": rules.cohort,
        **candidate.pseudonyms._asdict(),
        "series_uid": rules.names.series_uid(stack.identity),
        "stack": stack.number,
        "accepted": candidate.reason is None,
        "reason": candidate.reason,
        "gates": candidate.gates,
        "flags": _flags(stack, rules) if is_ct(stack.first) else [],
        "score": candidate.score,
        "n_slices": stack.n_slices,
        "n_damaged": stack.n_damaged,
        "n_odd": stack.n_odd,
        "spacing_mm": stack.spacing_mm,
        "extent_mm": stack.extent_mm,
        "field_of_view_mm": choose.field_of_view_mm(stack),
        "modality": facts.plain(stack.first.modality),
        "derivation": list(derivation_of(stack.first).signs) if is_ct(stack.first) else [],
        **_acquisition(stack.first),
    }


def _study_row(rules: Rules, candidates: list[Candidate]) -> Row:
    best = next((candidate for candidate in candidates if candidate.reason is None), None)
    shown, chosen = best or candidates[0], best is not None
    header = shown.stack.first
    return {
        "cohort": rules.cohort,
        "patient_id": shown.pseudonyms.patient_id,
        "study_id": shown.pseudonyms.study_id,
        "earlier_ids": rules.names.earlier_ids(shown.stack.identity.patient),
        "series_id": shown.pseudonyms.series_id if chosen else None,
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
        "flags": _flags(shown.stack, rules) if chosen else [],
        "status": "accepted" if chosen else "rejected",
        "stage": None if chosen else "index",
        "reason": None if chosen else study_reason([candidate.reason for candidate in candidates]),
    }


def study_reason(reasons: Iterable[str | None]) -> str:
    """Give the reason why a study is rejected: the one that its CT series share, else that none is acceptable.

    >>> study_reason(["not_ct", "too_short", "too_short"]), study_reason(["too_short", "lossy"])
    ('too_short', 'no_acceptable_series')
    """
    distinct = {reason for reason in reasons if reason and reason != "not_ct"}
    if not distinct:
        return "not_ct"
    return distinct.pop() if len(distinct) == 1 else "no_acceptable_series"


def vanished_rows(cohort: str, present: Set[str], ledger: Mapping[str, Entry]) -> list[Row]:
    """Make rows of the table `studies` for studies of the ledger of which the archive no longer holds any file.

    Parameters
    ----------
    cohort : str
        Name of the cohort.
    present : set of str
        Pseudonyms of the studies that the archive holds.
    ledger : mapping
        Entries by study.
    """
    scan = ("series_id", "age_years", "sex", "days_from_first_study", "device_key", "spacing_mm")
    unknown = _UNKNOWN_YET | dict.fromkeys((*scan, "contrast_agent", *_acquisition(Header("", None, 0, 0))))
    return [
        {
            **unknown,
            "cohort": cohort,
            "patient_id": entry.patient_id,
            "study_id": entry.study_id,
            "shard": entry.shard,
            "earlier_ids": [],
            "repairs": [],
            "flags": [],
            **dict(zip(("status", "stage", "reason"), GONE, strict=True)),
        }
        for entry in ledger.values()
        if entry.study_id not in present
    ]


def study_date(candidates: Iterable[Candidate]) -> date | None:
    """Give the earliest date that the files of a study state; None where there is none."""
    texts = {header.study_date for candidate in candidates for header in candidate.stack.headers}
    return min(filter(None, map(facts.day_of_study, texts)), default=None)


def first_dates(dates: Dates) -> dict[str, date]:
    """Give the date of each patient's first study, by the patient's pseudonym; patients without a date are left out.

    >>> first_dates({"st1": ("pa1", date(2021, 3, 1)), "st2": ("pa1", date(2020, 3, 1))})
    {'pa1': datetime.date(2020, 3, 1)}
    """
    first: dict[str, date] = {}
    for patient, day in dates.values():
        first[patient] = min(day, first.get(patient, day))
    return first


def _linkage_row(rules: Rules, candidate: Candidate, instances: Instances) -> Row:
    stack, chosen, archive = candidate.stack, candidate.reason is None, str(rules.archive)
    copies = instances.repeats(stack.headers) if chosen else []
    return {
        "cohort": rules.cohort,
        "patient": stack.identity.patient,
        "study_uid": stack.identity.study_uid,
        "series_uid": stack.identity.series_uid,
        **candidate.pseudonyms._asdict(),
        "stack": stack.number,
        "chosen": chosen,
        "study_date": stack.first.study_date,
        "archive": archive,
        "files": [location(f"{archive}/{path}", member) for path, member in stack.files],
        "n_damaged": stack.n_damaged,
        "n_odd": stack.n_odd,
        "slices": [slice_of(header, archive) for header in stack.headers] if chosen else None,
        "copies": [{"number": n, "slice": slice_of(copy, archive)} for n, copy in copies] if chosen else None,
    }


def label_rows(
    cohort: str,
    labels: pd.DataFrame | None,
    patients: Mapping[str, str],
    first: Mapping[str, date],
    *,
    ambiguous: Set[str],
    names: Names,
) -> list[Row]:
    """Make the rows of the table `labels`: patients by pseudonym, dates as days from the patient's first study.

    A usable label is left unused, reason no_scan, where the archive holds no study of its patient; and reason
    ambiguous_patient where the id stands for several patients, by their issuers or by what their files say.

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
    ambiguous : set of str
        Pseudonyms of patients whose files contradict each other.
    names : Names
        Pseudonyms of the cohort.
    """
    if labels is None:
        return []
    pseudonyms_by_id: dict[str, list[str]] = defaultdict(list)
    for patient, original in patients.items():
        pseudonyms_by_id[original].append(patient)
    lines: list[Any] = labels.to_dict("records")
    rows = []
    for label in lines:
        scanned = pseudonyms_by_id[label["patient"].strip()]
        patient = scanned[0] if len(scanned) == 1 else names.patient_id(label["patient"].strip())
        lost = "no_scan" if not scanned else "ambiguous_patient" if len(scanned) > 1 or patient in ambiguous else None
        rows.append({"cohort": cohort, **_label_row(label, patient, lost, first)})
    return rows


def _label_row(label: Mapping[str, Any], patient: str, lost: str | None, first: Mapping[str, date]) -> Row:
    is_dated = not pd.isna(label["study_date"]) and patient in first
    if label["status"] != "used":
        lost = None
    return {
        "line": label["line"],
        "patient_id": patient,
        "level": label["level"],
        "vbmd_mg_cm3": None if pd.isna(label["vbmd_mg_cm3"]) else float(label["vbmd_mg_cm3"]),
        "days_from_first_study": (label["study_date"].date() - first[patient]).days if is_dated else None,
        "days_from_scan": None,
        "unit_given": label["unit_given"],
        "status": "unused" if lost else label["status"],
        "reason": lost or label["reason"],
        "faults": label["faults"],
    }
