"""Slices of one series that are one scan, and those that are several."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_headers import header

from trabecula.dicom.geometry import repeats_of_rotations
from trabecula.dicom.headers.record import Header
from trabecula.dicom.stacks import Stack, stacks_of

UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TILTED = (1.0, 0.0, 0.0, 0.0, math.cos(0.3), math.sin(0.3))


def at(z: float, name: str, orientation=UPRIGHT, **attributes) -> Header:
    place = [0.0, 0.0, z]
    return header(
        0, path=name, instance_uid=f"1.9.{name}", positions_mm=place, orientation=[*orientation], **attributes
    )


def time_of_day(second: float) -> str:
    second %= 86400
    return f"{int(second // 3600):02d}{int(second % 3600 // 60):02d}{second % 60:09.6f}"


def moment(second: float) -> str:
    return f"{20190304 + int(second // 86400)}{time_of_day(second)}"


def number(second: float) -> int:
    return 1 + int(10 * second)


CLOCKS = {"acquisition_time": time_of_day, "acquisition_moment": moment, "acquisition": number}


def scan(name: str, places, seconds, clock: str = "acquisition_time", **attributes) -> list[Header]:
    """Make slices at places, taken at seconds of the day."""
    moments = [CLOCKS.get(clock, time_of_day)(second) for second in seconds]
    return [at(z, f"{name}{k:03d}", **{clock: moments[k]}, **attributes) for k, z in enumerate(places)]


def stacks(*scans: list[Header]) -> list[Stack]:
    """Make stacks of slices in any order."""
    slices = [part for slices in scans for part in slices]
    random.Random(7).shuffle(slices)
    return stacks_of(slices, max_gap_mm=10)


def names(*scans: list[Header]) -> set[str]:
    """Name the scans by the first letters of their slices' paths."""
    return {"".join(sorted({part.path[0] for part in stack.headers})) for stack in stacks(*scans)}


def sizes(*scans: list[Header]) -> list[int]:
    return sorted(stack.n_slices for stack in stacks(*scans))


# --- passes over the same range --------------------------------------------------------------------------------


@settings(max_examples=600, deadline=None)
@given(
    clock=st.sampled_from(sorted(CLOCKS)),
    step=st.sampled_from([0.625, 1.25, 3.0, 5.0]),
    shift=st.floats(0, 0.5),
    sizes=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    turned=st.tuples(st.booleans(), st.booleans()),
    lost=st.tuples(st.booleans(), st.booleans()),
    begin=st.sampled_from([30_000.5, 86_380.0]),
    at_once=st.tuples(st.booleans(), st.booleans()),
    orientation=st.sampled_from([UPRIGHT, TILTED]),
)
def test_passes_told_apart_by_time_are_two_scans(clock, step, shift, sizes, turned, lost, begin, at_once, orientation):
    """The second pass lies beside the first by any part of a step, goes up or down, and may lack a slice."""
    second, passes = begin, []
    for n, down, lacks, together, name in zip(sizes, turned, lost, at_once, "ab", strict=True):
        places = [step * (k + shift * (name == "b")) for k in range(n)]
        seconds = [second + (0 if together else 0.3 * k) for k in range(n)]
        slices = scan(name, places[::-1] if down else places, seconds, clock, orientation=orientation)
        passes.append(slices[: n // 2] + slices[n // 2 + (lacks and step < 5) :])
        second = seconds[-1] + 20
    assert names(*passes) == {"a", "b"}
    assert all(stack.flags == ["split"] for stack in stacks(*passes))


@pytest.mark.parametrize("shift", [0.0, 0.2, 1 / 3, 0.5])
def test_four_passes_to_and_fro_are_four_scans(shift):
    up = [3.0 * k for k in range(12)]
    passes = [
        scan(name, [z + 3 * shift * (n % 2) for z in (up, up[::-1])[n % 2]], range(20 * n, 20 * n + 12))
        for n, name in enumerate("abcd")
    ]
    assert names(*passes) == {"a", "b", "c", "d"}


def test_a_short_pass_within_a_long_one_is_a_scan_of_its_own():
    first = scan("a", [1.25 * k for k in range(80)], [0.1 * k for k in range(80)])
    second = scan("b", [40.5 + 1.25 * k for k in range(20)], [30 + 0.1 * k for k in range(20)])
    assert names(first, second) == {"a", "b"}
    before = scan("b", [40.5 + 1.25 * k for k in range(20)], [-30 + 0.1 * k for k in range(20)])
    assert names(first, [part._replace(acquisition_time=time_of_day(86000)) for part in before]) == {"a", "b"}


PHASES = [
    {"phase": (1, 2)},
    {"cardiac_phase": (30.0, 70.0)},
    {"trigger_ms": (300.0, 700.0)},
    {"scan_options": ("TP30PC0", "TP70PC0")},
    {"kvp": (80.0, 140.0)},
    {"content_time": ("101010", "101040")},
]


@pytest.mark.parametrize("phase", PHASES)
def test_phases_at_the_same_places_are_two_scans(phase):
    ((name, values),) = phase.items()
    both = [
        [at(3.0 * k, f"{letter}{k}", **{name: value}) for k in range(12)]
        for letter, value in zip("ab", values, strict=True)
    ]
    assert names(*both) == {"a", "b"}
    lacking = [both[0], both[1][:4] + both[1][5:9]]
    assert names(*lacking) == {"a", "b"}


def test_phases_of_a_scan_in_steps_are_parted_by_phase_not_by_step():
    """Each table step gives slices of two phases; acquisitions count the steps."""
    slices = [
        at(
            2.0 * k,
            f"{letter}{k:02d}",
            acquisition=1 + k // 8,
            cardiac_phase=percent,
            acquisition_time=time_of_day(k // 8),
        )
        for letter, percent in (("a", 40.0), ("b", 75.0))
        for k in range(32)
    ]
    assert names(slices) == {"a", "b"}
    by_time = [
        part._replace(cardiac_phase=None, acquisition=1, acquisition_time=time_of_day(3 * (k % 32 // 8) + k // 32))
        for k, part in enumerate(slices)
    ]
    assert names(by_time) == {"a", "b"}


def test_two_acquisitions_at_two_voltages_are_four_scans():
    said = {"a": (1, 80.0), "b": (1, 140.0), "c": (2, 80.0), "d": (2, 140.0)}
    scans = [[at(3.0 * k, f"{name}{k}", acquisition=n, kvp=kvp) for k in range(12)] for name, (n, kvp) in said.items()]
    assert names(*scans) == {"a", "b", "c", "d"}


# --- one scan ---------------------------------------------------------------------------------------------------


def neighbours_swapped(n: int) -> list[float]:
    return [k ^ 1 for k in range(n)]


def in_any_order(n: int) -> list[float]:
    return random.Random(3).sample(range(n), n)


ONE_SCAN = {
    "up": lambda n: range(n),
    "down": lambda n: range(n)[::-1],
    "over midnight": lambda n: [86_399 + 0.2 * k for k in range(n)],
    "whole seconds": lambda n: [k // 7 for k in range(n)],
    "rotations": lambda n: [2 * (k // 16) for k in range(n)],
    "rotations downwards": lambda n: [100 - 2 * (k // 16) for k in range(n)],
    "swapped": neighbours_swapped,
    "any order": in_any_order,
    "upper half first": lambda n: [(k + n // 2) % n for k in range(n)],
    "from the middle": lambda n: [abs(k - n // 2) + n * (k < n // 2) for k in range(n)],
    "a wrong one": lambda n: [k if k != 5 else 3000 for k in range(n)],
    "the same": lambda n: [0] * n,
}


@pytest.mark.parametrize("step", [0.5, 1.25, 3.0])
@pytest.mark.parametrize("clock", [*sorted(CLOCKS), "content_time"])
@pytest.mark.parametrize("order", ONE_SCAN)
@pytest.mark.parametrize("lacks", [False, True])
def test_a_scan_whose_times_run_as_they_may_stays_one(order, clock, step, lacks):
    slices = scan("a", [step * k for k in range(64)], ONE_SCAN[order](64), clock)
    assert sizes(slices[:20] + slices[20 + 2 * lacks :]) == [64 - 2 * lacks]


def test_reconstruction_in_two_strands_is_one_scan():
    """Even slices are made first, then odd ones; only the time of reconstruction says so."""
    slices = scan("a", [1.25 * k for k in range(64)], [k // 2 + 100 * (k % 2) for k in range(64)], "content_time")
    assert sizes(slices) == [64]


def test_slices_without_a_time_are_strays_beside_passes_and_nothing_in_one_scan():
    first, second = (
        scan(name, [3.0 * k + x for k in range(20)], range(s, s + 20)) for name, x, s in (("a", 0, 0), ("b", 1.5, 60))
    )
    first[7] = first[7]._replace(acquisition_time=None)
    assert sizes(first, second) == [1, 19, 20] and sizes(first) == [20]


# --- frames of reference ----------------------------------------------------------------------------------------


def framed(name: str, places, frames) -> list[Header]:
    return [
        at(z, f"{name}{k:03d}", frame_of_reference=frame)
        for k, (z, frame) in enumerate(zip(places, frames, strict=True))
    ]


@pytest.mark.parametrize("shift", [0.0, 1.0, 1.5, 60.0])
def test_two_frames_of_reference_are_never_one_volume(shift):
    first = framed("a", [3.0 * k for k in range(20)], ["1.5.1"] * 20)
    second = framed("b", [3.0 * k + shift for k in range(20)], ["1.5.2"] * 20)
    assert names(first, second) == {"a", "b"} and sizes(first, second[:3]) == [3, 20]


def test_a_slice_of_another_frame_is_odd():
    slices = framed("a", [3.0 * k for k in range(20)], ["1.5.1"] * 10 + ["1.5.2"] + ["1.5.1"] * 9)
    assert sizes(slices) == [1, 19] and max(stack.n_odd for stack in stacks(slices)) == 1


def test_frames_that_a_tool_gave_to_each_file_or_took_out_say_nothing():
    places = [3.0 * k for k in range(20)]
    assert sizes(framed("a", places, [f"1.5.{k}" for k in range(20)])) == [20]
    assert sizes(framed("a", places, [None if k % 3 else "1.5.1" for k in range(20)])) == [20]
    assert sizes(framed("a", places, ["1.5.1"] * 10 + [f"1.5.{k}" for k in range(10, 20)])) == [20]


# --- rotations --------------------------------------------------------------------------------------------------


def rotations(name: str, n: int, each: int, overlap: float, step: float = 2.5, begin: int = 0, **told) -> list[Header]:
    """Make rotations of slices; each begins `overlap` steps below the slice after the last one of that before."""
    slices = []
    for rotation in range(n):
        said = {key: say(begin + rotation) for key, say in told.items()}
        low = rotation * (each - overlap) * step
        slices += [at(low + step * k, f"{name}{rotation:02d}{k:02d}", **said) for k in range(each)]
    return slices


TOLD = {
    "by number": {"acquisition": lambda n: n + 1},
    "by time": {"acquisition_time": lambda n: f"1010{n:02d}"},
    "by both": {"acquisition": lambda n: n + 1, "acquisition_time": lambda n: f"1010{n:02d}"},
    "by nothing": {},
}


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("beside", [0.0, 0.01, 0.1, 0.29])
@pytest.mark.parametrize("each", [8, 16, 64])
@pytest.mark.parametrize("overlap", [1, 2, 3])
@pytest.mark.parametrize("n", [3, 6])
def test_rotations_that_overlap_are_one_stack(told, beside, each, overlap, n):
    step = min(2.5, 150 / each)
    slices = rotations("a", n, each, overlap + beside, step, **TOLD[told])
    assert sizes(slices) == [n * each]
    assert sizes(slices[3:-2]) == [n * each - 5]  # the first and last rotation are shorter
    assert repeats_of_rotations(np.sort([(part.positions_mm or [])[2] for part in slices])).sum() == (n - 1) * overlap


@pytest.mark.parametrize("told", TOLD)
def test_two_rotations_that_share_a_slice_are_one_stack(told):
    assert sizes(rotations("a", 2, 16, 1, **TOLD[told])) == [32]


@pytest.mark.parametrize("told", ["by number", "by time", "by both"])
def test_two_passes_of_rotations_are_two_stacks(told):
    first, second = (rotations(name, 6, 16, 1, begin=begin, **TOLD[told]) for name, begin in (("a", 0), ("b", 10)))
    assert names(first, second) == {"a", "b"} and sizes(first, second) == [96, 96]


@pytest.mark.parametrize("told", ["by number", "by time"])
@pytest.mark.parametrize("n", [40, 100])
def test_stations_that_overlap_are_two_stacks(told, n):
    """Two stations overlap by several slices, or are longer than any detector is wide."""
    assert names(*(rotations(name, 1, n, 0, begin=k, **TOLD[told]) for k, name in enumerate("ab"))) == {"a", "b"}
    for overlap in (1, 3, 10, 10.5):
        both = rotations("a", 2, n, overlap, **TOLD[told])
        assert sizes(both) == ([n, n] if n == 100 or overlap > 1 else [2 * n])


def test_a_stray_slice_of_another_acquisition_is_no_rotation():
    slices = [at(2.5 * k, f"a{k:02d}", acquisition=2) for k in range(31)]
    stray = at(37.5, "b", acquisition=1)
    assert sizes(slices, [stray]) == [1, 31]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=60), st.floats(0.3, 5))
def test_marked_repeats_are_single_and_rare(numbers, step):
    distances = np.sort(numbers) * step
    marked = repeats_of_rotations(distances)
    assert marked.shape == distances.shape and not marked[:1].any() and not (marked[1:] & marked[:-1]).any()
    assert marked.sum() * 2 <= len(distances)
