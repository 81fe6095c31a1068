"""Concepts of OMOP's vocabulary for the codes of the tables: a list that a site completes.

Concept ids that are not certain are 0, OMOP's "no matching concept". With the standard code beside them
(SNOMED CT, UCUM, DICOM) a site looks the id up in its own vocabulary tables.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from trabecula.errors import ConfigError
from trabecula.export.terms import VERTEBRA_OF_LEVEL

COLUMNS = ("domain", "source_code", "meaning", "vocabulary_id", "concept_code", "concept_id", "note")
_OPEN = "to be mapped by the site"
_OHDSI = "OMOP Gender; ohdsi.github.io/Themis/tag_gender_concept_id.html"
_MI_CDM = "OMOP Metadata, table MEASUREMENT; used so by the MI-CDM guide, github.com/paulnagy/DICOM2OMOP"


@dataclass(frozen=True)
class Concept:
    """A code of the tables and its concept in OMOP; the fields are the columns of ``mapping.csv``."""

    domain: str
    source_code: str
    meaning: str
    vocabulary_id: str = ""
    concept_code: str = ""
    concept_id: int = 0
    note: str = _OPEN


@dataclass(frozen=True)
class Quantity:
    """A figure of the tables: its column, meaning and unit (UCUM; empty for text)."""

    column: str
    meaning: str
    unit: str


OF_VERTEBRA = (
    Quantity("trabecular_hu_mean", "mean of the trabecular region of a vertebral body", "[hnsf'U]"),
    Quantity("trabecular_hu_sd", "standard deviation of the trabecular region of a vertebral body", "[hnsf'U]"),
    Quantity("trabecular_volume_mm3", "volume of the trabecular region of a vertebral body", "mm3"),
    Quantity("body_volume_mm3", "volume of a vertebral body", "mm3"),
)
OF_SCAN = (
    Quantity("trabecular_hu", "mean of the trabecular regions that the scan's result stands on", "[hnsf'U]"),
    Quantity("vbmd_mg_cm3", "trabecular bone mineral density by the network, hydroxyapatite", "mg/cm3"),
    Quantity("vbmd_low", "lower end of the 90 % interval of vbmd_mg_cm3", "mg/cm3"),
    Quantity("vbmd_high", "upper end of the 90 % interval of vbmd_mg_cm3", "mg/cm3"),
    Quantity("probability_reduced", "probability of reduced bone density by the network", "1"),
    Quantity("hu_baseline_vbmd_mg_cm3", "trabecular bone mineral density by the linear HU baseline", "mg/cm3"),
)
# They belong to the scan that a patient's result comes from.
OF_PATIENT = (
    Quantity("grade", "normal, low or osteoporosis by the network's vbmd_mg_cm3", ""),
    Quantity("decision", "normal, reduced, indeterminate or not_evaluable", ""),
)
_UNITS = {
    "[hnsf'U]": "Hounsfield unit",
    "mm3": "cubic millimetre",
    "mg/cm3": "milligram per cubic centimetre",
    "1": "-",
}


def shipped() -> list[Concept]:
    """List the concepts that come with the software; ids that are not certain are 0."""
    quantities = (*OF_VERTEBRA, *OF_SCAN, *OF_PATIENT)
    return [
        Concept("gender", "F", "female", "Gender", "F", 8532, _OHDSI),
        Concept("gender", "M", "male", "Gender", "M", 8507, _OHDSI),
        Concept("gender", "O", "other"),
        Concept("table", "measurement", "the table MEASUREMENT", "Metadata", "measurement", 1147330, _MI_CDM),
        Concept("table", "image_occurrence", "the table IMAGE_OCCURRENCE"),
        Concept("type", "algorithm", "result of an algorithm", "Type Concept"),
        Concept("procedure", "CT", "computed tomography, unspecified body region", "LOINC", "25045-6"),
        Concept("modality", "CT", "computed tomography", "DICOM", "CT"),
        *(Concept("measurement", quantity.column, quantity.meaning) for quantity in quantities),
        *(Concept("unit", code, meaning, "UCUM", code) for code, meaning in _UNITS.items()),
        *(
            Concept("anatomic_site", level, code.meaning, "SNOMED", code.value)
            for level, code in VERTEBRA_OF_LEVEL.items()
        ),
    ]


def read_mapping(path: Path | str | None) -> list[Concept]:
    """Read a mapping that a site completed; without a path give the shipped one.

    Raises
    ------
    ConfigError
        If the file has other columns, lacks a code or gives a concept id that is no number.
    """
    if path is None:
        return shipped()
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        lines = list(reader)
        columns = tuple(reader.fieldnames or ())
    if columns != COLUMNS or not all((line["concept_id"] or "").isdigit() for line in lines):
        raise ConfigError(f"The mapping {path} must have the columns of an exported mapping.csv, with a number each.")
    mapping = [Concept(**{**line, "concept_id": int(line["concept_id"])}) for line in lines]
    lacks = set(map(_key, shipped())) - set(map(_key, mapping))
    if lacks:
        raise ConfigError(f"The mapping {path} lacks {' '.join(min(lacks))}; complete an exported mapping.csv.")
    return mapping


def _key(concept: Concept) -> tuple[str, str]:
    return concept.domain, concept.source_code


def ids(mapping: list[Concept]) -> dict[tuple[str, str], int]:
    """Give the concept ids by domain and source code.

    >>> ids([Concept("gender", "F", "female", concept_id=8532)])
    {('gender', 'F'): 8532}
    """
    return {_key(concept): concept.concept_id for concept in mapping}
