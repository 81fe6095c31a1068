"""Convert stacks with several mishaps at once: a written volume is right whatever comes together."""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pytest
from ct_files import slice_of
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_stacks import MENDED, check_shows, convert, cut, tilted


@dataclass(frozen=True)
class Mishaps:
    """Mishaps of a stack: its tilt and spacing, and the fate of each slice."""

    degrees: float
    step: float
    fates: list[str]
    order: int


stacks = st.builds(
    Mishaps,
    st.sampled_from([0.0, 0.0, -15.0, 12.0]),
    st.sampled_from([1.0, 2.5, 4.0]),
    st.lists(st.sampled_from(["kept"] * 6 + ["lost", "twice", "odd", "cut"]), min_size=6, max_size=12),
    st.integers(0, 1000),
)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(stacks)
def test_whatever_comes_together_a_written_volume_is_right(tmp_path_factory, mishaps):
    """Lost, doubled, odd and cut slices in a stack that may lean: mended up to steps of 10 mm, else refused."""
    slices = []
    for k, fate in enumerate(mishaps.fates):
        whole = tilted(mishaps.degrees, len(mishaps.fates), mishaps.step)[k]
        if fate == "odd":
            # Each of another size, so that no two of them make a stack of their own.
            odd = slice_of(whole.ImagePositionPatient, whole.ImageOrientationPatient, shape=(20, 25 + k))
            slices.append(odd)
        elif fate == "cut":
            slices += cut([whole], 0)
        elif fate != "lost":
            slices += [whole, deepcopy(whole)] if fate == "twice" else [whole]
    kept = [k for k, fate in enumerate(mishaps.fates) if fate in ("kept", "twice")]
    np.random.default_rng(mishaps.order).shuffle(slices)  # pyright: ignore[reportArgumentType] (a list will do)
    entries, volumes = convert(tmp_path_factory.mktemp("mishaps"), slices)
    used = [tilted(mishaps.degrees, len(mishaps.fates), mishaps.step)[k] for k in kept]
    steps = np.diff(kept)
    assert len(kept) >= 2 or not volumes
    for ct in volumes:
        check_shows(ct, used, MENDED, ends=bool(np.median(steps) == 1))
    # With fewer slices left, what their usual step was is anybody's guess.
    if len(kept) >= 4 and np.median(steps) == 1:
        mendable = steps.max() * mishaps.step * np.cos(np.radians(mishaps.degrees)) <= 10
        assert len(volumes) == int(mendable)
        if mendable:
            (entry,) = [entry for entry in entries if entry["status"] == "ok"]
            repairs = {"gantry_tilt"} if mishaps.degrees else set()
            repairs |= {"missing_slices"} if steps.max() > 1 else set()
            repairs |= {"duplicate_slices"} if "twice" in mishaps.fates else set()
            repairs |= {"odd_slices"} if "odd" in mishaps.fates else set()
            repairs |= {"damaged_slices"} if "cut" in mishaps.fates else set()
            assert set(entry["repairs"]) == repairs
