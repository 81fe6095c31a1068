"""Put files together to series, and series to stacks of slices that belong together."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trabecula.dicom import LOSSY
from trabecula.errors import StudyFailure
from trabecula.geometry import SAME_POSITION_MM, distances_mm


@dataclass(frozen=True)
class Header:
    """What the index knows of one file; the fields are those of `trabecula.index.scan.FILES`."""

    path: str
    size: int
    mtime_ns: int
    reason: str | None = None
    transfer_syntax: str | None = None
    positions_mm: list[float] | None = None
    patient: str | None = None
    study_uid: str | None = None
    series_uid: str | None = None
    instance_uid: str | None = None
    sop_class: str | None = None
    modality: str | None = None
    image_type: str | None = None
    study_date: str | None = None
    birth_date: str | None = None
    age: str | None = None
    sex: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    kernel: str | None = None
    body_part: str | None = None
    description: str | None = None
    contrast: str | None = None
    photometric: str | None = None
    lossy: str | None = None
    kvp: float | None = None
    thickness_mm: float | None = None
    slope: float | None = None
    intercept: float | None = None
    rows: int | None = None
    columns: int | None = None
    frames: int | None = None
    bits: int | None = None
    samples: int | None = None
    acquisition: int | None = None
    pixel_spacing_mm: list[float] | None = None
    orientation: list[float] | None = None

    @property
    def is_lossy(self) -> bool:
        """Whether the pixels were compressed with a loss, by the header."""
        return self.lossy == "01" or self.transfer_syntax in LOSSY


@dataclass(frozen=True)
class Stack:
    """Slices of one series that may make a volume.

    Attributes
    ----------
    patient, study_uid, series_uid : str
        Original identity.
    number : int
        Number of the stack within its series.
    headers : tuple of Header
        Its files, sorted by path; at least one.
    """

    patient: str
    study_uid: str
    series_uid: str
    number: int
    headers: tuple[Header, ...]

    @property
    def first(self) -> Header:
        """The file that speaks for the stack."""
        return self.headers[0]

    @property
    def n_slices(self) -> int:
        """Slices, frames of multi-frame files counted."""
        return sum(header.frames or 1 for header in self.headers)

    @cached_property
    def distances_mm(self) -> NDArray[np.float64] | None:
        """(n,) distances of the slices along their normal, ascending; None without positions or orientation."""
        positions = [header.positions_mm for header in self.headers]
        if None in positions or self.first.orientation is None:
            return None
        try:
            points = np.concatenate([np.reshape(part or [], (-1, 3)) for part in positions])
            return np.sort(distances_mm(points, self.first.orientation))
        except StudyFailure:
            return None

    @property
    def spacing_mm(self) -> float | None:
        """Median distance between slices, from their positions."""
        if self.distances_mm is None:
            return None
        steps = np.diff(self.distances_mm)
        steps = steps[steps >= SAME_POSITION_MM]
        return float(np.median(steps)) if len(steps) else None

    @property
    def extent_mm(self) -> float | None:
        """Distance from the first to the last slice."""
        return None if self.distances_mm is None else float(self.distances_mm[-1] - self.distances_mm[0])


def from_table(files: pa.Table) -> list[Header]:
    """Headers of a scan's table (schema `trabecula.index.scan.FILES`)."""
    return [Header(**row) for row in files.to_pylist()]


def defect_of(header: Header) -> str | None:
    """Why a file belongs to no series; None where it belongs to one."""
    if header.reason:
        return header.reason
    if not (header.study_uid and header.series_uid and header.instance_uid):
        return "missing_uid"
    return None


def without_copies(headers: Iterable[Header]) -> tuple[list[Header], list[Header]]:
    """Files of an archive, and those that repeat an instance of the same series at the same place."""
    kept: dict[Hashable, Header] = {}
    copies = []
    for header in sorted(headers, key=lambda header: header.path):
        place = tuple(header.positions_mm or ())
        key = (header.patient, header.study_uid, header.series_uid, header.instance_uid, place)
        if key in kept:
            copies.append(header)
        else:
            kept[key] = header
    return list(kept.values()), copies


def stacks_of(headers: Iterable[Header]) -> list[Stack]:
    """Stacks of all series, sorted by patient, study, series and number.

    A stack's slices share orientation, matrix, pixel spacing, kernel, image type and kind of compression. Where slices
    of different acquisitions then lie at one position, as in several phases under one series, each acquisition is a
    stack of its own. A patient without an id is taken for one of their own per study.
    """
    series = _groups(headers, _identity)
    found = []
    for identity, members in sorted(series.items()):
        parts = [part for _, alike in sorted(_groups(members, _likeness).items()) for part in _by_acquisition(alike)]
        found += [Stack(*identity, number, tuple(part)) for number, part in enumerate(parts)]
    return found


def _identity(header: Header) -> tuple[str, str, str]:
    study = header.study_uid or ""
    return header.patient or f"unknown, study {study}", study, header.series_uid or ""


T = TypeVar("T", bound=Hashable)


def _groups(headers: Iterable[Header], key: Callable[[Header], T]) -> dict[T, list[Header]]:
    groups = defaultdict(list)
    for header in headers:
        groups[key(header)].append(header)
    return groups


def _likeness(header: Header) -> str:
    """What the slices of a stack share, as sortable text."""
    multi_frame = header.instance_uid if (header.frames or 1) > 1 else None
    directions = [round(number, 2) + 0.0 for number in header.orientation or ()]
    pixels = [round(number, 4) for number in header.pixel_spacing_mm or ()]
    shared: list[Any] = [header.rows, header.columns, directions, pixels, header.kernel, header.image_type]
    return repr([*shared, header.sop_class, header.is_lossy, multi_frame])


def _by_acquisition(headers: list[Header]) -> list[list[Header]]:
    """One part, or one per acquisition where that takes overlapping slices apart."""
    parts = list(_groups(headers, lambda h: h.acquisition if h.acquisition is not None else -1).items())
    if len(parts) == 1 or not _overlap(headers) or any(_overlap(part) for _, part in parts):
        return [headers]
    return [part for _, part in sorted(parts)]


def _overlap(headers: list[Header]) -> bool:
    places = [tuple(round(number, 2) for number in header.positions_mm or ()) for header in headers]
    return len(set(places)) < len(places)
