"""Put files together to series, and series to stacks of slices that belong together."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trabecula.dicom.derived import FLAGS, derivation_of, refusal
from trabecula.dicom.geometry import SAME_POSITION_MM
from trabecula.dicom.headers.record import LOSSY_ONCE, LOSSY_PIXELS, MAYBE_LOSSY, NIFTI, Header
from trabecula.dicom.identity import Identity, identity_of, instance_of, lacks_uid, patient_of, place_of_instance
from trabecula.dicom.kinds import ct_class_of, is_ct, kind_of
from trabecula.dicom.scans import distances_of, scans_of

# Cosines and millimetres within which slices have one direction and one pixel spacing.
_DIRECTION_TOLERANCE = 3e-3
_PIXEL_TOLERANCE_MM = 1e-3
_FEW = 0.1  # so small a part beside another is a stray


@dataclass(frozen=True)
class Stack:
    """Slices of one series that may make a volume.

    Attributes
    ----------
    identity : Identity
        Original identity.
    number : int
        Number of the stack within its series.
    headers : tuple of Header
        Its slices, sorted by path and frame; at least one.
    n_damaged, n_odd : int
        Files of the series that would belong here but are damaged, and files that do not fit in.
    split : bool
        The series held several acquisitions or phases, which were taken apart.
    """

    identity: Identity
    number: int
    headers: tuple[Header, ...]
    n_damaged: int = 0
    n_odd: int = 0
    split: bool = False

    @property
    def first(self) -> Header:
        """Give the file whose header stands for the stack."""
        return self.headers[0]

    @property
    def n_slices(self) -> int:
        """Count the slices: one per file, or per frame of a multi-frame one."""
        return len(self.headers)

    @property
    def files(self) -> list[tuple[str, str | None]]:
        """List path and member of its files, each once."""
        return list(dict.fromkeys((header.path, header.member) for header in self.headers))

    @cached_property
    def distances_mm(self) -> NDArray[np.float64] | None:
        """Give the (n,) distances of slices along their normal, ascending; None without positions or orientation."""
        return distances_of(self.headers)

    @cached_property
    def spacing_mm(self) -> float | None:
        """Give the median distance between slices, from their positions."""
        if self.distances_mm is None:
            return None
        steps = np.diff(self.distances_mm)
        steps = steps[steps >= SAME_POSITION_MM]
        return float(np.median(steps)) if len(steps) else None

    @property
    def extent_mm(self) -> float | None:
        """Give the distance from the first to the last slice."""
        return None if self.distances_mm is None else float(self.distances_mm[-1] - self.distances_mm[0])

    @property
    def flags(self) -> list[str]:
        """List the flags of what the stack holds and how it came about, keys of `trabecula.errors.FLAGS`."""
        values = derivation_of(self.first).values
        substitute = any(header.substitute or patient_of(header) is None for header in self.headers)
        flags = [FLAGS[values]] if values in FLAGS else []
        return [*flags, *["substitute_ids"] * substitute, *["split"] * self.split]


def defect_of(header: Header) -> str | None:
    """Give the reason why a file belongs to no stack; None where it belongs to one."""
    if header.reason:
        return header.reason
    return "missing_uid" if lacks_uid(header) else None


def sound_and_damaged(headers: Iterable[Header]) -> tuple[list[Header], list[Header]]:
    """Part files that make stacks from files of the same series whose pixels are not there in full.

    A series of damaged files alone makes a stack all the same, so that it is not passed over in silence; so does a
    NIfTI file that can't be used, since its name tells whose scan it is.
    """
    listed = [header for header in headers if _makes_stack(header) and not lacks_uid(header)]
    whole = {identity_of(header) for header in listed if not header.reason}
    damaged = [header for header in listed if header.reason and identity_of(header) in whole]
    return [header for header in listed if not header.reason or identity_of(header) not in whole], damaged


def _makes_stack(header: Header) -> bool:
    return header.reason in (None, "truncated") or header.transfer_syntax == NIFTI


@dataclass(frozen=True)
class Instances:
    """Files of an archive, each instance once.

    Attributes
    ----------
    kept : list of Header
        A file of each instance, sorted by path and frame.
    copies : list of Header
        The files that repeat an instance.
    comparable : mapping
        By path, member and frame of a kept file, those of its copies whose pixels may be as good.
    """

    kept: list[Header]
    copies: list[Header]
    comparable: Mapping[Hashable, list[Header]]

    def repeats(self, headers: Iterable[Header]) -> list[tuple[int, Header]]:
        """List the copies whose pixels have to be those of some kept files, each with its file's number."""
        return [
            (number, copy) for number, header in enumerate(headers) for copy in self.comparable.get(_place(header), ())
        ]


def without_copies(headers: Iterable[Header]) -> Instances:
    """Part the files of an archive from those that repeat an instance of the same series at the same place.

    Of copies that differ in compression, the one is kept that lost least (see `Header.loss`), else the first by path.
    """
    kept: dict[Hashable, Header] = {}
    copies, comparable = [], defaultdict(list)
    for header in sorted(headers, key=lambda header: (header.loss, *_file_order(header))):
        first = kept.setdefault(place_of_instance(header), header)
        if first is not header:
            copies.append(header)
            if header.loss <= max(first.loss, MAYBE_LOSSY):
                comparable[_place(first)].append(header)
    return Instances(sorted(kept.values(), key=_file_order), copies, comparable)


def _place(header: Header) -> tuple[str, str | None, int | None]:
    return header.path, header.member, header.frame


def _file_order(header: Header) -> tuple[str, str, int]:
    return header.path, header.member or "", header.frame or 0


def stacks_of(headers: Iterable[Header], *, max_gap_mm: float, damaged: Iterable[Header] = ()) -> list[Stack]:
    """Put files together to stacks, sorted by identity and number within the series.

    A stack's slices share orientation, matrix, pixel spacing, kernel, kind and storage class. Where they are then no
    even stack, because a series holds several phases or stations, they are taken apart by acquisition, image type,
    time or voltage, if that gives even stacks.

    Parameters
    ----------
    headers : iterable of Header
        Files, each once.
    max_gap_mm : float
        Largest distance between slices that interpolation may bridge.
    damaged : iterable of Header
        Files with a readable header whose pixels are not there in full.
    """
    members_of = _groups(headers, identity_of)
    instances = {instance_of(header) for members in members_of.values() for header in members}
    lost = _groups((header for header in damaged if instance_of(header) not in instances), identity_of)
    stacks = []
    for identity, members in sorted(members_of.items()):
        stacks += _stacks_of_series(identity, members, lost.get(identity, []), max_gap_mm)
    return stacks


def _stacks_of_series(
    identity: Identity, members: list[Header], damaged: list[Header], max_gap_mm: float
) -> Iterator[Stack]:
    parts, is_split = [], []
    for _, alike in sorted(_groups(members, _likeness(members)).items(), key=lambda item: item[0]):
        apart = scans_of(alike, max_gap_mm)
        parts += apart
        is_split += [len(apart) > 1] * len(apart)
    n_damaged = _shared_out(damaged, parts)
    for number, part in enumerate(parts):
        yield Stack(identity, number, tuple(part), n_damaged[number], _n_odd(part, parts), is_split[number])


def _n_odd(part: Sequence[Header], parts: Sequence[Sequence[Header]]) -> int:
    """Count the files in parts of a series that are strays beside a part."""
    most = max(1, _FEW * len(part))
    return sum(len(stray) for stray in parts if len(stray) <= most and len(stray) < len(part))


def _shared_out(damaged: Iterable[Header], parts: Sequence[Sequence[Header]]) -> list[int]:
    """Count the damaged files of a series that belong to each part: by likeness, else to the largest."""
    kinds = [_kind_of_slice(part[0]) for part in parts]
    largest = max(range(len(parts)), key=lambda number: len(parts[number]))
    counts = [0] * len(parts)
    for header in damaged:
        kind = _kind_of_slice(header)
        counts[kinds.index(kind) if kind in kinds else largest] += 1
    return counts


T = TypeVar("T", bound=Hashable)


def _groups(headers: Iterable[Header], key: Callable[[Header], T]) -> dict[T, list[Header]]:
    groups = defaultdict(list)
    for header in headers:
        groups[key(header)].append(header)
    return groups


def _kind_of_slice(header: Header) -> tuple[Any, ...]:
    """Give the values that the slices of a stack share exactly."""
    size = (header.rows or 0, header.columns or 0)
    kernel = (header.kernel or "").split("\\")[0]  # Siemens' second value, a strength, may differ from slice to slice
    ct_class = ct_class_of(header)
    storage = ("CT", ct_class) if ct_class else (header.modality or "", header.sop_class or "")
    return (kind_of(header), *size, kernel, *storage, max(header.loss, MAYBE_LOSSY), header.positions_mm is None)


def _likeness(headers: Sequence[Header]) -> Callable[[Header], tuple[Any, ...]]:
    """Give a function of a header, whose sortable result the slices of a stack share."""
    directions = _clusters((tuple(header.orientation or ()) for header in headers), _DIRECTION_TOLERANCE)
    pixels = _clusters((tuple(header.pixel_spacing_mm or ()) for header in headers), _PIXEL_TOLERANCE_MM)

    def key(header: Header) -> tuple[Any, ...]:
        place = directions[tuple(header.orientation or ())], pixels[tuple(header.pixel_spacing_mm or ())]
        return (*_kind_of_slice(header), *place)

    return key


def _clusters(vectors: Iterable[tuple[float, ...]], tolerance: float) -> dict[tuple[float, ...], tuple[float, ...]]:
    """Map each vector to the commonest one that it is close to."""
    counts = Counter(vectors)
    leaders: list[tuple[float, ...]] = []
    leader_of = {}
    for vector in sorted(counts, key=lambda vector: (-counts[vector], vector)):
        near = (leader for leader in leaders if len(leader) == len(vector) and _close(leader, vector, tolerance))
        leader_of[vector] = next(near, vector)
        if leader_of[vector] == vector:
            leaders.append(vector)
    return leader_of


def _close(a: tuple[float, ...], b: tuple[float, ...], tolerance: float) -> bool:
    return all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))


def reason_against_image(stack: Stack, *, accepts_lossy_once: bool = False) -> str | None:
    """Give the reason why a stack holds no CT slices with Hounsfield units, by its headers; None where it does.

    Pixels that lose nothing but were once compressed with loss, by the header, may be accepted.
    """
    header = stack.first
    kind = kind_of(header)
    if header.reason:
        return header.reason
    if kind == "page":
        return "secondary_capture"
    if not is_ct(header):
        return "not_ct"
    if kind != "image":
        return kind
    if stack.distances_mm is None or min(header.pixel_spacing_mm or [0]) <= 0 or not (header.rows and header.columns):
        return "no_geometry"
    if header.loss >= (LOSSY_PIXELS if accepts_lossy_once else LOSSY_ONCE):
        return "lossy"
    if any(not part.slope or part.intercept is None for part in stack.headers):
        return "no_rescale"
    return refusal(derivation_of(header).values)
