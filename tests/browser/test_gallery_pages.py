"""The gallery in a real Chromium, from a disk: filters, paging, verdicts, screen readers, without network."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from small_gallery import METAL, UNCERTAIN, write_gallery, z_mm

from trabecula.cohort import verdicts
from trabecula.report.gallery import page_name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery") / "gallery"
    write_gallery(folder)
    return folder


@pytest.fixture
def opened(page, folder):
    page.goto((folder / page_name(1)).as_uri())
    return page


def studies(page):
    return [int(card.get_attribute("data-study")[3:]) for card in page.locator(".card").all()]


def pick(page, name, label):
    """Choose the option of a list that begins with a text."""
    texts = page.locator(f"[name={name}] option").all_text_contents()
    page.select_option(f"[name={name}]", label=next(text for text in texts if text.startswith(label)))


def test_filters_find_what_they_say(opened):
    pick(opened, "flag", "metal or cement")
    assert studies(opened) == [METAL]
    assert opened.locator("#found").text_content() == "1 of 11 studies found"
    opened.get_by_role("button", name="Clear filters").click()
    opened.wait_for_function("document.querySelectorAll('.card').length === 4")
    pick(opened, "flag", "level uncertain")
    assert studies(opened) == [UNCERTAIN]
    opened.get_by_role("button", name="Clear filters").click()
    pick(opened, "verdict", "reject")
    pick(opened, "level", "T11")
    assert opened.locator(".card").count() == 1
    assert opened.locator(".verdict").all_text_contents() == ["reviewer: relabel", "reviewer: reject"]
    opened.fill("[name=text]", "nobody")
    assert opened.locator(".card").count() == 0
    assert opened.locator("#found").text_content() == "0 of 11 studies found"


def test_found_cards_are_those_of_the_pages_and_turn(opened, folder):
    """The cards that JavaScript makes of cards.js are those of the pages."""
    seen = {}
    for number in (1, 2, 3):
        opened.goto((folder / page_name(number)).as_uri())
        seen |= {card.get_attribute("data-study"): shape(card) for card in opened.locator(".card").all()}
    opened.fill("[name=text]", "pa")
    again = {}
    for _ in range(3):
        again |= {card.get_attribute("data-study"): shape(card) for card in opened.locator(".card").all()}
        if opened.locator("#next").is_enabled():
            opened.get_by_role("button", name="Next").click()
    assert opened.locator("#place").text_content() == "Page 3 of 3"
    assert list(again) == list(seen)
    assert again == seen


def shape(card):
    """Read the texts, images and names of a card."""
    return card.evaluate(
        "card => [card.ariaLabel, card.textContent.replace(/\\s+/g, ''),"
        " [...card.querySelectorAll('img')].map(i => [i.getAttribute('src'), i.alt])]"
    )


def test_verdicts_are_kept_saved_and_read_by_the_next_run(opened, folder, tmp_path):
    pick(opened, "flag", "metal or cement")
    opened.get_by_role("button", name="Reject T12").click()
    opened.get_by_role("button", name="Accept T12").click()
    opened.get_by_label("Relabel L1").focus()
    opened.get_by_label("Relabel L1").select_option("L2")
    opened.get_by_role("button", name="Reject L3").click()
    opened.get_by_role("button", name="Reject L3").click()
    assert opened.locator("#given").text_content().startswith("2 new verdicts, kept in this browser")
    opened.goto((folder / page_name(2)).as_uri())
    assert opened.locator("#given").text_content().startswith("2 new verdicts")
    with opened.expect_download() as download:
        opened.get_by_role("button", name="Save verdicts").click()
    assert download.value.suggested_filename == "verdicts.csv"
    download.value.save_as(tmp_path / "verdicts.csv")
    read = verdicts.read(tmp_path / "verdicts.csv")
    assert read["reason"].isna().all()
    verdict_of = {
        (int(row["study_id"][3:]), row["level"]): (row["verdict"], row["new_level"]) for _, row in read.iterrows()
    }
    assert read["centroid_z_mm"].tolist() == [z_mm(level) for level in read["level"]]
    assert verdict_of == {
        (METAL, "T12"): ("accept", None),
        (METAL, "L1"): ("relabel", "L2"),
        (7, "T12"): ("relabel", "T11"),
        (7, "L3"): ("reject", None),
    }
    opened.get_by_role("button", name="Forget verdicts").click()
    assert opened.locator("#given").text_content() == "No new verdict"


def test_a_verdict_is_given_with_keys_alone(opened):
    pick(opened, "flag", "metal or cement")
    opened.get_by_role("button", name="Accept T12").focus()
    opened.keyboard.press("Space")
    assert opened.get_by_role("button", name="Accept T12").get_attribute("aria-pressed") == "true"
    opened.keyboard.press("Tab")
    opened.keyboard.press("Tab")
    opened.keyboard.press("ArrowDown")
    assert opened.get_by_label("Relabel T12").input_value() == "C1"
    assert opened.locator("#given").text_content().startswith("1 new verdict,")
    width = "getComputedStyle(document.activeElement).outlineWidth"
    assert opened.evaluate(width) == "3px"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_mend(opened, scheme):
    opened.emulate_media(color_scheme=scheme)
    for prepare in (lambda: None, lambda: pick(opened, "verdict", "reject")):
        prepare()
        findings = Axe().run(opened)
        assert findings.response["violations"] == [], findings.generate_report()


def test_pages_are_whole_without_javascript(page, folder):
    context = page.context.browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto((folder / page_name(1)).as_uri())
    assert plain.locator(".card").count() == 4
    assert plain.locator("#tools").is_hidden()
    plain.get_by_role("link", name="Next").first.click()
    assert "Page 2 of 3" in plain.locator("#static").text_content()
    context.close()
