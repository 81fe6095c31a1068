"""Figures of each split of the protocol by itself: how much they vary between folds, draws and devices."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from trabecula.evaluate.metrics import figures
from trabecula.evaluate.protocol import tested
from trabecula.evaluate.sets import HU, JOINT, NETWORK

PREDICTORS = (NETWORK, JOINT, HU)
METRICS = ("auc", "mae", "rmse", "bias")


def fold_variability(protocol: pa.Table, *, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    """List the rows of the table spread.

    Parameters
    ----------
    protocol : table
        Of the schema PROTOCOL.
    resamples, seed : int
        Bootstrap of the patients.
    """
    for split, group in tested(protocol):
        for predictor in (name for name in PREDICTORS if name in group.predictors):
            for row in figures(group, predictor, resamples=resamples, seed=seed):
                if row["metric"] in METRICS:
                    row.pop("task")
                    yield {**split, "predictor": predictor, **row}
