"""Tell by sex and date of birth whether files are of several people."""

from itertools import combinations, product, starmap
from typing import NamedTuple

# Ages and the dates of studies are stated less exactly than dates of birth.
_YEARS_APART = 15
_SEXES = frozenset({"F", "M"})


class Person(NamedTuple):
    """Facts by which people are told apart, as files state them.

    Attributes
    ----------
    sexes : frozenset of str
        Entries of PatientSex (0010,0040); only F and M count.
    birth_dates : frozenset of str
        Believable dates of birth (0010,0030), written YYYYMMDD.
    birth_years : frozenset of int
        Years of birth that follow from age (0010,1010) and date of study, where no date of birth is stated.
    """

    sexes: frozenset[str] = frozenset()
    birth_dates: frozenset[str] = frozenset()
    birth_years: frozenset[int] = frozenset()

    def joined(self, other: "Person") -> "Person":
        """Give all facts of both."""
        return Person(
            self.sexes | other.sexes, self.birth_dates | other.birth_dates, self.birth_years | other.birth_years
        )


def are_several(person: Person) -> bool:
    """Tell whether facts contradict each other, so that they are of several people.

    Two sexes do, and two dates of birth; and so do years of birth that lie more than 15 years apart.

    >>> are_several(Person(birth_dates=frozenset({"19500317", "19510317"})))
    True
    >>> are_several(Person(birth_dates=frozenset({"19500317"}), birth_years=frozenset({1940, 1955})))
    False
    """
    years = {int(day[:4]) for day in person.birth_dates} | person.birth_years
    return (
        person.sexes >= _SEXES
        or not all(_agree(*days) for days in combinations(person.birth_dates, 2))
        or bool(years and max(years) - min(years) > _YEARS_APART)
    )


def are_different(first: Person, second: Person) -> bool:
    """Tell whether two people share no sex or no date of birth, where both state it.

    >>> are_different(Person(frozenset("F")), Person(frozenset("M"))), are_different(Person(frozenset("F")), Person())
    (True, False)
    """
    sexes = first.sexes & _SEXES, second.sexes & _SEXES
    days = first.birth_dates, second.birth_dates
    return (all(sexes) and not sexes[0] & sexes[1]) or (all(days) and not any(starmap(_agree, product(*days))))


def are_alike(first: Person, second: Person) -> bool:
    """Tell whether two people share sex and date of birth.

    >>> are_alike(Person(frozenset("F"), frozenset({"19500317"})), Person(frozenset("F")))
    False
    """
    return bool(first.sexes & second.sexes and first.birth_dates & second.birth_dates)


def _agree(first: str, second: str) -> bool:
    """Tell whether two dates of birth are of one person. The first of January often stands for the year alone.

    >>> _agree("19500101", "19500317"), _agree("19500317", "19500713")
    (True, False)
    """
    return first == second or (first[:4] == second[:4] and "0101" in (first[4:], second[4:]))
