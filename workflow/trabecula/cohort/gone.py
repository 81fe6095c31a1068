"""Studies that earlier runs accepted and that are no longer in the archive, and the sentence that says so."""

import pandas as pd

# Status, stage and reason of such a study.
GONE = ("rejected", "index", "vanished")
# A larger share of all studies that were ever accepted is a warning.
MUCH = 0.1


def in_archive(studies: pd.DataFrame) -> pd.Series:
    """Mark the studies that the archive holds; the others are those that only earlier runs found.

    Parameters
    ----------
    studies : DataFrame
        Columns status, stage and reason, as in the table `studies`.

    >>> fates = [("measured", None, None), ("rejected", "index", "vanished"), ("failed", "convert", "vanished")]
    >>> in_archive(pd.DataFrame(fates, columns=["status", "stage", "reason"])).tolist()
    [True, False, True]
    """
    return ~studies[["status", "stage", "reason"]].eq(list(GONE)).all(axis="columns")


def too_many(n_gone: int, n_known: int) -> bool:
    """Tell whether so many of the known studies are gone that the archive may be incomplete.

    >>> too_many(1, 10), too_many(2, 10), too_many(0, 0)
    (False, True, False)
    """
    return n_gone > MUCH * n_known


def sentence(n_gone: int, n_known: int) -> str:
    """Say how many studies are gone; give no text where none is.

    Parameters
    ----------
    n_gone : int
        Studies that are no longer in the archive.
    n_known : int
        Studies that any run accepted, those that are gone among them.

    >>> sentence(1, 40)
    'Of 40 studies that were ever accepted, 1 is no longer in the archive and is not counted.'
    """
    if not n_gone:
        return ""
    noun, were = ("study", "was") if n_known == 1 else ("studies", "were")
    are = "is" if n_gone == 1 else "are"
    share = f" ({100 * n_gone / n_known:.0f} %)" if too_many(n_gone, n_known) else ""
    text = (
        f"Of {n_known:,} {noun} that {were} ever accepted, {n_gone:,}{share} {are} no longer in the archive and {are} "
        "not counted."
    )
    if too_many(n_gone, n_known):
        text += " If they were not removed on purpose, check that the archive is complete, and run again."
    return text
