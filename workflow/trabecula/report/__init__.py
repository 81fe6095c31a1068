"""Pages for people, and a gallery of pictures, made from the result tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from trabecula.report import (
    accuracy,
    brief,
    content,
    curves,
    detail,
    facts,
    figures,
    flowchart,
    overview,
    people,
    probability,
    published,
    study,
    summary,
    words,
)  # fmt: skip
from trabecula.report.cells import Table
from trabecula.report.checklists import checklists
from trabecula.report.content import Results, of_cohort, pooled, verdicts_of
from trabecula.report.curves import read_training
from trabecula.report.gallery import write_gallery
from trabecula.report.pages import inline, render
from trabecula.runtime.whole_file import whole_file

__all__ = [
    "COHORT_FIGURES", "FIGURES", "SUMMARY_FIGURES", "Report", "Results", "compose", "compose_summary", "of_cohort",
    "pooled", "read_training", "verdicts_of", "write", "write_gallery",
]  # fmt: skip

# What each figure shows, for those who can't see it.
FIGURES = {
    "flow": "Flow of series, studies and patients; the table below says the same",
    "roc": "ROC curves of the networks and HU alone; their areas stand in the study’s table",
    "agreement": "Predicted vBMD against QCT, and Bland-Altman plots; figures stand in the table of agreement",
    "calibration": "Share with reduced density by QCT against predicted probability; figures stand in the table below",
    "decision_curve": "Net benefit of network, HU alone, all and none by threshold probability",
    "classes": "Probability and vBMD by the network for each grade by QCT",
    "strata": "AUC and MAE of the network by stratum; the table below says the same",
    "distribution": "vBMD and HU by sex, and vBMD by age; the tables below give percentiles",
    "recalibration": "MAE by the number of local labels; the table below says the same",
    "learning": "Loss of the networks by epoch",
}
COHORT_FIGURES = tuple(name for name in FIGURES if name != "learning")
SUMMARY_FIGURES = ("roc", "agreement", "recalibration", "learning")


@dataclass(frozen=True)
class Report:
    """A cohort's page and its checklists as HTML, and its figures as SVG, by name."""

    page: str
    checklists: str
    figures: Mapping[str, str]


def compose(
    results: Results, *, cohort: str, title: str, reduced_below_mg_cm3: float, osteoporosis_below_mg_cm3: float
) -> Report:
    """Make a cohort's page; the same results give the same bytes.

    Parameters
    ----------
    results : Results
        Of one cohort.
    cohort : str
        Its name.
    title : str
        Heading.
    reduced_below_mg_cm3, osteoporosis_below_mg_cm3 : float
        Cuts between the grades (HA).
    """
    cuts = osteoporosis_below_mg_cm3, reduced_below_mg_cm3
    patients = people.frame(results.patients)
    drawn = draw(results, patients, cuts_mg_cm3=cuts, names=COHORT_FIGURES)
    lists = checklists(results, patients, cuts_mg_cm3=cuts)
    common = _common(results, title=f"{title}: {cohort}")
    page = render(
        "cohort.html.j2",
        **common,
        **_shared(results, patients, cuts),
        cohort=cohort,
        in_brief=brief.of_cohort(results, patients),
        figures=_inline(drawn),
        tables=page_tables(results) | patient_tables(results, patients),
        labelled=results.judged,
        measured=bool(patients["vbmd_mg_cm3"].notna().any()),
        checklists=lists,
    )
    return Report(page, render("checklists.html.j2", **common, checklists=lists, cohort=cohort), drawn)


def compose_summary(
    results: Results,
    by_cohort: Mapping[str, Mapping],
    *,
    title: str,
    reduced_below_mg_cm3: float,
    osteoporosis_below_mg_cm3: float,
) -> str:
    """Make the page over all cohorts.

    Parameters
    ----------
    results : Results
        Of all cohorts, with the statistics of `pooled`.
    by_cohort : mapping
        Statistics of each cohort (`of_cohort`), by its name.
    title, reduced_below_mg_cm3, osteoporosis_below_mg_cm3
        See `compose`.
    """
    cuts = osteoporosis_below_mg_cm3, reduced_below_mg_cm3
    patients = people.frame(results.patients)
    metrics = {name: statistics["metrics"].to_pylist() for name, statistics in by_cohort.items()}
    drawn = draw(results, patients, cuts_mg_cm3=cuts, names=SUMMARY_FIGURES)
    return render(
        "summary.html.j2",
        **_common(results, title=title),
        **_shared(results, patients, cuts),
        overviews=summary.overviews(patients, results.flow, results.failures, metrics),
        in_brief=brief.of_all(results, patients),
        figures=_inline(drawn),
        tables=page_tables(results),
        learned=results.training.num_rows > 0,
    )


def _common(results: Results, *, title: str) -> dict:
    return {"title": title, "synthetic": content.synthetic_note(results), "run": facts.run_facts(results.runs)}


def _shared(results: Results, patients: pd.DataFrame, cuts: tuple[float, float]) -> dict:
    present = {row["set"] for row in results.rows("metrics")}
    return {
        "cohorts": people.cohorts(patients),
        "cuts": cuts,
        "flow": results.flow.to_pylist(),
        "reason": words.reason,
        "sets": [(words.SET[name], words.SET_MEANS[name]) for name in words.SET if name in present],
        "labels_needed": detail.labels_needed(results.rows("recalibration")),
        "citation": published.CITATION,
        "losses": facts.losses(results.failures),
        "model": facts.model_facts(results.bundle),
    }


def _inline(drawn: Mapping[str, str]) -> dict:
    return {name: inline(svg, prefix=name, alt=FIGURES[name]) for name, svg in drawn.items()}


def page_tables(results: Results) -> dict[str, Table]:
    """Tables of statistics, by name; one without lines is left out of the page."""
    rows = results.rows
    metrics = rows("metrics")
    return {
        "study": study.study_table(metrics, published.ROWS),
        "verdicts": study.verdicts(rows("comparison")),
        "baselines": study.baselines_table(metrics),
        "differences": study.differences(rows("comparison")),
        "left_out": study.left_out(rows("left_out")),
        "agreement": accuracy.of_metrics(metrics, accuracy.AGREEMENT, "Agreement of vBMD with QCT, and of the grades"),
        "calibration": accuracy.of_metrics(metrics, accuracy.CALIBRATION, "Calibration of the probabilities"),
        "thresholds": accuracy.thresholds(rows("thresholds")),
        "reclassification": accuracy.reclassification(rows("reclassification")),
        "predictive_values": accuracy.predictive_values(rows("predictive_values")),
        "grades": accuracy.grades(rows("grades")),
        "strata": accuracy.strata(rows("strata")),
        "precision": accuracy.precision(rows("precision")),
        "decisions": detail.decisions(rows("decisions"), metrics),
        "abstentions": detail.abstentions(rows("abstentions")),
        "coverage": detail.coverage(rows("coverage")),
        "near_cuts": detail.near_cuts(rows("near_cuts")),
        "levels": detail.levels(rows("levels")),
        "devices": detail.devices(rows("spread"), metrics),
        "spread": detail.fold_spread(rows("spread")),
        "recalibration": detail.recalibration(rows("recalibration")),
    }


def patient_tables(results: Results, patients: pd.DataFrame) -> dict[str, Table]:
    """Tables about the patients of a cohort, labelled or not."""
    rows = results.rows("distribution")
    return {
        "prevalence": people.prevalence(rows),
        "vbmd": people.percentiles(rows, "vbmd_mg_cm3"),
        "hu": people.percentiles(rows, "trabecular_hu"),
        "quality": people.doubts(patients),
        "undecided": people.undecided(patients),
        "reviewers": people.verdicts(results.verdicts),
    }


def draw(
    results: Results, patients: pd.DataFrame, *, cuts_mg_cm3: tuple[float, float], names: tuple[str, ...]
) -> dict[str, str]:
    """Figures as SVG, by name."""
    note = "SYNTHETIC DATA" if content.synthetic_note(results) else ""
    rows, metrics = results.rows, results.rows("metrics")
    of = {
        "flow": lambda: flow(results, note),
        "roc": lambda: figures.roc_figure(results.frame("roc", *words.SHOWN), metrics, note=note),
        "agreement": lambda: figures.agreement_figure(
            results.frame("agreement", *figures.PLOTTED), metrics, cuts_mg_cm3=cuts_mg_cm3, note=note
        ),
        "calibration": lambda: probability.calibration_figure(rows("calibration_curve"), note=note),
        "decision_curve": lambda: probability.decision_figure(rows("decision_curve"), note=note),
        "classes": lambda: probability.classes_figure(patients, cuts_mg_cm3=cuts_mg_cm3, note=note),
        "strata": lambda: overview.strata_figure(rows("strata"), note=note),
        "distribution": lambda: overview.distribution_figure(patients, cuts_mg_cm3=cuts_mg_cm3, note=note),
        "recalibration": lambda: curves.recalibration_figure(rows("recalibration"), note=note),
        "learning": lambda: curves.learning_figure(results.training.to_pylist(), note=note),
    }
    return {name: of[name]() for name in names}


def flow(results: Results, note: str) -> str:
    """The flow of series, studies and patients as SVG."""
    charts = flowchart.charts(results.flow.to_pylist())
    width, height = flowchart.sheet(charts)
    return render("flow.svg.j2", charts=charts, width=width, height=height, note=note, c=flowchart)


def write(text: str, path: Path | str) -> None:
    """Write a whole text file in UTF-8."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
