"""The first paragraph of a page: how many studies and patients, how accurate, against HU, and with what caution."""

from collections.abc import Mapping, Sequence

import pandas as pd

from trabecula.cohort import gone
from trabecula.report import wording
from trabecula.report.counts import Counts
from trabecula.report.page_table import groups, pick
from trabecula.report.results import PROTOCOL_SETS, Results, Row

# With fewer patients, figures against QCT mean very little.
FEW = 5
CAUTION = (
    "All of this is for research. The figures hold for these scanners and patients; another hospital has to check its "
    "own figures before it relies on them."
)
# The lines from HU that the network is compared with, as a sentence names them.
HU_LINE = {
    "hu": "HU alone",
    "hu_device": "a straight line from HU with corrections for tube voltage and contrast phase",
    "hu_age_sex": "a straight line from HU with corrections for age and sex",
}
# What each metric judges, as a verb and as a noun.
TASK = {
    "auc": ("tells reduced from normal density", "telling reduced from normal density"),
    "mae": ("measures vBMD", "measuring vBMD"),
}


def of_cohort(results: Results, patients: pd.DataFrame, n: Counts) -> list[str]:
    """Write the sentences about one cohort.

    Parameters
    ----------
    results : Results
        Of one cohort.
    patients : frame
        Of `results.patient_rows`.
    n : Counts
        Of the cohort.
    """
    return [*counts(n), *against_qct(results), *without_qct(results, patients), CAUTION]


def of_all(results: Results, n: Counts) -> list[str]:
    """Write the sentences about all cohorts together."""
    trained = any(row["set"] in PROTOCOL_SETS for row in results.rows("metrics"))
    compared = against_qct(results)
    if not compared and trained:
        compared = [
            "No patient of these cohorts has a QCT value; all figures of the model's accuracy come from its training."
        ]
    return [*counts(n), *compared, CAUTION]


def counts(n: Counts) -> list[str]:
    """Say how many studies and patients were found, were measured, and have a QCT value, and how many are gone."""
    sentences = ["No CT study was found."]
    if n.studies:
        were, have = "was" if n.studies == 1 else "were", "has" if n.results == 1 else "have"
        sentences = [
            f"{wording.counted(n.studies, 'CT study')} of {wording.counted(n.patients, 'patient')} {were} found; bone "
            f"density was measured in {wording.counted(n.measured, 'study')}, and "
            f"{wording.counted(n.results, 'patient')} {have} a result. Of these, {n.labelled:,} "
            f"{'has' if n.labelled == 1 else 'have'} a QCT value."
        ]
    if n.patients_in_several:
        sentences.append(
            f"{wording.counted(n.patients_in_several, 'patient')} and {wording.counted(n.studies_in_several, 'study')} "
            "stand in several cohorts; in these numbers each counts once."
        )
    if n.repeated_studies:
        sentences.append(
            f"{wording.counted(n.repeated_studies, 'further study')} with the pixels of another study, and "
            f"{wording.counted(n.repeated_patients, 'further patient id')} of people who are there under another id, "
            "are not counted."
        )
    return [*sentences, *filter(None, [gone.sentence(n.gone, n.known)])]


def against_qct(results: Results) -> list[str]:
    """Write the comparison with QCT, one text per set of patients of this run."""
    metrics, comparison = results.rows("metrics"), results.rows("comparison")
    sentences = []
    for name in wording.SETS_OF_THIS_RUN:
        mae = pick(metrics, set=name, predictor="network", metric="mae")
        if mae is None or not mae["n"]:
            continue
        if mae["n"] < FEW:
            sentences.append(
                f"{wording.SET[name]}: only {wording.counted(mae['n'], 'patient')} can be compared with QCT, too few "
                "for any figure to mean much."
            )
            continue
        shown = [row for row in comparison if row["set"] == name and (row["second"] == "hu" or row["best_hu"])]
        beside = [_network_and(second, rows) for (second,), rows in groups(shown, "second")]
        sentences.append(" ".join([_figures(name, metrics), *beside]))
    return sentences


def _network_and(second: str, rows: Sequence[Row]) -> str:
    """Say in which tasks the network is better or worse than a line from HU, one sentence per outcome."""
    sentences: list[str] = []
    for outcome in ("better", "worse", "same", "undefined"):
        of_outcome = [row for row in rows if row["metric"] in TASK and _outcome(row) == outcome]
        if of_outcome:
            sentences.append(_sentence(outcome, second, of_outcome))
    return " ".join(sentences)


def _sentence(outcome: str, second: str, rows: Sequence[Row]) -> str:
    verbs, nouns = (" and ".join(TASK[row["metric"]][form] for row in rows) for form in (0, 1))
    line = HU_LINE[second]
    # The figures of HU alone stand in the sentence before, and what could not be compared may have none.
    figures = "" if second == "hu" or outcome == "undefined" else f" ({', '.join(map(_better_first, rows))})"
    return {
        "better": f"The network {verbs} better than {line}{figures}.",
        "worse": f"{line[0].upper()}{line[1:]} {verbs} better than the network{figures}.",
        "same": f"For {nouns} no difference between the network and {line} was shown.",
        "undefined": f"For {nouns} the network and {line} could not be compared.",
    }[outcome]


def _better_first(row: Row) -> str:
    """Write the two figures of a comparison, such as ``mean error 3.0 against 5.9 mg/cm³ HA``."""
    metric = wording.METRICS[row["metric"]]
    higher, lower = (
        wording.number(value, metric.digits)
        for value in sorted((row["first_value"], row["second_value"]), reverse=True)
    )
    if row["metric"] == "auc":
        return f"AUC {higher} against {lower}"
    return f"mean error {lower} against {higher} {metric.unit}"


def _outcome(row: Row) -> str:
    """Tell whether the network is better or worse than the other predictor by its interval."""
    if row["difference"] is None:
        return "undefined"
    if row["low"] is None or row["high"] is None or row["low"] <= 0 <= row["high"]:
        return "same"
    return "better" if (row["difference"] > 0) == (row["metric"] == "auc") else "worse"


def _figures(name: str, metrics: Sequence[Row]) -> str:
    """Write the figures of the network and of HU alone, whose numbers of patients may differ."""
    clauses: dict[str, int] = {}
    for predictor, subject in (("network", "the network"), ("hu", "HU alone")):
        auc, mae = (pick(metrics, set=name, predictor=predictor, metric=metric) for metric in ("auc", "mae"))
        parts = []
        if auc is not None and auc["value"] is not None:
            parts.append(f"tells reduced from normal density with an AUC of {wording.estimate(auc)}")
        if mae is not None and mae["value"] is not None:
            parts.append(f"misses the QCT value by {wording.estimate(mae)} {wording.MG_CM3} on average")
        if parts:
            clauses[f"{subject} {' and '.join(parts)}"] = max(row["n"] for row in (auc, mae) if row is not None)
    most = max(clauses.values())
    texts = [text if n == most else f"{text} (in {wording.counted(n, 'patient')})" for text, n in clauses.items()]
    return f"{wording.SET[name]}, {wording.counted(most, 'patient')} with QCT: {'; '.join(texts)}."


def without_qct(results: Results, patients: pd.DataFrame) -> list[str]:
    """Write what holds without QCT values: how common reduced density is, and how many decisions were withheld."""
    measured = patients["vbmd_mg_cm3"].notna()
    if not measured.any():
        below = "; it shows below what dropped out, and why" if results.failures.num_rows else ""
        return [f"No patient was measured, so this page shows nothing about bone density{below}."]
    undecided = int(patients.loc[measured, "decision"].isin(list(wording.NO_DECISION)).sum())
    sentences = [
        *_prevalence(results.rows("distribution")),
        f"No decision was made for {wording.counted(undecided, 'patient')} of the {int(measured.sum()):,} measured.",
    ]
    if not results.judged:
        labelled = (measured & patients["qct_vbmd_mg_cm3"].notna()).any()
        why = (
            "Patients of a screening cohort are not compared with QCT"
            if labelled
            else "No patient here has a QCT value"
        )
        sentences.append(f"{why}, so nothing on this page says how accurate the results are.")
    return sentences


def _prevalence(distribution: Sequence[Row]) -> list[str]:
    """Say how common reduced density and osteoporosis are by the network; give nothing where no share is known."""
    shares = {row["quantity"]: row for row in distribution if row["stratum"] == "all"}
    named = {"reduced": "reduced density", "osteoporosis": "osteoporosis"}
    texts = [
        f"{name} in {_share(shares[quantity])}"
        for quantity, name in named.items()
        if quantity in shares and shares[quantity]["value"] is not None
    ]
    return [f"By the network there is {' and '.join(texts)} of the measured patients."] if texts else []


def _share(row: Mapping) -> str:
    ends = "" if row["low"] is None else f" ({100 * row['low']:.1f}–{100 * row['high']:.1f})"
    return f"{wording.percent(row['value'])}{ends}"
