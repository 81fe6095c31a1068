"""Picture gallery: a card per study, the most doubtful first, in pages; with filters and verdicts in a browser.

The pages are whole by themselves. A browser that runs JavaScript adds filters over all cards and buttons for verdicts;
what it filters stands in cards.js, a script, since a page from a disk may not read other files.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from trabecula.report.content import Results, synthetic_note
from trabecula.report.gallery.cards import LEVELS, Card, cards
from trabecula.report.gallery.compact import Vocabulary
from trabecula.report.gallery.pictures import picture_name, tile_name, write_pictures, write_tiles
from trabecula.report.pages import TEMPLATES, render
from trabecula.runtime.whole_file import whole_folder

__all__ = ["page_name", "write_gallery"]


def write_gallery(
    results: Results,
    crops: Iterable[Path | str],
    measures: Iterable[Path | str],
    folder: Path | str,
    *,
    per_page: int,
) -> None:
    """Write pages and pictures beside the folder, then put them in its place.

    Parameters
    ----------
    results : Results
    crops, measures : iterables of paths
        Tables of the stages crop and measure, read one after the other.
    folder : path
        What lies there is replaced.
    per_page : int
        Cards per page.
    """
    with whole_folder(folder) as unfinished:
        pictured = {key for path in crops for key in write_pictures(path, unfinished)}
        tiled = {key for path in measures for key in write_tiles(path, unfinished)}
        listed = cards(results, pictured, tiled)
        shutil.copyfile(TEMPLATES / "gallery.js", unfinished / "gallery.js")
        _write_pages(listed, unfinished, per_page=per_page, synthetic=synthetic_note(results))


def page_name(number: int) -> str:
    """File name of a page, counted from 1."""
    return f"page_{number:04d}.html"


def _write_pages(listed: Sequence[Card], folder: Path, *, per_page: int, synthetic: str) -> None:
    """Write the pages and, card by card, what a browser filters."""
    vocabulary = Vocabulary()
    n_pages = max(-(-len(listed) // per_page), 1)
    with (folder / "cards.js").open("w", encoding="utf-8") as script:
        script.write('"use strict";\nconst CARDS = [\n')
        for number in range(1, n_pages + 1):
            page = [listed[i] for i in range((number - 1) * per_page, min(number * per_page, len(listed)))]
            script.writelines(f"{vocabulary.packed(card)},\n" for card in page)
            text = render(
                "gallery.html.j2",
                cards=page,
                number=number,
                pages=n_pages,
                page_name=page_name,
                picture_name=picture_name,
                tile_name=tile_name,
                total=len(listed),
                synthetic=synthetic,
            )
            (folder / page_name(number)).write_text(text, encoding="utf-8")
        facts = {"perPage": per_page, "synthetic": bool(synthetic), "levels": LEVELS, "words": vocabulary.words}
        script.write(f"];\nconst GALLERY = {json.dumps(facts, ensure_ascii=False, separators=(',', ':'))};\n")
