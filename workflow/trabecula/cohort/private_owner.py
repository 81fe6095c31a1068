"""The working directory that a cohort's private folder belongs to.

Working directories may share a private folder, and so the key. If two of them wrote the identities of cohorts of one
name there, the results of one would lose theirs.
"""

import os
from pathlib import Path

from trabecula.errors import ConfigError
from trabecula.runtime.whole_file import UNFINISHED, write_private_once

OWNER = "owner"  # file in the cohort's private folder; it names the working directory
# Of these, a folder without an owner is recognised as one of ours.
_TABLES = frozenset({"linkage.parquet", "identities.parquet"})


def refuse_other_owner(folder: Path, directory: Path) -> None:
    """Refuse a cohort's private folder that belongs to another working directory, or holds what is not ours.

    Parameters
    ----------
    folder : Path
        The cohort's private folder (``private/{cohort}``), which need not exist.
    directory : Path
        The working directory.

    Raises
    ------
    ConfigError
        If it is another directory's, or has no owner and holds files that this workflow does not write.
    """
    note = folder / OWNER
    try:
        text = note.read_text().strip() if os.path.exists(note) else None
        is_ours = text is not None or not folder.exists() or _is_ours(folder)
    except PermissionError as error:
        raise ConfigError(f"The private folder {folder} can't be read; make it readable to you alone.") from error
    if text is not None:
        owner = Path(os.path.realpath(folder), text)
        if not _is_same(owner, directory):
            raise ConfigError(
                f"The private folder {folder} belongs to the working directory {os.path.normpath(owner)}, whose "
                "results would lose their identities. Rename the cohort here, or give this directory another private "
                f"folder. Where that directory was moved or deleted, delete {note} and run again."
            )
    elif not is_ours:
        raise ConfigError(
            f"The private folder {folder} holds files that this workflow did not write; rename the cohort, or give "
            "another folder as option private."
        )


def claim(folder: Path, directory: Path) -> None:
    """Note a working directory as the owner of a cohort's private folder, unless it has one.

    The path is relative where the folder lies in the directory, so that both may be moved together.

    Raises
    ------
    ConfigError
        See `refuse_other_owner`.
    """
    refuse_other_owner(folder, directory)
    real_folder, real_directory = Path(os.path.realpath(folder)), Path(os.path.realpath(directory))
    inside = real_folder.is_relative_to(real_directory)
    path = os.path.relpath(real_directory, real_folder) if inside else real_directory
    write_private_once(folder / OWNER, f"{path}\n")
    refuse_other_owner(folder, directory)  # another directory's job may have been first


def _is_same(owner: Path, directory: Path) -> bool:
    """Compare by path and, since a node may reach a folder by another path, by what the paths lead to."""
    if os.path.realpath(owner) == os.path.realpath(directory):
        return True
    try:
        return os.path.samefile(owner, directory)
    except OSError:
        return False


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder without an owner is empty, but for what a killed job left, or holds a table of ours."""
    names = {name for name in os.listdir(folder) if not UNFINISHED.fullmatch(name)} if folder.is_dir() else {""}
    return not names or bool(names & _TABLES)
