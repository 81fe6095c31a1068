"""The labelled patients that a model learns from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa

from trabecula import tables
from trabecula.cohort import verdicts
from trabecula.cohort.current import CurrentStudies, read_current_studies
from trabecula.cohort.labels import patient_truth
from trabecula.cohort.patients import chosen_vertebrae
from trabecula.cohort.same_scans import LABEL_COLUMNS, SameScans, SetAside, decide, read_sketches
from trabecula.errors import ConfigError
from trabecula.model.scan_inputs import scan_facts
from trabecula.runtime.content import content_digest
from trabecula.runtime.whole_file import whole_file
from trabecula.tables.cubes import read_facts
from trabecula.train.rois import PATIENT, VERTEBRA


def read_vertebrae(
    cubes: Iterable[Path | str], measures: Iterable[Path | str], current: CurrentStudies
) -> pd.DataFrame:
    """Read the vertebrae of all shards without voxels and overlays: columns of the tables `vertebrae` and `measure`."""
    facts = _read_current(cubes, read_facts, current)
    columns = [name for name in tables.MEASURE.names if name != "picture"]
    measured = _read_current(measures, partial(tables.read_columns, columns=columns), current)
    return facts.merge(measured, on=VERTEBRA, validate="one_to_one")


def _read_current(
    paths: Iterable[Path | str], read: Callable[[Path | str], pa.Table], current: CurrentStudies
) -> pd.DataFrame:
    """Read the shards' files one after the other, without rows of studies that moved on."""
    return pd.concat([current.rows(read(path), path).to_pandas() for path in paths], ignore_index=True)


@dataclass(frozen=True)
class Choice:
    """How levels and labels are chosen, as for results: options of the configuration's section `aggregate`.

    Attributes
    ----------
    levels, substitutes : sequence of str
        See `patients.chosen_vertebrae`.
    max_interval_days : int
        See `labels.patient_truth`.
    reduced_below_mg_cm3 : float
        vBMD below this is reduced density.
    """

    levels: Sequence[str]
    substitutes: Sequence[str]
    max_interval_days: int
    reduced_below_mg_cm3: float


@dataclass(frozen=True)
class Sources:
    """Tables of the development cohorts.

    Attributes
    ----------
    vertebrae : DataFrame
        See `read_vertebrae`; after the reviewers' verdicts, with the columns level_found and verdict.
    crops : DataFrame
        Facts on the whole scans, from `crop`.
    studies, labels : DataFrame
        Columns as in the tables of these names.
    set_aside : mapping of SetAside
        Studies of which nothing is in `vertebrae`, since the same scan is there twice.
    slice_digests : mapping of list
        Digests of each scan's slices, by study.
    """

    vertebrae: pd.DataFrame
    crops: pd.DataFrame
    studies: pd.DataFrame
    labels: pd.DataFrame
    set_aside: Mapping[str, SetAside]
    slice_digests: Mapping[str, list[str]]

    def of_cohort(self, cohort: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Give the vertebrae, studies and labels of one cohort."""
        vertebrae, studies, labels = (
            rows[rows["cohort"] == cohort] for rows in (self.vertebrae, self.studies, self.labels)
        )
        return vertebrae, studies, labels


def read_sources(
    converts: Sequence[str],
    cubes: Sequence[str],
    crops: Sequence[str],
    measures: Sequence[str],
    studies: Sequence[str],
    labels: Sequence[str],
    *,
    reviewed: Path | str | None = None,
) -> Sources:
    """Read the files of the development cohorts: those of convert to measure per shard, those of index per cohort.

    Scans that are there twice count once, and the reviewers' verdicts are applied, as for results, so that training
    stands on the same vertebrae.

    Raises
    ------
    ConfigError
        If no shard is given, or the verdicts can't be read.
    """
    if not cubes:
        raise ConfigError(_nothing_to_train_on(_read(studies, tables.STUDIES)))
    current = read_current_studies(studies)
    scans = _read_current(crops, partial(tables.read_columns, columns=["study_id", "status", "blood_hu"]), current)
    segmented, label_lines = read_vertebrae(cubes, measures, current), _read(labels, tables.LABELS)
    sketches = read_sketches(converts, current)
    same = _same_scans(sketches, label_lines)
    segmented = segmented[~segmented["study_id"].isin(list(same.set_aside))]
    reviewed_vertebrae, _, _ = verdicts.apply(segmented, segmented[VERTEBRA], verdicts.read(reviewed))
    digests = dict(zip(sketches["study_id"].to_pylist(), sketches["slice_digests"].to_pylist(), strict=True))
    return Sources(reviewed_vertebrae, scans, _read(studies, tables.STUDIES), label_lines, same.set_aside, digests)


def _same_scans(sketches: pa.Table, labels: pd.DataFrame) -> SameScans:
    """Decide which studies count, other cohorts than those of the development aside."""
    lines = pa.Table.from_pandas(labels[LABEL_COLUMNS], preserve_index=False)
    return decide(sketches, lines, dict.fromkeys(sketches["cohort"].unique().to_pylist(), "development"))


def _nothing_to_train_on(studies: pd.DataFrame) -> str:
    """Say why there is no scan to train on, and what to do.

    >>> _nothing_to_train_on(pd.DataFrame({"reason": ["too_short", "not_ct", "too_short"]}))[:101]
    'The development cohorts hold no scan to train on: all 3 studies were refused (2 too_short, 1 not_ct).'
    """
    counts = ", ".join(f"{n} {reason}" for reason, n in studies["reason"].value_counts().items())
    n_studies = "their one study was" if len(studies) == 1 else f"all {len(studies)} studies were"
    why = f"{n_studies} refused ({counts})" if len(studies) else "no study was found in their archives"
    return (
        f"The development cohorts hold no scan to train on: {why}. The tables index/series.parquet in the cohorts' "
        "results give the reasons. Mend the archives; or name a trained model in option model, and the cohorts get "
        "their tables and reports without training."
    )


def _read(paths: Iterable[Path | str], schema: pa.Schema) -> pd.DataFrame:
    """Read tables of one schema, one after the other."""
    return pd.concat([tables.read(path, schema).to_pandas() for path in paths], ignore_index=True)


def write_digests(path: Path | str, files: Iterable[Path | str]) -> None:
    """Write the name and the digest of the content of each file, a line each."""
    lines = [f"{Path(file).name}\t{content_digest(Path(file))}\n" for file in files]
    with whole_file(path) as unfinished:
        unfinished.write_text("".join(lines))


def renamed_levels(vertebrae: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """Give the levels that reviewers changed, by cohort, study and level as segmented."""
    moved = vertebrae[vertebrae["level"] != vertebrae["level_found"]]
    keys = zip(moved["cohort"], moved["study_id"], moved["level_found"], strict=True)
    return dict(zip(keys, moved["level"], strict=True))


def drop_repeated(cases: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Keep each patient once, so that nobody counts twice or lies on both sides of a split.

    Parameters
    ----------
    cases : DataFrame
        Columns cohort and patient_id, one row per pair of them.
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


def find_cases(sources: Sources, *, order: Sequence[str], choice: Choice) -> pd.DataFrame:
    """Find the patients with a QCT value and a usable vertebra, in the way in which results are made.

    Parameters
    ----------
    sources : Sources
        Tables of the development cohorts.
    order : sequence of str
        The cohorts; a patient of several cohorts counts in the first of them.
    choice : Choice
        How levels and labels are chosen.

    Returns
    -------
    DataFrame
        By cohort and patient_id, the columns of `tables.CASES`.
    """
    parts = [_cases_of_cohort(sources, cohort, choice) for cohort in order]
    cases = pd.concat(parts, ignore_index=True).sort_values(PATIENT, ignore_index=True)
    cases = drop_repeated(cases, order).join(scan_facts(sources.studies, sources.crops), on="study_id")
    digests = pd.Series([sources.slice_digests[study] for study in cases["study_id"]], cases.index, object)
    cases = cases.assign(slice_digests=digests)
    return cases.assign(reduced=cases["qct_vbmd_mg_cm3"] < choice.reduced_below_mg_cm3)[tables.CASES.names]


def _cases_of_cohort(sources: Sources, cohort: str, choice: Choice) -> pd.DataFrame:
    """Find the cases of one cohort, other cohorts aside."""
    vertebrae, studies, labels = sources.of_cohort(cohort)
    chosen = chosen_vertebrae(vertebrae, levels=choice.levels, substitutes=choice.substitutes)
    by_study = chosen.groupby("study_id").agg(levels=("level", list), trabecular_hu=("trabecular_hu_mean", "mean"))
    candidates = studies.loc[studies["study_id"].isin(list(by_study.index))]
    truth = patient_truth(labels, candidates, levels=choice.levels, max_interval_days=choice.max_interval_days)
    labelled = truth.loc[truth["qct_vbmd_mg_cm3"].notna(), ["study_id", "qct_vbmd_mg_cm3"]]
    facts = studies[["cohort", "patient_id", "study_id", "age_years", "sex", "device_key"]]
    return labelled.merge(facts, on="study_id").join(by_study, on="study_id")
