"""Statistics on the result tables: the networks and the baselines against QCT.

The patient is the unit. Each set of patients is judged by itself: those in the model's training (predicted only by
networks that never saw them), external ones, development patients that the model was not trained on, and the sets of
the protocol that the model's bundle keeps of its training. A set of the run's patients is judged by cohort, and as a
whole where it has several. Density in a cohort, and repeated scans of its patients, need no label.

Here belong estimators with their intervals (`agreement`, `discrimination`, `probabilities`, `resampling`), who is
judged (`sets`, `protocol`, `subjects`), the statistics by table (`registry`) and the tables' schemas. How figures are
put on a page belongs to `report`, and how a patient's result comes about to `aggregate`.
"""

from collections.abc import Sequence
from typing import Any

from trabecula.density.thresholds import Thresholds
from trabecula.evaluate.evidence import Evidence, read_tables
from trabecula.evaluate.protocol import read_protocol
from trabecula.evaluate.registry import REGISTRY
from trabecula.evaluate.schemas import STATISTICS
from trabecula.evaluate.sets import SETS
from trabecula.evaluate.subjects import Options, Run, subjects

__all__ = ["SETS", "STATISTICS", "Evidence", "read_protocol", "read_tables", "statistics"]


def statistics(
    evidence: Evidence,
    vbmd: Thresholds,
    *,
    bootstrap: int,
    seed: int,
    thresholds: Sequence[float],
    prevalences: Sequence[float],
    repeat_days: int,
) -> dict[str, list[dict[str, Any]]]:
    """Make every statistic of every set of patients.

    Parameters
    ----------
    evidence : Evidence
    vbmd : Thresholds
        Thresholds of vBMD between the grades (HA); the baselines decide at the first of them.
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
    run = Run(evidence, Options(vbmd, thresholds, prevalences, repeat_days, draw))
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in STATISTICS}
    for subject in subjects(run):
        for statistic in REGISTRY:
            tables[statistic.table] += statistic.rows(subject)
    return tables
