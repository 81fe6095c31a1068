"""Tables of a bucket of patients that have at most a few rows per study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from trabecula import tables
from trabecula.aggregate import buckets, fates, results
from trabecula.aggregate.check import reconcile
from trabecula.aggregate.shards import STUDY, Part
from trabecula.cohort import labels, patients
from trabecula.density import calibrate
from trabecula.model.bundle import Bundle

SMALL = ("series", "studies", "patients", "labels", "failures")
INDEX = ("series", "studies", "labels", "failures")
# What is needed of a series beside its row.
_SERIES = ["cohort", "patient_id", "study_id", "series_id", "stack", "accepted", "reason"]


@dataclass(frozen=True)
class Cohort:
    """A cohort to aggregate.

    Attributes
    ----------
    name : str
        As in cohorts.tsv.
    role : str
        development, external or screening.
    synthetic : bool
        The archive is simulated.
    """

    name: str
    role: str
    synthetic: bool


@dataclass(frozen=True)
class Rules:
    """From vertebrae to patients: options of the configuration's section `aggregate`.

    Attributes
    ----------
    levels, substitutes : sequence of str
        Levels whose mean counts, and those that stand in.
    reduced_below_mg_cm3, osteoporosis_below_mg_cm3 : float
        Cuts of vBMD, in mg/cm3 HA.
    max_interval_days : int
        Greatest distance in time between scan and label.
    """

    levels: Sequence[str]
    substitutes: Sequence[str]
    reduced_below_mg_cm3: float
    osteoporosis_below_mg_cm3: float
    max_interval_days: int


@dataclass(frozen=True)
class Piece:
    """A bucket's share of a cohort's small tables.

    Attributes
    ----------
    files : mapping of Path
        By name of the table, of `SMALL`: its rows in order, without density.
    labelled : DataFrame
        Columns that `calibrate.gather` needs, of patients with a QCT value.
    """

    files: Mapping[str, Path]
    labelled: pd.DataFrame


def reduce_bucket(
    cohort: Cohort,
    bucket: int,
    index: Mapping[str, Sequence[Path]],
    parts: Sequence[Part],
    used: Bundle,
    splits: Mapping[str, int],
    folder: Path,
    rules: Rules,
) -> Piece:
    """Put a bucket's patients together, and hold them against what the index found.

    Parameters
    ----------
    cohort : Cohort
        Name, role, synthetic.
    bucket : int
        Number of the bucket.
    index : mapping of sequence of Path
        The index's tables `INDEX` in buckets, see `buckets.split`.
    parts : sequence of Part
        What was read of the cohort's shards.
    used, splits
        The model that predicted, and its training patients' folds.
    folder : Path
        Where the pieces are put.
    rules : Rules
        From vertebrae to patients.

    Raises
    ------
    AssertionError
        If something was lost or counted twice (see `check.reconcile`).
    """
    found = {name: buckets.read(index[name], bucket, tables.PUBLIC[name]) for name in INDEX}
    known = {name: rows.select(_SERIES if name == "series" else rows.column_names) for name, rows in found.items()}
    frames = {name: buckets.frame(rows) for name, rows in known.items()}
    outcomes = buckets.frame(buckets.read([part.studies for part in parts], bucket, STUDY))
    made = small_tables(cohort, frames, outcomes, used, splits, rules)
    reconcile(cohort.name, {"series": frames["series"], **made}, frames)
    written = {name: _without_density(made[name], tables.PUBLIC[name]) for name in made}
    written["series"] = buckets.sorted_rows(found["series"], ["patient_id", "study_id", "series_id", "stack"])
    files = {
        name: buckets.write(rows, folder / f"{cohort.name}.{name}.piece{bucket:06d}.arrow", starts=[])
        for name, rows in written.items()
    }
    phase = made["studies"].set_index("study_id")["phase"]
    labelled = made["patients"][made["patients"]["qct_vbmd_mg_cm3"].notna()]
    return Piece(files, labelled.assign(phase=labelled["study_id"].map(phase))[list(calibrate.NEEDED)])


def _without_density(rows: pd.DataFrame, to: pa.Schema) -> pa.Table:
    """Rows of a public table; density from HU needs all cohorts' labels, and is filled in later."""
    later = [column.name for column in tables.CALIBRATED if column.name in to.names]
    return tables.from_frame(rows.assign(**dict.fromkeys(later)), to)


def small_tables(
    cohort: Cohort,
    index: Mapping[str, pd.DataFrame],
    outcomes: pd.DataFrame,
    used: Bundle,
    splits: Mapping[str, int],
    rules: Rules,
) -> dict[str, pd.DataFrame]:
    """Tables studies, patients, labels and failures of some patients, without density from HU.

    Parameters
    ----------
    cohort : Cohort
        Name, role, synthetic.
    index : mapping of DataFrame
        The index's tables series, studies, labels, failures.
    outcomes : DataFrame
        What the shards tell of their studies, see `shards.STUDY`.
    used, splits
        The model that predicted, and its training patients' folds.
    rules : Rules
        From vertebrae to patients.
    """
    studies = _with_scan_facts(fates.study_rows(index["studies"], outcomes), outcomes)
    by_study = outcomes.set_index("study_id")
    combined = by_study.loc[by_study["levels_used"].notna(), list(results.COLUMNS)]
    found = results.judged(combined, studies, used, splits)
    studies = _with_results(studies, found)
    candidates = patients.candidates(studies, found)
    near = {"levels": rules.levels, "max_interval_days": rules.max_interval_days}
    rows = patients.patient_rows(
        studies,
        found,
        labels.patient_truth(index["labels"], candidates, **near),
        reduced_below_mg_cm3=rules.reduced_below_mg_cm3,
        osteoporosis_below_mg_cm3=rules.osteoporosis_below_mg_cm3,
    )
    return {
        "studies": studies,
        "patients": rows.assign(
            cohort=cohort.name,
            role=cohort.role,
            synthetic=cohort.synthetic,
            model_id=used.model_id,
            in_training=rows["patient_id"].isin(set(splits)),
            reviewed=rows["study_id"].map(by_study["reviewed"]).eq(True),
        ),
        "labels": labels.label_rows(index["labels"], candidates, **near).sort_values(
            ["patient_id", "days_from_first_study", "level", "vbmd_mg_cm3"], kind="stable"
        ),
        "failures": fates.failure_rows(index["failures"], index["series"], studies, outcomes),
    }


def _with_scan_facts(studies: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Studies with what was found in their scans, and what contrast medium was given."""
    names = [column.name for column in tables.SCAN_FACTS]
    facts = outcomes.set_index("study_id")[names].reindex(studies["study_id"]).set_axis(studies.index)
    studies = studies.drop(columns=names).join(facts)
    given = calibrate.contrast_rows(studies)
    return studies.drop(columns=given.columns).join(given)


# What a study's row says of its own result.
_RESULT = ("trabecular_hu", "vbmd_mg_cm3", "vbmd_low", "vbmd_high", "probability_reduced", "hu_baseline_vbmd_mg_cm3")


def _with_results(studies: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Studies with the result of this scan by itself."""
    own = found.reindex(studies["study_id"]).set_axis(studies.index)
    listed = {name: patients.lists(own[name]) for name in ("levels_used", "novelty")}
    return studies.assign(**listed, **{name: own[name] for name in _RESULT})
