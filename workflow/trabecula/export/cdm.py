"""Columns of the OMOP tables that are exported, in their order.

OMOP CDM v5.4 (ohdsi.github.io/CommonDataModel/cdm54.html); image_occurrence and image_feature as in the
medical imaging extension (Park et al., J Imaging Inform Med 2024, doi:10.1007/s10278-024-00982-6).
"""

import pyarrow as pa

_WHOLE, _TEXT, _NUMBER = pa.int64(), pa.string(), pa.float64()

PERSON = (
    "person_id gender_concept_id year_of_birth month_of_birth day_of_birth birth_datetime race_concept_id "
    "ethnicity_concept_id location_id provider_id care_site_id person_source_value gender_source_value "
    "gender_source_concept_id race_source_value race_source_concept_id ethnicity_source_value "
    "ethnicity_source_concept_id"
)
PROCEDURE_OCCURRENCE = (
    "procedure_occurrence_id person_id procedure_concept_id procedure_date procedure_datetime procedure_end_date "
    "procedure_end_datetime procedure_type_concept_id modifier_concept_id quantity provider_id visit_occurrence_id "
    "visit_detail_id procedure_source_value procedure_source_concept_id modifier_source_value"
)
IMAGE_OCCURRENCE = (
    "image_occurrence_id person_id procedure_occurrence_id visit_occurrence_id anatomic_site_concept_id wadors_uri "
    "local_path image_occurrence_date image_study_uid image_series_uid modality_concept_id"
)
MEASUREMENT = (
    "measurement_id person_id measurement_concept_id measurement_date measurement_datetime measurement_time "
    "measurement_type_concept_id operator_concept_id value_as_number value_as_concept_id unit_concept_id range_low "
    "range_high provider_id visit_occurrence_id visit_detail_id measurement_source_value "
    "measurement_source_concept_id unit_source_value unit_source_concept_id value_source_value measurement_event_id "
    "meas_event_field_concept_id"
)
IMAGE_FEATURE = (
    "image_feature_id person_id image_occurrence_id image_feature_event_field_concept_id image_feature_event_id "
    "image_feature_concept_id image_feature_type_concept_id image_finding_concept_id image_finding_id "
    "anatomic_site_concept_id alg_system alg_datetime"
)
# Not of OMOP: the days from which a site can fill the required dates, and the pseudonym behind each number.
STUDY_DAYS = "procedure_occurrence_id person_id days_from_first_study age_years"
CROSSWALK = "field number pseudonym synthetic"


def _kind(column: str) -> pa.DataType:
    if column in ("value_as_number", "range_low", "range_high", "age_years"):
        return _NUMBER
    if column in ("number", "quantity", "image_finding_id", "days_from_first_study"):
        return _WHOLE
    return _WHOLE if column.endswith(("_id", "_of_birth")) else _TEXT


TABLES: dict[str, pa.Schema] = {
    name: pa.schema([(column, _kind(column)) for column in columns.split()])
    for name, columns in {
        "person": PERSON,
        "procedure_occurrence": PROCEDURE_OCCURRENCE,
        "image_occurrence": IMAGE_OCCURRENCE,
        "measurement": MEASUREMENT,
        "image_feature": IMAGE_FEATURE,
        "study_days": STUDY_DAYS,
        "crosswalk": CROSSWALK,
    }.items()
}
