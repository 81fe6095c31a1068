"""Decode compressed pixels in a process of its own.

Decoders in C end their process, and not by an exception, when a stream is damaged (seen with GDCM 3.2.6 for JPEG-LS,
JPEG lossless and JPEG 2000). In a child that costs one slice and not the job.
"""

import multiprocessing
import os
import resource
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trabecula.dicom.headers.record import Header
from trabecula.errors import StudyFailure
from trabecula.runtime.children import end_with

# Far more than a slice takes; a decoder that is still at work then has lost its way in a damaged stream.
_LONGEST_S = 60.0
# What the child may take in addition to what it is born with: a compressed stream can claim to be of any size.
MOST_MEMORY_BYTES = 2**31


class Decoder:
    """Decodes pixels in a child process, which is started when it is first needed."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def decode(self, header: Header) -> tuple[NDArray[np.integer], int]:
        """Give the words of a slice, (rows, columns), as its file would hold them uncompressed.

        Which of a word's bits are stored is left to the caller. The second value is the number of bits that the samples
        of the stream have.

        Raises
        ------
        StudyFailure
            vanished, changed, unreadable, truncated, lossy or undecodable.
        OSError
            If disk or network fail: worth a retry, and no property of the study.
        """
        # pydicom and its plugins take a quarter of a second to load, and most shards need none of them. They are loaded
        # here and not in the child, so that a child that crashed is soon replaced.
        from trabecula.convert.decoder import decode_slice

        if self._pool is None:
            # Forked, since a spawned child would run the main script anew, and under Snakemake that is the job.
            fork = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(1, fork, initializer=_begin, initargs=(os.getpid(),))
        try:
            return self._pool.submit(decode_slice, header).result(_LONGEST_S)
        except (BrokenProcessPool, TimeoutError):
            for process in list(self._pool._processes.values()):
                process.kill()
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            raise StudyFailure("undecodable", "the decoder crashed or hung") from None


def _begin(parent: int) -> None:
    """Set up the child: it ends with its parent, and its memory is limited."""
    end_with(parent)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MOST_MEMORY_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
