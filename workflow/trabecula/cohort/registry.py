"""Pseudonyms that were given stay: decide from which texts those of each patient, study and series are made.

A pseudonym is made from a root, at first the patient's own id. The root stays with the person when the id is corrected,
an issuer arrives, or a study moves to the patient to whom it belongs: roots follow the studies, which have UIDs. Two
patients never share a root.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import IntEnum
from itertools import count
from typing import NamedTuple

from trabecula.cohort.people import Person, are_alike, are_different
from trabecula.cohort.pseudonym import (
    Pseudonyms,
    Roots,
    pseudonym,
    pseudonym_uid,
    pseudonyms_of,
    series_identity,
    study_identity,
)
from trabecula.dicom.identity import Identity

# A patient's identity and a study's UID, as `dicom.identity.identity_of` gives them.
StudyOf = tuple[str, str]


class Known(NamedTuple):
    """A study under an identity of its patient, and the roots of the pseudonyms that it was given.

    Attributes
    ----------
    patient, study_uid : str
        The patient's identity, and the study's UID.
    patient_root, study_root : str
        Texts that the patient's pseudonym, and those of the study and its series, are made from.
    is_current : bool
        The study was last seen under this identity and this root.
    person : Person
        Facts of the patient that the study's files state.
    """

    patient: str
    study_uid: str
    patient_root: str
    study_root: str
    is_current: bool
    person: Person


class _Evidence(IntEnum):
    """Reasons why a patient of today has the root of an earlier one, from the strongest to the weakest."""

    SAME_STUDY = 0  # a study under the same id
    SAME_ID = 1  # the id, whose earlier studies are gone
    SAME_ID_ELSEWHERE = 2  # the id, in another cohort
    STUDY_MOVED = 3  # a study that was under another id, where it is no more
    ISSUER_CAME = 4  # the id without the issuer that it now has, whose earlier studies are gone
    STUDY_ELSEWHERE = 5  # a study that is under another id in another cohort


class _Archive:
    """Studies that are present, by patient and by UID."""

    def __init__(self, present: Mapping[StudyOf, Person]) -> None:
        self.present = present
        self.patients_of: dict[str, list[str]] = defaultdict(list)
        self.people: dict[str, Person] = {}
        for patient, study_uid in sorted(present):
            self.patients_of[study_uid].append(patient)
            self.people[patient] = self.people.get(patient, Person()).joined(present[patient, study_uid])
        with_issuer = defaultdict(list)
        for patient in self.people:
            with_issuer[_without_issuer(patient)].append(patient)
        self.with_issuer = {base: patients[0] for base, patients in with_issuer.items() if len(patients) == 1}

    def holds(self, row: Known) -> bool:
        """Tell whether the study is present under the same identity."""
        return (row.patient, row.study_uid) in self.present

    def has_moved(self, row: Known) -> bool:
        """Tell whether the study is present under other identities alone."""
        return row.study_uid in self.patients_of and not self.holds(row)

    def may_be(self, patient: str | None, row: Known) -> bool:
        """Tell whether a patient is present, whose files do not contradict those of a known study."""
        return patient in self.people and not are_different(self.people[patient], row.person)


def _without_issuer(patient: str) -> str | None:
    r"""Give the id without its issuer; None where it has none.

    >>> _without_issuer("4711\\WEST"), _without_issuer("4711")
    ('4711', None)
    """
    return patient.rpartition("\\")[0] or None


def resolve(
    present: Mapping[StudyOf, Person], earlier: Sequence[Known], elsewhere: Sequence[Sequence[Known]]
) -> list[Known]:
    """Give every present study its roots, and keep what was known.

    Parameters
    ----------
    present : mapping
        Studies of the archive, with facts of their patients.
    earlier : sequence of Known
        What was known of this cohort.
    elsewhere : sequence of sequence of Known
        What is known of each other cohort.

    Returns
    -------
    list of Known
        The present studies and all that was known, sorted; of a present study one row is current. The order of the
        arguments' entries does not matter.
    """
    archive = _Archive(present)
    roots = _patient_roots(archive, earlier, elsewhere)
    study_roots = _study_roots(archive, roots, earlier, elsewhere)
    rows = {
        (patient, study_uid, roots[patient]): Known(
            patient, study_uid, roots[patient], study_roots[patient, study_uid], True, person
        )
        for (patient, study_uid), person in present.items()
    }
    patient_of = {root: patient for patient, root in roots.items()}
    for row in earlier:
        is_away = row.study_uid not in archive.patients_of
        stays = row.is_current and is_away and patient_of.get(row.patient_root, row.patient) == row.patient
        rows.setdefault((row.patient, row.study_uid, row.patient_root), row._replace(is_current=stays))
    return [rows[key] for key in sorted(rows)]


def _patient_roots(archive: _Archive, earlier: Sequence[Known], elsewhere: Sequence[Sequence[Known]]) -> dict[str, str]:
    """Give each patient the root that the strongest evidence, and then most studies, speak for."""
    claims = Counter(_claims(archive, earlier))
    for rows in elsewhere:
        claims.update(_claims_elsewhere(archive, rows))
    roots: dict[str, str] = {}
    taken = set()
    for (_, patient, root), _ in sorted(claims.items(), key=lambda item: (item[0][0], -item[1], item[0])):
        if patient not in roots and root not in taken:
            roots[patient] = root
            taken.add(root)
    taken |= {row.patient_root for rows in (earlier, *elsewhere) for row in rows}
    for patient in sorted(archive.people.keys() - roots.keys()):
        roots[patient] = unused(patient, taken)
        taken.add(roots[patient])
    return roots


Claim = tuple[_Evidence, str, str]


def _claims(archive: _Archive, earlier: Iterable[Known]) -> Iterable[Claim]:
    """List what speaks for roots of this cohort: evidence, patient and root."""
    for row in earlier:
        if not row.is_current:
            continue
        later = None if row.patient in archive.people else archive.with_issuer.get(row.patient)
        if archive.holds(row):
            yield _Evidence.SAME_STUDY, row.patient, row.patient_root
        elif archive.has_moved(row):
            for patient in archive.patients_of[row.study_uid]:
                yield _Evidence.STUDY_MOVED, patient, row.patient_root
        elif archive.may_be(row.patient, row):
            yield _Evidence.SAME_ID, row.patient, row.patient_root
        elif later and archive.may_be(later, row):
            yield _Evidence.ISSUER_CAME, later, row.patient_root


def _claims_elsewhere(archive: _Archive, rows: Iterable[Known]) -> Iterable[Claim]:
    """List what speaks for roots of another cohort."""
    rows = [row for row in rows if row.is_current]
    n_patients = Counter(row.study_uid for row in rows)
    for row in rows:
        patients = archive.patients_of.get(row.study_uid, [])
        # A UID that several patients share is no evidence.
        is_unique = len(patients) == 1 == n_patients[row.study_uid]
        if archive.may_be(row.patient, row) and not archive.has_moved(row):
            yield _Evidence.SAME_ID_ELSEWHERE, row.patient, row.patient_root
        elif is_unique and not archive.holds(row):
            yield _Evidence.STUDY_ELSEWHERE, patients[0], row.patient_root


def _study_roots(
    archive: _Archive, roots: Mapping[str, str], earlier: Sequence[Known], elsewhere: Sequence[Sequence[Known]]
) -> dict[StudyOf, str]:
    """Give each present study the root that it had, also under another identity; no two studies of one UID share it."""
    rows_of: dict[str, list[tuple[bool, Known]]] = defaultdict(list)
    for rows, is_elsewhere in [(earlier, False), *((rows, True) for rows in elsewhere)]:
        for row in rows:
            if row.study_uid in archive.patients_of:
                rows_of[row.study_uid].append((is_elsewhere, row))
    study_roots: dict[StudyOf, str] = {}
    for study_uid, patients in archive.patients_of.items():
        rows = rows_of[study_uid]
        if not rows and len(patients) == 1:
            study_roots[patients[0], study_uid] = patients[0]
            continue
        ranked = sorted(
            (rank, patient, row.study_root)
            for patient in patients
            for is_elsewhere, row in rows
            if (rank := _rank(archive, patient, roots[patient], row, is_elsewhere=is_elsewhere)) is not None
        )
        chosen: dict[str, str] = {}
        for _, patient, root in ranked:
            if patient not in chosen and root not in chosen.values():
                chosen[patient] = root
        barred = {row.study_root for _, row in rows} | set(chosen.values())
        for patient in patients:
            root = chosen.get(patient) or unused(patient, barred)
            barred.add(root)
            study_roots[patient, study_uid] = root
    return study_roots


def _rank(archive: _Archive, patient: str, root: str, row: Known, *, is_elsewhere: bool) -> int | None:
    """Give the place of a known study's root among those that the same study of a patient may have; None for no place.

    The study under the same identity comes first, then the one that has left another identity; what this cohort knows
    comes before what others know. An id that stands for somebody else in another cohort says nothing.
    """
    if row.patient == patient and (not is_elsewhere or row.patient_root == root):
        return 2 * is_elsewhere + (not row.is_current)
    has_left = not archive.holds(row) and (not is_elsewhere or row.patient_root == root)
    return 4 + 2 * is_elsewhere + (not row.is_current) if has_left else None


def unused(text: str, barred: Collection[str]) -> str:
    """Give a text that is not barred: the text itself, or with the first number that makes it so.

    >>> unused("4711", {}), unused("4711", {"4711", "4711 (2)"})
    ('4711', '4711 (3)')
    """
    return text if text not in barred else next(f"{text} ({n})" for n in count(2) if f"{text} ({n})" not in barred)


def earlier_roots(
    rows: Sequence[Known], elsewhere: Sequence[Sequence[Known]], present: Mapping[StudyOf, Person]
) -> dict[str, set[str]]:
    """Give the other roots under which each present patient, or a study of the patient, is or was known.

    Parameters
    ----------
    rows : sequence of Known
        Result of `resolve`.
    elsewhere, present
        As in `resolve`.

    Returns
    -------
    dict
        By identity of the patient; patients without any are left out.
    """
    archive = _Archive(present)
    roots = {row.patient: row.patient_root for row in rows if row.is_current and archive.holds(row)}
    earlier: dict[str, set[str]] = defaultdict(set)
    for cohort_rows, is_elsewhere in [(rows, False), *((rows, True) for rows in elsewhere)]:
        for row in cohort_rows:
            for patient in _may_have_been(archive, row, is_elsewhere=is_elsewhere):
                if row.patient_root != roots[patient]:
                    earlier[patient].add(row.patient_root)
    return earlier


def _may_have_been(archive: _Archive, row: Known, *, is_elsewhere: bool) -> Iterable[str]:
    """List the present patients who may be the patient of a known study."""
    patients = archive.patients_of.get(row.study_uid, [])
    if not is_elsewhere and not archive.holds(row):
        yield from patients
    elif len({*patients, row.patient}) <= 2:  # a UID that more patients share is no evidence
        yield from (patient for patient in patients if archive.may_be(patient, row))
    if archive.may_be(row.patient, row) and not archive.has_moved(row):
        yield row.patient
    later = None if row.patient in archive.people else archive.with_issuer.get(row.patient)
    if later and (are_alike(archive.people[later], row.person) if is_elsewhere else archive.may_be(later, row)):
        yield later


class Names:
    """Pseudonyms of a cohort's patients, studies and series.

    Parameters
    ----------
    key : bytes
        Key of the pseudonyms.
    rows : sequence of Known
        What is known of the cohort (see `resolve`). A study that is not among them has its patient's root, and its own
        is the patient's identity.
    earlier : mapping
        Other roots of patients (see `earlier_roots`).

    Attributes
    ----------
    key : bytes
        Key of the pseudonyms.
    former_studies : frozenset of str
        Pseudonyms of studies that are now under another identity, and have another pseudonym there. Where sex or date
        of birth say that all who have the UID now are other people, the study is none of them.
    """

    def __init__(
        self, key: bytes, rows: Sequence[Known] = (), earlier: Mapping[str, Collection[str]] | None = None
    ) -> None:
        self.key = key
        # Nearly all roots are the patient's own id, and are not kept.
        current = [row for row in rows if row.is_current]
        self._roots = {
            (row.patient, row.study_uid): Roots(row.patient_root, row.study_root)
            for row in current
            if not row.patient == row.patient_root == row.study_root
        }
        self._of_patient = {row.patient: row.patient_root for row in current if row.patient != row.patient_root}
        self._of_others = {row.patient_root for row in rows if row.patient != row.patient_root}
        self._earlier = earlier or {}
        studies = {(row.study_root, row.study_uid) for row in current}
        left = [row for row in rows if not row.is_current]
        holders: dict[str, list[Person]] = {row.study_uid: [] for row in left}
        for row in current:
            if row.study_uid in holders:
                holders[row.study_uid].append(row.person)
        former = {
            (row.study_root, row.study_uid)
            for row in left
            if not all(are_different(row.person, person) for person in holders[row.study_uid])
        } - studies
        self.former_studies = frozenset(pseudonym("study", study_identity(*study), key) for study in former)

    def of_series(self, identity: Identity) -> Pseudonyms:
        """Give the pseudonyms of a series, of its study and of its patient."""
        return pseudonyms_of(self._roots_of(identity), identity.study_uid, identity.series_uid, key=self.key)

    def series_uid(self, identity: Identity) -> str:
        """Give the pseudonym of a series as a DICOM UID."""
        root = self._roots_of(identity).study
        return pseudonym_uid("series", series_identity(root, identity.study_uid, identity.series_uid), self.key)

    def _roots_of(self, identity: Identity) -> Roots:
        plain = Roots(self._of_patient.get(identity.patient, identity.patient), identity.patient)
        return self._roots.get((identity.patient, identity.study_uid), plain)

    def patient_id(self, patient: str) -> str:
        """Give the pseudonym of a patient without any study in the archive, which is nobody else's."""
        root = self._of_patient.get(patient) or unused(patient, self._of_others)
        return pseudonym("patient", root, self.key)

    def earlier_ids(self, patient: str) -> list[str]:
        """List the other pseudonyms under which a patient, or a study of the patient, is or was known."""
        return sorted(pseudonym("patient", root, self.key) for root in self._earlier.get(patient, ()))
