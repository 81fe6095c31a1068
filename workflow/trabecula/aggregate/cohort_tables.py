"""From the stages' tables to a cohort's public ones: rows in, rows out, whatever their number.

A batch of studies first (`batch_tables`), since stages write by shard; then a bucket of patients (`patient_tables`),
since a patient's studies may lie in different shards; density from HU last (`with_density`), since it needs the labels
of all cohorts. Files, buckets and Dask are the matter of `out_of_core`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from trabecula import tables
from trabecula.aggregate import study_fates, study_results, vertebra_tables
from trabecula.aggregate.arrow_rows import to_frame
from trabecula.aggregate.inputs import Cohort, Model
from trabecula.aggregate.prediction_checks import check_predictions, without_seen
from trabecula.aggregate.reconciliation import reconcile
from trabecula.cohort import labels, patients
from trabecula.cohort.gone import in_archive
from trabecula.cohort.same_scans import SameScans
from trabecula.density import calibrate
from trabecula.density.thresholds import Thresholds

SCAN_FACT_COLUMNS = [column.name for column in tables.SCAN_FACTS]
# Columns of a batch of studies, a row per study.
OUTCOMES = pa.schema(
    [
        tables.PATIENT,
        tables.STUDY,
        pa.field("shard", tables.TEXT),
        *(pa.field(name, tables.TEXT) for name in study_fates.FATE_COLUMNS),
        *(pa.field(name, tables.TEXTS) for name in study_fates.CONVERT_COLUMNS),
        *tables.SCAN_FACTS,
        *study_results.FIELDS,
        pa.field("reviewed", tables.BOOL),
    ]
)
# The index's tables, and the columns that are needed of a series.
INDEX = ("series", "studies", "labels", "failures")
SERIES_COLUMNS = ["cohort", "patient_id", "study_id", "series_id", "stack", "accepted", "reason"]
# Column of trabecular HU in each table that has density from HU.
HU_COLUMNS = {"studies": "trabecular_hu", "patients": "trabecular_hu", "vertebrae": "trabecular_hu_mean"}
# Columns of the table `studies` with the result of the scan by itself.
_RESULT = ("trabecular_hu", "vbmd_mg_cm3", "vbmd_low", "vbmd_high", "probability_reduced", "hu_baseline_vbmd_mg_cm3")


@dataclass(frozen=True)
class Rules:
    """From vertebrae to patients: options of the configuration's section `aggregate`.

    Attributes
    ----------
    levels, substitutes : sequence of str
        Levels whose mean counts, and those that stand in.
    thresholds : Thresholds
        Of vBMD, in mg/cm3 HA.
    max_interval_days : int
        Greatest distance in time between scan and label.
    """

    levels: Sequence[str]
    substitutes: Sequence[str]
    thresholds: Thresholds
    max_interval_days: int


@dataclass(frozen=True)
class StageTables:
    """The stages' tables of some studies of a cohort.

    Attributes
    ----------
    convert : Table
        A row per study: study_id, patient_id, shard, status, reason, detail, repairs and flags.
    segment : Table
        A row per level: study_id, patient_id, status, reason and detail.
    crop : Table
        A row per study: as `segment`, and the scan facts.
    cubes : Table
        A row per vertebra: facts that stand beside the cubes (see `cubes.read_facts`).
    measure : Table
        A row per vertebra: columns of `tables.MEASURE` without the picture.
    infer : Table
        A row per vertebra, task and fold: columns of `tables.INFER`.
    """

    convert: pa.Table
    segment: pa.Table
    crop: pa.Table
    cubes: pa.Table
    measure: pa.Table
    infer: pa.Table


@dataclass(frozen=True)
class BatchTables:
    """Rows that a batch of studies adds to the results.

    Attributes
    ----------
    vertebrae, predictions : Table
        Rows of these public tables, without density.
    outcomes : Table
        A row per study, see `OUTCOMES`.
    verdicts : DataFrame
        What became of the reviewers' verdicts on these studies (see `verdicts.apply`).
    """

    vertebrae: pa.Table
    predictions: pa.Table
    outcomes: pa.Table
    verdicts: pd.DataFrame


def without_repeated(stages: StageTables, same: SameScans) -> StageTables:
    """Set aside the studies whose scan is there twice: convert refuses them, and no later stage has seen them."""
    later = {name: same.keep(rows) for name, rows in vars(stages).items() if name != "convert"}
    return StageTables(convert=same.converted(stages.convert), **later)


def batch_tables(stages: StageTables, model: Model, reviewed: pd.DataFrame, rules: Rules) -> BatchTables:
    """Join the stages' tables of some studies, apply verdicts, and combine each study's vertebrae.

    Parameters
    ----------
    stages : StageTables
        Of whole studies of one cohort.
    model : Model
        The model that predicted.
    reviewed : DataFrame
        All reviewers' verdicts (see `verdicts.read`).
    rules : Rules
        From vertebrae to patients.

    Raises
    ------
    AssertionError
        If the stages' tables contradict each other.
    """
    vertebrae = vertebra_tables.join_measures(stages.cubes, stages.measure)
    predictions = without_seen(stages.infer, model)
    check_predictions(predictions, vertebrae, model)
    vertebrae, predictions, verdicts = vertebra_tables.apply_verdicts(vertebrae, predictions, reviewed)
    comparable = vertebra_tables.comparable(vertebrae.select(study_results.VERTEBRA_COLUMNS), predictions)
    chosen = patients.chosen_vertebrae(to_frame(comparable), levels=rules.levels, substitutes=rules.substitutes)
    of_chosen = vertebra_tables.predictions_of(chosen, predictions).select(study_results.PREDICTION_COLUMNS)
    results = study_results.combine(chosen, to_frame(of_chosen))
    return BatchTables(vertebrae, predictions, _outcomes(stages, vertebrae, results), verdicts)


def _outcomes(stages: StageTables, vertebrae: pa.Table, results: pd.DataFrame) -> pa.Table:
    """Make a row per study that convert saw, see `OUTCOMES`."""
    frames = {stage: to_frame(getattr(stages, stage)) for stage in study_fates.FOLLOWED_STAGES}
    key = ["study_id", "patient_id", "status", "reason", "detail"]
    # Segment has a row per level.
    by_study = {stage: rows.drop_duplicates(key, ignore_index=True) for stage, rows in frames.items()}
    fates = study_fates.follow_studies(by_study, to_frame(vertebrae.select(study_fates.VERTEBRA_COLUMNS)))
    rows = fates.merge(frames["convert"][["study_id", "patient_id", "shard"]], on="study_id")
    rows = rows.merge(frames["crop"][["study_id", *SCAN_FACT_COLUMNS]], on="study_id", how="left")
    rows = rows.merge(results, left_on="study_id", right_index=True, how="left")
    reviewed = set(vertebrae["study_id"].filter(vertebrae["verdict"].is_valid()).to_pylist())
    return tables.from_frame(rows.assign(reviewed=rows["study_id"].isin(reviewed)), OUTCOMES)


def patient_tables(
    cohort: Cohort,
    index: Mapping[str, pd.DataFrame],
    outcomes: pd.DataFrame,
    model: Model,
    rules: Rules,
    *,
    seen_in_training: frozenset[str],
) -> dict[str, pd.DataFrame]:
    """Make the tables studies, patients, labels and failures of some patients, without density from HU.

    Parameters
    ----------
    cohort : Cohort
        Name, role, synthetic.
    index : mapping of DataFrame
        The index's tables `INDEX` of these patients; of the series, `SERIES_COLUMNS` alone.
    outcomes : DataFrame
        What the batches say of these patients' studies, see `OUTCOMES`.
    model : Model
        The model that predicted.
    rules : Rules
        From vertebrae to patients.
    seen_in_training : frozenset of str
        Patients who are in the model's training by their scans, whatever their ids.

    Raises
    ------
    AssertionError
        If something was lost or counted twice (see `reconciliation.reconcile`).
    """
    studies = _with_scan_facts(study_fates.study_rows(index["studies"], outcomes), outcomes)
    by_study = outcomes.set_index("study_id")
    combined = by_study.loc[by_study["levels_used"].notna(), list(study_results.COLUMNS)]
    results = study_results.judge(combined, studies, model)
    studies = _with_results(studies, results)
    candidates = patients.candidates(studies, results)
    matching = {"levels": rules.levels, "max_interval_days": rules.max_interval_days}
    truth = labels.patient_truth(index["labels"], candidates, **matching)
    rows = patients.patient_rows(studies[in_archive(studies)], results, truth, rules.thresholds)
    public = {
        "studies": studies,
        "patients": rows.assign(
            cohort=cohort.name,
            role=cohort.role,
            synthetic=cohort.synthetic,
            model_id=model.bundle.model_id,
            in_training=rows["patient_id"].isin({*model.splits, *seen_in_training}),
            reviewed=rows["study_id"].map(by_study["reviewed"]).eq(True),
        ),
        "labels": labels.label_rows(index["labels"], candidates, **matching).sort_values(
            ["patient_id", "days_from_first_study", "level", "vbmd_mg_cm3"], kind="stable"
        ),
        "failures": study_fates.failure_rows(index["failures"], index["series"], studies, outcomes),
    }
    reconcile(cohort.name, {"series": index["series"], **public}, index)
    return public


def _with_scan_facts(studies: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Add what was found in the studies' scans, and what contrast medium was given."""
    facts = outcomes.set_index("study_id")[SCAN_FACT_COLUMNS].reindex(studies["study_id"]).set_axis(studies.index)
    studies = studies.drop(columns=SCAN_FACT_COLUMNS).join(facts)
    contrast = calibrate.contrast_rows(studies)
    return studies.drop(columns=contrast.columns).join(contrast)


def _with_results(studies: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Add the result of each scan by itself."""
    of_study = results.reindex(studies["study_id"]).set_axis(studies.index)
    lists = {name: patients.lists(of_study[name]) for name in ("levels_used", "novelty")}
    return studies.assign(**lists, **{name: of_study[name] for name in _RESULT})


def labelled_patients(public: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Give the patients with a QCT value, with the columns that `calibrate.gather` needs.

    Parameters
    ----------
    public : mapping of DataFrame
        See `patient_tables`.
    """
    rows = public["patients"][public["patients"]["qct_vbmd_mg_cm3"].notna()]
    phase = public["studies"].set_index("study_id")["phase"]
    return rows.assign(phase=rows["study_id"].map(phase))[list(calibrate.NEEDED)]


def without_density(rows: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """Give rows of a public table in its schema; density from HU is NULL until `with_density` fills it in."""
    later = [column.name for column in tables.CALIBRATED if column.name in schema.names]
    return tables.from_frame(rows.assign(**dict.fromkeys(later)), schema)


def with_density(rows: pa.Table, name: str, lines: Mapping[str, calibrate.Line | str], *, method: str) -> pa.Table:
    """Fill in the columns `tables.CALIBRATED` that a table has.

    Parameters
    ----------
    rows : Table
        Rows of the table, with or without these columns.
    name : str
        Name of the table, of `HU_COLUMNS`.
    lines : mapping
        Line or reason by study (see `calibrate.study_lines`).
    method : str
        Name of the method.
    """
    schema = tables.PUBLIC[name]
    measured = to_frame(rows.select([HU_COLUMNS[name], "study_id"]))
    density = calibrate.calibrated(measured[HU_COLUMNS[name]], measured["study_id"], lines, method=method)
    columns = [schema.field(column) for column in density if column in schema.names]
    rows = rows.drop_columns([column.name for column in columns if column.name in rows.column_names])
    for column in columns:
        rows = rows.append_column(column, pa.array(density[column.name], column.type, from_pandas=True))
    return rows
