"""Keep a process's files and memory from other users of the same machine."""

import os
import resource
from pathlib import Path

OTHERS = 0o027  # nothing for others, and no writing for the group
# Linux gives up a core dump of a process with this limit also where dumps go to a program, which a limit of 0 does not
# forbid (do_coredump in fs/coredump.c).
_NO_DUMP = 1


def close_process() -> None:
    """Make this process and its children write files that others can't read, and leave no image of their memory.

    A stricter umask of the user's own stays. The memory of jobs holds the pseudonym key and identities.
    """
    os.umask(os.umask(OTHERS) | OTHERS)
    _, allowed = resource.getrlimit(resource.RLIMIT_CORE)
    limit = _NO_DUMP if allowed == resource.RLIM_INFINITY else min(_NO_DUMP, allowed)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def close_folder(folder: Path) -> None:
    """Close an existing folder to other users, and so all below it; does nothing where another user owns it."""
    if folder.exists() and folder.stat().st_uid == os.geteuid():
        folder.chmod(folder.stat().st_mode & ~OTHERS)
