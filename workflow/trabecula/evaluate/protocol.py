"""Sets of patients from the protocol of the model's training, which the model's bundle holds."""

from collections.abc import Iterator
from typing import Literal

import pandas as pd
import pyarrow as pa

from trabecula import tables
from trabecula.evaluate.sets import CROSS_VALIDATED, DEVICE, PREDICTORS, RANDOM, SETS, TRAINING, Group
from trabecula.model import bundle
from trabecula.model.bundle import Bundle

Scheme = Literal["cross-validation", "random", "device"]
SCHEMES: tuple[Scheme, ...] = ("cross-validation", "random", "device")
# Scheme and part that each set is made from.
SOURCES: dict[str, tuple[Scheme, str]] = {
    TRAINING: ("cross-validation", "train"),
    RANDOM: ("random", "test"),
    DEVICE: ("device", "test"),
}


def read_protocol(model: Bundle) -> pa.Table:
    """Read the bundle's table protocol; empty where it has none."""
    path = model.folder / bundle.PROTOCOL
    return tables.read(path, tables.PROTOCOL) if path.is_file() else tables.PROTOCOL.empty_table()


def sets(protocol: pa.Table) -> Iterator[Group]:
    """List the sets that the protocol has patients for.

    A patient who stands in several splits of a set counts once, with the prediction of the first of these splits: by
    one network, not by an ensemble.

    Parameters
    ----------
    protocol : table
        Of the schema PROTOCOL.
    """
    rows = protocol.to_pandas()
    for name, (scheme, part) in SOURCES.items():
        chosen = _first_split(rows[(rows["scheme"] == scheme) & (rows["part"] == part)])
        if len(chosen):
            yield _group(chosen, name)


def cross_validated(protocol: pa.Table) -> Group | None:
    """Give the test patients of the cross-validation, by the network that never saw them; None where there are none."""
    rows = protocol.to_pandas()
    chosen = rows[(rows["scheme"] == "cross-validation") & (rows["part"] == "test")]
    return _group(chosen, CROSS_VALIDATED) if len(chosen) else None


def tested(protocol: pa.Table) -> Iterator[tuple[dict[str, str | None], Group]]:
    """List the test patients of each split by themselves, with the split's scheme, name and held-out device."""
    rows = protocol.to_pandas()
    rows = rows[rows["part"] == "test"]
    for scheme in SCHEMES:
        of_scheme = rows[rows["scheme"] == scheme]
        for split in sorted(of_scheme["split"].unique(), key=_place):
            chosen = of_scheme[of_scheme["split"] == split]
            held_out = chosen["held_out"].iloc[0]
            facts = {"scheme": scheme, "split": split, "held_out": held_out if isinstance(held_out, str) else None}
            yield facts, _group(chosen, CROSS_VALIDATED)


def _place(split: str) -> tuple[int, str]:
    """Give the key that sorts fold2 before fold10.

    >>> sorted(["fold10", "fold2"], key=_place)
    ['fold2', 'fold10']
    """
    return len(split), split


def _first_split(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep each patient's rows of the first split that has the patient."""
    order = rows["split"].map(_place)
    first = order.groupby([rows["cohort"], rows["patient_id"]]).transform("min")
    return rows[order == first]


def _group(rows: pd.DataFrame, name: str) -> Group:
    """Make a set of rows of one patient and predictor each."""
    keys = ["cohort", "patient_id"]
    people = rows.drop_duplicates(keys).sort_values(keys).set_index(keys)
    values = rows.assign(reduced=rows["reduced"].astype(float)).set_index([*keys, "predictor"])

    def wide(column: str) -> pd.DataFrame:
        frame = values[column].unstack("predictor").reindex(index=people.index, columns=list(PREDICTORS))
        return frame.astype(float).reset_index(drop=True)

    patients = people.reset_index()[[*keys, "device_key"]].assign(
        qct_mg_cm3=people["qct_vbmd_mg_cm3"].to_numpy(),
        qct_reduced=people["qct_reduced"].to_numpy(bool),
        labelled=True,
    )
    reason = pd.DataFrame("unknown_fact", patients.index, list(PREDICTORS))
    return Group(name, SETS[name], patients, wide("vbmd_mg_cm3"), wide("score"), wide("reduced"), reason)
