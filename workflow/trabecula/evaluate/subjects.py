"""Subjects of a statistic: the run, a set of patients, a part of a set, or a predictor on a part."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from trabecula.density.thresholds import Thresholds
from trabecula.evaluate import protocol, sets
from trabecula.evaluate.comparison import best_hu_line
from trabecula.evaluate.evidence import Evidence
from trabecula.evaluate.levels import level_values
from trabecula.evaluate.probabilities import Calibration, calibration
from trabecula.evaluate.sets import CROSS_VALIDATED, SETS, Group


@dataclass(frozen=True)
class Options:
    """Options that several statistics share.

    Attributes
    ----------
    vbmd : Thresholds
        Thresholds between the grades; the baselines decide at the first of them.
    probabilities : sequence of float
        Probabilities from which a patient counts as reduced, to compare.
    prevalences : sequence of float
        Shares of reduced density to give predictive values for.
    repeat_days : int
        Scans of a patient at most this far apart count as repeats.
    draw : mapping
        Resamples and seed of the bootstrap of the patients, by these names.
    """

    vbmd: Thresholds
    probabilities: Sequence[float]
    prevalences: Sequence[float]
    repeat_days: int
    draw: Mapping[str, int]


@dataclass(frozen=True)
class Run:
    """All that is judged together: the evidence and the options."""

    evidence: Evidence
    options: Options

    @property
    def keys(self) -> dict[str, str | None]:
        """Give the columns that name the subject in a row: none."""
        return {}

    @cached_property
    def sets(self) -> list[Group]:
        """List the sets of the run's own patients."""
        evidence, reduced_below_mg_cm3 = self.evidence, self.options.vbmd.reduced_below_mg_cm3
        return list(
            sets.groups(
                evidence.patients,
                evidence.studies,
                lines=evidence.lines,
                folds=evidence.folds,
                reduced_below_mg_cm3=reduced_below_mg_cm3,
            )
        )

    @cached_property
    def best_hu_line(self) -> str | None:
        """Choose a line from HU on the cross-validated patients: those of the run, else those of the protocol."""
        group = next((group for group in self.sets if group.name == CROSS_VALIDATED), None)
        group = group or protocol.cross_validated(self.evidence.protocol)
        return best_hu_line(group) if group else None

    @cached_property
    def level_values(self) -> pd.DataFrame:
        """Give the labelled vertebrae of the run with their predictions (see `levels.level_values`)."""
        evidence = self.evidence
        return level_values(evidence.labels, evidence.patients, evidence.vertebrae, evidence.predictions)


@dataclass(frozen=True)
class WholeSet:
    """A set of patients with all its cohorts together."""

    run: Run
    group: Group

    @property
    def keys(self) -> dict[str, str | None]:
        """Give the columns that name the subject in a row."""
        return {"set": self.group.name, "role": self.group.role}

    @property
    def draw(self) -> Mapping[str, int]:
        """Give the resamples and the seed of the bootstrap, by these names."""
        return self.run.options.draw

    @property
    def of_run(self) -> bool:
        """Tell whether these are the run's own patients, of whose scans more is known than the protocol holds."""
        return self.group.name not in protocol.SOURCES


@dataclass(frozen=True)
class Part(WholeSet):
    """One cohort of a set, or the whole set."""

    @property
    def keys(self) -> dict[str, str | None]:
        """Give the columns that name the subject in a row."""
        return super().keys | {"cohort": self.group.cohort}


@dataclass(frozen=True)
class Predicted(Part):
    """A part of a set as one predictor judges it."""

    predictor: str

    @property
    def keys(self) -> dict[str, str | None]:
        """Give the columns that name the subject in a row."""
        return super().keys | {"predictor": self.predictor}

    @cached_property
    def calibration(self) -> Calibration:
        """Give the calibration of the predictor's probability; two tables share its resampled curves."""
        return calibration(self.group, self.predictor, **self.draw)


Subject = Run | WholeSet


def subjects(run: Run) -> Iterator[Subject]:
    """List all subjects of a run in the order of the tables' rows.

    A set of the run's own patients is judged by cohort, and as a whole where it has several; a set of the model's
    protocol only as a whole.
    """
    yield run
    order = list(SETS)
    for group in sorted([*run.sets, *protocol.sets(run.evidence.protocol)], key=lambda group: order.index(group.name)):
        whole = WholeSet(run, group)
        yield whole
        for part in sets.by_cohort(group) if whole.of_run else [group]:
            yield from (Predicted(run, part, predictor) for predictor in part.predictors)
            yield Part(run, part)
