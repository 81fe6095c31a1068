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
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    JPEGLossless,
)

from trabecula.dicom.encoding import read_dicom
from trabecula.dicom.files import as_path, open_file
from trabecula.dicom.headers.record import Header
from trabecula.dicom.quiet import quiet
from trabecula.dicom.syntaxes import UNCOMPRESSED
from trabecula.errors import StudyFailure
from trabecula.runtime.children import end_with

# Far more than a slice takes; a decoder that is still at work then has lost its way in a damaged stream.
_LONGEST_S = 60.0
# What the child may take in addition to what it is born with: a compressed stream can claim to be of any size.
MOST_MEMORY_BYTES = 2**31
# Retired lossless JPEG processes (DICOM PS3.6 A): the same streams as process 14, which decoders know.
_RETIRED_LOSSLESS = {f"1.2.840.10008.1.2.4.{number}" for number in (58, 65, 66)}


class Decoder:
    """Decodes pixels in a child process, which is started when it is first needed."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def decode(self, header: Header) -> tuple[NDArray[np.integer], bool]:
        """Give the stored values of a slice, (rows, columns), and tell whether they were uncompressed.

        Raises
        ------
        StudyFailure
            vanished, changed, unreadable, truncated, lossy or undecodable.
        OSError
            If disk or network fail: worth a retry, and no property of the study.
        """
        if self._pool is None:
            # Forked, since a spawned child would run the main script anew, and under Snakemake that is the job.
            fork = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(1, fork, initializer=_begin, initargs=(os.getpid(),))
        try:
            return self._pool.submit(_decode_in_child, header).result(_LONGEST_S)
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


_last: tuple[tuple[str, str | None] | None, Dataset] = (None, Dataset())  # frames of one file follow each other


def _decode_in_child(header: Header) -> tuple[NDArray[np.integer], bool]:
    global _last
    with quiet():
        file = header.path, header.member
        if _last[0] != file:
            _last = file, read_dataset(header)
        return decode(_last[1], header)


def read_dataset(header: Header) -> Dataset:
    """Read a DICOM file, with or without preamble.

    Raises
    ------
    StudyFailure
        vanished, changed, unreadable, truncated or undecodable.
    OSError
        If disk or network fail: worth a retry, and no property of the study.
    """
    check_unchanged(header)
    with open_file(header.path, header.member) as file:
        try:
            dataset = read_dicom(file)
        except EOFError:
            raise StudyFailure("truncated") from None
        except (OSError, StudyFailure):
            raise
        except Exception as error:  # damaged files raise anything, from struct.error to RecursionError
            raise StudyFailure("unreadable", type(error).__name__) from None
    if "TransferSyntaxUID" not in dataset.file_meta:
        raise StudyFailure("undecodable", "compressed pixel data, and nothing says how")
    if dataset.file_meta.TransferSyntaxUID in _RETIRED_LOSSLESS:
        dataset.file_meta.TransferSyntaxUID = JPEGLossless
    return dataset


def check_unchanged(header: Header, handle: int | None = None) -> None:
    """Raise StudyFailure (changed, vanished) where a file is not the one that the index saw."""
    try:
        state = os.stat(as_path(header.path)) if handle is None else os.fstat(handle)
    except FileNotFoundError:
        raise StudyFailure("vanished") from None
    if (state.st_size, state.st_mtime_ns) != (header.size, header.mtime_ns):
        raise StudyFailure("changed")


def decode(dataset: Dataset, header: Header) -> tuple[NDArray[np.integer], bool]:
    """Decode one frame of a data set; see `Decoder.decode`."""
    syntax = dataset.file_meta.TransferSyntaxUID
    plain = syntax in (*UNCOMPRESSED, DeflatedExplicitVRLittleEndian)  # the name itself may be damaged
    try:
        if "PixelData" not in dataset:
            raise StudyFailure("truncated", "no pixel data")
        if syntax in (JPEG2000, HTJ2K) and not _is_reversible(dataset.PixelData):
            raise StudyFailure("lossy", "irreversible wavelet")
        # Of uncompressed pixels a padding mark may take more bits than are stored, so that they are needed yet.
        pixels = pixel_array(dataset, index=header.frame or 0, raw=True, correct_unused_bits=not plain)
    except StudyFailure:
        raise
    except Exception as error:  # several decoder libraries, each with errors of its own
        short = "less than expected" in str(error) or "actual length" in str(error)
        raise StudyFailure("truncated" if short else "undecodable", type(error).__name__) from None
    if pixels.dtype.kind not in "iu" or pixels.shape != (header.rows, header.columns):
        raise StudyFailure("undecodable", "the pixel data do not have the size that the header says")
    return pixels, plain


def _is_reversible(pixel_data: bytes) -> bool:
    """Tell whether a JPEG 2000 stream uses the reversible 5-3 wavelet (ISO 15444-1 A.6.1, end of the COD marker)."""
    marker = pixel_data.find(b"\xff\x52")
    return marker >= 0 and pixel_data[marker + 13 : marker + 14] == b"\x01"
