"""A short search with Hypothesis; `make fuzz` searches for long, led by what code an input reaches."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard import ForbiddenError, guarded, limited_memory, limited_time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import TARGETS, Run

CASES = {"index": 250, "convert": 80, "labels": 120, "config": 250, "mask": 120, "model": 200}


@pytest.fixture(scope="module", params=TARGETS)
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """A target's name, folder, whole inputs and function."""
    folder = tmp_path_factory.mktemp(request.param)
    yield request.param, folder, *TARGETS[request.param](folder)


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A whole input with up to four places overwritten, cut out, doubled or put in."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        first = draw(st.integers(0, len(data)))
        end = min(len(data), first + draw(st.sampled_from([0, 1, 2, 4, 8, 64, 100_000])))
        put = draw(st.binary(max_size=8) | st.just(data[first:end] * 2) | st.just(b"\xff" * (end - first)))
        data = data[:first] + put + data[end:]
    return data


def checked(name: str, run: Run, folder: Path, data: bytes) -> None:
    """Read an input, with what `guard` forbids."""
    processes = name == "convert"
    with warnings.catch_warnings(), limited_time(), limited_memory(), guarded(folder, pickles=processes):
        warnings.simplefilter("ignore")
        run(data)


def test_whole_inputs_are_read(prepared):
    name, folder, seeds, run = prepared
    for data in seeds:
        checked(name, run, folder, data)


def test_nothing_that_is_damaged_breaks_its_reader(prepared):
    name, folder, seeds, run = prepared

    @settings(max_examples=CASES[name], suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(damaged(seeds))
    def search(data: bytes) -> None:
        checked(name, run, folder, data)

    search()


@pytest.mark.parametrize(
    "harm",
    [
        lambda outside: (outside / "file").write_text("x"),
        lambda outside: (outside / "here").rename(outside / "there"),
        lambda outside: __import__("subprocess").run(["true"]),
        lambda outside: __import__("socket").create_connection(("127.0.0.1", 9)),
    ],
    ids=["file", "rename", "program", "connection"],
)
def test_the_guard_notices(tmp_path, harm):
    """What the tests above would overlook otherwise."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/here").touch()
    (tmp_path / "inside").mkdir()
    with pytest.raises(ForbiddenError), guarded(tmp_path / "inside"):
        harm(tmp_path / "outside")
