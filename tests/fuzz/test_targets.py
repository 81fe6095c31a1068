"""A short search, the same every time; `make fuzz` searches for long, led by the code that an input reaches."""

import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard import ForbiddenError, guarded, limited_memory, limited_time
from targets import TARGETS, Run

CASES = {"index": 250, "convert": 80, "labels": 120, "config": 250, "mask": 120, "model": 200}


@pytest.fixture(scope="module", params=TARGETS)
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """Give a target's name, folder, whole inputs and function."""
    folder = tmp_path_factory.mktemp(request.param)
    yield request.param, folder, *TARGETS[request.param](folder)


def damaged(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Damage a whole input: up to four places are overwritten, cut out, doubled or put in."""
    data = rng.choice(seeds)
    for _ in range(rng.randint(1, 4)):
        first = rng.randint(0, len(data))
        end = min(len(data), first + rng.choice([0, 1, 2, 4, 8, 64, 100_000]))
        put = rng.choice([rng.randbytes(rng.randint(0, 8)), data[first:end] * 2, b"\xff" * (end - first), b""])
        data = data[:first] + put + data[end:]
    return data


def checked(name: str, run: Run, folder: Path, data: bytes) -> None:
    """Read an input under all guards."""
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
    rng = random.Random(name)  # not Hypothesis, whose examples depend on what other tests have imported
    for case in range(CASES[name]):
        data = damaged(rng, seeds)
        try:
            checked(name, run, folder, data)
        except BaseException as error:
            error.add_note(f"case {case}: {data!r}")
            raise


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
    """Each guard stops the behaviour that the tests above would overlook without it."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/here").touch()
    (tmp_path / "inside").mkdir()
    with pytest.raises(ForbiddenError), guarded(tmp_path / "inside"):
        harm(tmp_path / "outside")
