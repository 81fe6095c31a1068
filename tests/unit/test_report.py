"""The page and the gallery: what they must hold, and what they must never hold."""

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_study import LOST, empty, fold_of, lines, patient, protocol, study, training, vertebra

from trabecula import evaluate, report, tables
from trabecula.bundle import Bundle, Roi
from trabecula.errors import REASONS
from trabecula.report import figures, flowchart, words
from trabecula.uncertainty import Cuts, Experience, Reference, Temperature, Uncertainty, Width

CUTS = {"reduced_below_mg_cm3": 120.0, "osteoporosis_below_mg_cm3": 80.0}
COHORTS = {"clinic_a": ("development", 20), "clinic_b": ("external", 15)}


def bundle(tmp_path, synthetic=True, hu_lines=()):
    experience = Experience(("Maker|One|120|B30f",), None, None, None, None, 8.0, 25.0, 40)
    widths = (Width("all patients", 14.2, 40), Width("native, 111-130 kV", None, 3))
    reference = Reference(None, Temperature(1.1, 40, None), Cuts(0.4, 0.6, 20, 20), widths, experience)
    return Bundle(
        folder=tmp_path,
        name="demo",
        model_id="demo-0123abcd",
        synthetic=synthetic,
        tasks=("classification", "regression", "joint"),
        folds=tuple(range(5)),
        network={},
        roi=Roi(64, 1.0, (-200.0, 600.0)),
        scan_inputs=("kvp", "phase"),
        baselines=hu_lines,
        uncertainty=Uncertainty((reference,)),
        sha256={},
    )


RUN = {
    "run_id": "0f" * 8,
    "started": datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
    "finished": datetime(2025, 1, 2, 3, 5, 6, tzinfo=UTC),
    "version": "0.1.0",
    "commit": "ab" * 20,
    "config_hash": "cd" * 32,
    "code": "{}",
    "model_id": "demo-0123abcd",
    "packages": json.dumps({"torch": "2.13.0", "monai": "1.6.1"}),
}


def cohort_rows(rng):
    """Studies, patients and vertebrae of both cohorts; one scan fails, one has no vertebra, one is uncertain."""
    studies, patients, vertebrae = [], [], []
    for cohort, (role, n) in COHORTS.items():
        for i in range(n):
            fate = {}
            if i == 3:
                fate = {"status": "failed", "stage": "convert", "reason": "missing_slices"}
            if i == 7:
                fate = {"status": "rejected", "stage": "index", "reason": "no_acceptable_series"}
            made = study(cohort, i, **fate)
            studies.append(made)
            lost = LOST | {"decision_reason": fate.get("reason")} if fate else {}
            patients.append(patient(made, role, rng, **lost))
            if not fate:
                vertebrae += [
                    vertebra(made, level, level_uncertain=i == 5, flags=["metal"] if i == 6 else [])
                    for level in ("T12", "L1", "L2", "L3")
                ]
    return studies, patients, vertebrae


def series_of(studies):
    """One accepted series per accepted study, and dirt."""
    required = {
        "stack": 0,
        "n_slices": 120,
        "series_uid": "2.25.1",
        "n_damaged": 0,
        "n_odd": 0,
        "gates": [],
        "flags": [],
    }
    for of in studies:
        keys = {name: of[name] for name in ("cohort", "patient_id", "study_id")}
        rejected = of["status"] == "rejected"
        yield empty(tables.SERIES, **keys, **required, series_id="se", accepted=not rejected,
                    reason="too_thick" if rejected else None)  # fmt: skip
        for reason in ("localizer", "not_chosen", "secondary_capture"):
            yield empty(tables.SERIES, **keys, **required, series_id=reason, accepted=False, reason=reason)


def failures_of(studies):
    for of in studies:
        if of["status"] != "measured":
            yield empty(tables.FAILURES) | {name: of[name] for name in ("cohort", "study_id", "stage", "reason")}
    yield empty(tables.FAILURES, cohort="clinic_a", stage="index", reason="not_dicom", n_files=7)


def make(tmp_path, **changes):
    studies, patients, vertebrae = cohort_rows(np.random.default_rng(4))
    hu_lines, rows = lines(patients, studies), protocol(patients, studies)
    cast = {
        "patients": tables.cast(changes.get("patients", patients), tables.PATIENTS),
        "studies": tables.cast(studies, tables.STUDIES),
        "vertebrae": tables.cast(vertebrae, tables.VERTEBRAE),
        "failures": tables.cast(failures_of(studies), tables.FAILURES),
        "runs": tables.cast([RUN], tables.RUNS),
    }
    people = cast["patients"].to_pylist()
    evidence = evaluate.Evidence(
        **{name: cast[name] for name in ("patients", "studies", "vertebrae")},
        series=tables.cast(series_of(studies), tables.SERIES),
        predictions=tables.cast(predictions_of(people), tables.PREDICTIONS),
        labels=tables.cast(labels_of(people), tables.LABELS),
        protocol=tables.cast(changes.get("protocol", rows), tables.PROTOCOL),
        lines=hu_lines,
        folds={row["patient_id"]: fold_of(row["patient_id"]) for row in people if row["in_training"]},
    )
    found = evaluate.statistics(evidence, **CUTS, bootstrap=100, seed=1)
    statistics = {name: tables.cast(found[name], schema) for name, schema in evaluate.STATISTICS.items()}
    return report.Results(
        **cast,
        statistics=statistics,
        training=tables.cast(changes.get("training", []), tables.TRAINING),
        bundle=changes.get("bundle", bundle(tmp_path, hu_lines=hu_lines)),
    )


def predictions_of(people):
    for of in people:
        if of["vbmd_mg_cm3"] is not None:
            keys = {name: of[name] for name in ("cohort", "patient_id", "study_id", "model_id", "in_training")}
            yield keys | {"level": "L1", "task": "regression", "fold": 0, "value": of["vbmd_mg_cm3"]}


def labels_of(people):
    for of in people:
        if of["qct_vbmd_mg_cm3"] is not None:
            keys = {name: of[name] for name in ("cohort", "patient_id", "days_from_scan")}
            yield empty(tables.LABELS, **keys, level="L1", vbmd_mg_cm3=of["qct_vbmd_mg_cm3"], status="used")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make(tmp_path_factory.mktemp("bundle"), training=training())


@pytest.fixture(scope="module")
def composed(results):
    return compose(results)


def webp(colour):
    image = Image.new("RGB", (200, 400), (colour % 256, 80, 90))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP")
    return buffer.getvalue()


@pytest.fixture
def crops(results, tmp_path):
    """Tables of the stage crop in two shards, with a picture for each study that was measured."""
    measured = [row for row in results.studies.to_pylist() if row["status"] == "measured"]
    rows = [
        empty(tables.CROP, status="ok", n_vertebrae=4, picture=webp(i))
        | {name: of[name] for name in ("cohort", "patient_id", "study_id")}
        for i, of in enumerate(measured)
    ]
    paths = [tmp_path / "00000.parquet", tmp_path / "00001.parquet"]
    for path, part in zip(paths, (rows[:12], rows[12:]), strict=True):
        tables.write(part, tables.CROP, path)
    return paths


@pytest.fixture
def measures(results, tmp_path):
    """A table of the stage measure, with a picture for every vertebra but one level that was not measured."""
    rows = [
        empty(tables.MEASURE, flags=[], picture=None if of["level"] == "L3" else webp(i))
        | {name: of[name] for name in ("cohort", "patient_id", "study_id", "level")}
        for i, of in enumerate(results.vertebrae.to_pylist())
    ]
    tables.write(rows[::-1], tables.MEASURE, tmp_path / "measure.parquet")
    return [tmp_path / "measure.parquet"]


def compose(results):
    return report.compose(results, title="Bones & <more>", **CUTS)


class Page(HTMLParser):
    """Tags left open, addresses, ids, and what is read aloud of pictures."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.ids, self.alt = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.links += [found[name] for name in ("href", "src", "xlink:href") if name in found]
        self.ids += [found["id"]] if "id" in found else []
        self.alt += [found.get("alt")] if tag == "img" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_small_whole_and_needs_no_network(composed):
    page = composed.page
    parsed = Page(page)
    assert len(page.encode()) < 3_000_000
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    outside = [link for link in parsed.links if not link.startswith(("#", "gallery/"))]
    assert outside == []
    assert set(link[1:] for link in parsed.links if link.startswith("#")) <= set(parsed.ids)
    assert not re.search(r"<script|@import|url\((?!#)", page)


def test_the_same_results_give_the_same_bytes(composed, results):
    assert compose(results) == composed


def test_text_from_the_data_is_escaped(composed):
    assert "Bones &amp; &lt;more&gt;" in composed.page


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_page_says_what_the_tables_say(composed, results):
    page = text_of(composed.page)
    for row in results.rows("comparison"):
        if row["second"] in ("hu", "joint") or row["best_hu"]:
            assert row["sentence"].replace("'", "&#39;") in page
        assert f"{words.number(row['difference'], words.METRICS[row['metric']].digits)} " in page
    for row in results.rows("metrics"):
        shown = row["set"] in words.OWN_SETS or (row["predictor"] in words.SHOWN and row["set"] in words.STUDY_SETS)
        if shown and row["metric"] in (words.ALL if row["set"] in words.OWN_SETS else words.STUDY):
            assert words.estimate(row) in page
    for name in ("decisions", "levels"):
        for row in results.rows(name):
            assert words.estimate(row) in page
    for row in results.rows("coverage"):
        assert row["cell"] in page
        assert f"{words.number(row['covered'], 2)} {words.interval(row['low'], row['high'], 2)}".strip() in page
    for reason in {row["reason"] for row in results.failures.to_pylist()}:
        assert REASONS[reason].replace("'", "&#39;") in page
    for fact in ("published, other data", "0.974", "13.89", "demo-0123abcd", RUN["run_id"], RUN["config_hash"]):
        assert fact in page
    assert "research use only" in page.lower()


def simulated(results, tmp_path, *, patients, model):
    """The same results, with or without the word that they are simulated."""
    rows = [row | {"synthetic": patients} for row in results.patients.to_pylist()]
    return replace(results, patients=tables.cast(rows, tables.PATIENTS), bundle=bundle(tmp_path, synthetic=model))


@pytest.mark.parametrize("of_model", [True, False])
def test_synthetic_is_said_wherever_figures_stand(tmp_path, crops, measures, results, of_model):
    made = simulated(results, tmp_path, patients=not of_model, model=of_model)
    drawn = compose(made)
    report.write_gallery(made, crops, measures, tmp_path / "gallery", per_page=10)
    pages = [drawn.page, *(path.read_text() for path in (tmp_path / "gallery").glob("*.html"))]
    assert all('class="band"' in page for page in pages)
    assert all("SYNTHETIC DATA" in svg for svg in drawn.figures.values())


def test_real_patients_and_model_are_not_called_synthetic(tmp_path, results):
    assert "SYNTHETIC" not in compose(simulated(results, tmp_path, patients=False, model=False)).page


def test_a_cohort_without_labels_has_its_report(tmp_path, results):
    rows = [row | {"role": "screening", "in_training": False} for row in results.patients.to_pylist()]
    made = compose(make(tmp_path, patients=rows, protocol=[]))
    assert "nothing to compare" in made.page
    assert "How the networks learned" not in made.page
    assert "No patient to compare with QCT" in made.figures["roc"]
    assert "ten labelled patients" in made.figures["recalibration"]
    assert "no learning curves" in made.figures["learning"]


def test_a_cohort_without_labels_still_shows_what_its_model_was_worth(tmp_path, results):
    rows = [row | {"role": "screening", "in_training": False} for row in results.patients.to_pylist()]
    page = compose(make(tmp_path, patients=rows)).page
    assert "Random grouping" in page
    assert "Leave one device out" in page
    assert "nothing is compared with QCT" in page


def test_a_bundle_without_protocol_leaves_its_sections_out(tmp_path):
    page = compose(make(tmp_path, protocol=[])).page
    for heading in ("A device never seen", "From fold to fold", "How the networks learned"):
        assert heading not in page
    assert "Is the network better?" in page


def test_learning_curves_mark_the_kept_epoch_of_every_split(composed):
    curves = composed.figures["learning"]
    for scheme in words.SCHEME.values():
        for task in ("classification", "regression", "joint"):
            assert f"{task}: {scheme.lower()}" in curves
    assert curves.count(">kept<") == 9


def test_the_page_says_how_many_labels_are_enough(composed, results):
    """As many as first bring the better of the two fits near its lowest."""
    rows = [row for row in results.rows("recalibration") if row["predictor"] == "network" and not row["device_key"]]
    best = {}
    for row in rows:
        best[row["k"]] = min(row["mae_mg_cm3"], best.get(row["k"], np.inf))
    k = min(k for k in best if best[k] <= 1.1 * min(best.values()))
    said = f"{k} local labels bring the MAE of the network" if k else "no local label is needed: the MAE of the network"
    assert said in text_of(composed.page)


def test_one_class_and_nobody_are_drawn_without_a_curve(tmp_path, results):
    rows = [row | {"qct_reduced": None if row["qct_reduced"] is None else True} for row in results.patients.to_pylist()]
    one_class = make(tmp_path, patients=rows)
    assert "only one class" in figures.roc_figure(one_class.rows("roc"), one_class.rows("metrics"), note="")
    nobody = make(tmp_path, patients=[], protocol=[])
    assert "0 patients" in compose(nobody).page


def test_many_patients_are_drawn_small(tmp_path, results, monkeypatch):
    monkeypatch.setattr("trabecula.report.figures.MOST_POINTS", 5)
    rows, metrics = results.rows("agreement"), results.rows("metrics")
    assert len(figures.agreement_figure(rows, metrics, cuts_mg_cm3=(80, 120), note="")) < 600_000


def test_the_gallery_shows_every_study_once_and_doubtful_ones_first(results, crops, measures, tmp_path):
    report.write_gallery(results, crops, measures, tmp_path / "gallery", per_page=7)
    pages = sorted((tmp_path / "gallery").glob("*.html"))
    shown = [name for page in pages for name in re.findall(r"study (st\w+)</p>", page.read_text())]
    wanted = [row["study_id"] for row in results.studies.to_pylist() if row["status"] != "rejected"]
    assert sorted(shown) == sorted(wanted)
    assert len(pages) == -(-len(wanted) // 7)
    uncertain = {row["study_id"] for row in results.vertebrae.to_pylist() if row["level_uncertain"]}
    failed = {row["study_id"] for row in results.studies.to_pylist() if row["status"] == "failed"}
    assert set(shown[: len(uncertain)]) == uncertain
    assert set(shown[len(uncertain) : len(uncertain) + len(failed)]) == failed


def test_tiles_stand_from_head_to_foot_under_their_study(results, crops, measures, tmp_path):
    report.write_gallery(results, crops, measures, tmp_path / "gallery", per_page=100)
    (page,) = (tmp_path / "gallery").glob("*.html")
    for card in page.read_text().split("<article")[1:]:
        study_id = re.findall(r"study (st\w+)</p>", card)[0]
        tiles = re.findall(rf'src="(pictures/\w+/{study_id}_\w+.webp)"', card)
        levels = [tile.split("_")[-1] for tile in tiles]
        assert levels == (["T12.webp", "L1.webp", "L2.webp"] if "vBMD" in card else [])


def test_links_of_the_gallery_lead_somewhere(composed, results, crops, measures, tmp_path):
    (tmp_path / "index.html").write_text(composed.page)
    report.write_gallery(results, crops, measures, tmp_path / "gallery", per_page=7)
    for page in [tmp_path / "index.html", *(tmp_path / "gallery").glob("*.html")]:
        parsed = Page(page.read_text())
        assert parsed.open == []
        assert all(parsed.alt)
        for link in parsed.links:
            assert link.startswith("#") or (page.parent / link).is_file()


def test_pictures_are_copied_bit_by_bit_and_old_ones_go(results, crops, measures, tmp_path):
    gallery = tmp_path / "gallery"
    (gallery / "pictures").mkdir(parents=True)
    (gallery / "pictures" / "old.webp").write_bytes(b"old")
    report.write_gallery(results, crops, measures, gallery, per_page=50)
    stored = {row["study_id"]: row["picture"] for path in crops for row in pq.read_table(path).to_pylist()}
    for row in pq.read_table(*measures).to_pylist():
        stored |= {f"{row['study_id']}_{row['level']}": row["picture"]} if row["picture"] else {}
    assert {path.stem: path.read_bytes() for path in gallery.rglob("*.webp")} == stored
    assert [path.name for path in tmp_path.glob(".gallery*")] == []


def test_a_gallery_of_nothing_is_a_page(results, tmp_path):
    none = {name: getattr(results, name).slice(0, 0) for name in ("patients", "studies", "vertebrae")}
    nobody = replace(results, **none)
    report.write_gallery(nobody, [], [], tmp_path / "gallery", per_page=5)
    assert [path.name for path in (tmp_path / "gallery").iterdir()] == ["page_0001.html"]


def test_boxes_of_the_flow_do_not_overlap(results):
    for chart in flowchart.charts(results.rows("flow")):
        bottom = 0.0
        for box in chart.boxes:
            assert box.y > bottom
            bottom = box.y + box.height
            assert len(box.lost) * flowchart.LINE < box.height
            assert all(len(line) <= flowchart.WRAP + 4 for line in box.lost)
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
    assert words.estimate(row) == text


@pytest.mark.parametrize(("n", "thing", "text"), [(1, "study", "1 study"), (1200, "study", "1,200 studies"),
                                                  (2, "patient", "2 patients"), (3, "series", "3 series")])  # fmt: skip
def test_nouns_follow_their_number(n, thing, text):
    assert words.counted(n, thing) == text
