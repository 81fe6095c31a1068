"""One page for people, and a gallery of pictures, made from the result tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trabecula import tables
from trabecula.report import content, curves, detail, figures, flowchart, published, study, words
from trabecula.report.cells import Table
from trabecula.report.content import Results
from trabecula.report.curves import read_training
from trabecula.report.gallery import write_gallery
from trabecula.report.pages import inline, render

__all__ = ["Report", "Results", "compose", "read_training", "write", "write_gallery"]


@dataclass(frozen=True)
class Report:
    """The page as HTML and its figures as SVG, by name."""

    page: str
    figures: Mapping[str, str]


def compose(results: Results, *, title: str, reduced_below_mg_cm3: float, osteoporosis_below_mg_cm3: float) -> Report:
    """Make the page; the same results give the same bytes.

    Parameters
    ----------
    results : Results
    title : str
        Heading.
    reduced_below_mg_cm3, osteoporosis_below_mg_cm3 : float
        Cuts between the grades (HA).
    """
    cuts = osteoporosis_below_mg_cm3, reduced_below_mg_cm3
    drawn = draw(results, cuts_mg_cm3=cuts)
    present = {row["set"] for row in results.rows("metrics")}
    page = render(
        "index.html.j2",
        title=title,
        synthetic=content.synthetic_note(results),
        in_brief=content.in_brief(results),
        cohorts=content.cohorts(results.patients),
        cuts=cuts,
        figures={name: inline(svg, prefix=name) for name, svg in drawn.items()},
        flow=results.rows("flow"),
        reason=words.reason,
        sets=[(words.SET[name], words.SET_MEANS[name]) for name in words.SET if name in present],
        tables=page_tables(results),
        labels_needed=detail.labels_needed(results.rows("recalibration")),
        citation=published.CITATION,
        losses=content.losses(results.failures),
        learned=results.training.num_rows > 0,
        model=content.model_facts(results.bundle),
        run=content.run_facts(results.runs),
    )
    return Report(page, drawn)


def page_tables(results: Results) -> dict[str, Table]:
    """Tables of statistics, by name; one without lines is left out of the page."""
    rows = results.rows
    return {
        "study": study.study_table(rows("metrics"), published.ROWS),
        "verdicts": study.verdicts(rows("comparison")),
        "baselines": study.baselines_table(rows("metrics")),
        "differences": study.differences(rows("comparison")),
        "left_out": study.left_out(rows("left_out")),
        "decisions": detail.decisions(rows("decisions"), rows("metrics")),
        "abstentions": detail.abstentions(rows("abstentions")),
        "coverage": detail.coverage(rows("coverage")),
        "near_cuts": detail.near_cuts(rows("near_cuts")),
        "levels": detail.levels(rows("levels")),
        "devices": detail.devices(rows("spread"), rows("metrics")),
        "spread": detail.fold_spread(rows("spread")),
        "recalibration": detail.recalibration(rows("recalibration")),
    }


def draw(results: Results, *, cuts_mg_cm3: tuple[float, ...]) -> dict[str, str]:
    """Figures as SVG: flow, roc, agreement, recalibration and learning."""
    note = "SYNTHETIC DATA" if content.synthetic_note(results) else ""
    charts = flowchart.charts(results.rows("flow"))
    width, height = flowchart.sheet(charts)
    metrics = results.rows("metrics")
    return {
        "flow": render("flow.svg.j2", charts=charts, width=width, height=height, note=note, c=flowchart),
        "roc": figures.roc_figure(results.rows("roc"), metrics, note=note),
        "agreement": figures.agreement_figure(results.rows("agreement"), metrics, cuts_mg_cm3=cuts_mg_cm3, note=note),
        "recalibration": curves.recalibration_figure(results.rows("recalibration"), note=note),
        "learning": curves.learning_figure(results.training.to_pylist(), note=note),
    }


def write(text: str, path: Path | str) -> None:
    """Write a text file beside first, then renamed."""
    path = Path(path)
    part = tables.beside(path)
    part.write_text(text, encoding="utf-8")
    part.replace(path)
