"""How often the network decides, and how right it is when it does."""

from collections.abc import Iterator
from typing import Any

from trabecula.evaluate.discrimination import proportions, wilson
from trabecula.evaluate.metrics import figure
from trabecula.evaluate.sets import NETWORK, Group

DECIDED = ("normal", "reduced")


def decisions(group: Group) -> Iterator[dict[str, Any]]:
    """Rows of the table decisions.

    Stands on labelled patients with a prediction by the network: the same patients as its other figures, which
    abstain from nothing.

    Parameters
    ----------
    group : Group
        A set of patients of the run's cohorts.
    """
    own = group.patients[group.classified(NETWORK)]
    decided = own[own["decision"].isin(DECIDED)]
    found = proportions(decided["qct_reduced"].to_numpy(bool), (decided["decision"] == "reduced").to_numpy(bool))
    for metric, estimate in {"abstention": wilson(len(own) - len(decided), len(own)), **found}.items():
        yield figure(metric, estimate)


def abstentions(group: Group) -> Iterator[dict[str, Any]]:
    """Rows of the table abstentions: patients of the set without a decision, labelled or not, by reason."""
    undecided = group.patients[~group.patients["decision"].isin(DECIDED) & ~group.patients["left_out"]]
    for (decision, reason), n in undecided.groupby(["decision", "decision_reason"]).size().items():  # pyright: ignore[reportGeneralTypeIssues]
        yield {"decision": decision, "reason": reason, "n": int(n)}
