"""The splits of the patients into train, validation and test: a table that is made once and kept.

Patients are the unit: each stands in one part of a split. A cohort that grows keeps its earlier patients where they
were; new patients are dealt to the part where their class and device have the fewest.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from trabecula import tables
from trabecula.errors import ConfigError
from trabecula.model.bundle import CROSS_VALIDATION, FOLD, TEST

# Schemes beside the cross-validation; the names of their splits begin with the same word.
RANDOM, DEVICE = "random", "device"
# Parts of a split beside the test part.
TRAIN, VALIDATION = "train", "validation"
COLUMNS = ["scheme", "split", "held_out", "patient_id", "part"]


@dataclass(frozen=True)
class Protocol:
    """The splits to make: options of the configuration's section `train`.

    Attributes
    ----------
    folds : int
        Folds of the cross-validation.
    random_repeats : int
        Random divisions into train, validation and test.
    random_fractions : (3,) sequence of float
        Shares of these parts.
    leave_one_device_out : bool
        Test on each device's patients the networks that learned from the other devices' patients.
    min_device_patients : int
        A device with fewer labelled patients is not left out.
    validation_fraction : float
        Share of the patients outside the test part on whom the epoch is chosen.
    seed : int
        Seed of all divisions.
    """

    folds: int
    random_repeats: int
    random_fractions: Sequence[float]
    leave_one_device_out: bool
    min_device_patients: int
    validation_fraction: float
    seed: int

    @property
    def shares(self) -> dict[str, float]:
        """Give the share of each part in a random division."""
        return dict(zip((TRAIN, VALIDATION, TEST), self.random_fractions, strict=True))


@dataclass(frozen=True)
class Split:
    """The name of a split.

    Attributes
    ----------
    scheme : str
        `CROSS_VALIDATION`, `RANDOM` or `DEVICE`.
    name : str
        The scheme's word and a number, such as fold3.
    held_out : str or None
        The device that is left out, for splits by device.
    """

    scheme: str
    name: str
    held_out: str | None = None

    @property
    def lasting_name(self) -> str:
        """Give the name by which a grown cohort knows the split again: a device's number may change."""
        return self.name if self.held_out is None else self.held_out


def read_earlier(path: Path | str, studies: pd.DataFrame) -> pd.DataFrame | None:
    """Read the division that was made before; None where there is none.

    Parameters
    ----------
    path : Path or str
        The table.
    studies : DataFrame
        Columns patient_id and earlier_ids, as in the table `studies`: a patient who was divided under an earlier
        pseudonym alone keeps that part.
    """
    if not Path(path).exists():
        return None
    division = tables.read(path, tables.SPLITS).to_pandas()
    divided, present = set(division["patient_id"]), set(studies["patient_id"])
    rows = studies[~studies["patient_id"].isin(divided)].sort_values("patient_id", ascending=False)
    pairs = zip(rows["patient_id"], rows["earlier_ids"], strict=True)
    patient_of = {earlier: patient for patient, names in pairs for earlier in names if earlier not in present}
    return division.assign(patient_id=division["patient_id"].map(lambda name: patient_of.get(name, name)))


def divide(cases: pd.DataFrame, protocol: Protocol, earlier: pd.DataFrame | None = None) -> pd.DataFrame:
    """Divide the patients by every scheme.

    Parameters
    ----------
    cases : DataFrame
        Columns patient_id, reduced and device_key; a row per patient.
    protocol : Protocol
        The splits to make.
    earlier : DataFrame or None
        The table that was made before; its patients keep their parts where the same splits are asked for.

    Returns
    -------
    DataFrame
        Columns of `tables.SPLITS`, by scheme, split and patient.

    Raises
    ------
    ConfigError
        If a part of a split is left without a patient, or the networks would learn from one class only.
    """
    patients = cases.sort_values("patient_id", ignore_index=True)
    assert patients["patient_id"].is_unique, "a patient is to be divided twice"
    kept = _kept(earlier, patients, protocol)
    parts = [*_folds(patients, protocol, kept), *_random(patients, protocol, kept), *_devices(patients, protocol, kept)]
    for rows in parts:
        _check(rows, patients)
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _check(rows: pd.DataFrame, cases: pd.DataFrame) -> None:
    """Check that every part of a split has a patient, and its train part both classes."""
    missing = [part for part in (TRAIN, VALIDATION, TEST) if part not in set(rows["part"])]
    if missing:
        raise ConfigError(
            f"Section train: split {rows['split'].iloc[0]} of {len(rows)} labelled patients has none for "
            f"{' and '.join(missing)}; add labelled patients, or change random_fractions, validation_fraction or "
            "min_device_patients."
        )
    learned = rows.loc[rows["part"] == TRAIN, "patient_id"]
    if cases.loc[cases["patient_id"].isin(learned), "reduced"].nunique() < 2:
        raise ConfigError(
            f"Section train: split {rows['split'].iloc[0]} would train on one class only; add labelled patients, or "
            "delete results/train/splits.parquet, so that all are divided anew."
        )


Kept = Mapping[str, Mapping[str, str]]


def _kept(earlier: pd.DataFrame | None, patients: pd.DataFrame, protocol: Protocol) -> Kept:
    """Give the earlier part of each patient, by the split's lasting name and by patient.

    A scheme that is now asked for with other shares is left out, and so is divided anew.
    """
    if earlier is None:
        return {}
    rows = earlier[earlier["patient_id"].isin(patients["patient_id"])]
    folds = rows.loc[rows["scheme"] == CROSS_VALIDATION, "split"].nunique()
    if folds != protocol.folds:
        rows = rows[rows["scheme"] != CROSS_VALIDATION]
    counts = rows[rows["scheme"] == RANDOM].groupby("part").size()
    n = max(counts.sum(), 1)
    if any(abs(counts.get(part, 0) / n - share) > 0.1 for part, share in protocol.shares.items()):
        rows = rows[rows["scheme"] != RANDOM]
    lasting_name = rows["held_out"].where(rows["scheme"] == DEVICE, rows["split"])
    return {
        name: dict(zip(group["patient_id"], group["part"], strict=True)) for name, group in rows.groupby(lasting_name)
    }


def _folds(patients: pd.DataFrame, protocol: Protocol, kept: Kept) -> list[pd.DataFrame]:
    """Divide the patients into folds; each is the test part of one split."""
    names = [f"{FOLD}{k}" for k in range(protocol.folds)]
    tested = {patient: name for name in names for patient, part in kept.get(name, {}).items() if part == TEST}
    fold = deal(patients, dict.fromkeys(names, 1.0), seed=[protocol.seed, 1], kept=tested)
    return [
        _with_inner(patients, fold == name, Split(CROSS_VALIDATION, name), protocol, kept, seed=[2, k])
        for k, name in enumerate(names)
    ]


def _random(patients: pd.DataFrame, protocol: Protocol, kept: Kept) -> list[pd.DataFrame]:
    """Divide the patients at random, several times."""
    parts = []
    for k in range(protocol.random_repeats):
        split = Split(RANDOM, f"{RANDOM}{k}")
        part = deal(patients, protocol.shares, seed=[protocol.seed, 3, k], kept=kept.get(split.name, {}))
        parts.append(_rows(patients, part, split))
    return parts


def _devices(patients: pd.DataFrame, protocol: Protocol, kept: Kept) -> list[pd.DataFrame]:
    """Leave out each device that has enough patients, where the others still teach both classes."""
    if not protocol.leave_one_device_out:
        return []
    scanner = patients["device_key"].map(scanner_of)
    count = scanner.value_counts()
    devices = sorted(str(device) for device, n in count.items() if n >= protocol.min_device_patients)
    # Without patients of another device there is nothing to learn from.
    devices = [device for device in devices if len(patients) - count[device] >= protocol.min_device_patients]
    devices = [device for device in devices if patients.loc[scanner != device, "reduced"].nunique() == 2]
    return [
        _with_inner(
            patients, scanner == device, Split(DEVICE, f"{DEVICE}{k}", held_out=device), protocol, kept, seed=[4, k]
        )
        for k, device in enumerate(devices)
    ]


def scanner_of(device_key: str | None) -> str | None:
    """Give maker and model of a device key (maker|model|kVp|kernel): at another voltage it is the same device.

    >>> scanner_of("Maker|Model X|120|B30f")
    'Maker|Model X'
    """
    return None if pd.isna(device_key) else "|".join(str(device_key).split("|")[:2])


def _with_inner(
    patients: pd.DataFrame, test: pd.Series, split: Split, protocol: Protocol, kept: Kept, *, seed: Sequence[int]
) -> pd.DataFrame:
    """Make a split whose test part is given: the other patients are dealt to train and validation."""
    others = patients[~test]
    shares = {TRAIN: 1 - protocol.validation_fraction, VALIDATION: protocol.validation_fraction}
    inner = {patient: part for patient, part in kept.get(split.lasting_name, {}).items() if part != TEST}
    part = deal(others, shares, seed=[protocol.seed, *seed], kept=inner)
    return _rows(patients, part.reindex(patients.index, fill_value=TEST), split)


def _rows(patients: pd.DataFrame, part: pd.Series, split: Split) -> pd.DataFrame:
    """Make the rows of one split, one per patient."""
    rows = pd.DataFrame({"patient_id": patients["patient_id"], "part": part})
    return rows.assign(scheme=split.scheme, split=split.name, held_out=split.held_out)


def deal(
    patients: pd.DataFrame, shares: Mapping[str, float], *, seed: Sequence[int], kept: Mapping[str, str]
) -> pd.Series:
    """Deal patients to parts, so that both classes, and then the devices, stand in all parts in their shares.

    Parameters
    ----------
    patients : DataFrame
        Columns patient_id, reduced and device_key.
    shares : mapping
        Relative size of each part.
    seed : sequence of int
        Seed of the order of patients, and of the order of parts where several are equally far behind.
    kept : mapping
        The part of each patient who has a part already.

    Returns
    -------
    Series
        Part of each patient, indexed as `patients`.

    >>> patients = pd.DataFrame({"patient_id": list("abcd"), "reduced": [True, True, False, False], "device_key": "A"})
    >>> parts = deal(patients, {"train": 0.5, "test": 0.5}, seed=[0], kept={})
    >>> sorted(zip(patients["reduced"], parts, strict=True))
    [(False, 'test'), (False, 'train'), (True, 'test'), (True, 'train')]
    """
    rng = np.random.default_rng(seed)
    names = [str(name) for name in rng.permutation(list(shares))]
    part = patients["patient_id"].map(lambda patient: kept.get(patient)).astype(object)
    stratum = list(zip(patients["reduced"].astype(bool), patients["device_key"].astype(str), strict=True))
    counts: Counter[tuple] = Counter()
    for (reduced, device), name in zip(stratum, part, strict=True):
        if name in shares:
            counts.update([(reduced, name), (reduced, device, name)])
    # All patients of a class and device one after the other, in random order within.
    chance = rng.random(len(patients))
    order = sorted(range(len(patients)), key=lambda i: (stratum[i], chance[i]))
    for i in (i for i in order if part.iloc[i] not in shares):
        reduced, device = stratum[i]
        # The part that is furthest behind its share in this class, then in this class and device.
        furthest_behind = min(
            names,
            key=lambda name: (
                (counts[reduced, name] + 1) / shares[name],
                (counts[reduced, device, name] + 1) / shares[name],
            ),
        )
        part.iloc[i] = furthest_behind
        counts.update([(reduced, furthest_behind), (reduced, device, furthest_behind)])
    return part
