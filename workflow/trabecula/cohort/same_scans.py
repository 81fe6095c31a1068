"""Find scans that are there twice by their pixels, and decide which study and which patient counts.

Two studies whose slices share a digest (see `trabecula.convert.sketch`) hold the same scan, whatever their UIDs and
patients. Patients who share a scan are taken for one person, and one of their pseudonyms counts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from trabecula import tables
from trabecula.cohort.current import CurrentStudies

# Made when it is imported, so that type checkers don't see what is in it.
pc: Any = pyarrow.compute

# Columns of the table `convert` that tell scans that are there twice, and those of the table that it becomes here.
CONVERT_COLUMNS = ["cohort", "patient_id", "study_id", "status", "n_slices", "slice_digests"]
SKETCHES = pa.schema([tables.CONVERT.field(name) for name in CONVERT_COLUMNS])
LABEL_COLUMNS = ["cohort", "patient_id", "status"]
# Whose patients count first, where one person is in cohorts of several roles.
ROLES = ("development", "external", "screening")
# Of the study that counts; and of those that are set aside, with the same scan and of the same person.
FLAG = "same_scan"
REASONS = ("same_scan", "same_person")
_COUNTS, _IS = "counts as study {}", "is the same person as patient {}"


class SetAside(NamedTuple):
    """Why a study does not count: a key of `trabecula.errors.REASONS`, and by which study or patient it is replaced."""

    reason: str
    detail: str


@dataclass(frozen=True)
class SameScans:
    """Decision on the scans that are there twice.

    Attributes
    ----------
    set_aside : mapping of SetAside
        Studies that were converted and do not count, by pseudonym.
    flagged : frozenset of str
        Studies that count and whose scan is there again.
    counting : mapping
        For each patient with a scan that is there again, the patient who counts.
    """

    set_aside: Mapping[str, SetAside]
    flagged: frozenset[str]
    counting: Mapping[str, str]

    def known_by_scans(self, sketches: pa.Table, trained: Iterable[str], digests: Iterable[str]) -> frozenset[str]:
        """List patients who are in a model's training by their scans, or by another id of theirs.

        Parameters
        ----------
        sketches : Table
            See `decide`.
        trained : iterable of str
            Patients of the training.
        digests : iterable of str
            Digests of slices of the training.
        """
        listed = pc.list_flatten(sketches["slice_digests"])
        patients = sketches["patient_id"].take(pc.list_parent_indices(sketches["slice_digests"]))
        seen = patients.filter(pc.is_in(listed, value_set=pa.array(sorted(digests), tables.TEXT))).to_pylist()
        in_training = {*seen, *trained}
        return frozenset({*seen, *(kept for patient, kept in self.counting.items() if patient in in_training)})

    def keep(self, rows: pa.Table) -> pa.Table:
        """Leave out rows, with the column study_id, of studies that are set aside."""
        return rows.filter(pc.invert(pc.is_in(rows["study_id"], value_set=pa.array(list(self.set_aside), tables.TEXT))))

    def converted(self, rows: pa.Table) -> pa.Table:
        """Give rows of the table `convert` in which studies that are set aside have failed, and the others their flag.

        Parameters
        ----------
        rows : Table
            Columns study_id, status, reason, detail and flags of the table `convert`, and any others.
        """
        values = {name: rows[name].to_pylist() for name in ("status", "reason", "detail", "flags")}
        for place, study in enumerate(rows["study_id"].to_pylist()):
            if study in self.set_aside and values["status"][place] == "ok":
                values["status"][place] = "failed"
                values["reason"][place], values["detail"][place] = self.set_aside[study]
            elif study in self.flagged:
                values["flags"][place] = [*values["flags"][place], FLAG]
        for name, column in values.items():
            place = rows.schema.get_field_index(name)
            rows = rows.set_column(place, rows.schema.field(name), pa.array(column, rows.schema.field(name).type))
        return rows


def read_sketches(converts: Iterable[Path | str], current: CurrentStudies) -> pa.Table:
    """Read the columns `SKETCHES` of shards' files of `convert`, at least one, without studies that moved on."""
    pieces = [current.rows(tables.read_columns(path, SKETCHES.names), path) for path in converts]
    return pa.concat_tables(pieces).cast(SKETCHES)


def decide(sketches: pa.Table, labels: pa.Table, roles: Mapping[str, str]) -> SameScans:
    """Decide which studies count among those that hold the same scan.

    A study that two cohorts take from one archive is one study, and no copy of itself.

    Parameters
    ----------
    sketches : Table
        Rows of the table `convert` of all cohorts, columns `SKETCHES`.
    labels : Table
        Rows of the table `labels` of all cohorts, columns `LABEL_COLUMNS`.
    roles : mapping
        Role of each cohort, of `ROLES`.

    Returns
    -------
    SameScans
        Of patients who share a scan, one counts: of a development cohort before an external one before a screening one;
        with a usable label; with more slices of the scan; with the smaller pseudonym. Of a patient's studies with the
        same scan one counts, by the same order of roles, labels, slices and pseudonyms. The others are set aside: with
        the reason same_scan where the study that counts holds the same scan, else with same_person.
    """
    converted = sketches.filter(pc.equal(sketches["status"], "ok"))
    scan_of = _scans(converted)
    if not scan_of:
        return SameScans({}, frozenset(), {})
    named = pa.array(list(scan_of), tables.TEXT)
    linked = converted.filter(pc.is_in(converted["study_id"], value_set=named)).to_pandas()
    linked["scan"] = linked["study_id"].map(scan_of)
    person_of = _groups(zip(linked["patient_id"], linked["scan"], strict=True))
    concerned = pa.array(sorted(set(linked["patient_id"])), tables.TEXT)
    of_persons = converted.filter(pc.is_in(converted["patient_id"], value_set=concerned)).to_pandas()
    used = labels.filter(pc.equal(labels["status"], "used")).select(["cohort", "patient_id"]).to_pylist()
    labelled = {(row["cohort"], row["patient_id"]) for row in used}
    linked["role"] = [ROLES.index(roles[cohort]) for cohort in linked["cohort"]]
    linked["unlabelled"] = [key not in labelled for key in zip(linked["cohort"], linked["patient_id"], strict=True)]
    counting = _counting_patients(of_persons, linked, person_of, roles, labelled)
    return _decision(of_persons, linked, {patient: counting[person] for patient, person in person_of.items()})


def _scans(converted: pa.Table) -> dict[str, str]:
    """Give the scan, named by a digest, of each study that shares one with another."""
    digests = converted["slice_digests"].combine_chunks()
    studies = converted["study_id"].combine_chunks().take(pc.list_parent_indices(digests))
    flat = pa.table({"study_id": studies, "digest": pc.list_flatten(digests)})
    pairs = flat.group_by(["study_id", "digest"]).aggregate([])
    shared = pairs.group_by("digest").aggregate([([], "count_all")])
    shared = shared.filter(pc.greater(shared["count_all"], 1))["digest"].combine_chunks()
    pairs = pairs.filter(pc.is_in(pairs["digest"], value_set=shared))
    if not len(pairs):
        return {}
    return _groups(zip(pairs["study_id"].to_pylist(), pairs["digest"].to_pylist(), strict=True))


def _groups(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name each left one by the smallest right one that it is linked with, over any number of steps.

    There is at least one pair.

    >>> _groups([("a", "1"), ("b", "1"), ("b", "2"), ("c", "2"), ("d", "3")])
    {'a': '1', 'b': '1', 'c': '1', 'd': '3'}
    """
    lefts, rights = zip(*pairs, strict=True)
    left_codes, left_names = pd.factorize(np.array(lefts, object))
    right_codes, right_names = pd.factorize(np.array(rights, object))
    n_names = len(left_names) + len(right_names)
    links = coo_array((np.ones(len(lefts)), (left_codes, right_codes + len(left_names))), shape=(n_names, n_names))
    _, group = connected_components(links, directed=False)
    smallest = pd.Series(right_names).groupby(group[len(left_names) :]).min()
    return dict(zip(left_names, smallest[group[: len(left_names)]], strict=True))


def _counting_patients(
    of_persons: pd.DataFrame,
    linked: pd.DataFrame,
    person_of: Mapping[str, str],
    roles: Mapping[str, str],
    labelled: set[tuple[str, str]],
) -> dict[str, str]:
    """Choose the patient that counts for each person."""
    most_slices = linked.groupby("patient_id")["n_slices"].max()
    ranks: dict[str, tuple] = {}
    for cohort, patient in zip(of_persons["cohort"], of_persons["patient_id"], strict=True):
        role = ROLES.index(roles[cohort])
        rank = (role, (cohort, patient) not in labelled, -most_slices[patient], patient)
        ranks[patient] = min(rank, ranks.get(patient, rank))
    best: dict[str, str] = {}
    for patient in sorted(ranks, key=lambda patient: ranks[patient]):
        best.setdefault(person_of[patient], patient)
    return best


def _decision(of_persons: pd.DataFrame, linked: pd.DataFrame, counting: Mapping[str, str]) -> SameScans:
    """Decide on every study of the patients who have a scan that is there twice.

    Parameters
    ----------
    of_persons, linked : DataFrame
        Rows of all their studies; and those of the shared scans, with the columns scan, role and unlabelled.
    counting : mapping
        For each of these patients, the patient that counts.
    """
    candidates = linked[linked["patient_id"].map(counting) == linked["patient_id"]]
    order = {"role": True, "unlabelled": True, "n_slices": False, "study_id": True}
    best = candidates.sort_values(list(order), ascending=list(order.values()), kind="stable")
    kept = dict(zip(best["scan"][::-1], best["study_id"][::-1], strict=True))
    scans = dict(zip(linked["study_id"], linked["scan"], strict=True))
    set_aside = {}
    for patient, study in zip(of_persons["patient_id"], of_persons["study_id"], strict=True):
        instead = kept.get(scans.get(study, ""))
        if instead is not None and instead != study:
            set_aside[study] = SetAside("same_scan", _COUNTS.format(instead))
        elif instead is None and counting[patient] != patient:
            set_aside[study] = SetAside("same_person", _IS.format(counting[patient]))
    return SameScans(set_aside, frozenset(kept.values()), counting)
