"""Statistics on the result tables: the networks and the baselines against QCT.

The patient is the unit. Each set of patients is judged by itself: those in the model's training (predicted only by
networks that never saw them), external ones, development patients that the model was not trained on, and what the
bundle's protocol holds of the training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from trabecula.baselines import Baseline
from trabecula.evaluate import metrics, protocol, sets
from trabecula.evaluate.comparison import best_hu_line, comparison
from trabecula.evaluate.coverage import coverage
from trabecula.evaluate.decisions import abstentions, decisions
from trabecula.evaluate.flow import flow
from trabecula.evaluate.levels import level_values, levels
from trabecula.evaluate.near_cuts import near_cuts
from trabecula.evaluate.protocol import read_protocol
from trabecula.evaluate.recalibration import recalibration
from trabecula.evaluate.schemas import STATISTICS
from trabecula.evaluate.sets import CROSS_VALIDATED, EXTERNAL, SETS, TRAINING, Group
from trabecula.evaluate.spread import spread

__all__ = ["SETS", "STATISTICS", "Evidence", "read_protocol", "statistics"]

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Evidence:
    """What the statistics stand on.

    Attributes
    ----------
    patients, series, studies, vertebrae, predictions, labels, protocol : tables
        Of the schemas of these names; the protocol is the model's.
    lines : tuple of Baseline
        The model's baselines.
    folds : mapping
        Patients of the model's training, and the fold that never saw them.
    """

    patients: pa.Table
    series: pa.Table
    studies: pa.Table
    vertebrae: pa.Table
    predictions: pa.Table
    labels: pa.Table
    protocol: pa.Table
    lines: tuple[Baseline, ...]
    folds: Mapping[str, int]


def statistics(
    of: Evidence,
    *,
    reduced_below_mg_cm3: float,
    osteoporosis_below_mg_cm3: float,
    bootstrap: int,
    seed: int,
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

    Returns
    -------
    dict
        Rows of the tables `STATISTICS`.
    """
    options = {"resamples": bootstrap, "seed": seed}
    own = list(
        sets.groups(of.patients, of.studies, lines=of.lines, folds=of.folds, reduced_below_mg_cm3=reduced_below_mg_cm3)
    )
    groups = sorted([*own, *protocol.sets(of.protocol)], key=lambda group: list(SETS).index(group.name))
    tables: dict[str, Rows] = {name: [] for name in STATISTICS}
    for group in groups:
        for name, rows in _of_any_set(group, (osteoporosis_below_mg_cm3, reduced_below_mg_cm3), options).items():
            tables[name] += rows
    best_hu = _best_hu_line(own, of.protocol)
    for group in (group for group in groups if group.name != TRAINING):
        tables["comparison"] += _named(group, comparison(group, best_hu=best_hu, **options))
    values = level_values(of.labels, of.patients, of.vertebrae, of.predictions)
    for group in own:
        tables["decisions"] += _named(group, decisions(group))
        tables["abstentions"] += _named(group, abstentions(group))
        tables["coverage"] += _named(group, coverage(group))
        tables["levels"] += _named(group, levels(group, values, lines=of.lines, **options))
    tables["spread"] += spread(of.protocol, **options)
    for group in (group for group in own if group.name == EXTERNAL):
        tables["recalibration"] += recalibration(group, seed=seed)
    tables["flow"] += flow(of.series, of.studies, of.patients)
    return tables


def _named(group: Group, rows: Any) -> Rows:
    return [{"set": group.name, "role": group.role, **row} for row in rows]


def _of_any_set(group: Group, cuts_mg_cm3: tuple[float, ...], options: dict[str, int]) -> dict[str, Rows]:
    tables: dict[str, Rows] = {name: [] for name in ("metrics", "roc", "agreement", "left_out", "near_cuts")}
    for predictor in group.predictors:
        made = {
            "metrics": metrics.figures(group, predictor, **options),
            "roc": metrics.roc(group, predictor),
            "agreement": metrics.pairs(group, predictor),
            "left_out": metrics.left_out(group, predictor),
        }
        if predictor in sets.MEASURING:
            made["near_cuts"] = near_cuts(group, predictor, cuts_mg_cm3=cuts_mg_cm3, **options)
        for name, rows in made.items():
            tables[name] += [row | {"predictor": predictor} for row in _named(group, rows)]
    return tables


def _best_hu_line(own: list[Group], of_training: pa.Table) -> str | None:
    """Chosen on the cross-validated patients: those of the run, else those that the model's protocol tells of."""
    group = next((group for group in own if group.name == CROSS_VALIDATED), None)
    group = group or protocol.cross_validated(of_training)
    return best_hu_line(group) if group else None
