"""Remove the reports of cohorts that are no longer listed, and nothing that somebody else put beside them."""

import logging
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

log = logging.getLogger(__name__)

# Written by every index; a folder without it is no cohort of this workflow.
_LEDGER = "index/ledger.tsv"


def remove_reports(results: Path, *, cohorts: Collection[str], files: Iterable[str]) -> list[str]:
    """Remove the reports of cohorts that are not listed; what the stages made of their scans stays.

    Parameters
    ----------
    results : Path
        Folder of the results, with a folder per cohort.
    cohorts : collection of str
        Names of the cohorts that are listed.
    files : iterable of str
        Files that a report consists of, beside its gallery; others in its folder stay.

    Returns
    -------
    list of str
        Names of the cohorts whose report was removed.
    """
    names = list(files)
    unlisted = [folder for folder in sorted(results.glob("*/report")) if folder.parent.name not in cohorts]
    removed = []
    for folder in unlisted:
        if folder.is_symlink() or folder.parent.is_symlink() or not (folder.parent / _LEDGER).is_file():
            continue
        for name in names:
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "gallery", ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()
        removed.append(folder.parent.name)
        log.info("The report of cohort %s is removed: the list of cohorts no longer has it.", folder.parent.name)
    return removed
