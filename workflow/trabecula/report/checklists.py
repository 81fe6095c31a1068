"""Items of reporting guidelines, answered from a run where it has the answer."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from trabecula.density.thresholds import Thresholds
from trabecula.report import wording
from trabecula.report.checklist_answers import ANSWERS, Cohort
from trabecula.report.results import Results

FILE = Path(__file__).with_name("checklists.yaml")
# Sections that a page has only where patients are compared with QCT.
QCT_SECTIONS = ("study", "better", "strata", "thresholds", "recalibration", "calibration", "decisions", "coverage")


@dataclass(frozen=True)
class Item:
    """An item: its number, what it asks for, the run's answer (may be empty), and the section of the page with more."""

    number: str
    asks: str
    text: str
    section: str


@dataclass(frozen=True)
class Checklist:
    """A guideline with its items."""

    name: str
    source: str
    entries: tuple[Item, ...]

    @property
    def filled(self) -> int:
        """Count the items that the run answers."""
        return sum(bool(item.text) for item in self.entries)

    @property
    def share(self) -> str:
        """Give the items that the run answers as per cent."""
        return wording.percent(self.filled / len(self.entries))


def checklists(results: Results, patients: pd.DataFrame, *, thresholds: Thresholds) -> list[Checklist]:
    """Make both lists, answered from one cohort's results.

    Parameters
    ----------
    results : Results
        Of one cohort.
    patients : frame
        Of `results.patient_rows`.
    thresholds : Thresholds
        Of vBMD.
    """
    cohort = Cohort(results, patients, thresholds)
    judged = results.judged
    lists = []
    for guideline in yaml.safe_load(FILE.read_text(encoding="utf-8")):
        items = tuple(_item(item, cohort, judged) for item in guideline["items"])
        lists.append(Checklist(guideline["name"], guideline["source"], items))
    return lists


def _item(item: dict[str, str], cohort: Cohort, judged: bool) -> Item:
    section = item.get("section", "")
    text = ANSWERS[item["fill"]](cohort) if "fill" in item else ""
    # Where nobody is compared with QCT, the link leads to the section that says so.
    return Item(item["number"], item["asks"], text, section if judged or section not in QCT_SECTIONS else "qct")
