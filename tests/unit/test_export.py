"""Results as OMOP tables: all numbers can be joined, every figure occurs once, nothing is invented."""

import csv
import re
import time

import pandas as pd
import pyarrow as pa
import pytest
from exported import Cohort, cohort, name

from trabecula.cohort.pseudonym import SYNTHETIC_KEY, pseudonym_uid
from trabecula.errors import ConfigError
from trabecula.export import concepts, omop
from trabecula.export.identity import as_uid


def export(source: Cohort, folder, **options):
    """Write and read the tables, as text, with NULL as missing."""
    paths = source.write(folder / "tables")
    options = {"mapping": concepts.shipped(), "synthetic": True} | options
    omop.write_omop(omop.Sources(**paths), folder / "omop", **options)
    return {path.stem: pd.read_csv(path) for path in (folder / "omop").iterdir()}


def test_every_figure_is_a_measurement_once(tmp_path):
    source = cohort(5)
    measurement = export(source, tmp_path)["measurement"]
    for quantity in concepts.OF_VERTEBRA:
        of_level = measurement[measurement["measurement_source_value"].str.startswith(f"{quantity.column} ")]
        exported = sorted(of_level["value_as_number"])
        assert exported == pytest.approx(sorted(source.vertebrae[quantity.column].to_pylist()), rel=1e-12)
        assert set(of_level["unit_source_value"]) == {quantity.unit}
    for quantity in concepts.OF_SCAN:
        of_scan = measurement[measurement["measurement_source_value"] == quantity.column]
        values = source.studies[quantity.column].drop_null().to_pylist()
        assert sorted(of_scan["value_as_number"]) == pytest.approx(sorted(values), rel=1e-12)
    assert set(measurement.loc[measurement["measurement_source_value"] == "grade", "value_source_value"]) == {"normal"}
    assert measurement["measurement_id"].tolist() == list(range(1, len(measurement) + 1))


def test_a_figure_leads_back_to_its_patient_and_scan(tmp_path):
    source = cohort(7)
    exported = export(source, tmp_path)
    pseudonyms = {(field, number): name for field, number, name, _ in exported["crosswalk"].itertuples(index=False)}
    rows = exported["image_feature"].merge(
        exported["measurement"], left_on="image_feature_event_id", right_on="measurement_id"
    )
    rows = rows.merge(exported["image_occurrence"], on="image_occurrence_id")
    of_l2 = rows[rows["measurement_source_value"] == "trabecular_hu_mean L2"]
    by_patient = {
        pseudonyms["person_id", row.person_id]: (row.image_study_uid, row.value_as_number) for row in of_l2.itertuples()
    }
    truth = source.vertebrae.to_pandas().query("level == 'L2'").set_index("patient_id")
    assert by_patient.keys() == set(truth.index)
    for patient, (uid, value) in by_patient.items():
        assert uid == as_uid(truth.loc[patient, "study_id"])
        assert value == pytest.approx(truth.loc[patient, "trabecular_hu_mean"])
    assert (rows["person_id_x"] == rows["person_id_y"]).all() and (rows["person_id_x"] == rows["person_id"]).all()


def test_numbers_do_not_depend_on_the_batches(tmp_path):
    source = cohort(6)
    whole, parts = export(source, tmp_path / "a"), export(source, tmp_path / "b", batch_rows=2)
    for table, rows in whole.items():
        # The order of the rows follows the batches, and so do the numbers of the measurements.
        key = rows.columns.difference(["measurement_id", "image_feature_id", "image_feature_event_id"]).tolist()
        in_one, in_parts = (frame[key].sort_values(key).reset_index(drop=True) for frame in (rows, parts[table]))
        pd.testing.assert_frame_equal(in_one, in_parts)


def test_numbers_are_whole_small_and_each_patients_own(tmp_path):
    exported = export(cohort(9), tmp_path)
    assert sorted(exported["person"]["person_id"]) == list(range(1, 10))
    names = exported["person"].sort_values("person_id")["person_source_value"].tolist()
    assert names == sorted(name("patient", i) for i in range(9))


def test_no_date_is_made_up(tmp_path):
    export(cohort(2), tmp_path)
    for path in (tmp_path / "omop").glob("*.csv"):
        with path.open(newline="") as file:
            dates = [
                value for row in csv.DictReader(file) for column, value in row.items()
                if re.search("_date|birth|_time$", column) and value
            ]  # fmt: skip
        # When the algorithm ran, nothing else.
        assert set(dates) <= ({"2026-03-04 05:06:07"} if path.stem == "image_feature" else set())
    assert pd.read_csv(tmp_path / "omop/study_days.csv")["days_from_first_study"].tolist() == [3, 3]


def test_what_a_reviewer_rejected_and_what_was_not_measured_stay_out(tmp_path):
    source = cohort(2, flags=["rejected_by_reviewer"])
    exported = export(source, tmp_path / "a")["measurement"]
    assert (exported["measurement_source_value"] == "trabecular_hu_mean L1").sum() == 1
    lacking = cohort(2, trabecular_hu_mean=None)
    exported = export(lacking, tmp_path / "b")["measurement"]
    assert (exported["measurement_source_value"] == "trabecular_hu_mean L1").sum() == 1
    assert (exported["measurement_source_value"] == "trabecular_hu_sd L1").sum() == 2
    status = lacking.studies.schema.get_field_index("status")
    failed = lacking.studies.set_column(status, "status", pa.array(["failed", "measured"]))
    patients = lacking.patients.to_pandas()
    patients.loc[0, "study_id"] = None
    left = Cohort(pa.Table.from_pandas(patients, lacking.patients.schema), failed, lacking.vertebrae.slice(3), [])
    exported = export(left, tmp_path / "c")
    assert len(exported["person"]) == 2 and len(exported["image_occurrence"]) == 1
    assert set(exported["measurement"]["measurement_event_id"]) == {1}


def test_a_sites_own_mapping_is_used(tmp_path):
    export(cohort(1), tmp_path)
    text = (tmp_path / "omop/mapping.csv").read_text()
    mapping = tmp_path / "mine.csv"
    mapping.write_text(re.sub(r"(anatomic_site,L1,.*),0,", r"\1,4711,", text))
    exported = export(cohort(1), tmp_path / "b", mapping=concepts.read_mapping(mapping))
    features, measurements = exported["image_feature"], exported["measurement"]
    rows = features.merge(measurements, left_on="image_feature_id", right_on="measurement_id")
    assert set(rows.query("measurement_source_value == 'trabecular_hu_mean L1'")["anatomic_site_concept_id"]) == {4711}
    assert set(rows.query("measurement_source_value == 'trabecular_hu_mean L2'")["anatomic_site_concept_id"]) == {0}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("concept_id,", "id,", "must have the columns"),
        (",8532,", ",many,", "must have the columns"),
        ("gender,F", "gender,X", "lacks gender F"),
    ],
)
def test_a_mapping_that_can_not_be_used_is_refused(tmp_path, old, new, message):
    export(cohort(1), tmp_path)
    mapping = tmp_path / "mine.csv"
    mapping.write_text((tmp_path / "omop/mapping.csv").read_text().replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        concepts.read_mapping(mapping)


def test_concept_ids_are_known_or_open():
    certain = [concept for concept in concepts.shipped() if concept.concept_id]
    assert {concept.concept_id for concept in certain} == {8532, 8507, 1147330}
    assert all(concept.note != concepts.shipped()[-1].note for concept in certain)
    keys = [(concept.domain, concept.source_code) for concept in concepts.shipped()]
    assert len(keys) == len(set(keys))


def test_a_pseudonym_has_the_uid_that_its_identity_has():
    for number in range(20):
        assert as_uid(name("series", number)) == pseudonym_uid("series", f"{number}", SYNTHETIC_KEY)


def test_time_grows_with_the_rows_alone(tmp_path):
    """Exporting 2,000 patients takes about a second of CPU, so 100,000 take about a minute."""
    source = cohort(2)
    times = 1000
    patients, studies, vertebrae = (
        pa.concat_tables([table] * times) for table in (source.patients, source.studies, source.vertebrae)
    )
    many = Cohort(patients, studies, vertebrae, [])
    paths = many.write(tmp_path)
    start = time.process_time()
    omop.write_omop(omop.Sources(**paths), tmp_path / "omop", mapping=concepts.shipped(), synthetic=True)
    assert time.process_time() - start < 1.2
