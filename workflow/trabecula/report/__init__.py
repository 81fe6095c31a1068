"""Pages for people, and a gallery of images, made from the result tables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from trabecula.density.thresholds import Thresholds
from trabecula.report import (
    accuracy_tables,
    agreement_figures,
    comparison_tables,
    decision_tables,
    device_tables,
    distribution_figures,
    first_paragraph,
    flowchart,
    learning_figures,
    model_and_run,
    patient_tables,
    probability_figures,
    reference_study,
    summary,
    wording,
)  # fmt: skip
from trabecula.report.checklists import checklists
from trabecula.report.counts import count, people
from trabecula.report.failures import losses
from trabecula.report.gallery import has_cards, write_gallery
from trabecula.report.learning_figures import read_training
from trabecula.report.page_table import Table
from trabecula.report.pages import inline, render
from trabecula.report.removed import remove_reports
from trabecula.report.results import Results, of_cohort, patient_rows, pooled, synthetic_note, verdicts_of
from trabecula.runtime.whole_file import whole_file

__all__ = [
    "COHORT_FIGURES", "FIGURES", "REPORT_FILES", "SUMMARY_FIGURES", "Report", "Results", "compose", "compose_summary",
    "of_cohort", "pooled", "read_training", "remove_reports", "verdicts_of", "write", "write_gallery",
]  # fmt: skip

# What each figure shows, read aloud to those who can't see it.
FIGURES = {
    "flow": "Flow of series, studies and patients; the table below gives the same numbers",
    "roc": "ROC curves of the networks and HU alone; the table of the reference study gives the areas under them",
    "agreement": "Predicted vBMD against QCT, and Bland-Altman plots; the table of agreement gives the figures",
    "calibration": "Share with reduced density by QCT against predicted probability; the table below gives the figures",
    "decision_curve": "Net benefit by threshold probability of the network, HU alone, and calling all or none reduced",
    "classes": "Probability and vBMD by the network for each grade by QCT",
    "strata": "AUC and MAE of the network by stratum; the table below gives the same figures",
    "distribution": "vBMD and HU by sex, and vBMD by age; the tables below give percentiles",
    "recalibration": "MAE by the number of local labels; the table below gives the same figures",
    "learning": "Loss of the networks by epoch",
}
COHORT_FIGURES = tuple(name for name in FIGURES if name != "learning")
# Files of a cohort's report, beside its gallery.
REPORT_FILES = ("index.html", "checklists.html", *(f"{name}.svg" for name in COHORT_FIGURES))
SUMMARY_FIGURES = ("roc", "agreement", "recalibration", "learning")


@dataclass(frozen=True)
class Report:
    """A cohort's page and its checklists as HTML, and its figures as SVG, by name."""

    page: str
    checklists: str
    figures: Mapping[str, str]


def compose(results: Results, *, cohort: str, title: str, thresholds: Thresholds) -> Report:
    """Make a cohort's page; the same results give the same bytes.

    Parameters
    ----------
    results : Results
        Of one cohort.
    cohort : str
        Its name.
    title : str
        Heading.
    thresholds : Thresholds
        Between the grades.
    """
    patients = people(results.studies, patient_rows(results.patients))
    n = count(results.studies, patients)
    figures = draw(results, patients, thresholds=thresholds, names=COHORT_FIGURES)
    lists = checklists(results, patients, thresholds=thresholds)
    common = _common(results, title=f"{title}: {cohort}")
    page = render(
        "cohort.html.j2",
        **common,
        **_shared(results, patients, thresholds),
        cohort=cohort,
        first_paragraph=first_paragraph.of_cohort(results, patients, n),
        figures=_inline(figures),
        tables=page_tables(results) | tables_of_patients(results, patients),
        judged=results.judged,
        measured=bool(n.results),
        pictured=has_cards(results),
        checklists=lists,
    )
    return Report(page, render("checklists.html.j2", **common, checklists=lists, cohort=cohort), figures)


def compose_summary(results: Results, by_cohort: Mapping[str, Mapping], *, title: str, thresholds: Thresholds) -> str:
    """Make the page over all cohorts.

    Parameters
    ----------
    results : Results
        Of all cohorts, with the statistics of `pooled`.
    by_cohort : mapping
        Statistics of each cohort (`of_cohort`), by its name.
    title, thresholds
        See `compose`.
    """
    patients = people(results.studies, patient_rows(results.patients))
    metrics = {name: statistics["metrics"].to_pylist() for name, statistics in by_cohort.items()}
    figures = draw(results, patients, thresholds=thresholds, names=SUMMARY_FIGURES)
    return render(
        "summary.html.j2",
        **_common(results, title=title),
        **_shared(results, patients, thresholds),
        overviews=summary.overviews(results, patients, metrics),
        first_paragraph=first_paragraph.of_all(results, count(results.studies, patients)),
        figures=_inline(figures),
        tables=page_tables(results),
        trained=results.training.num_rows > 0,
    )


def _common(results: Results, *, title: str) -> dict:
    """Give what all pages need."""
    return {"title": title, "synthetic": synthetic_note(results), "run": model_and_run.run_facts(results.runs)}


def _shared(results: Results, patients: pd.DataFrame, thresholds: Thresholds) -> dict:
    """Give what a cohort's page and the summary need."""
    present = {row["set"] for row in results.rows("metrics")}
    return {
        "cohorts": patient_tables.cohorts(patients, results.roles),
        "thresholds": thresholds,
        "flow": results.flow.to_pylist(),
        "reason": wording.reason,
        "sets": [(wording.SET[name], wording.SET_MEANS[name]) for name in wording.SET if name in present],
        "labels_needed": device_tables.labels_needed(results.rows("recalibration")),
        "citation": reference_study.CITATION,
        "losses": losses(results.failures),
        "model": model_and_run.model_facts(results.bundle),
    }


def _inline(figures: Mapping[str, str]) -> dict:
    return {name: inline(svg, prefix=name, alt=FIGURES[name]) for name, svg in figures.items()}


def page_tables(results: Results) -> dict[str, Table]:
    """Make the tables of statistics, by name; the page leaves out a table without lines."""
    rows = results.rows
    metrics, comparison = rows("metrics"), rows("comparison")
    accuracy, decision = accuracy_tables, decision_tables
    return {
        "reference_study": comparison_tables.reference_study_table(metrics, reference_study.ROWS),
        "outcomes": comparison_tables.outcomes(comparison),
        "baselines": comparison_tables.baselines_table(metrics),
        "differences": comparison_tables.differences(comparison),
        "left_out": comparison_tables.left_out(rows("left_out")),
        "agreement": accuracy.of_metrics(metrics, accuracy.AGREEMENT, "Agreement of vBMD with QCT, and of the grades"),
        "calibration": accuracy.of_metrics(metrics, accuracy.CALIBRATION, "Calibration of the probabilities"),
        "thresholds": accuracy.thresholds(rows("thresholds")),
        "reclassification": accuracy.reclassification(rows("reclassification")),
        "predictive_values": accuracy.predictive_values(rows("predictive_values")),
        "grades": accuracy.grades(rows("grades")),
        "strata": accuracy.strata(rows("strata")),
        "precision": accuracy.precision(rows("precision")),
        "decisions": decision.decisions(rows("decisions"), metrics),
        "abstentions": decision.abstentions(rows("abstentions")),
        "coverage": decision.coverage(rows("coverage")),
        "near_threshold": decision.near_threshold(rows("near_cuts")),
        "levels": decision.levels(rows("levels")),
        "devices": device_tables.devices(rows("spread"), metrics),
        "fold_variability": device_tables.fold_variability(rows("spread")),
        "recalibration": device_tables.recalibration(rows("recalibration")),
    }


def tables_of_patients(results: Results, patients: pd.DataFrame) -> dict[str, Table]:
    """Make the tables about the patients of a cohort, with or without QCT values, by name."""
    rows = results.rows("distribution")
    return {
        "prevalence": patient_tables.prevalence(rows),
        "vbmd": patient_tables.percentiles(rows, "vbmd_mg_cm3"),
        "hu": patient_tables.percentiles(rows, "trabecular_hu"),
        "quality": patient_tables.quality(patients),
        "all_decisions": patient_tables.decisions(patients),
        "verdicts": patient_tables.verdicts(results.verdicts),
    }


def draw(results: Results, patients: pd.DataFrame, *, thresholds: Thresholds, names: tuple[str, ...]) -> dict[str, str]:
    """Draw figures as SVG, by name."""
    note = "SYNTHETIC DATA" if synthetic_note(results) else ""
    rows, metrics = results.rows, results.rows("metrics")
    frames = {"roc": wording.MAIN_PREDICTORS, "agreement": wording.NETWORK_AND_HU}
    agreement, probability, distribution = agreement_figures, probability_figures, distribution_figures
    drawings: dict[str, Callable[[], str]] = {
        "flow": lambda: flow(results, note),
        "roc": lambda: agreement.roc_figure(results.frame("roc", *frames["roc"]), metrics, note=note),
        "agreement": lambda: agreement.agreement_figure(
            results.frame("agreement", *frames["agreement"]), metrics, thresholds=thresholds, note=note
        ),
        "calibration": lambda: probability.calibration_figure(rows("calibration_curve"), note=note),
        "decision_curve": lambda: probability.decision_figure(rows("decision_curve"), note=note),
        "classes": lambda: probability.classes_figure(patients, thresholds=thresholds, note=note),
        "strata": lambda: distribution.strata_figure(rows("strata"), note=note),
        "distribution": lambda: distribution.distribution_figure(patients, thresholds=thresholds, note=note),
        "recalibration": lambda: learning_figures.recalibration_figure(rows("recalibration"), note=note),
        "learning": lambda: learning_figures.learning_figure(results.training.to_pylist(), note=note),
    }
    return {name: drawings[name]() for name in names}


def flow(results: Results, note: str) -> str:
    """Draw the flow of series, studies and patients as SVG."""
    charts = flowchart.charts(results.flow.to_pylist())
    width, height = flowchart.sheet(charts)
    return render("flow.svg.j2", charts=charts, width=width, height=height, note=note, sizes=flowchart)


def write(text: str, path: Path | str) -> None:
    """Write a whole text file in UTF-8."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
