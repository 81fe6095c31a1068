"""Strata: figures by kind of patient and scan, and tests that they are the same in all."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import MonteCarloMethod, chi2, chi2_contingency, fisher_exact
from statsmodels.stats.oneway import anova_oneway

from trabecula.evaluate.agreement import agreement
from trabecula.evaluate.cells import strata as cells_of
from trabecula.evaluate.discrimination import auc, proportions
from trabecula.evaluate.estimate import MIN_CELL, Estimate, Z, in_cell
from trabecula.evaluate.metrics import figure
from trabecula.evaluate.sets import HU, NETWORK, Group

PREDICTORS = (NETWORK, HU)
ONE_CELL = "fewer than two cells with five patients and a defined figure"
PERFECT = "a cell separates perfectly, so its variance is unknown"
Q_TEST = "Cochran's Q of DeLong's areas"
WELCH = "Welch's analysis of variance of the errors"
CHI_SQUARE = "Pearson's chi-square"
EXACT = "Fisher's exact test"
# Below this expected count, the chi-square is no good approximation (Cochran, Biometrics 1954;10:417).
MIN_EXPECTED = 5.0
# Number of random tables where a stratum has more than two cells.
DRAWS = 9_999


@dataclass(frozen=True)
class Interaction:
    """Test that a figure is the same in all cells of a stratum.

    Attributes
    ----------
    p_value : float or None
    method : str
    reason : str or None
        Why there is no p-value, in words.
    """

    p_value: float | None
    method: str
    reason: str | None = None

    @property
    def row(self) -> dict[str, Any]:
        """Give the columns of the table strata."""
        return {
            "interaction_p": self.p_value,
            "interaction_method": self.method,
            "interaction_reason": self.reason,
        }


def strata(group: Group, *, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    """List the rows of the table strata; cells of fewer than five patients are NULL and count in no test.

    Parameters
    ----------
    group : Group
        A set of patients of the run's cohorts.
    resamples, seed : int
        Bootstrap of the patients.
    """
    for stratum, cells in cells_of(group.patients).items():
        for predictor in PREDICTORS:
            parts = {cell: group.part(cells == cell) for cell in sorted(cells.unique())}
            decided = {cell: part.decisions(predictor) for cell, part in parts.items()}
            measured = {cell: part.pairs(predictor) for cell, part in parts.items()}
            tests = _tests(decided, measured)
            for cell in parts:
                truth, called, score = decided[cell]
                errors = agreement(*measured[cell], resamples=resamples, seed=seed)
                estimates = {"auc": auc(truth, score), **proportions(truth, called), **errors}
                for metric, test in tests.items():
                    keys = {"stratum": stratum, "cell": cell, "predictor": predictor}
                    yield {**keys, **figure(metric, in_cell(estimates[metric])), **test.row}


def _tests(decided: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Interaction]:
    """Test each metric over the cells (see `Group.decisions` and `Group.pairs`)."""
    calls = [(truth, called) for truth, called, _ in decided.values()]
    differences = [predicted - qct for predicted, qct in measured.values()]
    return {
        "auc": same_area([in_cell(auc(truth, score)) for truth, _, score in decided.values()]),
        "mae": same_mean([np.abs(error) for error in differences]),
        "bias": same_mean(differences),
        "recall": same_share([called[truth] for truth, called in calls]),
        "specificity": same_share([~called[~truth] for truth, called in calls]),
    }


def same_area(areas: list[Estimate]) -> Interaction:
    """Test areas of independent cells against their mean, weighted by DeLong's variances.

    A cell that separates perfectly has an area without a variance, and leaving it out would hide the largest contrast:
    then nothing is tested. Cells with an undefined area do not count. The longer arm of an interval gives the standard
    error, as the other may be cut off at 0 or 1.

    References
    ----------
    Cochran, Biometrics 1954;10:101.
    """
    tested = [(a.value, max(a.value - a.low, a.high - a.value) / Z) for a in areas if _has_interval(a)]  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
    if any(area.value is not None and not _has_interval(area) for area in areas):
        return Interaction(None, Q_TEST, PERFECT)
    if len(tested) < 2:
        return Interaction(None, Q_TEST, ONE_CELL)
    values, errors = np.array(tested).T
    weights = errors**-2
    q = (weights * (values - np.average(values, weights=weights)) ** 2).sum()
    return Interaction(float(chi2.sf(q, len(tested) - 1)), Q_TEST)


def _has_interval(estimate: Estimate) -> bool:
    """Tell whether both ends of the interval are defined."""
    return estimate.low is not None and estimate.high is not None


def same_mean(cells: list[NDArray[np.float64]]) -> Interaction:
    """Test the means of cells with unequal variances (Welch, Biometrika 1951;38:330)."""
    tested = [values for values in cells if len(values) >= MIN_CELL and np.ptp(values) > 0]
    if len(tested) < 2:
        return Interaction(None, WELCH, ONE_CELL)
    test: Any = anova_oneway(tested, use_var="unequal")
    return Interaction(float(test.pvalue), WELCH)


def same_share(cells: list[NDArray[np.bool_]]) -> Interaction:
    """Test the shares of right calls in cells by chi-square, without correction for continuity.

    Where an expected count is small, by Fisher's exact test; of more than two cells by random tables with the same
    margins, from a fixed seed.

    References
    ----------
    Pearson, Philos Mag 1900;50:157; Fisher, J R Stat Soc 1922;85:87.
    """
    tested = [right for right in cells if len(right) >= MIN_CELL]
    if len(tested) < 2:
        return Interaction(None, CHI_SQUARE, ONE_CELL)
    counts = np.array([[right.sum(), (~right).sum()] for right in tested])
    if not counts.sum(axis=0).all():
        return Interaction(None, CHI_SQUARE, "all cells are all right, or all wrong")
    test: Any = chi2_contingency(counts, correction=False)
    if test.expected_freq.min() >= MIN_EXPECTED:
        return Interaction(float(test.pvalue), CHI_SQUARE)
    drawn = MonteCarloMethod(n_resamples=DRAWS, rng=np.random.default_rng(0))
    exact: Any = fisher_exact(counts) if len(counts) == 2 else fisher_exact(counts, method=drawn)
    return Interaction(float(exact.pvalue), EXACT)
