"""Gallery of images: pages of cards, one per study, the most doubtful first; with filters and verdicts in a browser.

The pages are complete without JavaScript. A browser that runs it adds filters over all cards and buttons for verdicts.
It reads all cards from the script cards.js, since a page opened from a disk may not read other files.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute

from trabecula.cohort.current import current_studies
from trabecula.report.gallery.cards import LEVELS, Card, cards
from trabecula.report.gallery.image_files import overlay_path, thumbnail_path, write_overlays, write_thumbnails
from trabecula.report.gallery.packed_cards import Vocabulary
from trabecula.report.pages import TEMPLATES, render
from trabecula.report.results import Results, synthetic_note
from trabecula.runtime.whole_file import whole_folder

__all__ = ["has_cards", "page_name", "write_gallery"]

# Its functions are made on import, so type checkers can't see them.
pc: Any = pyarrow.compute


def write_gallery(
    results: Results,
    crops: Iterable[Path | str],
    measures: Iterable[Path | str],
    folder: Path | str,
    *,
    patients_per_page: int,
) -> None:
    """Write pages and images beside the folder, then put them in its place.

    Parameters
    ----------
    results : Results
    crops, measures : iterables of paths
        Tables of the stages crop and measure, read one after the other.
    folder : path
        What lies there is replaced.
    patients_per_page : int
        Cards per page.
    """
    with whole_folder(folder) as unfinished:
        current = current_studies(results.studies)
        overlays = {key for path in crops for key in write_overlays(path, unfinished, current)}
        thumbnails = {key for path in measures for key in write_thumbnails(path, unfinished, current)}
        in_order = cards(results, overlays, thumbnails)
        shutil.copyfile(TEMPLATES / "gallery.js", unfinished / "gallery.js")
        _write_pages(in_order, unfinished, per_page=patients_per_page, synthetic=synthetic_note(results))


def has_cards(results: Results) -> bool:
    """Tell whether the gallery shows any study."""
    return bool(pc.any(pc.not_equal(results.studies["status"], "rejected")).as_py())


def page_name(number: int) -> str:
    """Give the file name of a page, counted from 1."""
    return f"page_{number:04d}.html"


def _write_pages(in_order: Sequence[Card], folder: Path, *, per_page: int, synthetic: str) -> None:
    """Write the pages, and card by card the script that a browser filters."""
    vocabulary = Vocabulary()
    n_pages = max(-(-len(in_order) // per_page), 1)
    with (folder / "cards.js").open("w", encoding="utf-8") as script:
        script.write('"use strict";\nconst CARDS = [\n')
        for number in range(1, n_pages + 1):
            page = [in_order[i] for i in range((number - 1) * per_page, min(number * per_page, len(in_order)))]
            script.writelines(f"{vocabulary.packed(card)},\n" for card in page)
            text = render(
                "gallery.html.j2",
                cards=page,
                number=number,
                pages=n_pages,
                page_name=page_name,
                overlay_path=overlay_path,
                thumbnail_path=thumbnail_path,
                total=len(in_order),
                synthetic=synthetic,
            )
            (folder / page_name(number)).write_text(text, encoding="utf-8")
        facts = {"perPage": per_page, "synthetic": bool(synthetic), "levels": LEVELS, "words": vocabulary.words}
        script.write(f"];\nconst GALLERY = {json.dumps(facts, ensure_ascii=False, separators=(',', ':'))};\n")
