"""Decisions of the network: how often it decides, how often it is right then, and why it abstains."""

from collections.abc import Iterator
from typing import Any

from trabecula.evaluate.discrimination import proportions, wilson
from trabecula.evaluate.metrics import figure
from trabecula.evaluate.sets import NETWORK, Group

DECIDED = ("normal", "reduced")


def decisions(group: Group) -> Iterator[dict[str, Any]]:
    """List the rows of the table decisions.

    They stand on labelled patients with a prediction by the network: the same patients as its other figures, for which
    it never abstains.

    Parameters
    ----------
    group : Group
        A set of patients of the run's cohorts.
    """
    patients = group.patients[group.classified(NETWORK)]
    decided = patients[patients["decision"].isin(DECIDED)]
    shares = proportions(decided["qct_reduced"].to_numpy(bool), (decided["decision"] == "reduced").to_numpy(bool))
    abstention = wilson(len(patients) - len(decided), len(patients))
    for metric, estimate in {"abstention": abstention, **shares}.items():
        yield figure(metric, estimate)


def abstentions(group: Group) -> Iterator[dict[str, Any]]:
    """List the rows of the table abstentions: patients of the set without a decision, labelled or not, by reason."""
    undecided = group.patients[~group.patients["decision"].isin(DECIDED) & ~group.patients["left_out"]]
    for (decision, reason), n in undecided.groupby(["decision", "decision_reason"]).size().items():  # pyright: ignore[reportGeneralTypeIssues]
        yield {"decision": decision, "reason": reason, "n": int(n)}
