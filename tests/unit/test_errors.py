"""Reasons: every one that the code gives is known, and described."""

import ast
import pickle

import pytest

from trabecula.errors import FLAGS, REASONS, REPAIRS, StudyFailure
from trabecula.runtime.digest import PACKAGE


def given_reasons() -> set[str]:
    """List the first arguments of StudyFailure, where they are written out, over the whole package."""
    calls = [
        node
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "StudyFailure"
    ]
    first = [call.args[0] for call in calls if call.args]
    return {str(argument.value) for argument in first if isinstance(argument, ast.Constant)}


def test_every_reason_that_is_given_is_known():
    assert given_reasons() <= set(REASONS)
    assert "no_vertebra" in given_reasons()


def test_reasons_are_codes_with_a_sentence():
    for reason, meaning in [*REASONS.items(), *REPAIRS.items(), *FLAGS.items()]:
        assert reason.isidentifier() and reason.islower()
        assert meaning and not meaning.endswith(".") and "|" not in meaning


def test_an_unknown_reason_is_a_bug():
    with pytest.raises(KeyError, match="no_such_reason"):
        StudyFailure("no_such_reason")


def test_a_failure_says_why():
    failure = StudyFailure("truncated", "3 of 90 slices")
    assert (failure.reason, failure.detail) == ("truncated", "3 of 90 slices")
    assert str(failure) == "truncated: 3 of 90 slices"
    assert REASONS["truncated"] in str(StudyFailure("truncated"))


def test_a_failure_comes_whole_out_of_another_process():
    failure = pickle.loads(pickle.dumps(StudyFailure("truncated", "3 of 90 slices")))
    assert (failure.reason, failure.detail) == ("truncated", "3 of 90 slices")
