"""Compare the files that repeat an instance, which have to hold the same pixels, and replace what can't be read."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, BinaryIO

from trabecula.convert.read import SliceFailure, read_slices
from trabecula.convert.slices import Slice, slices_of
from trabecula.dicom.files import open_file
from trabecula.dicom.headers.record import Header
from trabecula.errors import StudyFailure

_AT_ONCE = 2**20  # bytes of a file
_NO_LOSS = 1  # highest rank of `Header.loss` of pixels that surely lost nothing


def refuse_other_pixels(copies: Sequence[tuple[Header, Header]]) -> None:
    """Refuse a stack where two files of one instance UID hold different pixels.

    Files are compared byte by byte first, since most copies are whole files again; else their Hounsfield units. A copy
    that can't be read, is damaged, or may have lost more than the file that it repeats, speaks against nothing.

    Parameters
    ----------
    copies : sequence of (Header, Header)
        Files of a stack, each with another file of the same instance.

    Raises
    ------
    StudyFailure
        other_pixels.
    """
    as_good = [(a, b) for a, b in copies if b.loss <= max(a.loss, _NO_LOSS)]
    same_files = {files: _hold_the_same(*files) for files in {(_file(a), _file(b)) for a, b in as_good}}
    differing = [(a, b) for a, b in as_good if not same_files[_file(a), _file(b)]]
    # One side after the other, since frames of one file are read fastest in a row.
    digests = zip(*([_digest(header) for header in side] for side in zip(*differing, strict=True)), strict=True)
    n_other = sum(None not in pair and pair[0] != pair[1] for pair in digests)
    if n_other:
        raise StudyFailure("other_pixels", f"{n_other} of {len(as_good)} repeated slices differ")


def readable(
    slices: Iterable[Slice], copies: Sequence[tuple[Header, Header]]
) -> tuple[list[Slice], list[StudyFailure]]:
    """Keep the slices whose pixels can be had, and put copies in place of others where theirs can.

    Parameters
    ----------
    slices : iterable of Slice
        Slices of a stack.
    copies : sequence of (Header, Header)
        Files of the stack, each with another file of the same instance.

    Returns
    -------
    kept : list of Slice
        Slices that can be read.
    failures : list of StudyFailure
        Why each of the others can't.

    Raises
    ------
    StudyFailure
        lossy, of a slice without a better copy: beside others without loss it is not to be left out.
    """
    copies_of = defaultdict(list)
    for header, copy in copies:
        copies_of[_file(header), header.frame].append(copy)
    kept, failures = [], []
    for ct_slice in slices:
        failure = _failure_of(ct_slice)
        if failure is None:
            kept.append(ct_slice)
        elif replacement := _replacement(ct_slice, copies_of[_file(ct_slice.header), ct_slice.header.frame]):
            kept.append(replacement)
        elif failure.reason == "lossy":
            raise failure
        else:
            failures.append(failure)
    return kept, failures


def _replacement(ct_slice: Slice, copies: Iterable[Header]) -> Slice | None:
    """Give the first copy of a slice that lies in the same place and can be read."""
    for copy in copies:
        try:
            (replacement,) = slices_of([copy])
            if _place(replacement) == _place(ct_slice) and _failure_of(replacement) is None:
                return replacement
        except StudyFailure:  # vanished, changed, or without what a slice needs
            continue
    return None


def _place(ct_slice: Slice) -> tuple[Any, ...]:
    return ct_slice.shape, ct_slice.position_mm, ct_slice.orientation, ct_slice.pixel_mm


def _failure_of(ct_slice: Slice) -> StudyFailure | None:
    """Give the reason why the pixels of a slice can't be had."""
    try:
        next(read_slices([ct_slice]))
    except SliceFailure as damaged:
        return damaged.failure
    return None


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
