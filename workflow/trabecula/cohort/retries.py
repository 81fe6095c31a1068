"""Remember which studies failed for a reason that may pass, so that the next run tries these again, and no others.

`aggregate` knows how every study ended. It writes the file, and raises its number whenever such failures stand. The
rule `index` carries the number, so that the next run makes the index again, which moves these studies to new shards.
The index itself raises the number while files can't be opened, since it may not know their studies.
Pure Python, since the driver of a run imports it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from trabecula.errors import ResultError
from trabecula.runtime.whole_file import whole_file

_COLUMNS = ("study_id", "shard", "reason")


@dataclass(frozen=True)
class Retry:
    """A study that failed for a reason that may pass, and the shard in which it did."""

    study_id: str
    shard: str
    reason: str


@dataclass(frozen=True)
class Retries:
    """Studies that the next run tries again.

    Attributes
    ----------
    number : int
        Requests to try again, by aggregate and the index together.
    studies : tuple of Retry
        Studies that failed so at the last one.
    """

    number: int = 0
    studies: tuple[Retry, ...] = field(default=())

    def shards(self) -> dict[str, str]:
        """Give the shard in which each study failed, by study."""
        return {retry.study_id: retry.shard for retry in self.studies}


def read_retries(path: Path) -> Retries:
    """Read a cohort's file; without one, nothing failed so.

    Raises
    ------
    ResultError
        If the file is damaged.
    """
    try:
        heading, *lines = path.read_text(errors="replace").splitlines()
        number = int(heading.removeprefix("number\t"))
        columns, *rows = (tuple(line.split("\t")) for line in lines)
        if columns != _COLUMNS:
            raise ValueError
        return Retries(number, tuple(Retry(*row) for row in rows))
    except FileNotFoundError:
        return Retries()
    except (ValueError, TypeError) as error:
        raise ResultError(path, "cut off or overwritten") from error


def write_retries(path: Path, studies: Iterable[Retry], *, stand: bool) -> None:
    """Write a cohort's file; its number rises by one where failures stand.

    Parameters
    ----------
    path : Path
        File to write, which may hold the number of earlier requests.
    studies : iterable of Retry
        Studies to try again.
    stand : bool
        Failures stand that the next run may undo.
    """
    number = read_retries(path).number + stand
    lines = [f"number\t{number}", "\t".join(_COLUMNS)]
    lines += sorted("\t".join((retry.study_id, retry.shard, retry.reason)) for retry in studies)
    with whole_file(path) as unfinished:
        unfinished.write_text("".join(f"{line}\n" for line in lines))
