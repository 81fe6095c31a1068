"""Gather from headers the facts by which people are told apart, study by study."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from trabecula.cohort.people import Person, are_several
from trabecula.cohort.registry import StudyOf
from trabecula.dicom.headers.record import Header
from trabecula.dicom.identity import identity_of
from trabecula.index import facts


class Statement(NamedTuple):
    """Statements of a study's files on their patient, as headers hold them: columns of `headers.table.FILES`."""

    patient: str | None
    issuer: str | None
    study_uid: str
    sex: str | None
    birth_date: str | None
    age: str | None
    study_date: str | None


def people_of(statements: Iterable[Statement]) -> dict[StudyOf, Person]:
    """Gather each study's facts on its patient.

    Parameters
    ----------
    statements : iterable of Statement
        Each distinct statement of the archive's files.

    Returns
    -------
    dict
        By identity of the patient and UID of the study, every study once.
    """
    people: dict[StudyOf, Person] = {}
    for statement in statements:
        header = Header("", None, 0, 0, **statement._asdict())
        identity = identity_of(header)
        key = identity.patient, identity.study_uid
        people[key] = people.get(key, Person()).joined(_person(header))
    return people


def ambiguous(people: Mapping[StudyOf, Person]) -> frozenset[str]:
    """List the identities of patients whose files contradict each other, so that they may be of several people."""
    of_patient: dict[str, Person] = defaultdict(Person)
    for (patient, _), person in people.items():
        of_patient[patient] = of_patient[patient].joined(person)
    return frozenset(patient for patient, person in of_patient.items() if are_several(person))


def shared_uids(studies: Iterable[StudyOf]) -> frozenset[str]:
    """List the study UIDs that stand under several patients' ids: of one study with two ids, or of several people."""
    n_patients = Counter(study_uid for _, study_uid in studies)
    return frozenset(study_uid for study_uid, n in n_patients.items() if n > 1)


def _person(header: Header) -> Person:
    sex, born = facts.sex(header), facts.birth_date(header)
    year = None if born else _birth_year(header)
    return Person(
        frozenset([] if sex is None else [sex]),
        frozenset([] if born is None else [born.strftime("%Y%m%d")]),
        frozenset([] if year is None else [year]),
    )


def _birth_year(header: Header) -> int | None:
    """Give the year of birth that follows from age and date of study; None where it is unknown.

    An age of 90 or more says nothing, since 90 stands for all that are older.
    """
    years, studied = facts.stated_years(header), facts.day_of_study(header.study_date)
    return int(studied.year - years) if studied and years and years < facts.OLDEST_YEARS else None
