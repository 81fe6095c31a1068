"""Items of reporting guidelines, filled from a run where they can be."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from trabecula.report import words
from trabecula.report.content import Results
from trabecula.report.fillers import FILLERS, Known

FILE = Path(__file__).with_name("checklists.yaml")
# Sections that only the page of a cohort with QCT values has.
OF_LABELLED = ("study", "better", "strata", "thresholds", "recalibration", "calibration", "decisions", "coverage")


@dataclass(frozen=True)
class Item:
    """An item: its number, what is asked, what the run says (empty: nothing), where the page tells more."""

    number: str
    asks: str
    text: str
    section: str


@dataclass(frozen=True)
class Checklist:
    """A guideline with its items, and how many of them the run fills."""

    name: str
    source: str
    entries: tuple[Item, ...]

    @property
    def filled(self) -> int:
        """Items that the run says something to."""
        return sum(bool(item.text) for item in self.entries)

    @property
    def share(self) -> str:
        """The same as per cent."""
        return words.percent(self.filled / len(self.entries))


def checklists(results: Results, patients: pd.DataFrame, *, cuts_mg_cm3: tuple[float, float]) -> list[Checklist]:
    """Both lists, filled from one cohort's results.

    Parameters
    ----------
    results : Results
        Of one cohort.
    patients : frame
        Of `people.frame`.
    cuts_mg_cm3 : (float, float)
        Cuts of osteoporosis and of low density.
    """
    known = Known(results, patients, cuts_mg_cm3)
    labelled = results.judged
    return [
        Checklist(of["name"], of["source"], tuple(_item(item, known, labelled) for item in of["items"]))
        for of in yaml.safe_load(FILE.read_text(encoding="utf-8"))
    ]


def _item(item: dict[str, str], known: Known, labelled: bool) -> Item:
    section = item.get("section", "")
    text = FILLERS[item["fill"]](known) if "fill" in item else ""
    # A link has to lead somewhere: the study's table and what follows need labels.
    return Item(item["number"], item["asks"], text, section if labelled or section not in OF_LABELLED else "qct")
