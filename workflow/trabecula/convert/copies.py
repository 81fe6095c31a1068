"""Compare the files that repeat an instance: they have to hold the same pixels."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import BinaryIO

from trabecula.convert.read import SliceFailure, read_slices
from trabecula.convert.slices import slices_of
from trabecula.dicom.files import open_file
from trabecula.dicom.headers.record import Header
from trabecula.errors import StudyFailure

_AT_ONCE = 2**20  # bytes of a file


def refuse_other_pixels(copies: Sequence[tuple[Header, Header]]) -> None:
    """Refuse a stack where two files of one instance UID hold different pixels.

    Files are compared byte by byte first, since most copies are whole files again; else their Hounsfield units. A copy
    that can't be read, or is damaged, speaks against nothing.

    Parameters
    ----------
    copies : sequence of (Header, Header)
        Files of a stack, each with another file of the same instance.

    Raises
    ------
    StudyFailure
        other_pixels.
    """
    same_files = {files: _hold_the_same(*files) for files in {(_file(a), _file(b)) for a, b in copies}}
    differing = [(a, b) for a, b in copies if not same_files[_file(a), _file(b)]]
    # One side after the other, since frames of one file are read fastest in a row.
    digests = zip(*([_digest(header) for header in side] for side in zip(*differing, strict=True)), strict=True)
    n_other = sum(None not in pair and pair[0] != pair[1] for pair in digests)
    if n_other:
        raise StudyFailure("other_pixels", f"{n_other} of {len(copies)} repeated slices differ")


def _file(header: Header) -> tuple[str, str | None]:
    return header.path, header.member


def _hold_the_same(first: tuple[str, str | None], second: tuple[str, str | None]) -> bool:
    """Tell whether two files are the same byte by byte; not, where one can't be read."""
    try:
        with open_file(*first) as one_file, open_file(*second) as other_file:
            return _are_equal(one_file, other_file)
    except (StudyFailure, OSError):
        return False


def _are_equal(first: BinaryIO, second: BinaryIO) -> bool:
    while True:
        piece = first.read(_AT_ONCE)
        if piece != second.read(_AT_ONCE):
            return False
        if not piece:
            return True


def _digest(header: Header) -> bytes | None:
    """Give a digest of the Hounsfield units of a slice; None where they can't be had."""
    try:
        (slice_hu,) = read_slices(slices_of([header]))
    except (StudyFailure, SliceFailure):
        return None
    return blake2b(slice_hu.tobytes(), salt=b"%dx%d" % slice_hu.shape).digest()
