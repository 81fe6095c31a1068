"""The gallery's pages: every study once, doubtful ones first, links that lead somewhere, cards for the browser."""

import json
import re
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from small_gallery import FAILED, METAL, REJECTED, REVIEWED, UNCERTAIN, N, results, write_gallery, write_images

from trabecula import report
from trabecula.report.gallery.packed_cards import Vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gallery") / "gallery"


@pytest.fixture(scope="module")
def shown_results(folder):
    return write_gallery(folder)


@pytest.fixture(scope="module")
def cards(shown_results, folder):
    """Read the HTML of each card, in order."""
    pages = sorted(folder.glob("*.html"))
    return [card for page in pages for card in page.read_text().split("<article")[1:]]


def name_of(card):
    return re.findall(r'data-study="(\w+)"', card)[0]


def card_of(cards, i):
    return next(card for card in cards if name_of(card).endswith(f"{i:018d}"))


def test_every_study_that_was_not_rejected_is_there_once(cards, folder):
    shown = [int(name_of(card)[3:]) for card in cards]
    assert sorted(shown) == sorted(set(range(N)) - {REJECTED})
    assert len(list(folder.glob("*.html"))) == 3


def test_failures_come_first_then_no_decision_then_uncertain_levels_then_differences(cards, shown_results):
    people = {row["study_id"]: row for row in shown_results.patients.to_pylist() if row["study_id"]}
    groups = []
    for card in cards:
        patient = people.get(name_of(card))
        far = patient and abs(patient["vbmd_mg_cm3"] - patient["qct_vbmd_mg_cm3"]) > 20
        uncertain = name_of(card).endswith(f"{UNCERTAIN:018d}")
        undecided = patient and patient["decision"] == "indeterminate"
        groups.append(0 if not patient else 1 if undecided else 2 if uncertain else 3 if far else 4)
    assert groups == sorted(groups)
    assert len(set(groups)) >= 3
    assert int(name_of(cards[0])[3:]) == FAILED


def test_reasons_and_flags_are_in_words(cards):
    assert "Failed in convert: slices are missing inside the volume" in card_of(cards, FAILED)
    assert "metal or cement in the vertebral body (T12, L1, L2, L3)" in card_of(cards, METAL)
    assert "verdict on L1 without effect: another vertebra of the study keeps the new level" in card_of(cards, METAL)
    assert not any(re.search(r"<li>[^<]*\w_\w", card) for card in cards)


def test_verdicts_of_the_run_stand_at_their_vertebra(cards):
    card = card_of(cards, REVIEWED)
    tiles = card.split('<li class="tile"')[1:]
    assert [re.findall(r"<b>(\w+)</b>", tile)[0] for tile in tiles] == ["T11", "L1", "L2", "L3"]
    assert "segmented as T12" in tiles[0] and "reviewer: relabel" in tiles[0] and "_T12.webp" in tiles[0]
    assert "reviewer: reject" in tiles[3] and "no image" in tiles[3]
    assert "reviewer" not in tiles[1]


def test_synthetic_is_said_on_every_card_and_page(cards, folder):
    assert all("SYNTHETIC" in card for card in cards)
    assert all('class="band"' in page.read_text() for page in folder.glob("*.html"))


def test_links_lead_somewhere(shown_results, folder):
    (folder.parent / "index.html").touch()
    for page in folder.glob("*.html"):
        links = re.findall(r'(?:href|src)="([^"]+)"', page.read_text())
        assert links and all((folder / link).is_file() for link in links)
        assert page.read_text().count("<img") == len(re.findall(r'<img [^>]*alt="[^"]{10,}"', page.read_text()))


def test_pictures_are_copied_bit_by_bit_and_old_ones_go(tmp_path):
    shown, folder = results(), tmp_path / "gallery"
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures" / "old.webp").write_bytes(b"old")
    crops, measures = write_images(shown, tmp_path)
    report.write_gallery(shown, crops[::-1], measures[::-1], folder, patients_per_page=50)
    # Pictures that a study left in its former shard are passed over: of each, the last shard's counts.
    stored = {row["study_id"]: row["picture"] for path in crops for row in pq.read_table(path).to_pylist()}
    for row in (row for path in measures for row in pq.read_table(path).to_pylist()):
        stored |= {f"{row['study_id']}_{row['level']}": row["picture"]}
    pictures = {name: picture for name, picture in stored.items() if picture}
    assert {path.stem: path.read_bytes() for path in folder.rglob("*.webp")} == pictures
    assert list(tmp_path.glob(".gallery*")) == []


def test_a_gallery_of_nothing_is_a_page(tmp_path):
    whole = results()
    none = {name: getattr(whole, name).slice(0, 0) for name in ("patients", "studies", "vertebrae", "verdicts")}
    report.write_gallery(replace(whole, **none), [], [], tmp_path / "gallery", patients_per_page=5)
    assert {path.name for path in (tmp_path / "gallery").iterdir()} == {
        "page_0001.html",
        "cards.js",
        "gallery.js",
    }


def test_what_a_browser_filters_holds_the_cards_of_the_pages(shown_results, cards, folder):
    text = (folder / "cards.js").read_text()
    ((packed, facts),) = re.findall(r'"use strict";\nconst CARDS = (.*);\nconst GALLERY = (.*);\n', text, re.S)
    rows, words = json.loads(re.sub(r",\s*\]$", "]", packed)), json.loads(facts)["words"]
    assert [row[2] for row in rows] == [name_of(card) for card in cards]
    for row, card in zip(rows, cards, strict=True):
        for line in (*row[6], *row[7]):
            text = words[line[0]].format(*(words[place] for place in line[1:]))
            assert f"<li>{text}</li>".replace("'", "&#39;") in card
    assert len(words) == len(set(words))


def test_a_word_is_kept_once():
    vocabulary = Vocabulary()
    assert [vocabulary.place(word) for word in ("a", "b", "a")] == [0, 1, 0]


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(shown_results, folder, tmp_path):
    write_gallery(tmp_path / "again" / "gallery")
    for path in folder.iterdir():
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / "gallery" / path.name).read_bytes()
