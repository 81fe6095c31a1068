"""Write the results of a cohort as CSV files in the form of OMOP tables."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from trabecula import __version__, tables
from trabecula.cohort.patients import BARRING
from trabecula.export import concepts
from trabecula.export.cdm import TABLES
from trabecula.export.concepts import Concept, Quantity
from trabecula.export.identity import as_uid

BATCH_ROWS = 65536
# Its functions are made on import, so type checkers can't see them.
pc: Any = pyarrow.compute


@dataclass(frozen=True)
class Sources:
    """Files of a cohort's public tables, and of the table `runs`."""

    patients: Path
    studies: Path
    vertebrae: Path
    runs: Path


@dataclass(frozen=True)
class _Numbering:
    """The pseudonyms in alphabetical order; the number of a pseudonym is its place, counted from 1."""

    patients: pa.Array
    studies: pa.Array

    def person(self, pseudonyms: pa.ChunkedArray) -> Any:
        return _place(pseudonyms, self.patients)

    def study(self, pseudonyms: pa.ChunkedArray) -> Any:
        return _place(pseudonyms, self.studies)


def _place(values: pa.ChunkedArray, among: pa.Array) -> Any:
    return pc.add(pc.cast(pc.index_in(values, among), pa.int64()), 1)


class _Files:
    """The CSV files of a folder, written table by table and batch by batch."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._writers = {
            name: stack.enter_context(arrow_csv.CSVWriter(folder / f"{name}.csv", schema))
            for name, schema in TABLES.items()
        }
        self._measured = 0

    def write(self, name: str, n: int, **columns: Any) -> None:
        """Write n rows; a single value is repeated in all of them, and a column that is not given is NULL."""
        schema = TABLES[name]
        unknown = columns.keys() - set(schema.names)
        if unknown:
            raise ValueError(f"table {name}: unknown columns {sorted(unknown)}")
        values = [_column(columns.get(field.name), field.type, n) for field in schema]
        self._writers[name].write_table(pa.Table.from_arrays(values, schema=schema))

    def next_ids(self, n: int) -> np.ndarray:
        """Give the next n measurements their numbers, which begin with 1."""
        self._measured += n
        return np.arange(self._measured - n, self._measured) + 1


def _column(value: Any, kind: pa.DataType, n: int) -> Any:
    if isinstance(value, (pa.ChunkedArray, pa.Array, np.ndarray)):
        values = pa.array(value) if isinstance(value, np.ndarray) else value
        return values.cast(kind)
    return pa.repeat(pa.scalar(value, kind), n)


def write_omop(
    sources: Sources, folder: Path, *, mapping: Sequence[Concept], synthetic: bool, batch_rows: int = BATCH_ROWS
) -> None:
    """Write a cohort's results as OMOP tables, mapping and crosswalk.

    Parameters
    ----------
    sources : Sources
        Public tables.
    folder : Path
        Folder of the CSV files; NULL is an empty field.
    mapping : sequence of Concept
        See `concepts.read_mapping`.
    synthetic : bool
        The cohort's patients are simulated.
    batch_rows : int
        Rows of a table that are held at a time.
    """
    numbering = _Numbering(_sorted(sources.patients, "patient_id"), _sorted(sources.studies, "study_id", "measured"))
    concept_ids = concepts.ids(list(mapping))
    run = tables.read_columns(sources.runs).to_pylist()[-1]
    algorithm = f"Trabecula {__version__}, model {run['model_id']}"
    export = _Export(numbering, concept_ids, algorithm, run["finished"], synthetic)
    with ExitStack() as stack:
        files = _Files(folder, stack)
        for batch in _batches(sources.patients, _PATIENT, batch_rows):
            export.persons(batch, files)
            export.figures(batch, concepts.OF_PATIENT, files)
        for batch in _batches(sources.studies, _STUDY, batch_rows):
            scans = batch.filter(pc.equal(batch["status"], "measured"))
            export.scans(scans, files)
            export.figures(scans, concepts.OF_SCAN, files)
        for batch in _batches(sources.vertebrae, _VERTEBRA, batch_rows):
            export.figures(_accepted(batch), concepts.OF_VERTEBRA, files)
    with (folder / "mapping.csv").open("w", newline="") as file:
        csv.writer(file).writerows([concepts.COLUMNS, *map(astuple, mapping)])


_PATIENT = ["patient_id", "study_id", "sex", *(quantity.column for quantity in concepts.OF_PATIENT)]
_STUDY = ["patient_id", "study_id", "series_id", "days_from_first_study", "age_years", "status"]
_STUDY += [quantity.column for quantity in concepts.OF_SCAN]
_VERTEBRA = ["patient_id", "study_id", "level", "flags", *(quantity.column for quantity in concepts.OF_VERTEBRA)]


def _batches(path: Path, columns: list[str], rows: int) -> Iterator[pa.Table]:
    with tables.reading(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(rows, columns=columns):
            yield pa.Table.from_batches([batch])


def _sorted(path: Path, column: str, status: str | None = None) -> pa.Array:
    """Read a file's pseudonyms, each once, in alphabetical order; where a status is given, only of rows with it."""
    rows = tables.read_columns(path, [column, *(["status"] if status else [])])
    if status:
        rows = rows.filter(pc.equal(rows["status"], status))
    names = pc.unique(rows[column])
    return names.take(pc.sort_indices(names))


def _accepted(vertebrae: pa.Table) -> pa.Table:
    """Select the vertebrae that a result may be based on."""
    lists = vertebrae["flags"].combine_chunks()
    rejected = pc.is_in(pc.list_flatten(lists), value_set=pa.array(sorted(BARRING), pa.string()))
    rows = pc.list_parent_indices(lists).filter(rejected)
    kept = np.ones(len(vertebrae), bool)
    kept[rows.to_numpy()] = False
    return vertebrae.filter(pa.array(kept))


@dataclass(frozen=True)
class _Export:
    """The facts that all rows share: numbers, concept ids, the algorithm, and whether patients are simulated."""

    numbering: _Numbering
    concept_ids: dict[tuple[str, str], int]
    algorithm: str
    finished: datetime
    synthetic: bool

    def persons(self, patients: pa.Table, files: _Files) -> None:
        number, n = self.numbering.person(patients["patient_id"]), len(patients)
        files.write(
            "person",
            n,
            person_id=number,
            gender_concept_id=self._concepts("gender", patients["sex"]),
            race_concept_id=0,
            ethnicity_concept_id=0,
            person_source_value=patients["patient_id"],
            gender_source_value=patients["sex"],
        )
        self._cross("person_id", number, patients["patient_id"], files)

    def scans(self, studies: pa.Table, files: _Files) -> None:
        number, n = self.numbering.study(studies["study_id"]), len(studies)
        shared = {"person_id": self.numbering.person(studies["patient_id"]), "procedure_occurrence_id": number}
        files.write(
            "procedure_occurrence",
            n,
            procedure_concept_id=self.concept_ids["procedure", "CT"],
            procedure_type_concept_id=0,
            procedure_source_value="CT",
            **shared,
        )
        files.write(
            "image_occurrence",
            n,
            image_occurrence_id=number,
            anatomic_site_concept_id=0,
            image_study_uid=_uids(studies["study_id"]),
            image_series_uid=_uids(studies["series_id"]),
            modality_concept_id=self.concept_ids["modality", "CT"],
            **shared,
        )
        days = {name: studies[name] for name in ("days_from_first_study", "age_years")}
        files.write("study_days", n, **shared, **days)
        self._cross("procedure_occurrence_id", number, studies["study_id"], files)
        self._cross("image_occurrence_id", number, studies["series_id"], files)

    def figures(self, rows: pa.Table, quantities: Sequence[Quantity], files: _Files) -> None:
        """Write a measurement, and an image feature that points to it, for every figure that is not NULL."""
        for quantity in quantities:
            # A patient's study is always a measured one.
            present = pc.and_(pc.is_valid(rows[quantity.column]), pc.is_valid(rows["study_id"]))
            self._figure(rows.filter(present), quantity, files)

    def _figure(self, rows: pa.Table, quantity: Quantity, files: _Files) -> None:
        n, value = len(rows), rows[quantity.column]
        ids = files.next_ids(n)
        person, image = self.numbering.person(rows["patient_id"]), self.numbering.study(rows["study_id"])
        concept = self.concept_ids["measurement", quantity.column]
        at_level = "level" in rows.column_names
        source_value = pc.binary_join_element_wise(quantity.column, rows["level"], " ") if at_level else quantity.column
        files.write(
            "measurement",
            n,
            measurement_id=ids,
            person_id=person,
            measurement_concept_id=concept,
            measurement_type_concept_id=self.concept_ids["type", "algorithm"],
            value_as_number=value if quantity.unit else None,
            unit_concept_id=self.concept_ids["unit", quantity.unit] if quantity.unit else None,
            measurement_source_value=source_value,
            unit_source_value=quantity.unit or None,
            value_source_value=None if quantity.unit else value,
            measurement_event_id=image,
            meas_event_field_concept_id=self.concept_ids["table", "image_occurrence"],
        )
        files.write(
            "image_feature",
            n,
            image_feature_id=ids,
            person_id=person,
            image_occurrence_id=image,
            image_feature_event_field_concept_id=self.concept_ids["table", "measurement"],
            image_feature_event_id=ids,
            image_feature_concept_id=concept,
            image_feature_type_concept_id=self.concept_ids["type", "algorithm"],
            anatomic_site_concept_id=self._concepts("anatomic_site", rows["level"]) if at_level else 0,
            alg_system=self.algorithm,
            alg_datetime=f"{self.finished:%Y-%m-%d %H:%M:%S}",
        )

    def _concepts(self, domain: str, codes: pa.ChunkedArray) -> Any:
        """Give the concept ids of a column of codes; 0 where there is none."""
        ids = {code: number for (owner, code), number in self.concept_ids.items() if owner == domain}
        place = pc.index_in(codes, pa.array(list(ids), pa.string()))
        return pc.fill_null(pa.array(list(ids.values()), pa.int64()).take(place.combine_chunks()), 0)

    def _cross(self, field: str, number: Any, pseudonym: Any, files: _Files) -> None:
        synthetic = "yes" if self.synthetic else "no"
        files.write("crosswalk", len(pseudonym), field=field, number=number, pseudonym=pseudonym, synthetic=synthetic)


def _uids(pseudonyms: pa.ChunkedArray) -> pa.Array:
    return pa.array([as_uid(name) for name in pseudonyms.to_pylist()], pa.string())
