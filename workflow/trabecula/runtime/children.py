"""Processes that a job starts for its work end with the job, also where it is killed."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with(parent: int) -> None:
    """Let the kernel end this process when its parent ends; a new process calls it first.

    Without this, the processes of a pool would wait for work for ever, since each holds the pipe open that it waits at.

    Parameters
    ----------
    parent : int
        Process that started this process, in a thread that lives as long as the parent.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)
