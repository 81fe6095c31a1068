"""Errors where they matter most: near the cuts between grades."""

from collections.abc import Iterator, Sequence
from typing import Any

from trabecula.evaluate.agreement import agreement
from trabecula.evaluate.discrimination import wilson
from trabecula.evaluate.estimate import in_cell
from trabecula.evaluate.metrics import figure
from trabecula.evaluate.sets import Group

WITHIN_MG_CM3 = 10.0


def near_cuts(
    group: Group, predictor: str, *, cuts_mg_cm3: Sequence[float], resamples: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Rows of the table near_cuts: MAE, bias, and the share put on the right side of the cut.

    Parameters
    ----------
    group : Group
    predictor : str
        One of the group's that gives a vBMD.
    cuts_mg_cm3 : sequence of float
        A patient stands near a cut when the QCT value is at most `WITHIN_MG_CM3` away.
    resamples, seed : int
        Bootstrap of the patients.
    """
    for cut in cuts_mg_cm3:
        own = group.measured(predictor) & (group.qct.sub(cut).abs() <= WITHIN_MG_CM3)
        predicted, qct = group.vbmd_mg_cm3[predictor][own].to_numpy(float), group.qct[own].to_numpy(float)
        found = agreement(predicted, qct, resamples=resamples, seed=seed)
        right = int(((predicted < cut) == (qct < cut)).sum())
        rows = {"mae": found["mae"], "bias": found["bias"], "right_side": wilson(right, len(qct))}
        for metric, estimate in rows.items():
            yield {"cut_mg_cm3": float(cut), "within_mg_cm3": WITHIN_MG_CM3, **figure(metric, in_cell(estimate))}
