"""Processes that a job starts for its work end with the job, also where it is killed."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with(parent: int) -> None:
    """Let the kernel end this process when its parent ends; the first thing that a new process does.

    Without it, the processes of a pool wait for work for ever, since each holds the pipe open that it waits at.

    Parameters
    ----------
    parent : int
        Process that started this one, in a thread that lives as long as it.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be told
        os.kill(os.getpid(), signal.SIGKILL)
