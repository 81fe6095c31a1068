"""Read facts of a scan from the JSON and TSV files of its data set, as BIDS lays them out.

A JSON file counts for a scan beside it or below it whose name has the same suffix and all of its entities (the BIDS
inheritance principle), or the same name in the same folder; the nearest one comes last and counts most. Age and sex
come from ``participants.tsv``, dates from ``*_scans.tsv`` and ``*_sessions.tsv``. What can't be read says nothing.
"""

import csv
import io
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from trabecula.dicom.files import as_path, as_text, container, open_file
from trabecula.dicom.headers.record import Header, Source, failed
from trabecula.errors import StudyFailure
from trabecula.nifti.names import BIDS_SUFFIXES, Name, entities_of, is_sidecar, stem_of
from trabecula.runtime.storage import patiently

_MOST_BYTES = 2**24  # far beyond the table of the largest data set
_LONGEST_TEXT = 10_000  # characters, as of texts in DICOM headers
# Names in BIDS and of dcm2niix, with the fields of `Header`.
_TEXTS = {
    "Manufacturer": "manufacturer",
    "ManufacturersModelName": "model",
    "ManufacturerModelName": "model",
    "ConvolutionKernel": "kernel",
    "BodyPartExamined": "body_part",
    "BodyPart": "body_part",
    "SeriesDescription": "description",
    "ContrastBolusAgent": "contrast",
    "ContrastBolusIngredient": "contrast",
    "ImageType": "image_type",
    "PatientAge": "age",
    "PatientSex": "sex",
    "RescaleType": "rescale_type",
}
_MODALITIES = {"CT": "CT", "MR": "MR", "MRI": "MR", "PT": "PT", "PET": "PT"}
_NUMBERS = {"KVP": "kvp", "SliceThickness": "thickness_mm"}
_DATES = ("AcquisitionDateTime", "AcquisitionDate", "StudyDate")
_SEXES = {"m": "M", "male": "M", "man": "M", "f": "F", "female": "F", "woman": "F", "o": "O", "other": "O"}
_AGE = re.compile(r">?\s*(\d{1,3}(?:\.\d+)?)\s*(?:\+|y|years?)?", re.IGNORECASE)
_DATE = re.compile(r"((?:19|20)\d\d)-?(\d\d)-?(\d\d)(?:[T .].*)?", re.DOTALL)

Facts = dict[str, Any]
# A JSON file that counts for those below it: entities and suffix of its name, and its path.
_Inherited = tuple[frozenset[tuple[str, str]], str | None, str]
_JsonFiles = tuple[Mapping[str | None, list[_Inherited]], Mapping[str, str]]


def check_sidecar(file: BinaryIO, source: Source) -> list[Header]:
    """Give the record of a JSON or TSV file: no scan, and a reason of its own where it can't be read."""
    path = source.member or source.path
    is_read = (_json_of(file) if path.lower().endswith(".json") else _tsv_of(file)) is not None
    return [failed(source, "sidecar" if is_read else "bad_sidecar")]


class Sidecars:
    """The sidecars of an archive, each read once; made anew for every batch of files, since they may change.

    Parameters
    ----------
    archive : str
        The archive's top folder.
    """

    def __init__(self, archive: str) -> None:
        self._archive = archive
        self._listed: dict[tuple[str | None, str], list[str]] = {}
        self._contents: dict[tuple[str | None, str], Any] = {}
        self._json: dict[tuple[str | None, str], _JsonFiles] = {}
        self._people: dict[tuple[str | None, str], Mapping[str, Mapping[str, str]]] = {}

    def facts_of(self, source: Source, name: Name) -> Facts:
        """Give the facts that are known of a NIfTI file, by the fields of `Header`; unknown ones are left out."""
        inside, path = (None, source.path) if source.member is None else (source.path, source.member)
        folders = _folders_above(path)
        facts = _facts_of_entities(dict(name.entities)) | self._of_participant(inside, folders, name)
        for content in self._json_files(inside, folders, name):
            facts |= _facts_of_json(content)
        day = self._day_of(inside, folders, path, name)
        return facts | ({} if day is None else {"study_date": day})

    def _json_files(self, inside: str | None, folders: list[str], name: Name) -> Iterator[Any]:
        """Give the content of the JSON files that count for a file, from the top down, the most special ones last."""
        subject, entities = dict(name.entities).get("sub"), set(name.entities)
        for folder in folders:
            inherited, by_stem = self._json_in(inside, folder)
            candidates = [*inherited.get(None, ()), *(inherited.get(subject, ()) if subject else ())]
            fitting = [(len(e), path) for e, suffix, path in candidates if suffix == name.suffix and e <= entities]
            if folder == folders[-1] and name.stem in by_stem and by_stem[name.stem] not in {p for _, p in fitting}:
                fitting.append((len(entities) + 1, by_stem[name.stem]))
            for _, path in sorted(fitting):
                content = self._read(inside, path)
                if isinstance(content, dict):
                    yield content

    def _json_in(self, inside: str | None, folder: str) -> _JsonFiles:
        """List a folder's JSON files that count for files below it, by subject, and all of them by stem."""
        if (inside, folder) not in self._json:
            inherited: dict[str | None, list[_Inherited]] = defaultdict(list)
            by_stem = {}
            for sidecar in self._list(inside, folder):
                if sidecar.lower().endswith(".json"):
                    path, (entities, suffix) = _join(folder, sidecar), entities_of(stem_of(sidecar))
                    by_stem[stem_of(sidecar)] = path
                    if suffix in BIDS_SUFFIXES:
                        inherited[dict(entities).get("sub")].append((frozenset(entities), suffix, path))
            self._json[inside, folder] = inherited, by_stem
        return self._json[inside, folder]

    def _of_participant(self, inside: str | None, folders: list[str], name: Name) -> Facts:
        """Give age and sex by the nearest ``participants.tsv`` that names the patient."""
        if name.patient is None:
            return {}
        for folder in reversed(folders):
            rows = self._participants(inside, folder)
            if row := rows.get(name.patient) or rows.get(name.patient.removeprefix("sub-")):
                entries = {"age": _age(row.get("age")), "sex": _sex(row.get("sex") or row.get("gender"))}
                return {field: entry for field, entry in entries.items() if entry is not None}
        return {}

    def _participants(self, inside: str | None, folder: str) -> Mapping[str, Mapping[str, str]]:
        """Give the rows of a folder's ``participants.tsv`` by id; of several rows of one id, the first."""
        if (inside, folder) not in self._people:
            rows = self._rows(inside, [folder], "participants.tsv")
            people: dict[str, Mapping[str, str]] = {}
            for row, _ in rows:
                people.setdefault(row.get("participant_id", ""), row)
            self._people[inside, folder] = people
        return self._people[inside, folder]

    def _day_of(self, inside: str | None, folders: list[str], path: str, name: Name) -> str | None:
        """Give the date by the nearest table of scans or sessions that names the file or the patient's session."""
        for row, table in self._rows(inside, folders, "scans.tsv"):
            if _join(table.rpartition("/")[0], row.get("filename", "")) == path:
                return _date(row.get("acq_time"))
        for row, table in self._rows(inside, folders, "sessions.tsv"):
            patient = row.get("participant_id", table.rpartition("/")[2].removesuffix("_sessions.tsv"))
            if name.session and (patient, row.get("session_id")) == (name.patient, name.session):
                return _date(row.get("acq_time"))
        return None

    def _rows(self, inside: str | None, folders: list[str], ending: str) -> Iterator[tuple[Mapping[str, str], str]]:
        """Give the rows of the tables of one kind above a file, the nearest first, each with its table's path."""
        for folder in reversed(folders):
            for sidecar in self._list(inside, folder):
                if sidecar == ending or sidecar.endswith(f"_{ending}"):
                    table = _join(folder, sidecar)
                    yield from ((row, table) for row in self._read(inside, table) or ())

    def _list(self, inside: str | None, folder: str) -> list[str]:
        """List the names of the sidecars in a folder, or in one within a zip or tar file."""
        if (inside, folder) not in self._listed:
            try:
                names = self._names(folder) if inside is None else self._members(inside, folder)
            except (OSError, StudyFailure):  # each file there has a row of its own that says so
                names = []
            self._listed[inside, folder] = sorted(name for name in names if is_sidecar(name))
        return self._listed[inside, folder]

    def _names(self, folder: str) -> list[str]:
        return [as_text(name) for name in patiently(os.listdir, as_path(_join(self._archive, folder)))]

    def _members(self, inside: str, folder: str) -> list[str]:
        paths = (path.rpartition("/") for path, _ in container(f"{self._archive}/{inside}").members())
        return [name for place, _, name in paths if place == folder]

    def _read(self, inside: str | None, path: str) -> Any:
        """Read a sidecar; None where it can't be read."""
        if (inside, path) not in self._contents:
            read = _json_of if path.lower().endswith(".json") else _tsv_of
            place, member = (path, None) if inside is None else (inside, path)
            try:
                with open_file(f"{self._archive}/{place}", member) as file:
                    self._contents[inside, path] = read(file)
            except (OSError, StudyFailure):
                self._contents[inside, path] = None
        return self._contents[inside, path]


def _folders_above(path: str) -> list[str]:
    """List the folders that a file lies in, from the top down.

    >>> _folders_above("sub-1/ct/x.nii")
    ['', 'sub-1', 'sub-1/ct']
    """
    parts = path.split("/")[:-1]
    return ["/".join(parts[:n]) for n in range(len(parts) + 1)]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _text_of(file: BinaryIO) -> str:
    content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError("too long")
    return content.decode("utf-8-sig")


def _json_of(file: BinaryIO) -> Any:
    """Read JSON; None where it is none. A null alone says nothing either."""
    try:
        return json.loads(_text_of(file))
    except (ValueError, RecursionError):
        return None


def _tsv_of(file: BinaryIO) -> list[dict[str, str]] | None:
    """Read a table with a header line; None where it is none."""
    try:
        lines = csv.reader(io.StringIO(_text_of(file)), delimiter="\t", quoting=csv.QUOTE_NONE)
        header = [name.strip().lower() for name in next(lines, [])]
        return [dict(zip(header, map(str.strip, line), strict=False)) for line in lines]
    except (ValueError, csv.Error):
        return None


def _facts_of_entities(labels: Mapping[str, str]) -> Facts:
    """Give what a BIDS name says: ``ce`` names a contrast medium, ``acq``, ``rec`` and ``desc`` describe the series."""
    texts = [labels[key] for key in ("acq", "rec", "desc") if key in labels]
    contrast = {"contrast": labels["ce"]} if "ce" in labels else {}
    return contrast | ({"description": " ".join(texts)} if texts else {})


def _facts_of_json(content: Mapping[str, Any]) -> Facts:
    facts: Facts = {field: text for name, field in _TEXTS.items() if (text := _text(content.get(name)))}
    facts |= {field: number for name, field in _NUMBERS.items() if (number := _number(content.get(name))) is not None}
    if modality := _MODALITIES.get((_text(content.get("Modality")) or "").upper()):
        facts["modality"] = modality
    days = (_date(_text(content.get(name))) for name in _DATES)
    day = next((day for day in days if day), None)
    return facts | ({} if day is None else {"study_date": day})


def _text(entry: Any) -> str | None:
    parts = entry if isinstance(entry, list) else [entry]
    if not all(isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts):
        return None
    return "\\".join(map(str, parts))[:_LONGEST_TEXT].replace("\0", "").strip() or None


def _number(entry: Any) -> float | None:
    """Give a finite number; None where there is none.

    >>> _number("120"), _number(float("nan")), _number(True)
    (120.0, None, None)
    """
    try:
        number = float(entry) if isinstance(entry, str | int | float) and not isinstance(entry, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _age(text: str | None) -> str | None:
    """Write years as an age of DICOM (0010,1010).

    >>> _age("67"), _age("67.5"), _age("90+"), _age("n/a")
    ('067Y', '810M', '090Y', None)
    """
    stated = _AGE.fullmatch(text or "")
    if stated is None:
        return None
    years = float(stated[1])
    return f"{int(years):03d}Y" if years.is_integer() else f"{round(12 * years):03d}M"


def _sex(text: str | None) -> str | None:
    return _SEXES.get((text or "").lower())


def _date(text: str | None) -> str | None:
    """Write a date as DICOM does, without the time.

    >>> _date("2019-03-01T10:00:00"), _date("20190301"), _date("n/a")
    ('20190301', '20190301', None)
    """
    stated = _DATE.fullmatch(text or "")
    return "".join(stated.groups()) if stated else None
