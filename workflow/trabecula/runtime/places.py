"""Folders that the workflow writes to: they stay apart from archives, and cohorts are not called like them."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from trabecula.errors import ConfigError

RESULTS, LOGS = Path("results"), Path("logs")
# Folders of results in which jobs write files, beside those of the cohorts.
OF_JOBS = frozenset({"tables", "runs", "evaluate", "report", "train", "models"})
# These, Snakemake's records in results, and what lies in the private folder beside the folders of the cohorts.
RESERVED = OF_JOBS | {"records", "key", "logs"}


def written(private: Path, cohorts: Iterable[str]) -> list[Path]:
    """List the folders below results and the private folder that only the workflow writes to."""
    names = sorted(cohorts)
    return [RESULTS / name for name in [*names, *sorted(OF_JOBS)]] + [private / name for name in names]


def check(private: Path, archives: Mapping[str, Path]) -> None:
    """Refuse a private folder or an archive that holds, or lies in, a place that is meant for something else.

    Parameters
    ----------
    private : Path
        The private folder, which need not exist yet.
    archives : mapping
        The archive of every cohort, by the cohort's name.

    Raises
    ------
    ConfigError
        If the private folder and results or logs lie in each other, or an archive and any of the three. Links count as
        what they lead to.
    """
    names = ["", *sorted(archives)]
    public = {kind: [folder / name for name in names] for kind, folder in (("results", RESULTS), ("logs", LOGS))}
    for kind, folders in public.items():
        if relation := _relation(private, folders):
            raise ConfigError(
                f"Option private is {private}, which {relation} the folder {kind} of this working directory; give a "
                "folder that holds nothing else, such as private."
            )
    for name, archive in archives.items():
        for kind, folders in {"private folder": [private / name for name in names], **public}.items():
            if relation := _relation(archive, folders):
                raise ConfigError(
                    f"The archive {archive} of the cohort {name} {relation} the {_called(kind)}; keep archives apart "
                    "from the folders that the workflow writes to."
                )


def _called(kind: str) -> str:
    return kind if kind == "private folder" else f"folder {kind} of this working directory"


def _relation(folder: Path, others: Iterable[Path]) -> str | None:
    """Put into words how a folder lies to the first of others that it shares a place with; None where it shares none.

    >>> _relation(Path("archive"), [Path("results"), Path("archive/results")])
    'holds'
    >>> _relation(Path("archive"), [Path("archived")])
    """
    place = Path(os.path.realpath(folder))
    for other in map(Path, map(os.path.realpath, others)):
        if place == other:
            return "is"
        if other.is_relative_to(place):
            return "holds"
        if place.is_relative_to(other):
            return "lies in"
    return None
