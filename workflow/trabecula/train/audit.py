"""What became of every development patient and every label line before training."""

from collections.abc import Sequence

import pandas as pd


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
