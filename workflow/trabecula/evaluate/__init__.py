"""Statistics on the result tables: the networks and the baselines against QCT.

The patient is the unit. Each set of patients is judged by itself: those in the model's training (predicted only by
networks that never saw them), external ones, development patients that the model was not trained on, and what the
bundle's protocol holds of the training. A set of the run's patients is judged by cohort, and as a whole where it has
several. Density in a cohort, and repeated scans of its patients, need no label.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from trabecula.evaluate import distribution, metrics, probabilities, protocol, repeats, sets, thresholds
from trabecula.evaluate.comparison import best_hu_line, comparison
from trabecula.evaluate.coverage import coverage
from trabecula.evaluate.decisions import abstentions, decisions
from trabecula.evaluate.grades import grade_kappa, grade_table
from trabecula.evaluate.levels import level_values, levels
from trabecula.evaluate.near_cuts import near_cuts
from trabecula.evaluate.protocol import read_protocol
from trabecula.evaluate.read import read_tables
from trabecula.evaluate.recalibration import recalibration
from trabecula.evaluate.schemas import STATISTICS
from trabecula.evaluate.sets import CROSS_VALIDATED, EXTERNAL, PROBABLE, SETS, TRAINING, Group
from trabecula.evaluate.spread import spread
from trabecula.evaluate.strata import strata
from trabecula.model.baselines import Baseline

__all__ = ["SETS", "STATISTICS", "Evidence", "read_protocol", "read_tables", "statistics"]

Rows = list[dict[str, Any]]
Parts = Iterator[tuple[str, Iterable[dict[str, Any]]]]


@dataclass(frozen=True)
class Evidence:
    """What the statistics stand on.

    Attributes
    ----------
    patients, studies, vertebrae, predictions, labels, protocol : tables
        Of the schemas of these names; the protocol is the model's. Vertebrae and predictions of labelled patients
        are enough.
    lines : tuple of Baseline
        The model's baselines.
    folds : mapping
        Patients of the model's training, and the fold that never saw them.
    """

    patients: pa.Table
    studies: pa.Table
    vertebrae: pa.Table
    predictions: pa.Table
    labels: pa.Table
    protocol: pa.Table
    lines: tuple[Baseline, ...]
    folds: Mapping[str, int]


@dataclass(frozen=True)
class _Options:
    """Options of `statistics` that several tables need; cuts from the upper to the lower one."""

    cuts_mg_cm3: tuple[float, float]
    thresholds: Sequence[float]
    prevalences: Sequence[float]
    draw: Mapping[str, int]


def statistics(
    of: Evidence,
    *,
    reduced_below_mg_cm3: float,
    osteoporosis_below_mg_cm3: float,
    bootstrap: int,
    seed: int,
    thresholds: Sequence[float],
    prevalences: Sequence[float],
    repeat_days: int,
) -> dict[str, Rows]:
    """Every statistic of every set of patients.

    Parameters
    ----------
    of : Evidence
    reduced_below_mg_cm3, osteoporosis_below_mg_cm3 : float
        Cuts between the grades (HA); the baselines decide at the first of them.
    bootstrap : int
        Resamples of the patients.
    seed : int
        Seed of the resampling and of random draws.
    thresholds : sequence of float
        Probabilities from which a patient counts as reduced, to compare.
    prevalences : sequence of float
        Shares of reduced density to give predictive values for.
    repeat_days : int
        Scans of a patient at most this far apart count as repeats.

    Returns
    -------
    dict
        Rows of the tables `STATISTICS`.
    """
    draw = {"resamples": bootstrap, "seed": seed}
    options = _Options((reduced_below_mg_cm3, osteoporosis_below_mg_cm3), thresholds, prevalences, draw)
    own = list(
        sets.groups(of.patients, of.studies, lines=of.lines, folds=of.folds, reduced_below_mg_cm3=reduced_below_mg_cm3)
    )
    whole = sorted([*own, *protocol.sets(of.protocol)], key=lambda group: list(SETS).index(group.name))
    best_hu = _best_hu_line(own, of.protocol)
    values = level_values(of.labels, of.patients, of.vertebrae, of.predictions)
    tables: dict[str, Rows] = {name: [] for name in STATISTICS}
    for group in whole:
        for predictor in group.predictors:
            pairs = metrics.pairs(group, predictor)
            tables["agreement"] += [
                {"set": group.name, "role": group.role, "predictor": predictor, **row} for row in pairs
            ]
        of_run = any(group is one for one in own)
        for part in sets.by_cohort(group) if of_run else [group]:
            made = [_of_any_set(part, options, best_hu)]
            if of_run:
                given: dict[str, Any] = {"lines": of.lines, "reduced_below_mg_cm3": reduced_below_mg_cm3, **draw}
                made += [_of_the_run(part, options), iter([("levels", levels(part, values, **given))])]
            for name, rows in (table for tables_of in made for table in tables_of):
                tables[name] += [{"set": part.name, "role": part.role, "cohort": part.cohort, **row} for row in rows]
    tables["spread"] += spread(of.protocol, **draw)
    for group in (group for group in own if group.name == EXTERNAL):
        tables["recalibration"] += recalibration(group, seed=seed)
    people = of.patients.select(list(distribution.FACTS)).to_pandas()
    scans = of.studies.select(list(repeats.FACTS)).to_pandas()
    roles = people[["cohort", "role"]].drop_duplicates().sort_values("cohort")
    tables["precision"] += repeats.precision(scans, roles, days=repeat_days)
    tables["distribution"] += distribution.distribution(people)
    return tables


def _of_any_set(group: Group, options: _Options, best_hu: str | None) -> Parts:
    for predictor in group.predictors:
        for name, rows in _of_predictor(group, predictor, options):
            yield name, ({"predictor": predictor, **row} for row in rows)
    if group.name != TRAINING:
        yield "comparison", comparison(group, best_hu=best_hu, **options.draw)
    yield "decision_curve", thresholds.decision_curve(group, **options.draw)
    yield "reclassification", thresholds.reclassification(group, thresholds=options.thresholds)


def _of_predictor(group: Group, predictor: str, options: _Options) -> Parts:
    yield "metrics", metrics.figures(group, predictor, **options.draw)
    yield "roc", metrics.roc(group, predictor)
    yield "left_out", metrics.left_out(group, predictor)
    yield "predictive_values", thresholds.predictive_values(group, predictor, prevalences=options.prevalences)
    if predictor in PROBABLE:
        found, curve = probabilities.calibration(group, predictor, **options.draw)
        yield (
            "metrics",
            ({"task": "classification", **metrics.figure(name, estimate)} for name, estimate in found.items()),
        )
        yield "calibration_curve", curve
        yield "thresholds", thresholds.at_thresholds(group, predictor, thresholds=options.thresholds)
    if predictor in sets.MEASURING:
        given: dict[str, Any] = {"cuts_mg_cm3": options.cuts_mg_cm3, **options.draw}
        kappa = metrics.figure("kappa", grade_kappa(group, predictor, **given))
        yield "metrics", [{"task": "regression", **kappa}]
        yield "grades", grade_table(group, predictor, cuts_mg_cm3=options.cuts_mg_cm3)
        yield "near_cuts", near_cuts(group, predictor, cuts_mg_cm3=sorted(options.cuts_mg_cm3), **options.draw)


def _of_the_run(group: Group, options: _Options) -> Parts:
    """What needs facts of the scan that the protocol does not tell."""
    yield "decisions", decisions(group)
    yield "abstentions", abstentions(group)
    yield "coverage", coverage(group)
    yield "strata", strata(group, **options.draw)


def _best_hu_line(own: list[Group], of_training: pa.Table) -> str | None:
    """Chosen on the cross-validated patients: those of the run, else those that the model's protocol tells of."""
    group = next((group for group in own if group.name == CROSS_VALIDATED), None)
    group = group or protocol.cross_validated(of_training)
    return best_hu_line(group) if group else None
