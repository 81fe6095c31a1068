"""The labelled patients that a model learns from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from trabecula import tables
from trabecula.cohort import verdicts
from trabecula.cohort.labels import patient_truth
from trabecula.cohort.patients import chosen_vertebrae
from trabecula.errors import ConfigError
from trabecula.model.scan_inputs import scan_facts
from trabecula.tables.cubes import read_facts

VERTEBRA = ["cohort", "patient_id", "study_id", "level"]


def read_vertebrae(cubes: Iterable[Path | str], measures: Iterable[Path | str]) -> pd.DataFrame:
    """Read the vertebrae of all shards without voxels and pictures: columns of the tables `vertebrae` and `measure`."""
    facts = pd.concat([read_facts(path).to_pandas() for path in cubes], ignore_index=True)
    wanted = [name for name in tables.MEASURE.names if name != "picture"]
    measured = pd.concat([tables.read_columns(path, wanted).to_pandas() for path in measures], ignore_index=True)
    return facts.merge(measured, on=VERTEBRA, validate="one_to_one")


@dataclass(frozen=True)
class Sources:
    """What is known of the development cohorts.

    Attributes
    ----------
    vertebrae : DataFrame
        See `read_vertebrae`; after the reviewers' verdicts, with the columns level_found and verdict.
    crops : DataFrame
        What `crop` found in the whole scans.
    studies, labels : DataFrame
        Columns as in the tables of these names.
    """

    vertebrae: pd.DataFrame
    crops: pd.DataFrame
    studies: pd.DataFrame
    labels: pd.DataFrame


def read_sources(
    cubes: Sequence[str],
    crops: Sequence[str],
    measures: Sequence[str],
    studies: Sequence[str],
    labels: Sequence[str],
    *,
    reviewed: Path | str | None = None,
) -> Sources:
    """Read the files of the development cohorts: crop's and measure's per shard, the index's per cohort.

    The reviewers' verdicts are applied as for results, so that training rests on the same vertebrae.

    Raises
    ------
    ConfigError
        If no shard is given, or the verdicts can't be read.
    """
    if not cubes:
        raise ConfigError(
            "The development cohorts have no scan that can be measured; their tables index/series.parquet say why not."
        )
    facts = [tables.read_columns(path, ["study_id", "status", "blood_hu"]).to_pandas() for path in crops]
    found = read_vertebrae(cubes, measures)
    vertebrae, _, _ = verdicts.apply(found, found[VERTEBRA], verdicts.read(reviewed))
    return Sources(
        vertebrae,
        pd.concat(facts, ignore_index=True),
        _read(studies, tables.STUDIES),
        _read(labels, tables.LABELS),
    )


def _read(paths: Iterable[Path | str], of: pa.Schema) -> pd.DataFrame:
    return pd.concat([tables.read(path, of).to_pandas() for path in paths], ignore_index=True)


def renamed(vertebrae: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """Levels that reviewers gave, by cohort, study and level as segmented; vertebrae that keep theirs are left out."""
    moved = vertebrae[vertebrae["level"] != vertebrae["level_found"]]
    keys = zip(moved["cohort"], moved["study_id"], moved["level_found"], strict=True)
    return dict(zip(keys, moved["level"], strict=True))


def drop_repeated(cases: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Keep each patient once, so that nobody weighs double or lies on both sides of a split.

    Parameters
    ----------
    cases : DataFrame
        Columns cohort and patient_id, one row per both.
    order : sequence of str
        The cohorts, as cohorts.tsv lists them.

    Returns
    -------
    DataFrame
        The rows of each patient's first cohort, in the order given, with a new index.
    """
    place = cases["cohort"].map({cohort: i for i, cohort in enumerate(order)})
    first = place.groupby(cases["patient_id"]).transform("min")
    return cases[place == first].reset_index(drop=True)


def find_cases(
    sources: Sources,
    *,
    order: Sequence[str],
    levels: Sequence[str],
    substitutes: Sequence[str],
    max_interval_days: int,
    reduced_below_mg_cm3: float,
) -> pd.DataFrame:
    """Find the patients with a QCT value and a usable vertebra, in the way in which results are made.

    Parameters
    ----------
    sources : Sources
        What is known of the development cohorts.
    order : sequence of str
        The cohorts; a patient of several counts in the first of them.
    levels, substitutes
        See `patients.chosen_vertebrae`.
    max_interval_days : int
        See `labels.patient_truth`.
    reduced_below_mg_cm3 : float
        vBMD below this is reduced density.

    Returns
    -------
    DataFrame
        By cohort and patient_id, the columns of `tables.CASES`.
    """
    vertebrae, studies, labels = sources.vertebrae, sources.studies, sources.labels
    found = [
        _cases_of_cohort(
            vertebrae.loc[vertebrae["cohort"] == cohort],
            studies.loc[studies["cohort"] == cohort],
            labels.loc[labels["cohort"] == cohort],
            levels=levels,
            substitutes=substitutes,
            max_interval_days=max_interval_days,
        )
        for cohort in order
    ]
    cases = pd.concat(found, ignore_index=True).sort_values(["cohort", "patient_id"], ignore_index=True)
    cases = drop_repeated(cases, order).join(scan_facts(sources.studies, sources.crops), on="study_id")
    return cases.assign(reduced=cases["qct_vbmd_mg_cm3"] < reduced_below_mg_cm3)[tables.CASES.names]


def _cases_of_cohort(
    vertebrae: pd.DataFrame, studies: pd.DataFrame, labels: pd.DataFrame, *, levels, substitutes, max_interval_days
) -> pd.DataFrame:
    chosen = chosen_vertebrae(vertebrae, levels=levels, substitutes=substitutes)
    by_study = chosen.groupby("study_id").agg(levels=("level", list), trabecular_hu=("trabecular_hu_mean", "mean"))
    candidates = studies.loc[studies["study_id"].isin(list(by_study.index))]
    truth = patient_truth(labels, candidates, levels=levels, max_interval_days=max_interval_days)
    known = truth.loc[truth["qct_vbmd_mg_cm3"].notna(), ["study_id", "qct_vbmd_mg_cm3"]]
    facts = studies[["cohort", "patient_id", "study_id", "age_years", "sex", "device_key"]]
    return known.merge(facts, on="study_id").join(by_study, on="study_id")
