"""The first paragraph: who, how many, how good, against HU, and what to keep in mind."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa

from trabecula.evaluate.comparison import CALLED, TASKS
from trabecula.report import words
from trabecula.report.cells import Row, pick
from trabecula.report.content import OF_PROTOCOL, Results

# Below this, figures against QCT say next to nothing.
FEW = 5


def of_cohort(results: Results, patients: pd.DataFrame) -> list[str]:
    """Plain sentences about one cohort.

    Parameters
    ----------
    results : Results
        Of one cohort.
    patients : frame
        Of `people.frame`.
    """
    return [found(results.flow, patients), *against_qct(results), *without_qct(results, patients), CAVEAT]


CAVEAT = (
    "Everything here is for research. The figures hold for these scanners and patients; another hospital has to look "
    "at its own before it trusts them."
)


def found(flow: pa.Table, patients: pd.DataFrame) -> str:
    """How many studies and patients there are and have a result."""
    n: Counter[tuple[str, str]] = Counter()
    for row in flow.to_pylist():
        if row["reason"] is None:
            n[row["unit"], row["step"]] += row["n"]
    measured = patients["vbmd_mg_cm3"].notna()
    labelled = int((measured & patients["qct_vbmd_mg_cm3"].notna()).sum())
    return (
        f"{words.counted(n['studies', 'found'], 'CT study')} of {words.counted(n['patients', 'found'], 'patient')} "
        f"were found; bone density was measured in {words.counted(n['studies', 'measured'], 'study')}, and "
        f"{words.counted(int(measured.sum()), 'patient')} have a result. Of these, {labelled:,} have a QCT value."
    )


def against_qct(results: Results) -> list[str]:
    """A sentence per set of patients of this run."""
    metrics, outcomes = results.rows("metrics"), results.rows("comparison")
    sentences = []
    for name in words.OWN_SETS:
        figures = {metric: pick(metrics, set=name, predictor="network", metric=metric) for metric in ("auc", "mae")}
        if figures["mae"] is None or not figures["mae"]["n"]:
            continue
        if figures["mae"]["n"] < FEW:
            n = words.counted(figures["mae"]["n"], "patient")
            sentences.append(
                f"{words.SET[name]}: only {n} can be compared with QCT, too few for any figure to mean much."
            )
            continue
        own = [row for row in outcomes if row["set"] == name and (row["second"] == "hu" or row["best_hu"])]
        others = list(dict.fromkeys(row["second"] for row in own))
        told = [_beside(other, [row for row in own if row["second"] == other]) for other in others]
        sentences.append(" ".join([_figures(name, metrics), *told]))
    return sentences


def _beside(other: str, rows: Sequence[Row]) -> str:
    """Whether the network is better than another predictor, in one sentence."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["metric"] in ("auc", "mae"):
            found.setdefault(_outcome(row), []).append(TASKS[row["metric"]])
    told = ", and ".join(f"{outcome} {' and '.join(tasks)}" for outcome, tasks in sorted(found.items()))
    return f"Beside {CALLED[other]} it is {told}."


def _outcome(row: Row) -> str:
    if row["difference"] is None:
        return "not to be compared"
    if row["low"] is None or row["high"] is None or row["low"] <= 0 <= row["high"]:
        return "not shown to differ"
    return "better" if (row["difference"] > 0) == (row["metric"] == "auc") else "worse"


def _figures(name: str, metrics: Sequence[Row]) -> str:
    """Figures of the network and of HU alone; HU is known of fewer or more patients than the network's value."""
    both: dict[str, int] = {}
    for predictor, called in (("network", "the network"), ("hu", "HU alone")):
        auc, mae = (pick(metrics, set=name, predictor=predictor, metric=metric) for metric in ("auc", "mae"))
        told = []
        if auc is not None and auc["value"] is not None:
            told.append(f"tells reduced from normal density with an AUC of {words.estimate(auc)}")
        if mae is not None and mae["value"] is not None:
            told.append(f"misses the QCT value by {words.estimate(mae)} {words.MG_CM3} on average")
        if told:
            both[f"{called} {' and '.join(told)}"] = max(row["n"] for row in (auc, mae) if row is not None)
    n = max(both.values())
    said = [told if own == n else f"{told} (in {words.counted(own, 'patient')})" for told, own in both.items()]
    return f"{words.SET[name]}, {words.counted(n, 'patient')} with QCT: {'; '.join(said)}."


def without_qct(results: Results, patients: pd.DataFrame) -> list[str]:
    """What can be said where nothing is labelled: how common reduced density is, and what the model was worth."""
    measured = patients["vbmd_mg_cm3"].notna()
    if not measured.any():
        return ["No patient was measured, so nothing can be said about bone density; what dropped out is told below."]
    rows = results.rows("distribution")
    shares = {row["quantity"]: row for row in rows if row["stratum"] == "all"}
    said = [
        f"{'reduced density' if quantity == 'reduced' else quantity} in {_share(shares[quantity])}"
        for quantity in ("reduced", "osteoporosis")
        if quantity in shares and shares[quantity]["value"] is not None
    ]
    sentences = [f"By the network there is {' and '.join(said)} of the measured patients."] if said else []
    undecided = int(patients.loc[measured, "decision"].isin(["indeterminate", "not_evaluable"]).sum())
    sentences.append(
        f"{words.counted(undecided, 'measured patient')} of {int(measured.sum()):,} are left without a decision."
    )
    if not results.judged:
        labelled = (measured & patients["qct_vbmd_mg_cm3"].notna()).any()
        why = (
            "Patients of a screening cohort are not compared with QCT"
            if labelled
            else "No patient here has a QCT value"
        )
        sentences.append(f"{why}, so nothing on this page says how right the results are.")
    return sentences


def _share(row: Mapping) -> str:
    ends = "" if row["low"] is None else f" ({100 * row['low']:.1f}–{100 * row['high']:.1f})"
    return f"{words.percent(row['value'])}{ends}"


def of_all(results: Results, patients: pd.DataFrame) -> list[str]:
    """Plain sentences about all cohorts together."""
    told = [row for row in results.rows("metrics") if row["set"] in OF_PROTOCOL]
    sentences = [found(results.flow, patients), *against_qct(results)]
    if len(sentences) == 1 and told:
        sentences.append(
            "No patient of these cohorts has a QCT value; what is known of the model comes from its training."
        )
    return [*sentences, CAVEAT]
