"""How sure a result is: calibrated probability, interval, decision, and whether the scan is like the training's.

All of it is learned out of fold, by patient. What is said of a patient of the training comes from the patients of the
other folds, and what is said of anyone else from all of them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from trabecula.model.uncertainty import decision, intervals, novelty, temperature
from trabecula.model.uncertainty.decision import Cuts
from trabecula.model.uncertainty.intervals import Width
from trabecula.model.uncertainty.novelty import Experience, Range
from trabecula.model.uncertainty.temperature import Temperature

__all__ = ["Cuts", "Experience", "Range", "Reference", "Temperature", "Uncertainty", "Width"]
__all__ += ["from_facts", "judge", "learn", "to_facts"]

JUDGED = (
    *("probability_reduced", "vbmd_low", "vbmd_high", "interval_group", "novelty"),
    *("decision", "decision_reason"),
)


@dataclass(frozen=True)
class Reference:
    """What is known from development patients, for those of one fold or for new ones.

    Attributes
    ----------
    fold : int or None
        For patients of this fold, from those of all others; None: for new patients, from all.
    temperature : Temperature
        Of the classification networks.
    cuts : Cuts
        Of the decision.
    widths : tuple of Width
        Of the intervals: over all patients first, then by group.
    experience : Experience
        What the networks have seen.
    """

    fold: int | None
    temperature: Temperature
    cuts: Cuts
    widths: tuple[Width, ...]
    experience: Experience

    def width(self, group: str) -> Width:
        """Half width of a group, or that over all patients where the group has none of its own."""
        return {width.group: width for width in self.widths}.get(group, self.widths[0])


@dataclass(frozen=True)
class Uncertainty:
    """What a bundle holds to judge its results with.

    Attributes
    ----------
    references : tuple of Reference
        One per fold, and one for new patients.
    """

    references: tuple[Reference, ...]

    def of(self, fold: int | None) -> Reference:
        """For patients of a fold, or (None) for new ones."""
        return next(one for one in self.references if one.fold == fold)


def learn(cases: pd.DataFrame) -> Uncertainty:
    """Learn from development patients.

    Parameters
    ----------
    cases : DataFrame
        A row per patient, out of fold: patient_id, fold, logit (mean over levels of the classification network's),
        regression and hu (vBMD by the network and by the HU line, in mg/cm3), qct_vbmd_mg_cm3, reduced,
        trabecular_hu, kvp, phase, thickness_mm, spacing_mm, device_key. The last six may be unknown.
    """
    folds = sorted(int(fold) for fold in cases["fold"].unique())
    held_out = [_reference(cases[cases["fold"] != fold], fold) for fold in folds]
    return Uncertainty((*held_out, _reference(cases, None)))


def _reference(cases: pd.DataFrame, fold: int | None) -> Reference:
    logits, reduced = cases["logit"].to_numpy(np.float64), cases["reduced"].to_numpy(bool)
    found = temperature.fit(logits, reduced)
    residuals = (cases["regression"] - cases["qct_vbmd_mg_cm3"]).to_numpy(np.float64)
    return Reference(
        fold=fold,
        temperature=found,
        cuts=decision.learn(temperature.probability(logits, found.value), reduced),
        widths=intervals.learn(residuals, intervals.groups(cases).to_numpy(str)),
        experience=novelty.learn(cases),
    )


def judge(results: pd.DataFrame, uncertainty: Uncertainty) -> pd.DataFrame:
    """Say how sure each study's result is.

    Parameters
    ----------
    results : DataFrame
        By study: logit, vbmd_mg_cm3, fold_spread_mg_cm3, hu_baseline_vbmd_mg_cm3, trabecular_hu, kvp, phase,
        thickness_mm, spacing_mm, device_key, and fold: of a patient of the training, else NaN.
        Anything may be unknown.
    uncertainty : Uncertainty
        Of the bundle that gave the results.

    Returns
    -------
    DataFrame
        By study, columns `JUDGED`: probability_reduced (calibrated), vbmd_low and vbmd_high (mg/cm3),
        interval_group, novelty (list of codes), decision, decision_reason.
    """
    folds = results["fold"].astype(float)
    parts = []
    for one in uncertainty.references:
        own = folds.isna() if one.fold is None else folds == one.fold
        parts.append(_judge(results[own], one))
    return pd.concat(parts).loc[results.index]


def _judge(results: pd.DataFrame, reference: Reference) -> pd.DataFrame:
    """Judge results of patients whom one reference is for."""
    logits = results["logit"].to_numpy(np.float64)
    chance = temperature.probability(logits, reference.temperature.value)
    found = novelty.find(results, reference.experience)
    decided, reason = _decisions(chance, novelty.blocking(found), reference.cuts)
    vbmd = results["vbmd_mg_cm3"].astype(float)
    widths = [reference.width(group) for group in intervals.groups(results)]
    half = pd.Series([width.half_width_mg_cm3 for width in widths], results.index, float)
    group = pd.Series([width.group for width in widths], results.index, object)
    columns = {
        "probability_reduced": pd.Series(chance, results.index),
        "vbmd_low": vbmd - half,
        "vbmd_high": vbmd + half,
        "interval_group": group.where((vbmd + half).notna(), None),
        "novelty": found,
        "decision": pd.Series(decided, results.index, object),
        "decision_reason": pd.Series(reason, results.index, object),
    }
    return pd.DataFrame(columns, index=results.index)[list(JUDGED)]


def _decisions(chance: np.ndarray, against: pd.Series, cuts: Cuts) -> tuple[list[str], list[str | None]]:
    """Decisions and, where there is none, why: what speaks against the result, else that it is near the cut."""
    decided = decision.decide(chance, cuts)
    pairs = [_reasoned(one, novel) for one, novel in zip(decided, against, strict=True)]
    return [one for one, _ in pairs], [reason for _, reason in pairs]


def _reasoned(decided: str, against: str | None) -> tuple[str, str | None]:
    if decided == "not_evaluable":
        return decided, "no_prediction"
    if against:
        return "indeterminate", against
    return decided, "near_cut" if decided == "indeterminate" else None


def to_facts(uncertainty: Uncertainty) -> dict[str, Any]:
    """What the bundle's metadata say, as plain values for JSON; `from_facts` reads it."""
    listed = [asdict(one) for one in uncertainty.references]
    return {"coverage": intervals.COVERAGE, "decision_error": decision.ERROR, "references": listed}


def from_facts(facts: Mapping[str, Any]) -> Uncertainty:
    """Read what `to_facts` gave.

    Raises
    ------
    KeyError, TypeError
        If something is missing or unknown.
    """
    return Uncertainty(tuple(_from_facts(one) for one in facts["references"]))


def _from_facts(facts: Mapping[str, Any]) -> Reference:
    seen = dict(facts["experience"])
    ranges = {
        name: seen[name] and Range(**seen[name]) for name in ("kvp", "trabecular_hu", "thickness_mm", "spacing_mm")
    }
    return Reference(
        fold=facts["fold"],
        temperature=Temperature(**facts["temperature"]),
        cuts=Cuts(**facts["cuts"]),
        widths=tuple(Width(**width) for width in facts["widths"]),
        experience=Experience(**{**seen, **ranges, "devices": tuple(seen["devices"])}),
    )
