"""One page for people, and a gallery of pictures, made from the result tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trabecula import tables
from trabecula.report import content, figures, flowchart, published, words
from trabecula.report.content import Results
from trabecula.report.gallery import write_gallery
from trabecula.report.pages import inline, render

__all__ = ["Report", "Results", "compose", "write", "write_gallery"]


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
    synthetic = content.synthetic_note(results)
    drawn = draw(results, cuts_mg_cm3=(osteoporosis_below_mg_cm3, reduced_below_mg_cm3))
    metrics = results.rows("metrics")
    page = render(
        "index.html.j2",
        title=title,
        synthetic=synthetic,
        in_brief=content.in_brief(results),
        cohorts=content.cohorts(results.patients),
        cuts=(reduced_below_mg_cm3, osteoporosis_below_mg_cm3),
        figures={name: inline(svg, prefix=name) for name, svg in drawn.items()},
        flow=results.rows("flow"),
        reason=words.reason,
        sets=[(words.SET[name], words.SET_MEANS[name]) for name in words.SET if any(r["set"] == name for r in metrics)],
        tables=[
            (heading, [words.METRICS[name] for name in names], content.study_table(metrics, published.ROWS, names))
            for heading, names in (
                (f"Reduced density (vBMD below {reduced_below_mg_cm3:g} {words.MG_CM3}) or not", words.CLASSIFICATION),
                ("vBMD", words.REGRESSION),
            )
        ],
        citation=published.CITATION,
        comparisons=content.comparisons(results.rows("comparison")),
        left_out=content.left_out(results.rows("left_out")),
        losses=content.losses(results.failures),
        model=content.model_facts(results.bundle),
        run=content.run_facts(results.runs),
    )
    return Report(page, drawn)


def draw(results: Results, *, cuts_mg_cm3: tuple[float, ...]) -> dict[str, str]:
    """Figures as SVG: flow, roc and agreement."""
    note = "SYNTHETIC DATA" if content.synthetic_note(results) else ""
    charts = flowchart.charts(results.rows("flow"))
    width, height = flowchart.sheet(charts)
    metrics = results.rows("metrics")
    return {
        "flow": render("flow.svg.j2", charts=charts, width=width, height=height, note=note, c=flowchart),
        "roc": figures.roc_figure(results.rows("roc"), metrics, note=note),
        "agreement": figures.agreement_figure(results.rows("agreement"), metrics, cuts_mg_cm3=cuts_mg_cm3, note=note),
    }


def write(text: str, path: Path | str) -> None:
    """Write a text file beside first, then renamed."""
    path = Path(path)
    part = tables.beside(path)
    part.write_text(text, encoding="utf-8")
    part.replace(path)
