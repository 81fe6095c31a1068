"""Check files of the archive before they are read again."""

import os

from trabecula.dicom.files import as_path
from trabecula.dicom.headers.record import Header
from trabecula.errors import StudyFailure


def check_unchanged(header: Header, handle: int | None = None) -> None:
    """Raise StudyFailure (changed, vanished) where a file is not the one that the index saw."""
    try:
        state = os.stat(as_path(header.path)) if handle is None else os.fstat(handle)
    except FileNotFoundError:
        raise StudyFailure("vanished") from None
    if (state.st_size, state.st_mtime_ns) != (header.size, header.mtime_ns):
        raise StudyFailure("changed")
