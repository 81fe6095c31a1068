"""Who is trained on and who is tested: a table that is made once and kept.

Patients are the unit: each stands in one part of a split. A cohort that grows keeps its earlier patients where they
were; new ones are dealt to where their class and device have the fewest.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from trabecula import tables
from trabecula.errors import ConfigError

CROSS_VALIDATION, RANDOM, DEVICE = "cross-validation", "random", "device"
TRAIN, VALIDATION, TEST = "train", "validation", "test"
COLUMNS = ["scheme", "split", "held_out", "patient_id", "part"]


@dataclass(frozen=True)
class Protocol:
    """What splits there are: options of the configuration's section `train`.

    Attributes
    ----------
    folds : int
        Folds of the cross-validation.
    random_repeats : int
        Random divisions into train, validation and test.
    random_fractions : (3,) sequence of float
        Shares of these parts.
    leave_one_device_out : bool
        Test on each device's patients what the others' taught.
    min_device_patients : int
        A device with fewer labelled patients is not left out.
    validation_fraction : float
        Share of the patients outside the test part that choose the epoch.
    seed : int
    """

    folds: int
    random_repeats: int
    random_fractions: Sequence[float]
    leave_one_device_out: bool
    min_device_patients: int
    validation_fraction: float
    seed: int


def read_earlier(path: Path | str) -> pd.DataFrame | None:
    """The division that was made before; None where there is none."""
    return tables.read(path, tables.SPLITS).to_pandas() if Path(path).exists() else None


def divide(cases: pd.DataFrame, protocol: Protocol, earlier: pd.DataFrame | None = None) -> pd.DataFrame:
    """Divide the patients by every scheme.

    Parameters
    ----------
    cases : DataFrame
        Columns patient_id, reduced and device_key; a row per patient.
    protocol : Protocol
        What splits there are.
    earlier : DataFrame or None
        The table that was made before; its patients keep their parts where the same splits are asked for.

    Returns
    -------
    DataFrame
        Columns of `tables.SPLITS`, by scheme, split and patient.

    Raises
    ------
    ConfigError
        If a part of a split is left without a patient, or one class alone is to be learned from.
    """
    patients = cases.sort_values("patient_id", ignore_index=True)
    assert patients["patient_id"].is_unique, "a patient is to be divided twice"
    kept = _kept(earlier, patients, protocol)
    parts = [*_folds(patients, protocol, kept), *_random(patients, protocol, kept), *_devices(patients, protocol, kept)]
    for rows in parts:
        _check(rows, patients)
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _check(rows: pd.DataFrame, cases: pd.DataFrame) -> None:
    """Every part of a split needs a patient, and what is learned from needs both classes."""
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
    """Part by split and patient of what was divided before; not of schemes now asked for with other shares."""
    if earlier is None:
        return {}
    known = earlier[earlier["patient_id"].isin(patients["patient_id"])]
    folds = known.loc[known["scheme"] == CROSS_VALIDATION, "split"].nunique()
    if folds != protocol.folds:
        known = known[known["scheme"] != CROSS_VALIDATION]
    shares = known[known["scheme"] == RANDOM].groupby("part").size()
    asked = dict(zip((TRAIN, VALIDATION, TEST), protocol.random_fractions, strict=True))
    if any(abs(shares.get(part, 0) / max(shares.sum(), 1) - share) > 0.1 for part, share in asked.items()):
        known = known[known["scheme"] != RANDOM]
    # A device's split is known by the device, whatever its number.
    name = known["held_out"].where(known["scheme"] == DEVICE, known["split"])
    return {split: dict(zip(group["patient_id"], group["part"], strict=True)) for split, group in known.groupby(name)}


def _folds(patients: pd.DataFrame, protocol: Protocol, kept: Kept) -> list[pd.DataFrame]:
    names = [f"fold{k}" for k in range(protocol.folds)]
    tested = {patient: name for name in names for patient, part in kept.get(name, {}).items() if part == TEST}
    fold = deal(patients, dict.fromkeys(names, 1.0), seed=[protocol.seed, 1], kept=tested)
    return [
        _with_inner(patients, fold == name, protocol, kept.get(name, {}), CROSS_VALIDATION, name, None, [2, k])
        for k, name in enumerate(names)
    ]


def _random(patients: pd.DataFrame, protocol: Protocol, kept: Kept) -> list[pd.DataFrame]:
    shares: dict[str, float] = dict(zip((TRAIN, VALIDATION, TEST), protocol.random_fractions, strict=True))
    found = []
    for k in range(protocol.random_repeats):
        part = deal(patients, shares, seed=[protocol.seed, 3, k], kept=kept.get(f"random{k}", {}))
        found.append(_rows(patients, part, RANDOM, f"random{k}", None))
    return found


def _devices(patients: pd.DataFrame, protocol: Protocol, kept: Kept) -> list[pd.DataFrame]:
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
            patients,
            scanner == device,
            protocol,
            kept.get(device, {}),
            DEVICE,
            f"device{k}",
            device,
            [4, k],
        )
        for k, device in enumerate(devices)
    ]


def scanner_of(device_key: str | None) -> str | None:
    """Maker and model of a device key (maker|model|kVp|kernel): a scanner at another voltage is no other device."""
    return None if pd.isna(device_key) else "|".join(str(device_key).split("|")[:2])


def _with_inner(
    patients: pd.DataFrame,
    test: pd.Series,
    protocol: Protocol,
    kept: Mapping[str, str],
    scheme: str,
    split: str,
    held_out: str | None,
    seed: Sequence[int],
) -> pd.DataFrame:
    """A split whose test part is given: the others are dealt to train and validation."""
    others = patients[~test]
    shares: dict[str, float] = {TRAIN: 1 - protocol.validation_fraction, VALIDATION: protocol.validation_fraction}
    inner = {patient: part for patient, part in kept.items() if part != TEST}
    part = deal(others, shares, seed=[protocol.seed, *seed], kept=inner)
    return _rows(patients, part.reindex(patients.index, fill_value=TEST), scheme, split, held_out)


def _rows(patients: pd.DataFrame, part: pd.Series, scheme: str, split: str, held_out: str | None) -> pd.DataFrame:
    rows = pd.DataFrame({"patient_id": patients["patient_id"], "part": part})
    return rows.assign(scheme=scheme, split=split, held_out=held_out)


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
        Of the order of patients and of the parts where several are equally far behind.
    kept : mapping
        Part of the patients that have one already.

    Returns
    -------
    Series
        Part of each patient, indexed as `patients`.
    """
    rng = np.random.default_rng(seed)
    names = [str(name) for name in rng.permutation(list(shares))]
    part = patients["patient_id"].map(lambda patient: kept.get(patient)).astype(object)
    stratum = list(zip(patients["reduced"].astype(bool), patients["device_key"].astype(str), strict=True))
    counts: Counter[tuple] = Counter()
    for (reduced, device), own in zip(stratum, part, strict=True):
        if own in shares:
            counts.update([(reduced, own), (reduced, device, own)])
    # All of a class and device one after the other, in random order within.
    chance = rng.random(len(patients))
    order = sorted(range(len(patients)), key=lambda i: (stratum[i], chance[i]))
    for i in (i for i in order if part.iloc[i] not in shares):
        reduced, device = stratum[i]
        # The part that is furthest behind its share in this class, then in this class and device.
        own = min(
            names,
            key=lambda name: (
                (counts[reduced, name] + 1) / shares[name],
                (counts[reduced, device, name] + 1) / shares[name],
            ),
        )
        part.iloc[i] = own
        counts.update([(reduced, own), (reduced, device, own)])
    return part
