"""The pages: what they must hold, and what they must never hold."""

import re
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import small_report
import yaml

from trabecula import tables
from trabecula.density.thresholds import Thresholds
from trabecula.errors import REASONS
from trabecula.report import agreement_figures, first_paragraph, flowchart, plot, wording
from trabecula.report import results as report_results
from trabecula.report.checklist_answers import ANSWERS
from trabecula.report.checklists import FILE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return small_report.everything(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def pages(outcome):
    return {name: small_report.compose(outcome, name) for name in small_report.ROLES}


@pytest.fixture(scope="module")
def summary(outcome):
    return small_report.summary(outcome)


class Page(HTMLParser):
    """A parsed page: tags left open, addresses, ids, and the alternative texts of images."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.ids, self.alt = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        by_name = dict(attrs)
        self.links += [by_name[name] for name in ("href", "src", "xlink:href") if name in by_name]
        self.ids += [by_name["id"]] if "id" in by_name else []
        self.alt += [by_name.get("alt")] if tag == "img" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_pages_are_small_whole_and_need_no_network(pages, summary):
    others = {"gallery/page_0001.html", "checklists.html", "index.html", "../../report/index.html"}
    others |= {f"../{name}/report/index.html" for name in pages}
    for page in [summary, *(composed.page for composed in pages.values())]:
        parsed = Page(page)
        assert len(page.encode()) < 3_000_000
        assert parsed.open == []
        assert len(parsed.ids) == len(set(parsed.ids))
        assert {link for link in parsed.links if not link.startswith("#")} <= others
        assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
        assert not re.search(r"<script[^>]+src|@import|url\((?!#)", page)


def test_links_of_the_checklists_lead_to_sections(pages):
    for composed in pages.values():
        anchors = {link.split("#")[1] for link in Page(composed.checklists).links if "#" in link}
        assert anchors <= set(Page(composed.page).ids)


def test_the_same_results_give_the_same_bytes(outcome, pages):
    assert small_report.compose(outcome, "clinic_b") == pages["clinic_b"]


def test_text_from_the_data_is_escaped(pages):
    assert "Bones &amp; &lt;more&gt;" in pages["clinic_a"].page


def test_a_page_says_what_the_tables_say_and_nothing_of_other_cohorts(outcome, pages):
    results, page = small_report.of_cohort(outcome, "clinic_b"), text_of(pages["clinic_b"].page)
    for row in results.rows("comparison"):
        if row["second"] in ("hu", "joint") or row["best_hu"]:
            assert row["sentence"].replace("'", "&#39;") in page
    for name in ("metrics", "decisions", "levels", "thresholds", "predictive_values", "precision"):
        for row in results.rows(name):
            if row.get("predictor") == "network" and row["metric"] in wording.METRICS and row["n"]:
                assert wording.estimate(row) in page
    for reason in {row["reason"] for row in results.failures.to_pylist()}:
        assert REASONS[reason].replace("'", "&#39;") in page
    for fact in ("demo-0123abcd", small_report.RUN["run_id"], "ro-crate-metadata.json", "research use only"):
        assert fact in page.lower()
    assert "clinic_a" not in page
    assert "Random grouping" not in page


def test_a_development_page_tells_the_protocol_and_the_study(pages):
    page = text_of(pages["clinic_a"].page)
    for text in ("Random grouping", "Leave one device out", "published, other data", "0.974"):
        assert text in page


def test_synthetic_is_said_wherever_figures_stand(pages, summary):
    for composed in pages.values():
        if "every patient here" in composed.page:
            assert all("SYNTHETIC DATA" in svg for svg in composed.figures.values() if 'id="axes' in svg)
    assert all('class="band"' in page for page in [summary, *(composed.page for composed in pages.values())])


def test_real_patients_and_model_are_not_called_synthetic(outcome, tmp_path):
    cast, statistics = outcome
    rows = [row | {"synthetic": False} for row in cast["patients"].to_pylist()]
    real = cast | {
        "patients": tables.cast(rows, tables.PATIENTS),
        "bundle": small_report.bundle(tmp_path, synthetic=False),
    }
    assert "SYNTHETIC" not in small_report.compose((real, statistics), "clinic_b").page


def test_cohorts_without_labels_or_results_have_their_report(pages):
    screening, nobody = text_of(pages["clinic_c"].page), text_of(pages["clinic_d"].page)
    assert "nothing on this page says how accurate" in screening
    assert "How common is reduced density?" in screening
    assert "Calibration" not in screening
    assert "No patient was measured" in nobody
    assert "No CT study was found" in nobody
    assert "clinic_d screening 0 0 – –" in re.sub(r"\s+", " ", nobody)
    assert "so there is no image" in nobody


def test_an_external_cohort_without_labels_is_not_judged(tmp_path):
    _, patients, _ = small_report.rows({"clinic_a": 20, "clinic_b": 20})
    bare = [row | (small_report.UNLABELLED if row["cohort"] == "clinic_b" else {}) for row in patients]
    page = small_report.compose(
        small_report.everything(tmp_path, {"clinic_a": 20, "clinic_b": 20}, patients=bare), "clinic_b"
    ).page
    assert "nothing on this page says how accurate" in text_of(page)
    assert 'href="#calibration"' not in page


def test_what_is_undefined_is_no_finding(tmp_path):
    """All patients have reduced density: nothing tells them from others."""
    _, patients, _ = small_report.rows({"clinic_a": 20, "clinic_b": 20})
    low = {"qct_vbmd_mg_cm3": 70.0, "qct_reduced": True}
    all_low = [
        row | (low if row["cohort"] == "clinic_b" and row["qct_reduced"] is not None else {}) for row in patients
    ]
    page = text_of(
        small_report.compose(
            small_report.everything(tmp_path, {"clinic_a": 20, "clinic_b": 20}, patients=all_low), "clinic_b"
        ).page
    )
    assert "For telling reduced from normal density the network and HU alone could not be compared" in page
    assert "the network misses the QCT value by" in page


def test_four_labelled_patients_are_too_few(tmp_path):
    assert "too few for any figure" in text_of(small_report.compose(_few(tmp_path), "clinic_b").page)


def _few(folder):
    return small_report.everything(folder, {"clinic_a": 20, "clinic_b": 4})


def test_the_summary_links_every_cohort(summary):
    for name in small_report.ROLES:
        assert f'href="../{name}/report/index.html"' in summary
    assert "How the networks learned" in summary


def test_pooled_rows_are_those_of_all_cohorts_or_of_the_only_one():
    rows = [("external", None), ("external", "a"), ("external", "b"), ("cross-validated", "c"), ("training", None)]
    names = ["set", "cohort"]
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    kept = report_results.pooled({"metrics": table})["metrics"].to_pylist()
    assert [tuple(row.values()) for row in kept] == [rows[0], rows[3], rows[4]]


def test_many_patients_are_drawn_small_and_without_names(outcome):
    rng = np.random.default_rng(1)
    qct = rng.normal(120, 30, 100_000)
    agreement = pd.DataFrame({"set": "external", "patient_id": "pa", "predictor": "network", "qct_vbmd_mg_cm3": qct,
                              "vbmd_mg_cm3": qct + rng.normal(0, 8, len(qct))})  # fmt: skip
    metrics = small_report.of_cohort(outcome, "clinic_b").rows("metrics")
    drawn = agreement_figures.agreement_figure(agreement, metrics, thresholds=Thresholds(), note="")
    assert len(drawn) < 600_000
    assert "<title>" not in drawn


def test_every_point_lies_where_its_axes_put_it():
    """The places of points are compared with those of the ticks, which matplotlib draws by itself."""
    with plot.mpl.rc_context(plot.style("x")):
        figure = plot.Figure(figsize=(3, 3))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 10), ylim=(0, 10))
        drawn = plot.svg(figure, "", [plot.Marks(axes, [2.5], [7.5], ["a & b"], "network")])
    assert 'cx="54.0" cy="54.0"' in drawn
    assert "<title>a &amp; b</title>" in drawn


def test_every_item_can_be_filled_by_a_function_that_exists():
    lists = yaml.safe_load(FILE.read_text())
    assert [len(guideline["items"]) for guideline in lists] == [52, 44]
    used = {item["fill"] for guideline in lists for item in guideline["items"] if "fill" in item}
    assert used == set(ANSWERS)


def test_boxes_of_the_flow_do_not_overlap(outcome):
    for chart in flowchart.charts(outcome[0]["flow"].to_pylist()):
        bottom = 0.0
        for box in chart.boxes:
            assert box.y > bottom
            bottom = box.y + box.height
            assert len(box.lost) * flowchart.LINE < box.height
        assert bottom < chart.height


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"metric": "auc", "value": 0.93, "low": 0.88, "high": 0.97}, "0.930 (0.880–0.970)"),
        ({"metric": "bias", "value": -2.0, "low": -4.0, "high": 1.0}, "−2.0 (−4.0 to 1.0)"),
        ({"metric": "bias", "value": -0.04, "low": -0.5, "high": 0.04}, "0.0 (−0.5 to 0.0)"),
        ({"metric": "f1", "value": 1.0, "low": None, "high": None}, "1.00"),
        ({"metric": "f1", "value": None, "low": None, "high": None}, "–"),
    ],
)
def test_figures_are_written_as_people_read_them(row, text):
    assert wording.estimate(row) == text


@pytest.mark.parametrize(("n", "thing", "text"), [(1, "study", "1 study"), (1200, "study", "1,200 studies"),
                                                  (2, "patient", "2 patients"), (3, "series", "3 series")])  # fmt: skip
def test_nouns_follow_their_number(n, thing, text):
    assert wording.counted(n, thing) == text


def test_each_figure_of_the_first_paragraph_has_its_own_number_of_patients():
    figure = {"set": "external", "metric": "mae", "value": 9.0, "low": 8.0, "high": 10.0}
    rows = [figure | {"predictor": "network", "n": 40}, figure | {"predictor": "hu", "n": 38}]
    results = SimpleNamespace(rows={"metrics": rows, "comparison": []}.get)
    (text,) = first_paragraph.against_qct(cast(report_results.Results, results))
    assert "40 patients with QCT: the network misses" in text and text.endswith("on average (in 38 patients).")


def test_what_could_not_be_compared_is_said_without_figures():
    figure = {"set": "external", "metric": "mae", "value": 9.0, "low": 8.0, "high": 10.0, "n": 6}
    rows = [figure | {"predictor": "network"}, figure | {"predictor": "hu"}]
    nothing = dict.fromkeys(("difference", "low", "high", "first_value", "second_value"))
    of_one_class = {"set": "external", "metric": "auc", "second": "hu_device", "best_hu": True} | nothing
    results = SimpleNamespace(rows={"metrics": rows, "comparison": [of_one_class]}.get)
    (text,) = first_paragraph.against_qct(cast(report_results.Results, results))
    assert "the network and a straight line from HU with corrections for tube voltage and contrast phase could" in text
