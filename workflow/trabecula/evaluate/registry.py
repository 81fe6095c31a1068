"""Every statistic by the table that it fills: what it is about, what it needs, and the function that makes its rows."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from trabecula.evaluate import distribution, metrics, operating_points, repeats
from trabecula.evaluate.comparison import comparison
from trabecula.evaluate.coverage import coverage
from trabecula.evaluate.decisions import abstentions, decisions
from trabecula.evaluate.fold_variability import fold_variability
from trabecula.evaluate.grades import grade_kappa, grade_table
from trabecula.evaluate.levels import levels
from trabecula.evaluate.near_threshold import near_threshold
from trabecula.evaluate.recalibration import recalibration
from trabecula.evaluate.schemas import STATISTICS
from trabecula.evaluate.sets import EXTERNAL, MEASURING, PROBABLE, TRAINING
from trabecula.evaluate.strata import strata
from trabecula.evaluate.subjects import Part, Predicted, Run, Subject, WholeSet

S = TypeVar("S", bound=Subject)
Row = dict[str, Any]


def _nothing(subject: Subject) -> bool:
    """Tell that every subject will do."""
    return True


@dataclass(frozen=True)
class Statistic(Generic[S]):
    """A statistic and the table that it fills.

    Attributes
    ----------
    table : str
        One of `STATISTICS`. Several statistics may fill one table; their rows follow each other subject by subject.
    scope : type
        Kind of subject that the statistic is about.
    function : callable
        Makes the rows of a subject, without the columns that name the subject.
    needs : callable
        Tells whether a subject has what the statistic needs; by default every subject has.
    """

    table: str
    scope: type[S]
    function: Callable[[S], Iterable[Row]]
    needs: Callable[[S], bool] = _nothing

    def rows(self, subject: Subject) -> Iterator[Row]:
        """Make the rows of a subject, named by those of its keys that the table has columns for."""
        if type(subject) is self.scope and self.needs(subject):
            columns = STATISTICS[self.table].names
            keys = {name: key for name, key in subject.keys.items() if name in columns}
            yield from ({**keys, **row} for row in self.function(subject))


def _of_run(subject: WholeSet) -> bool:
    """Tell whether facts of the scan are known, which the protocol does not hold."""
    return subject.of_run


def _external(subject: WholeSet) -> bool:
    return subject.group.name == EXTERNAL


def _not_training(subject: WholeSet) -> bool:
    return subject.group.name != TRAINING


def _probability(subject: Predicted) -> bool:
    """Tell whether the predictor's score is a probability."""
    return subject.predictor in PROBABLE


def _vbmd(subject: Predicted) -> bool:
    """Tell whether the predictor gives a vBMD."""
    return subject.predictor in MEASURING


def _metrics(subject: Predicted) -> Iterator[Row]:
    return metrics.figures(subject.group, subject.predictor, **subject.draw)


def _calibration(subject: Predicted) -> Iterator[Row]:
    return metrics.rows_of_task("classification", subject.calibration.figures)


def _kappa(subject: Predicted) -> Iterator[Row]:
    kappa = grade_kappa(subject.group, subject.predictor, thresholds=subject.run.options.vbmd, **subject.draw)
    return metrics.rows_of_task("regression", {"kappa": kappa})


def _roc(subject: Predicted) -> Iterator[Row]:
    return metrics.roc(subject.group, subject.predictor)


def _left_out(subject: Predicted) -> Iterator[Row]:
    return metrics.left_out(subject.group, subject.predictor)


def _predictive_values(subject: Predicted) -> Iterator[Row]:
    prevalences = subject.run.options.prevalences
    return operating_points.predictive_values(subject.group, subject.predictor, prevalences=prevalences)


def _thresholds(subject: Predicted) -> Iterator[Row]:
    thresholds = subject.run.options.probabilities
    return operating_points.at_thresholds(subject.group, subject.predictor, thresholds=thresholds)


def _grades(subject: Predicted) -> Iterator[Row]:
    return grade_table(subject.group, subject.predictor, thresholds=subject.run.options.vbmd)


def _near_threshold(subject: Predicted) -> Iterator[Row]:
    return near_threshold(subject.group, subject.predictor, thresholds=subject.run.options.vbmd, **subject.draw)


def _comparison(subject: Part) -> Iterator[Row]:
    return comparison(subject.group, best_hu=subject.run.best_hu_line, **subject.draw)


def _reclassification(subject: Part) -> Iterator[Row]:
    return operating_points.reclassification(subject.group, thresholds=subject.run.options.probabilities)


def _levels(subject: Part) -> Iterator[Row]:
    run = subject.run
    return levels(
        subject.group,
        run.level_values,
        lines=run.evidence.lines,
        reduced_below_mg_cm3=run.options.vbmd.reduced_below_mg_cm3,
        **subject.draw,
    )


def _precision(run: Run) -> Iterator[Row]:
    scans = run.evidence.studies.select(list(repeats.FACTS)).to_pandas()
    roles = run.evidence.patients.select(["cohort", "role"]).to_pandas().drop_duplicates().sort_values("cohort")
    return repeats.precision(scans, roles, days=run.options.repeat_days)


def _distribution(run: Run) -> Iterator[Row]:
    return distribution.distribution(run.evidence.patients.select(list(distribution.FACTS)).to_pandas())


REGISTRY: tuple[Statistic[Any], ...] = (
    Statistic("metrics", Predicted, _metrics),
    Statistic("metrics", Predicted, _calibration, _probability),
    Statistic("metrics", Predicted, _kappa, _vbmd),
    Statistic("roc", Predicted, _roc),
    Statistic("agreement", WholeSet, lambda subject: metrics.pairs(subject.group)),
    Statistic("comparison", Part, _comparison, _not_training),
    Statistic("left_out", Predicted, _left_out),
    Statistic("decisions", Part, lambda subject: decisions(subject.group), _of_run),
    Statistic("abstentions", Part, lambda subject: abstentions(subject.group), _of_run),
    Statistic("spread", Run, lambda run: fold_variability(run.evidence.protocol, **run.options.draw)),
    Statistic("levels", Part, _levels, _of_run),
    Statistic("near_cuts", Predicted, _near_threshold, _vbmd),
    Statistic("coverage", Part, lambda subject: coverage(subject.group), _of_run),
    Statistic(
        "recalibration", WholeSet, lambda subject: recalibration(subject.group, seed=subject.draw["seed"]), _external
    ),
    Statistic("calibration_curve", Predicted, lambda subject: subject.calibration.curve, _probability),
    Statistic("decision_curve", Part, lambda subject: operating_points.decision_curve(subject.group, **subject.draw)),
    Statistic("grades", Predicted, _grades, _vbmd),
    Statistic("strata", Part, lambda subject: strata(subject.group, **subject.draw), _of_run),
    Statistic("predictive_values", Predicted, _predictive_values),
    Statistic("thresholds", Predicted, _thresholds, _probability),
    Statistic("reclassification", Part, _reclassification),
    Statistic("precision", Run, _precision),
    Statistic("distribution", Run, _distribution),
)
