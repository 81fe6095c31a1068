"""The report's pages in a real browser: no network, no error, readable by everybody on every width and on paper."""

from pathlib import Path

import pytest
import small_report
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

PAGES = {
    "summary": "report/index.html",
    **{name: f"{name}/report/index.html" for name in small_report.ROLES},
    "checklists": "clinic_a/report/checklists.html",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Write the pages of all cohorts, laid out as in results."""
    folder = tmp_path_factory.mktemp("site")
    outcome = small_report.everything(folder)
    texts = {"report/index.html": small_report.summary(outcome)}
    for cohort in small_report.ROLES:
        composed = small_report.compose(outcome, cohort)
        texts |= {f"{cohort}/report/index.html": composed.page, f"{cohort}/report/checklists.html": composed.checklists}
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def show(page: Page, site: Path, name: str) -> None:
    page.goto((site / PAGES[name]).as_uri())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(page, site, name, scheme):
    page.emulate_media(color_scheme=scheme)
    show(page, site, name)
    violations = Axe().run(page).response["violations"]
    assert [(violation["id"], violation["nodes"][0]["html"][:200]) for violation in violations] == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [380, 800])
def test_nothing_reaches_beyond_a_narrow_page(page, site, name, width):
    page.set_viewport_size({"width": width, "height": 800})
    show(page, site, name)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_point_says_who_it_is_to_the_pointer_and_to_the_keyboard(page, site):
    show(page, site, "clinic_b")
    # In the last panel no other predictor's points lie above.
    page.locator("g.marks").last.locator("path").first.hover()
    tip = page.locator(".tooltip")
    assert "pab0" in tip.inner_text()
    assert "QCT" in tip.inner_text()
    page.mouse.move(0, 0)
    group = page.locator("g.marks").first
    group.focus()
    page.keyboard.press("ArrowRight")
    first = tip.inner_text()
    page.keyboard.press("ArrowRight")
    assert tip.inner_text() != first
    page.keyboard.press("Escape")
    assert not tip.is_visible()


def test_paper_is_light_and_shows_what_is_folded(page, site):
    page.emulate_media(media="print", color_scheme="dark")
    show(page, site, "clinic_b")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("details table").first.bounding_box()["height"] > 50
    assert not page.locator("nav").is_visible()
    assert len(page.pdf(format="A4")) > 20_000
